"""Evidence and checks through a real proxy: a server that writes, tests and pushes, and sometimes lies."""

import re
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest

from configured import connect
from soothsayer_mcp.__main__ import run
from soothsayer_mcp.adapters.store.reader import Reader
from soothsayer_mcp.console import render, views
from soothsayer_mcp.model.json import JsonObject
from soothsayer_mcp.testing.hosts import RawHost
from soothsayer_mcp.trace.query import Filter

SERVER = """
import json, pathlib, sys
T = {"type": "object"}
TOOLS = [{"name": n, "inputSchema": {"type": "object", "properties": {k: {"type": "string"} for k in a}}} for n, a in
         {"run": ["command"], "write": ["path", "content"], "push": ["branch"], "remote": ["branch"]}.items()]
ws, pushed = pathlib.Path(sys.argv[1]), None
for line in sys.stdin:
    m = json.loads(line)
    if m.get("id") is None:
        continue
    p, r = m.get("params", {}), {}
    if m["method"] == "initialize":
        r = {"protocolVersion": p["protocolVersion"], "capabilities": {"tools": {}},
             "serverInfo": {"name": "dev", "version": "1"}}
    elif m["method"] == "tools/list":
        r = {"tools": TOOLS}
    elif m["method"] == "tools/call":
        a, n = p.get("arguments", {}), p["name"]
        if n == "run":
            s = {"exit_code": 1 if "bad" in (ws / "app.py").read_text() else 0}
        elif n == "write":
            if "lie" not in a["content"]:
                pathlib.Path(a["path"]).write_text(a["content"])
            if "more" in a["content"]:
                (ws / "extra.txt").write_text("x")
            s = {"ok": True}
        elif n == "push":
            pushed = None if a["branch"] == "lost" else a["branch"]
            s = {"ok": True}
        elif a["branch"] == "silent":
            continue
        else:
            s = {"branch": pushed}
        r = {"content": [{"type": "text", "text": json.dumps(s)}], "structuredContent": s}
    print(json.dumps({"jsonrpc": "2.0", "id": m["id"], "result": r}), flush=True)
"""
POLICY = """
soothsayer: policy/v1
name: tested
default: {read: allow, other: ask}
servers: {dev: {files: local}}
labels:
  - {tools: "dev.remote", does: read}
  - {tools: "dev.write", does: write, touches: file(args.path)}
  - {tools: "dev.run", does: exec, ok_when: 'result.exit_code == 0', verify: none}
  - {tools: "dev.push", does: share, touches: remote(args.branch)}
rules:
  - allow: "edits"
    tools: "dev.write"
    args: {path: {under: "${workspace}"}}
    verify:
      - artifact: {file: "${args.path}", equals: args.content}
      - diff: {of: ["${workspace}/**"], only: [file(args.path)]}
  - {allow: "the tests", tools: "dev.run", args: {command: {is: "pytest -q"}}}
  - allow: "push what was tested"
    tools: "dev.push"
    require:
      - step: {tools: "dev.run", args: {command: {is: "pytest -q"}}, not_before: last_write(file(workspace)),
               unchanged: ["${workspace}/*.py"], do: "run the tests"}
    verify:
      - readback: {tool: dev.remote, args: {branch: "${args.branch}"}, until: 'result.branch == args.branch'}
"""


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    folder = tmp_path / "ws"
    folder.mkdir()
    (folder / "app.py").write_text("x = 1")
    (tmp_path / "server.py").write_text(SERVER)
    (tmp_path / "policy.yaml").write_text(POLICY)
    (tmp_path / "config.yaml").write_text(
        "soothsayer: config/v1\npolicy: [policy.yaml]\nworkspace: ws\nmcpServers:\n"
        f"  dev: {{command: {sys.executable}, args: [{tmp_path / 'server.py'}, {folder}]}}\n"
        'probes: {files: {roots: ["${workspace}"]}}\n'
    )
    return folder


@pytest.fixture
def host(workspace: Path) -> Iterator[RawHost]:
    with connect(workspace.parent) as one:
        yield one


def told(host: RawHost, tool: str, **arguments: str) -> tuple[bool, str]:
    answer = cast("JsonObject", host.call(tool, dict(arguments))["result"])
    blocks = cast("list[JsonObject]", answer["content"])
    return answer.get("isError") is True, str(blocks[0]["text"])


def write(host: RawHost, workspace: Path, content: str) -> tuple[bool, str]:
    return told(host, "write", path=str(workspace / "app.py"), content=content)


def run_tests(host: RawHost) -> tuple[bool, str]:
    return told(host, "run", command="pytest -q")


def push(host: RawHost, branch: str = "main") -> tuple[bool, str]:
    return told(host, "push", branch=branch)


@pytest.mark.pitfall("P-EVID-05")
def test_a_pass_does_not_outlive_a_later_write_and_a_new_pass_does(host: RawHost, workspace: Path) -> None:
    failed, text = push(host)
    assert failed
    assert "[missing_evidence/absent" in text
    assert "Do: run the tests" in text
    assert run_tests(host)[0] is False
    assert write(host, workspace, "x = 2")[0] is False
    failed, text = push(host)
    assert failed
    assert "[missing_evidence/stale" in text
    assert "wrote" in text
    assert run_tests(host)[0] is False
    assert push(host)[0] is False
    # That was a write to another subject, remote:main: what the tests showed still counts.
    assert push(host)[0] is False


def test_the_latest_run_counts_and_an_edit_beside_the_proxy_is_seen(host: RawHost, workspace: Path) -> None:
    assert run_tests(host)[0] is False
    assert write(host, workspace, "bad")[0] is False
    failed, text = run_tests(host)
    assert failed
    assert "[tool_error/not_ok" in text
    assert "[verification_failed/contradicted" in push(host)[1]
    assert write(host, workspace, "good")[0] is False
    assert run_tests(host)[0] is False
    (workspace / "app.py").write_text("by hand")
    assert "[missing_evidence/stale" in push(host)[1]


@pytest.mark.parametrize("killed", [False, True], ids=["ended", "killed"])
def test_what_was_used_once_is_used_up_after_a_restart_too(workspace: Path, *, killed: bool) -> None:
    once = POLICY.replace("not_before:", "single_use: true, not_before:")
    (workspace.parent / "policy.yaml").write_text(once)
    with connect(workspace.parent) as host:
        assert run_tests(host)[0] is False
        assert push(host)[0] is False
        if killed:
            host.signal(signal.SIGKILL)
            host.exit_code()
    with connect(workspace.parent) as host:
        assert "[missing_evidence/consumed" in push(host)[1]
        assert run_tests(host)[0] is False
        assert push(host)[0] is False


@pytest.mark.parametrize("across", [False, True], ids=["own run", "any run"])
def test_tests_of_an_earlier_run_serve_a_later_one_only_where_policy_says_so_and_once_and_fresh(
    workspace: Path, capsys: pytest.CaptureFixture[str], *, across: bool
) -> None:
    more = "single_use: true, cross_run: true, not_before:" if across else "single_use: true, not_before:"
    (workspace.parent / "policy.yaml").write_text(POLICY.replace("not_before:", more))
    state = workspace.parent / "state"

    def end_run() -> str:
        with Reader(state) as reader:
            found = next(iter(reader.runs(Filter(), reader.now(), limit=1))).run
        code = run(["run", "complete", found, "--state", str(state)])
        assert int(code) == 0, capsys.readouterr()
        return found

    with connect(workspace.parent) as host:
        assert run_tests(host)[0] is False
    first = end_run()
    with connect(workspace.parent) as host:
        failed, text = push(host)
        assert failed is not across
        if not across:
            assert "[missing_evidence/absent" in text
            return
        # It is used up for every run.
        assert "[missing_evidence/consumed" in push(host)[1]
        assert run_tests(host)[0] is False
    second = end_run()
    with connect(workspace.parent) as host:
        assert write(host, workspace, "x = 2")[0] is False
        failed, text = push(host)
        assert failed
        assert "[missing_evidence/stale" in text
        assert f"{second[:4]}." in text
    with Reader(state) as reader:
        wanted = next(
            one for one in reader.steps(Filter(), reader.now(), limit=None) if one.tool == "push" and one.no == 1
        )
        assert wanted.run == second
        assert any(f"{first[:4]}.1" in line for line in views.cited(reader.story(wanted)))


def test_a_server_that_says_written_and_writes_nothing_is_caught_by_the_file(host: RawHost, workspace: Path) -> None:
    failed, text = write(host, workspace, "lie")
    assert failed
    assert "[verification_failed/check_broken" in text
    assert "ok" not in text.splitlines()[-1]


def test_a_server_that_changes_more_than_declared_is_caught_by_the_diff(host: RawHost, workspace: Path) -> None:
    failed, text = write(host, workspace, "more")
    assert failed
    assert "[verification_failed/side_effect" in text
    assert "extra.txt" in text


def test_a_push_that_did_not_arrive_is_caught_by_the_read_back(host: RawHost) -> None:
    assert run_tests(host)[0] is False
    failed, text = push(host, "lost")
    assert failed
    assert "[verification_failed/check_broken" in text


def test_a_refusal_and_a_broken_check_say_what_is_wrong_and_what_to_do(host: RawHost, workspace: Path) -> None:
    run_tests(host)
    write(host, workspace, "x = 2")
    first, item, do, again = push(host)[1].splitlines()
    assert first.startswith("Not done: dev.push needs evidence that this run does not hold. Nothing was sent. [")
    assert item.startswith('- a successful dev.run with {"command": "pytest -q"}: ')
    assert item.endswith(" wrote app.py after it began.")
    assert (do, again) == ("  Do: run the tests", "Then call dev.push again with the same arguments.")
    first, then = write(host, workspace, "lie")[1].splitlines()
    assert first.startswith("It ran, but its check failed: app.py does not hold what was sent. [")
    assert then == "The effect may be in place; its answer is withheld. Do: read app.py before anything else."


def test_a_step_shows_what_it_rests_on_and_what_its_checks_saw(workspace: Path) -> None:
    with connect(workspace.parent) as host:
        run_tests(host)
        push(host)
        write(host, workspace, "lie")
    state = workspace.parent / "state"
    with Reader(state) as reader:
        run = reader.runs(Filter(), reader.now(), limit=1)[0].run
        pages = {
            no: [
                line.plain for line in render.story(reader.story(reader.find_step(f"{run}.{no}")), look_at(run), **FEW)
            ]
            for no in (2, 4)
        }
    cited = next(line for line in pages[2] if line.startswith("evidence"))
    assert re.fullmatch(rf"evidence +step {run[:4]}\.1, kept E1, about {workspace}, \S+ \S+ old", cited)
    assert f"check     broken artifact, E3, of {workspace}/app.py: app.py does not hold what was sent" in pages[4]


FEW = {"with_payloads": False, "with_entries": False}


def look_at(run: str) -> render.Look:
    return render.Look(width=400, now_us=0, short={run: run[:4]})


def test_a_tool_of_the_called_server_is_no_independent_witness(workspace: Path) -> None:
    apart = POLICY.replace("until: 'result.branch", "independent: true, until: 'result.branch")
    (workspace.parent / "policy.yaml").write_text(apart)
    with connect(workspace.parent) as host:
        run_tests(host)
        failed, text = push(host)
    first, then = text.splitlines()
    assert failed
    assert first.startswith("It ran, but could not be checked: dev.remote is of the server that is called. [")
    assert "[missing_evidence/unchecked, step " in first
    assert then == (
        "Do not call dev.push again; the run does not complete while it is unchecked. The unchecked answer follows."
    )


@pytest.mark.pitfall("P-EVID-03")
def test_neither_the_word_of_a_server_nor_the_same_tool_again_is_evidence(workspace: Path) -> None:
    again = """\
  - also: "Asks itself."
    tools: "dev.push"
    verify: [{readback: {tool: dev.push, args: {}, until: 'true'}}]
"""
    (workspace.parent / "policy.yaml").write_text(POLICY + again)
    with connect(workspace.parent) as host:
        failed, text = write(host, workspace, "lie")
        assert failed
        assert "[verification_failed/check_broken" in text
        run_tests(host)
        text = push(host)[1]
    assert "dev.push cannot speak for itself" in text
    assert "[missing_evidence/unchecked" in text


@pytest.mark.pitfall("P-EVID-06")
def test_could_not_check_is_neither_kept_nor_broken_and_no_check_is_no_finding(workspace: Path) -> None:
    (workspace.parent / "policy.yaml").write_text(POLICY.replace("args.branch'}", "args.branch', within: 1s}"))
    with connect(workspace.parent) as host:
        run_tests(host)
        assert "[missing_evidence/unchecked" in push(host, "silent")[1]
        assert "[verification_failed/check_broken" in push(host, "lost")[1]
    with Reader(workspace.parent / "state") as reader:
        rows = [*reader.steps(Filter(), reader.now(), limit=None)]
        found = {
            (row.tool, row.no): [
                views.field(one, "finding") for one in reader.story(row).entries if one.kind == "step.finding"
            ]
            for row in rows
            if row.cause == "agent"
        }
    assert sorted(found.items(), key=lambda one: one[0][1]) == [
        (("run", 1), []),
        (("push", 2), ["unknown"]),
        (("push", found_no(found)), ["broken"]),
    ]


def found_no(found: dict[tuple[str, int], list[str]]) -> int:
    return max(no for _, no in found)


TWO = """
soothsayer: policy/v1
name: apart
default: {read: allow, other: allow}
servers: {files: {files: local, os: linux}}
labels:
  - {tools: "*.write", does: write, touches: file(args.path)}
  - {tools: "dev.run", does: exec, touches: runs}
rules:
  - allow: "push what was tested"
    tools: "dev.push"
    require:
      - step: {tools: "dev.run", args: {command: {is: "pytest -q"}}, not_before: last_write(file(workspace))}
"""


def test_a_write_through_a_server_with_other_settings_makes_evidence_too_old(tmp_path: Path) -> None:
    folder = tmp_path / "Work"
    folder.mkdir()
    (folder / "app.py").write_text("x = 1")
    (tmp_path / "server.py").write_text(SERVER)
    (tmp_path / "policy.yaml").write_text(TWO)
    server = f"{{command: {sys.executable}, args: [{tmp_path / 'server.py'}, {folder}]}}"
    (tmp_path / "config.yaml").write_text(
        "soothsayer: config/v1\npolicy: [policy.yaml]\nworkspace: Work\n"
        f"mcpServers:\n  dev: {server}\n  files: {server}\n"
    )
    with connect(folder.parent) as host:
        for writer in ("files__write", "dev__write"):
            assert told(host, "dev__run", command="pytest -q")[0] is False
            assert told(host, writer, path=str(folder / "app.py"), content="y")[0] is False
            failed, text = told(host, "dev__push", branch="main")
            assert failed
            assert "[missing_evidence/stale" in text
        assert told(host, "dev__run", command="pytest -q")[0] is False
        assert told(host, "dev__push", branch="main")[0] is False


@pytest.mark.parametrize(("wanted", "text"), [("exit_code", ""), ("coverage", "[verification_failed/")])
def test_what_an_answer_looks_like_may_be_one_of_several_checks(workspace: Path, wanted: str, text: str) -> None:
    policy = workspace.parent / "policy.yaml"
    plain = '- {allow: "the tests", tools: "dev.run", args: {command: {is: "pytest -q"}}}'
    either = f"""- allow: "the tests"
    tools: "dev.run"
    verify:
      - any:
          - artifact: {{file: "${{workspace}}/report.xml", exists: true}}
          - any: [{{schema: {{type: object, required: [{wanted}]}}}}]"""
    assert plain in POLICY
    policy.write_text(POLICY.replace(plain, either))
    with connect(workspace.parent) as one:
        failed, said = run_tests(one)
    assert (failed, text in said) == (bool(text), True), said
