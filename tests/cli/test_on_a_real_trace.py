"""Commands on a trace that the real proxy wrote: the one the tour leaves behind."""

import contextlib
import json
import os
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from commands import Soothsayer
from soothsayer_mcp.cli.exits import Exit
from soothsayer_mcp.demo.tour import play


@pytest.fixture(scope="module")
def tour() -> Iterator[Path]:
    """The folder of a tour that went as scripted."""
    played = play(lambda _line: None, keep=True)
    try:
        assert played.faults == []
        yield Path(played.folder)
    finally:
        shutil.rmtree(played.folder)


@pytest.fixture
def there(tour: Path, tmp_path: Path) -> tuple[str, str]:
    """Options that name a copy of its state, so that tests may change it."""
    copy = tmp_path / "state"
    shutil.copytree(tour / "state", copy)
    return "--state", str(copy)


def steps(soothsayer: Soothsayer, there: tuple[str, str], *wanted: str) -> list[dict[str, str]]:
    return json.loads(soothsayer("log", "--json", "-n0", *wanted, *there).out)["steps"]


def test_every_step_is_explained_from_the_record_alone_as_it_was_decided(
    soothsayer: Soothsayer, there: tuple[str, str]
) -> None:
    """Policy text, arguments, caller, definition and flaws are those on record; nothing else is at hand."""
    found = steps(soothsayer, there)
    assert len(found) >= 10
    for step in found:
        ended = soothsayer("policy", "explain", step["step"], "--json", *there)
        assert ended.code == Exit.DONE
        told = json.loads(ended.out)["explanation"]
        assert told["notes"] == ["explained under the recorded policy"], step
        assert told["effect"] == step["effect"]
        assert told["policy"] == step["policy"]
        # A probe is let through by no rule: its tool only reads.
        assert step["rule"] in {"default", *(rule["id"] for rule in told["rules"])} or step["cause"] == "probe"


def test_an_explanation_names_each_rule_its_answer_and_what_it_looked_at(
    soothsayer: Soothsayer, there: tuple[str, str]
) -> None:
    denied = steps(soothsayer, there, "reason:rule_denied")[0]
    told = json.loads(soothsayer("policy", "explain", denied["step"], "--json", *there).out)["explanation"]
    assert [(rule["id"], rule["matched"]) for rule in told["candidates"]] == [
        ("guarded/keys-stay-here", True),
        ("guarded/secret-in-arguments", False),
    ]
    assert (told["does"], told["pin"], told["listed"]) == (["read"], "pinned", True)
    page = soothsayer("policy", "explain", denied["step"], *there).out
    assert 'files.read_file path "../.ssh/id_ed25519"' in page
    assert "deny by guarded/keys-stay-here (rule_denied); policy demo@" in page


def test_a_step_is_explained_under_another_policy_when_one_is_named(
    soothsayer: Soothsayer, there: tuple[str, str]
) -> None:
    written = steps(soothsayer, there, "tool:write_file", "outcome:succeeded")[0]
    told = json.loads(soothsayer("policy", "explain", written["step"], "--policy", "read-only", "--json", *there).out)[
        "explanation"
    ]
    assert told["effect"] == "deny"
    assert told["notes"][0].startswith("explained under read-only, not under the policy it was decided by: as asked")
    assert told["notes"][1] == "recorded was: allow by demo/edits-in-tree"


def test_a_typed_call_is_explained_by_the_definition_on_record(soothsayer: Soothsayer, there: tuple[str, str]) -> None:
    call = ("policy", "explain", "files.write_file", '{"path":"a","content":7}', "--json", *there)
    told = json.loads(soothsayer(*call).out)["explanation"]
    assert told["reason"] == "arguments_invalid"
    assert told["notes"] == []
    call = ("policy", "explain", "nothing.at_all", "--json", *there)
    told = json.loads(soothsayer(*call).out)["explanation"]
    assert told["notes"] == ["no definition of this tool is on record: explained without its schema and its hints"]
    assert told["pin"] == "pinned"


def test_a_call_is_read_from_a_file_too(soothsayer: Soothsayer, there: tuple[str, str], tmp_path: Path) -> None:
    file = tmp_path / "call.json"
    file.write_text('{"tool": "files.read_file", "args": {"path": "/home/x/.ssh/id_rsa"}}')
    told = json.loads(soothsayer("policy", "explain", str(file), "--json", *there).out)["explanation"]
    assert (told["call"], told["effect"]) == ("files.read_file", "deny")


@pytest.mark.parametrize(
    ("call", "code"),
    [
        (("nothing",), Exit.USAGE),
        (("a.b", "[1]"), Exit.USAGE),
        (("a.b", "{"), Exit.USAGE),
        (("a.b", "--policy", "nosuch"), Exit.USAGE),
        (("ffff.1",), Exit.NO),
    ],
)
def test_a_call_that_cannot_be_explained_is_one_line(
    soothsayer: Soothsayer, there: tuple[str, str], call: tuple[str, ...], code: Exit
) -> None:
    ended = soothsayer("policy", "explain", *call, *there)
    assert (ended.code, ended.out, len(ended.err.splitlines())) == (code, "", 1)


def test_a_policy_is_checked_and_all_its_mistakes_are_told_with_their_place(
    soothsayer: Soothsayer, tmp_path: Path
) -> None:
    assert soothsayer("policy", "check").out.split()[5] == "guarded"
    bad = tmp_path / "bad.yaml"
    bad.write_text('soothsayer: policy/v1\nname: bad\nrules:\n  - alow: "*"\n  - deny: x\n    tols: ["*"]\n')
    ended = soothsayer("policy", "check", "guarded", str(bad))
    assert ended.code == Exit.USAGE
    assert "guarded" in ended.out
    lines = ended.err.splitlines()
    assert f'soothsayer: {bad}:4:5: unknown key "alow"; did you mean "allow"? [policy-key]' in lines
    assert len(lines) >= 2
    ended = soothsayer("policy", "check", "--json", str(bad))
    assert json.loads(ended.out)["policies"] == []
    assert json.loads(ended.err.splitlines()[0])["where"] == f"{bad}:4:5"


def test_checking_and_explaining_leave_nothing_beside_the_trace(soothsayer: Soothsayer, tmp_path: Path) -> None:
    folder = tmp_path / "none"
    assert soothsayer("policy", "check", "--state", str(folder)).code == Exit.DONE
    assert soothsayer("policy", "explain", "a.b", "--state", str(folder)).code == Exit.DONE
    assert not folder.exists()


def test_a_changed_definition_is_listed_shown_and_accepted(soothsayer: Soothsayer, there: tuple[str, str]) -> None:
    pins = json.loads(soothsayer("pins", "list", "--json", *there).out)["pins"]
    assert {(pin["server"], pin["tool"]): pin["state"] for pin in pins}["ci", "lint"] == "changed"
    assert "changed" in soothsayer("pins", "list", *there).out
    difference = soothsayer("pins", "diff", "-e", *there)
    assert difference.code == Exit.NO
    assert '-  "description": "Look for mistakes in the style of a suite.",' in difference.out
    assert "~/.aws/credentials" in difference.out
    assert soothsayer("pins", "diff", "-e", "files", *there).code == Exit.DONE
    refused = soothsayer("pins", "accept", "ci", *there)
    assert (refused.code, refused.err.endswith("[needs-yes]\n")) == (Exit.USAGE, True)
    assert soothsayer("pins", "diff", "-e", *there).code == Exit.NO
    accepted = soothsayer("pins", "accept", "ci", "--yes", "--json", *there)
    assert json.loads(accepted.out)["accepted"] == ["ci.lint"]
    assert soothsayer("pins", "diff", "-e", *there).code == Exit.DONE
    assert soothsayer("pins", "accept", "ci", "--yes", *there).code == Exit.DONE
    assert soothsayer("trace", "verify", *there).code == Exit.DONE


@pytest.mark.parametrize("argv", [("diff", "flies"), ("accept", "flies"), ("diff", "ci", "run_test")])
def test_a_name_that_no_pin_has_is_told_with_the_nearest(
    soothsayer: Soothsayer, there: tuple[str, str], argv: tuple[str, ...]
) -> None:
    ended = soothsayer("pins", *argv, *there)
    assert ended.code == Exit.NO
    assert "did you mean" in ended.err


def test_a_sound_trace_verifies_and_says_what_nothing_shows(soothsayer: Soothsayer, there: tuple[str, str]) -> None:
    ended = soothsayer("trace", "verify", *there)
    assert ended.code == Exit.DONE
    assert ended.out.splitlines()[-1] == "hashes and chains hold"
    assert "no checkpoint covers" in ended.out
    report = json.loads(soothsayer("trace", "verify", "--json", *there).out)["verified"]
    assert report["holds"]
    assert len(report["unknown"]) == 1
    assert report["uncovered"] == report["entries"]


@pytest.mark.parametrize("damage", ["substr(body, 2)", "'7'", "'[' || body"])
def test_a_body_that_is_no_object_any_more_is_found(
    soothsayer: Soothsayer, there: tuple[str, str], damage: str
) -> None:
    db = sqlite3.connect(next(Path(there[1]).glob("trace-*.db")))
    db.execute("DROP TRIGGER entries_no_update")
    db.execute(f"UPDATE entries SET body = {damage} WHERE pos = 12")
    db.commit()
    db.close()
    report = json.loads(soothsayer("trace", "verify", "--json", *there).out)["verified"]
    assert report["problems"][0]["pos"] == 12
    for argv in (
        ["log", "-n0"],
        ["log", "--entries", "-n0"],
        ["show", steps(soothsayer, there)[-2]["step"]],
        ["stats"],
    ):
        assert soothsayer(*argv, *there).code == Exit.DONE


def test_a_changed_byte_is_found_and_named_last(soothsayer: Soothsayer, there: tuple[str, str]) -> None:
    db = sqlite3.connect(next(Path(there[1]).glob("trace-*.db")))
    db.execute("DROP TRIGGER entries_no_update")
    (pos,) = db.execute("SELECT min(pos) FROM entries WHERE kind = 'step.refused' AND pos > 2").fetchone()
    db.execute("UPDATE entries SET body = replace(body, 'effect', 'effort') WHERE pos = ?", (pos,))
    db.commit()
    db.close()
    ended = soothsayer("trace", "verify", *there)
    assert ended.code == Exit.NO
    assert ended.out.splitlines()[-1].startswith("BROKEN: ")
    assert f"entry {pos}" in ended.out.splitlines()[-1]
    report = json.loads(soothsayer("trace", "verify", "--json", *there).out)["verified"]
    assert report["problems"][0]["pos"] == pos


def test_what_was_masked_before_it_was_stored_is_shown_masked(soothsayer: Soothsayer, there: tuple[str, str]) -> None:
    read = steps(soothsayer, there, "--grep", "masked", "tool:read_file")[0]
    ended = soothsayer("show", read["step"], "--payloads", *there)
    assert "\u2039masked:" in ended.out
    assert "1 value masked" in ended.out
    assert "ghp_" not in ended.out


def test_the_log_of_a_real_trace_names_its_columns_and_its_ends(soothsayer: Soothsayer, there: tuple[str, str]) -> None:
    out = soothsayer("log", *there).out
    for words in ("arguments_invalid; nothing was sent", "call_timeout; unknown, not settled", "check_broken"):
        assert words in out
    assert os.linesep.join(line.rstrip() for line in out.splitlines()) == out.rstrip(os.linesep)


def replayed(soothsayer: Soothsayer, *argv: str) -> tuple[int, dict[str, Any]]:
    ended = soothsayer("policy", "replay", "--json", *argv)
    return ended.code, json.loads(ended.out)


def test_every_decision_on_record_is_reproduced_by_its_own_policy(
    soothsayer: Soothsayer, there: tuple[str, str]
) -> None:
    code, told = replayed(soothsayer, *there)
    assert code == Exit.DONE
    assert (told["counts"]["same"], told["changed"]) == (told["steps"], [])
    assert told["steps"] >= 10


def test_a_decision_that_the_record_tells_otherwise_is_a_fault(soothsayer: Soothsayer, there: tuple[str, str]) -> None:
    written = steps(soothsayer, there, "tool:write_file", "outcome:succeeded")[0]
    with contextlib.closing(sqlite3.connect(Path(there[1]) / "trace-000001.db")) as db, db:
        db.execute("DROP TRIGGER IF EXISTS entries_no_update")
        changed = db.execute(
            "UPDATE entries SET body = replace(body, 'demo/edits-in-tree', 'demo/another')"
            " WHERE kind = 'step.intent' AND body LIKE '%demo/edits-in-tree%'"
        ).rowcount
    assert changed >= 1
    code, told = replayed(soothsayer, "tool:write_file", *there)
    assert code == Exit.NO
    assert {"different"} == {one["verdict"] for one in told["changed"] if one["step"] == written["step"]}


def test_another_policy_shows_what_it_would_change_and_the_looser_first(
    soothsayer: Soothsayer, there: tuple[str, str], tmp_path: Path
) -> None:
    policy = tmp_path / "new.yaml"
    policy.write_text("soothsayer: policy/v1\nname: new\ndefault: {read: deny, other: allow, checked: deny}\n")
    code, told = replayed(soothsayer, "--policy", str(policy), *there)
    assert code == Exit.DONE
    kinds = [one["verdict"] for one in told["changed"]]
    assert kinds == sorted(kinds, key=["looser", "tighter", "different", "cannot tell"].index)
    assert {"looser"} <= set(kinds)
    published = [one for one in told["changed"] if one["tool"] == "release.publish"]
    assert {(one["before"], one["after"], one["rule"]) for one in published} == {
        ("ask by demo/publish-tested", "allow by default", "default")
    }
    page = soothsayer("policy", "replay", "--policy", str(policy), *there).out
    assert page.splitlines()[0].startswith(f"{told['steps']} steps: ")
    # The looser ones stand first, below the counts.
    assert "release.publish" in page.partition("\n")[2].split("tighter", maxsplit=1)[0]


@pytest.mark.parametrize("fact", ["flow: {into: args.path, unless_from: intent}", "tainted: true"])
def test_a_fact_that_nobody_recorded_cannot_be_told(
    soothsayer: Soothsayer, there: tuple[str, str], tmp_path: Path, fact: str
) -> None:
    policy = tmp_path / "new.yaml"
    policy.write_text(
        "soothsayer: policy/v1\nname: new\ndefault: allow\n"
        f"rules: [{{deny: N., id: n1, tools: files.write_file, {fact}}}]\n"
    )
    _, told = replayed(soothsayer, "tool:write_file", "effect:allow", "--policy", str(policy), *there)
    assert {(one["verdict"], one["why"]) for one in told["changed"]} == {
        ("cannot tell", "a fact that its policy did not need is not on record")
    }


def test_a_folder_is_named_instead_and_nothing_found_is_a_no(soothsayer: Soothsayer, there: tuple[str, str]) -> None:
    code, told = replayed(soothsayer, there[1], "tool:write_file")
    assert (code, told["steps"]) == (Exit.DONE, told["counts"]["same"])
    assert soothsayer("policy", "replay", "tool:nothing", *there).code == Exit.NO


def test_what_is_suggested_allows_the_trace_asks_about_the_rest_and_passes_its_own_tests(
    soothsayer: Soothsayer, there: tuple[str, str], tmp_path: Path
) -> None:
    folder = tmp_path / "new"
    ended = soothsayer("policy", "suggest", "--write", str(folder), "--json", *there)
    assert ended.code == Exit.DONE, ended.err
    told = json.loads(ended.out)
    ruled = {one["tool"] for one in told["tools"] if one["rule"]}
    assert {"files.read_file", "files.write_file"} <= ruled
    assert told["would_let_in"] == []
    policy = str(folder / "suggested.yaml")
    assert soothsayer("policy", "test", policy, "--coverage", "100").code == Exit.DONE
    _, again = replayed(soothsayer, "outcome:succeeded", "effect:allow", "--policy", policy, *there)
    assert {one["tool"] for one in again["changed"]}.isdisjoint(ruled)
    assert again["counts"]["same"] >= 2
    foreign = ("files.write_file", '{"path": "/etc/passwd", "content": "x"}')
    ended = soothsayer("policy", "explain", *foreign, "--policy", policy, "--json", *there)
    assert json.loads(ended.out)["explanation"]["effect"] == "ask"
    again_there = soothsayer("policy", "suggest", "--write", str(folder), *there)
    assert (again_there.code, "is already there; name another folder [exists]" in again_there.err) == (Exit.USAGE, True)


def test_a_suggestion_is_printed_and_says_what_stays_with_a_person(
    soothsayer: Soothsayer, there: tuple[str, str]
) -> None:
    ended = soothsayer("policy", "suggest", *there)
    assert ended.out.splitlines()[1:3] == ["soothsayer: policy/v1", "name: suggested"]
    assert soothsayer("policy", "suggest", "tool:nothing", *there).code == Exit.NO


def test_tools_that_nobody_labelled_are_asked_about_and_get_rules_once_they_are(
    soothsayer: Soothsayer, there: tuple[str, str], tmp_path: Path
) -> None:
    bare = tmp_path / "bare.yaml"
    bare.write_text("soothsayer: policy/v1\nname: bare\ndefault: ask\n")
    asked = soothsayer("policy", "suggest", "tool:read_file", "--policy", str(bare), *there).out
    assert "#labels:" in asked
    assert '#  - {tools: "files.read_file", does: }' in asked
    assert "rules:" not in asked
    bare.write_text(asked.replace("#labels:", "labels:").replace("#  - ", "  - ").replace("does: }", "does: read}"))
    told = soothsayer("policy", "suggest", "tool:read_file", "--policy", str(bare), *there).out
    assert '"tools": "files.read_file"' in told
    assert "#labels:" not in told
