import csv
import io
import json
from pathlib import Path

import pytest

from commands import Soothsayer
from seeding import D3A0, D3B1, Seed, seed
from soothsayer_mcp.cli.exits import Exit
from soothsayer_mcp.model.failure import REASONS, Reason


def test_log_shows_steps_newest_first_a_line_each(soothsayer: Soothsayer) -> None:
    ended = soothsayer("log")
    assert ended.code == Exit.DONE
    header, *lines = ended.out.splitlines()
    assert header.split() == ["TIME", "STEP", "CALL", "EFFECT", "ENDED", "AS", "TOOK", "BECAUSE"]
    assert [line.split()[1] if ":" in line.split()[0] else line.split()[2] for line in lines] == [
        "d3b1.1",
        *(f"d3a0.{no}" for no in range(8, 0, -1)),
    ]
    assert ended.err == ""


@pytest.mark.parametrize(
    ("step", "words"),
    [
        ("d3a0.1", "files.read_file allow succeeded, kept E1 2.5 ms edits-in-tree"),
        ("d3a0.2", "files.read_file deny policy_denied 0.3 ms keys-stay-here; nothing was sent"),
        ("d3a0.4", "k8s.deploy allow verification_failed 62 s check_broken: readback:image broken; it acted; stop"),
        ("d3a0.5", "bank.pay allow timeout_or_budget_exceeded 30 s call_timeout; unknown, not settled"),
        ("d3a0.6", "ci.run_tests allow tool_error 2.5 ms tool_failed"),
        ("d3a0.7", "shell.run (deny) succeeded 2.5 ms no-pipes; observed only: enforcing would deny it"),
        ("d3a0.8", "files.read_file allow in flight - edits-in-tree"),
    ],
)
def test_each_line_of_the_log_says_how_a_step_ended_and_why(soothsayer: Soothsayer, step: str, words: str) -> None:
    line = next(line for line in soothsayer("log").out.splitlines() if f" {step} " in line)
    assert " ".join(line.split(step)[1].split()) == words


def test_on_a_narrow_terminal_the_reason_stands_on_its_own_line(
    soothsayer: Soothsayer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    lines = soothsayer("log").out.splitlines()
    assert all(len(line) <= 80 for line in lines)
    assert any(line.strip() == "call_timeout; unknown, not settled" for line in lines)
    assert sum("timeout_or_budget_exceeded" in line for line in lines) == 1


def test_filters_and_their_short_options_mix(soothsayer: Soothsayer) -> None:
    assert steps(soothsayer("log", "server:files", "--effect", "deny")) == ["d3a0.2"]
    assert steps(soothsayer("log", "--tool", "k8s.deploy")) == ["d3a0.4"]
    assert steps(soothsayer("log", "--failure", "tool_error", "--run", "d3a0")) == ["d3a0.6"]
    assert steps(soothsayer("log", "-principal:os:ada")) == ["d3b1.1"]
    assert steps(soothsayer("log", "-n", "1", "-principal:token:ci", "--reverse")) == ["d3a0.8"]
    assert steps(soothsayer("log", "--grep", "readback")) == ["d3a0.4"]
    assert steps(soothsayer("log", "--payloads", "id_ed25519")) == ["d3a0.2"]


def steps(ended: object) -> list[str]:
    text = str(getattr(ended, "out", ""))
    return [word for line in text.splitlines()[1:] for word in line.split() if word.startswith(("d3a0.", "d3b1."))]


def test_self_tests_are_shown_only_when_asked_for(soothsayer: Soothsayer, tmp_path: Path) -> None:
    made = seed(tmp_path)
    made.run(D3A0)
    made.step(D3A0, "files.read_file")
    made.run(D3B1, principal="os:ada", host="soothsayer-selftest")
    made.step(
        D3B1,
        "soothsayer.selftest",
        cause="selftest",
        rule=None,
        tool_us=None,
        effect="deny",
        outcome="failed",
        failure="policy_denied",
        reason="tool_unknown",
        acted="no",
    )
    made.db.close()
    there = ("--state", str(tmp_path))
    assert steps(soothsayer("log", *there)) == ["d3a0.1"]
    assert steps(soothsayer("log", "cause:*", *there)) == ["d3b1.1", "d3a0.1"]
    assert steps(soothsayer("log", "step:d3b1.1", *there)) == ["d3b1.1"]
    assert "self-test, as it must be; tool_unknown; nothing was sent" in soothsayer("log", "cause:*", *there).out
    assert json.loads(soothsayer("stats", "--json", *there).out)["figures"]["all"]["steps"] == 1
    listed = json.loads(soothsayer("run", "list", "--json", *there).out)["runs"]
    assert [run["run"] for run in listed] == [D3A0]
    assert len(json.loads(soothsayer("run", "list", "--json", "cause:selftest", *there).out)["runs"]) == 1


def test_json_is_one_document_with_everything(soothsayer: Soothsayer) -> None:
    document = json.loads(soothsayer("log", "--json", "-n", "0").out)
    assert document["schema"] == 1
    assert len(document["steps"]) == 9
    denied = next(step for step in document["steps"] if step["effect"] == "deny")
    assert denied == {
        "step": f"{D3A0}.2",
        "run": D3A0,
        "no": 2,
        "span": denied["span"],
        "at": "2026-11-24T10:00:02.000000Z",
        "principal": "os:ada",
        "host": "claude-code",
        "server": "files",
        "tool": "read_file",
        "does": ["read"],
        "cause": "agent",
        "of_step": None,
        "continues": None,
        "effect": "deny",
        "would": None,
        "rule": "keys-stay-here",
        "risk": None,
        "policy": "sha256:5c1e44" + "0" * 58,
        "asked": False,
        "outcome": "failed",
        "acted": "no",
        "failure": "policy_denied",
        "reason": "rule_denied",
        "next": "continue",
        "kept": [],
        "not_kept": [],
        "undo": None,
        "undone_by": None,
        "dur_ms": 0.31,
        "tool_ms": None,
    }


def test_jsonl_is_an_object_a_line_and_csv_has_a_header(soothsayer: Soothsayer) -> None:
    lines = soothsayer("log", "--jsonl", "run:d3a0").out.splitlines()
    assert [json.loads(line)["no"] for line in lines] == list(range(8, 0, -1))
    assert all(json.loads(line)["schema"] == 1 for line in lines)
    rows = list(csv.DictReader(io.StringIO(soothsayer("log", "--csv", "run:d3a0").out)))
    assert [row["tool"] for row in rows][0:2] == ["read_file", "run"]
    assert rows[0].keys() == json.loads(soothsayer("log", "--json", "-n1").out)["steps"][0].keys()


def test_entries_are_shown_raw(soothsayer: Soothsayer) -> None:
    out = soothsayer("log", "--entries", "step:d3a0.4").out
    kinds = [word for line in out.splitlines()[1:] for word in line.split() if word.startswith("step.")]
    assert kinds == ["step.outcome", "step.finding", "step.intent"]
    document = json.loads(soothsayer("log", "--entries", "--json", "step:d3a0.4").out)
    assert document["entries"][0]["entry"]["kind"] == "step.outcome"
    assert len(document["entries"][0]["leaf"]) == 64


def test_exit_code_1_only_when_asked_for_and_nothing_fits(soothsayer: Soothsayer) -> None:
    assert soothsayer("log", "tool:nothing").code == Exit.DONE
    assert soothsayer("log", "-e", "tool:nothing").code == Exit.NO
    assert soothsayer("log", "-e", "tool:deploy").code == Exit.DONE
    assert soothsayer("log", "-e", "--entries", "tool:nothing").code == Exit.NO
    assert soothsayer("log", "tool:nothing").err == "no step fits\n"
    assert soothsayer("log", "-q", "tool:nothing").err == ""


@pytest.mark.parametrize(
    ("argv", "text"),
    [
        (["log", "efect:deny"], 'soothsayer: unknown key "efect"; did you mean "effect"? [query-key]'),
        (
            ["log", "effect:dney"],
            'soothsayer: effect is never "dney": it is one of allow, ask, deny; did you mean "deny"? [query-value]',
        ),
        (["log", "--jsonl", "--csv"], "soothsayer: choose one of --json, --jsonl, --csv and --oneline [usage]"),
        (["log", "--entries", "--csv"], "soothsayer: --entries goes with --json and --jsonl, not with --csv [usage]"),
        (["log", "-f", "--reverse"], None),
        (["log", "-f", "--json"], None),
        (["log", "--nmber", "3"], 'soothsayer: unknown option "--nmber"; did you mean "--number"? [usage]'),
        (["show"], None),
        (["stats", "--by", "moon"], None),
        (["lgo"], 'soothsayer: no command "lgo"; did you mean "log"? [usage-command]'),
        (["run", "lst"], 'soothsayer: no command "run lst"; did you mean "run list"? [usage-command]'),
        (["--color", "green", "log"], None),
    ],
)
def test_a_mistake_on_the_command_line_is_one_line_and_exit_2(
    soothsayer: Soothsayer, argv: list[str], text: str | None
) -> None:
    ended = soothsayer(*argv)
    assert ended.code == Exit.USAGE
    assert ended.out == ""
    assert len(ended.err.splitlines()) == 1
    if text is not None:
        assert ended.err == f"{text}\n"


def test_a_mistake_is_one_json_line_for_programs(soothsayer: Soothsayer) -> None:
    ended = soothsayer("log", "efect:deny", "--json")
    assert json.loads(ended.err) == {
        "schema": 1,
        "id": "query-key",
        "message": 'unknown key "efect"',
        "where": "",
        "fix": 'did you mean "effect"?',
    }


def test_options_of_every_command_stand_before_or_after_it(soothsayer: Soothsayer, tmp_path: Path) -> None:
    after = soothsayer("log", "--json", "-n1").out
    assert soothsayer("--json", "log", "-n1").out == after
    seed(tmp_path).db.close()
    assert json.loads(soothsayer("--state", str(tmp_path), "log", "--json").out)["steps"] == []
    assert json.loads(soothsayer("--state", "/nowhere", "log", "--state", str(tmp_path), "--json").out)["steps"] == []
    assert json.loads(soothsayer("--json", "run", "list", "--state", str(tmp_path)).out)["runs"] == []


@pytest.mark.parametrize(
    ("argv", "key"),
    [(["log"], "steps"), (["log", "--entries"], "entries"), (["run", "list"], "runs"), (["stats"], "figures")],
)
def test_an_empty_state_folder_says_how_to_make_a_beginning(
    soothsayer: Soothsayer, tmp_path: Path, argv: list[str], key: str
) -> None:
    folder = str(tmp_path / "none")
    ended = soothsayer(*argv, "--state", folder)
    assert ended.code == Exit.DONE
    assert ended.out == ""
    assert f"nothing is recorded in {folder} yet; soothsayer demo shows" in ended.err
    ended = soothsayer(*argv, "--state", folder, "--json")
    assert key in json.loads(ended.out)
    assert ended.err == ""
    assert not Path(folder).exists()


def test_show_tells_all_that_is_on_record_about_a_step(soothsayer: Soothsayer) -> None:
    out = soothsayer("show", "d3a0.4").out
    labels = [line.split()[0] for line in out.splitlines() if line[:1].strip()]
    assert labels == ["step", "proposed", "decided", "intent", "check", "outcome", "result", "means", "to", "record"]
    assert "allow by edits-in-tree; policy guarded@5c1e44" in out
    assert "broken readback:image, E2" in out
    assert "entries 10, 11, 12, not covered by a checkpoint yet" in " ".join(out.split())


def test_show_tells_what_the_agent_read_of_a_denial(soothsayer: Soothsayer) -> None:
    out = " ".join(soothsayer("show", "d3a0.2").out.split())
    assert 'files.read_file path "../.ssh/id_ed25519"' in out
    assert "the agent read: Denied by policy rule keys-stay-here: key files never leave this machine." in out
    assert "A rule of the policy denies this call." in out


def test_show_prints_what_was_said_only_when_asked(soothsayer: Soothsayer) -> None:
    assert '{"content":[]}' not in soothsayer("show", "d3a0.1").out
    assert '{"content":[]}' in soothsayer("show", "d3a0.1", "--payloads").out
    plain = json.loads(soothsayer("show", "d3a0.1", "--json").out)
    assert all("text" not in payload for payload in plain["payloads"])
    whole = json.loads(soothsayer("show", "d3a0.1", "--json", "--payloads").out)
    assert {payload["part"]: payload["text"] for payload in whole["payloads"]} == {
        "args": '{"path":"src/app.py"}',
        "result": '{"content":[]}',
    }


def test_a_step_is_found_by_its_span(soothsayer: Soothsayer) -> None:
    step = json.loads(soothsayer("show", "d3a0.4", "--json").out)["step"]
    assert json.loads(soothsayer("show", f"span:{step['span']}", "--json").out)["step"] == step
    assert json.loads(soothsayer("show", step["step"], "--json").out)["step"] == step


@pytest.mark.parametrize("reason", Reason)
def test_show_explains_every_reason_without_any_trace(soothsayer: Soothsayer, reason: Reason, tmp_path: Path) -> None:
    ended = soothsayer("--state", str(tmp_path), "show", reason)
    assert ended.code == Exit.DONE
    text = " ".join(ended.out.split())
    assert REASONS[reason].meaning in text
    assert REASONS[reason].remedy in text
    document = json.loads(soothsayer("show", reason, "--json").out)
    assert document["guidance"]["failure"] == REASONS[reason].failure


@pytest.mark.parametrize(
    ("target", "code", "id_"),
    [
        ("d3a0.99", Exit.NO, "not-found"),
        ("d3a0.x", Exit.NO, "not-found"),
        ("ffff", Exit.NO, "not-found"),
        ("d3", Exit.USAGE, "ambiguous"),
        ("d3.1", Exit.USAGE, "ambiguous"),
        ("span:0000", Exit.NO, "not-found"),
        ("rule_dened", Exit.NO, "not-found"),
    ],
)
def test_what_is_not_on_record_is_told_apart_from_what_is_unclear(
    soothsayer: Soothsayer, target: str, code: Exit, id_: str
) -> None:
    ended = soothsayer("show", target)
    assert ended.code == code
    assert ended.err.endswith(f"[{id_}]\n")
    assert ended.out == ""


def test_a_reason_that_is_nearly_right_is_suggested(soothsayer: Soothsayer) -> None:
    assert 'did you mean "rule_denied"?' in soothsayer("show", "rule_dened").err


def test_show_filter_lists_every_key(soothsayer: Soothsayer) -> None:
    out = soothsayer("show", "filter").out
    assert "effect:" in out
    assert "allow, ask, deny" in out


def test_runs_are_listed_and_shown(soothsayer: Soothsayer) -> None:
    lines = soothsayer("run", "list").out.splitlines()
    assert [line.split()[-7:] for line in lines[1:]] == [
        ["open", "1", "0", "0", "0", "token:ci", "runner"],
        ["open", "8", "3", "1", "0", "os:ada", "claude-code"],
    ]
    document = json.loads(soothsayer("run", "list", "--json", "effect:deny").out)
    assert [run["run"] for run in document["runs"]] == [D3A0]
    out = soothsayer("run", "show", "d3a0").out
    assert '"publish 1.5.0", said by human' in out
    assert "8 steps, 3 failed, 1 unknown, 0 asked" in out
    assert soothsayer("show", "d3a0").out == out
    told = json.loads(soothsayer("run", "show", "d3a0", "--json", "-n0").out)
    assert told["intent"] == {"text": "publish 1.5.0", "by": "human"}
    assert len(told["steps"]) == 8


def test_run_show_says_how_many_steps_it_leaves_out(soothsayer: Soothsayer) -> None:
    assert "6 earlier steps not shown: soothsayer log run:d3a0 -n 0" in soothsayer("run", "show", "d3a0", "-n2").out


def test_stats_counts_and_measures(soothsayer: Soothsayer) -> None:
    figures = json.loads(soothsayer("stats", "--json", "--by", "tool").out)["figures"]
    assert figures["all"] == {
        "key": "",
        "steps": 9,
        "allowed": 8,
        "asked": 0,
        "denied": 1,
        "failed": 3,
        "unknown": 1,
        "open": 1,
        "took": {"count": 8, "p50_ms": 2.48, "p95_ms": 30000.0, "p99_ms": 30000.0, "max_ms": 62000.0},
    }
    assert figures["runs"] == 2
    assert next((group["key"], group["steps"]) for group in figures["groups"]) == ("files.read_file", 3)
    assert {row["reason"] for row in figures["failures"]} == {
        "rule_denied",
        "check_broken",
        "call_timeout",
        "tool_failed",
    }
    out = soothsayer("stats", "--by", "rule", "run:d3a0").out
    assert "8 steps in 1 run" in out
    assert "keys-stay-here" in out


@pytest.mark.parametrize("by", ["tool", "rule", "run", "policy", "day"])
def test_stats_group_by_each_key(soothsayer: Soothsayer, by: str) -> None:
    groups = json.loads(soothsayer("stats", "--json", "--by", by).out)["figures"]["groups"]
    assert sum(group["steps"] for group in groups) == 9
    assert by.upper() in soothsayer("stats", "--by", by).out


def test_the_share_of_yes_and_the_wait_are_counted_by_rule(soothsayer: Soothsayer, tmp_path: Path) -> None:
    made = seed(tmp_path)
    made.run(D3A0)
    for no, (state, wait_us) in enumerate(
        [("yes", 2_000_000), ("yes", 4_000_000), ("no", 6_000_000), ("open", None)], 1
    ):
        made.step(D3A0, "mail.send", effect="ask", rule="new-recipient")
        made.approval(D3A0, no, rule="new-recipient", state=state, wait_us=wait_us, by="os:ada")
    made.db.close()
    figures = json.loads(soothsayer("stats", "--json", "--state", str(tmp_path)).out)["figures"]
    assert figures["asks"] == [
        {"rule": "new-recipient", "asks": 4, "yes": 2, "no": 1, "open": 1, "median_wait_ms": 4000.0, "habit": False}
    ]
    assert figures["own"] is None
    assert "new-recipient: yes by os:ada after 2.0 s" in soothsayer("show", "d3a0.1", "--state", str(tmp_path)).out
    assert steps(soothsayer("log", "answer:no", "--state", str(tmp_path))) == ["d3a0.3"]


@pytest.mark.pitfall("P-CLAIM-07")
@pytest.mark.parametrize(("yes", "flagged"), [(48, True), (47, False)])
def test_a_rule_that_nearly_always_gets_its_yes_is_flagged(
    soothsayer: Soothsayer, tmp_path: Path, yes: int, *, flagged: bool
) -> None:
    made = seed(tmp_path)
    made.run(D3A0)
    for no in range(1, 51):
        made.step(D3A0, "mail.send", effect="ask", rule="new-recipient")
        state = "yes" if no <= yes else "no"
        made.approval(D3A0, no, rule="new-recipient", state=state, wait_us=2_000_000, by="os:ada")
    # Questions that nobody answered say nothing of how people answer, however many there are.
    for no, state in enumerate(("open", "expired", "withdrawn"), 51):
        made.step(D3A0, "mail.send", effect="ask", rule="new-recipient")
        made.approval(D3A0, no, rule="new-recipient", state=state, wait_us=None, by="")
    made.db.close()
    shown = soothsayer("stats", "--state", str(tmp_path)).out
    assert "53 questions, 53.0 in a run" in shown
    assert f"{yes / 53:.0%}" in shown
    assert "2.0 s" in shown
    assert (f"new-recipient: approved {yes} of 50 times; allow it with a check, or deny it" in shown) is flagged


HOSTILE = "\x1b]8;;https://evil.test\x07click\x1b]8;;\x07[red]\x1b[2J\u202e\u200b\r\n\U000e0041"
VISIBLE = r"\x1b]8;;https://evil.test\x07click\x1b]8;;\x07[red]\x1b[2J\u202e\u200b\r\n\U000e0041"


@pytest.fixture
def hostile(tmp_path: Path) -> Path:
    made: Seed = seed(tmp_path)
    made.policy(name=HOSTILE, digest="ab" * 32)
    made.run(D3B1, principal=HOSTILE, host=HOSTILE, intent=HOSTILE, workspace=HOSTILE, policy=2)
    made.step(
        D3B1,
        f"{HOSTILE}.{HOSTILE}",
        rule=HOSTILE,
        args=json.dumps({HOSTILE: HOSTILE}),
        result=HOSTILE,
        said=HOSTILE,
        outcome="failed",
        failure="verification_failed",
        reason="check_broken",
        findings=((HOSTILE, "broken", "E2"),),
        policy=2,
    )
    made.approval(D3B1, 1, rule=HOSTILE, state="yes", wait_us=1, by=HOSTILE)
    made.db.close()
    return tmp_path


@pytest.mark.parametrize(
    "argv",
    [
        ["log"],
        ["log", "-v"],
        ["log", "--oneline"],
        ["log", "--entries"],
        ["log", "--csv"],
        ["log", "--json"],
        ["log", "--jsonl"],
        ["show", "d3b1.1", "--payloads", "--entries"],
        ["show", "d3b1.1", "--payloads", "--json"],
        ["run", "list"],
        ["run", "show", "d3b1"],
        ["stats", "--by", "tool"],
        ["stats", "--by", "rule"],
        ["trace", "query", "SELECT * FROM v_steps"],
        ["trace", "query", 'SELECT principal AS "\x1b[2J" FROM v_steps'],
        ["trace", "query", "SELECT * FROM v_runs", "--json"],
    ],
    ids=" ".join,
)
def test_what_a_server_says_never_reaches_the_terminal_as_more_than_text(
    soothsayer: Soothsayer, hostile: Path, argv: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for width in ("80", "400"):
        monkeypatch.setenv("COLUMNS", width)
        ended = soothsayer(*argv, "--state", str(hostile))
        assert ended.code == Exit.DONE
        for text in (ended.out, ended.err):
            assert not {char for char in text if not char.isprintable()} - {"\n"}
            assert "\u202e" not in text
        assert any(mark in ended.out for mark in ("x1b", "u001b"))


@pytest.mark.parametrize(
    "argv", [["show", HOSTILE], ["log", HOSTILE], [HOSTILE], ["run", "show", HOSTILE], [f"--{HOSTILE}"]]
)
def test_what_was_typed_is_told_back_as_text(soothsayer: Soothsayer, argv: list[str]) -> None:
    ended = soothsayer(*argv)
    assert not {char for char in ended.err if not char.isprintable()} - {"\n"}
    assert len(ended.err.splitlines()) == 1


def test_colours_are_the_only_escapes_and_only_where_they_are_wanted(soothsayer: Soothsayer, hostile: Path) -> None:
    ended = soothsayer("log", "--color", "always", "--state", str(hostile))
    assert "\x1b[" in ended.out
    plain = soothsayer("log", "--state", str(hostile)).out
    assert VISIBLE in plain
    assert "[2J" in plain  # as text, after its escaped ESC
    assert "\x1b[2J" not in ended.out
    assert "\x1b]" not in ended.out


@pytest.mark.parametrize(
    ("environ", "argv", "colored"),
    [
        ({}, [], False),
        ({"FORCE_COLOR": "1"}, [], True),
        ({"FORCE_COLOR": "1", "NO_COLOR": "1"}, [], False),
        ({"NO_COLOR": "1"}, ["--color", "always"], True),
        ({"FORCE_COLOR": "1"}, ["--color", "never"], False),
        ({"SOOTHSAYER_COLOR": "always"}, [], True),
    ],
)
def test_colour_is_chosen_by_option_then_environment_then_terminal(
    soothsayer: Soothsayer, monkeypatch: pytest.MonkeyPatch, environ: dict[str, str], argv: list[str], *, colored: bool
) -> None:
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    assert ("\x1b[" in soothsayer("log", *argv).out) is colored


def test_a_cell_that_a_spreadsheet_would_run_is_made_text(soothsayer: Soothsayer, tmp_path: Path) -> None:
    made = seed(tmp_path)
    made.run(D3A0, principal="@SUM(A1)", host="-1+2")
    made.step(D3A0, "=cmd|x.+tool", rule="=HYPERLINK()")
    made.db.close()
    row = next(csv.DictReader(io.StringIO(soothsayer("log", "--csv", "--state", str(tmp_path)).out)))
    assert (row["server"], row["tool"], row["rule"]) == ("'=cmd|x", "'+tool", "'=HYPERLINK()")
    assert (row["principal"], row["host"]) == ("'@SUM(A1)", "'-1+2")


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM run_keys",
        "SELECT text FROM payloads",
        "WITH x AS (SELECT 1) DELETE FROM steps",
        "SELECT load_extension('x')",
        "SELECT 1; DELETE FROM steps",
        "SELECT * FROM pragma_database_list",
        "SELECT",
        "SELECT * FROM nothing",
    ],
)
def test_sql_that_does_more_than_read_is_refused(soothsayer: Soothsayer, sql: str) -> None:
    ended = soothsayer("trace", "query", sql)
    assert ended.code == Exit.USAGE
    assert ended.out == ""


def test_sql_reads_the_views_and_payloads_only_when_asked(soothsayer: Soothsayer) -> None:
    sql = "SELECT failure, count(*) AS n FROM v_steps WHERE failure IS NOT NULL GROUP BY 1 ORDER BY 1"
    assert soothsayer("trace", "query", sql).out.split()[:4] == ["failure", "n", "policy_denied", "1"]
    document = json.loads(soothsayer("trace", "query", "--json", sql).out)
    assert document["columns"] == ["failure", "n"]
    assert document["rows"][0] == ["policy_denied", 1]
    assert soothsayer("trace", "query", "--payloads", "SELECT count(*) FROM payloads").code == Exit.DONE
    cut = soothsayer("trace", "query", "--limit", "2", "SELECT n FROM v_steps")
    assert len(cut.out.splitlines()) == 3
    assert "only the first 2 rows" in cut.err
    assert steps(soothsayer("trace", "query", "effect:deny")) == ["d3a0.2"]


def test_verify_tells_what_it_checked_and_what_nothing_shows(soothsayer: Soothsayer, tmp_path: Path) -> None:
    ended = soothsayer("trace", "verify", "--state", str(tmp_path / "none"))
    assert ended.code == Exit.NO
    assert ended.err.endswith("[state-empty]\n")


def test_version_names_what_takes_part(soothsayer: Soothsayer) -> None:
    assert soothsayer("version").out.startswith("soothsayer-mcp ")
    versions = json.loads(soothsayer("version", "--json").out)["versions"]
    assert {"soothsayer-mcp", "python", "sqlite", "mcp", "system"} <= versions.keys()
    assert "sqlite " in soothsayer("version", "-v").out


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_a_script_for_each_shell(soothsayer: Soothsayer, shell: str) -> None:
    assert "_SOOTHSAYER_COMPLETE" in soothsayer("completion", shell).out
