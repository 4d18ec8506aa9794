"""A write makes evidence too old whichever server it goes through, however each of them names its files."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policy_kit import judge, policy_from, step, tool
from soothsayer_mcp.model.decision import Decision
from soothsayer_mcp.model.json import JsonObject
from soothsayer_mcp.model.subject import overlap
from soothsayer_mcp.policy.dues import ALONE
from soothsayer_mcp.policy.policy import Policy

WORKSPACE = "/Work"
CASES = st.sampled_from(["exact", "folded", ""])
ROOTS = st.sampled_from(["/Work", "/Work/Src", "/elsewhere"])
PARTS = st.lists(st.sampled_from(["Src", "src", "a", "A"]), min_size=1, max_size=3).map("/".join)
PATHS = st.one_of(PARTS, PARTS.map(lambda text: f"/Work/{text}"), PARTS.map(lambda text: f"/work/{text}"))
AGES = st.sampled_from(["workspace", "args.path", "'Src'", "'/Work/Src'"])


def two(folder: Path, age: str, ci: str, fs: str) -> Policy:
    """`ci.push` needs a test run since the last write, and `fs.write` writes files; each server with settings."""
    return policy_from(
        "default: {read: allow, other: allow}\n"
        f"servers: {{ci: {{{ci}}}, fs: {{{fs}}}}}\n"
        'labels:\n  - {tools: "fs.write", does: write, touches: file(args.path)}\n'
        '  - {tools: "ci.*", does: exec, touches: ci}\n'
        "rules:\n  - allow: push\n    tools: ci.push\n    require:\n"
        f'      - step: {{tools: "ci.run", not_before: "last_write(file({age}))"}}\n',
        folder,
        workspace=WORKSPACE,
    )


def newer_than(decision: Decision) -> tuple[str, ...]:
    (item,) = decision.dues.require
    return item.newer_than


def stales(policy: Policy, write: JsonObject, push: JsonObject, links: dict[str, str] | None = None) -> bool:
    """Whether a write makes the run of tests too old for a push."""
    opened = judge(policy, "fs.write", write, links=links).dues.opens
    ages = newer_than(judge(policy, "ci.push", push, links=links))
    return any(overlap(one, other) for one in opened for other in ages)


def settings(case: str, root: str) -> str:
    return ", ".join([f"root: {root}", *([f"case: {case}"] if case else [])])


def parts(path: str, root: str) -> tuple[str, ...]:
    return tuple((path if path.startswith("/") else f"{root}/{path}").strip("/").split("/"))


def same_or_below(one: tuple[str, ...], other: tuple[str, ...], *, folded: bool) -> bool:
    if folded:
        one, other = tuple(part.lower() for part in one), tuple(part.lower() for part in other)
    least = min(len(one), len(other))
    return one[:least] == other[:least]


@given(age=AGES, ci=st.tuples(CASES, ROOTS), fs=st.tuples(CASES, ROOTS), written=PATHS, pushed=PATHS)
def test_a_write_to_the_file_counts_through_any_server(
    tmp_path_factory: pytest.TempPathFactory,
    age: str,
    ci: tuple[str, str],
    fs: tuple[str, str],
    written: str,
    pushed: str,
) -> None:
    policy = two(tmp_path_factory.getbasetemp(), age, settings(*ci), settings(*fs))
    named = {
        "workspace": [parts(WORKSPACE, "")],
        "args.path": [parts(pushed, ci[1])],
        "'Src'": [parts("Src", root) for root in (ci[1], fs[1])],
        "'/Work/Src'": [parts("/Work/Src", "")],
    }[age]
    # A file system that ignores case is one for both servers, where they speak of the same files.
    folded = {ci[0], fs[0]} != {"exact"}
    expected = any(same_or_below(parts(written, fs[1]), one, folded=folded) for one in named)
    assert stales(policy, {"path": written}, {"path": pushed}) is expected


def test_servers_that_name_files_alike_cost_nothing(tmp_path: Path) -> None:
    same = "files: local, os: linux"
    policy = two(tmp_path, "workspace", same, same)
    decision = judge(policy, "ci.push", {"path": "a"})
    assert newer_than(decision) == ("file:/Work",)
    assert judge(policy, "fs.write", {"path": "A"}, links={"/Work/A": "/Work/A"}).dues.opens == ("file:/Work/A",)
    plan = policy.candidates(tool("ci.push")).dues
    assert plan.among == ALONE
    assert policy.questions(step("ci.push", {"path": "a"})).links == ()


def test_a_server_that_policy_says_nothing_of_is_met_by_one_that_it_describes(tmp_path: Path) -> None:
    policy = policy_from(
        "default: {read: allow, other: allow}\n"
        "servers: {fs: {files: local, os: linux}}\n"
        'labels: [{tools: "fs.write", does: write, touches: file(args.path)}]\n'
        "rules:\n  - allow: push\n    tools: ci.push\n    require:\n"
        '      - step: {tools: "ci.run", not_before: last_write(file(workspace))}\n',
        tmp_path,
        workspace=WORKSPACE,
    )
    assert stales(policy, {"path": "Src/A"}, {}, {"/Work/Src/A": "/Work/Src/A"})


def test_a_name_that_leads_elsewhere_is_followed_in_calls_and_in_policy(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "named").symlink_to(tmp_path / "real")
    local = "files: local, os: linux"
    policy = policy_from(
        "default: {read: allow, other: allow}\n"
        f"servers: {{ci: {{{local}}}, fs: {{{local}}}}}\n"
        'labels: [{tools: "fs.write", does: write, touches: file(args.path)}]\n'
        "rules:\n  - allow: push\n    tools: ci.push\n    require:\n"
        '      - step: {tools: "ci.run", not_before: last_write(file(workspace))}\n'
        '      - step: {tools: "ci.run", args: {path: {is: x}}, not_before: last_write(file(args.path))}\n',
        tmp_path,
        workspace=str(tmp_path / "named"),
    )
    target, asked = f"{tmp_path}/real/a", f"{tmp_path}/named/a"
    questions = policy.questions(step("ci.push", {"path": "a"}))
    assert asked in questions.links
    opened = judge(policy, "fs.write", {"path": target}, links={target: target}).dues.opens
    items = judge(policy, "ci.push", {"path": "a"}, links={asked: target}).dues.require
    assert [any(overlap(one, age) for one in opened for age in item.newer_than) for item in items] == [True, True]
