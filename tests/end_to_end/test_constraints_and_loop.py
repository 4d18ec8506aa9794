"""The seven constraints and the six steps of the loop, a test each, on one run through a real proxy."""

import json
import os
import sys
from pathlib import Path

import pytest

from commands import soothsayer
from fidelity.rig import at, entries
from soothsayer_mcp.adapters.verifier import verify
from soothsayer_mcp.model.json import Json, JsonObject
from soothsayer_mcp.model.value import dataclass
from soothsayer_mcp.testing.hosts import RawHost

SERVER = """
import json, pathlib, sys
S = {"type": "object", "properties": {"path": {"type": "string"}, "content": {"type": "string"}}}
for line in sys.stdin:
    m = json.loads(line)
    if m.get("id") is None:
        continue
    p, r = m.get("params", {}), {}
    if m["method"] == "initialize":
        r = {"protocolVersion": p["protocolVersion"], "capabilities": {"tools": {}},
             "serverInfo": {"name": "fs", "version": "1"}}
    elif m["method"] == "tools/list":
        r = {"tools": [{"name": n, "inputSchema": S} for n in ("write", "remove")]}
    elif m["method"] == "tools/call":
        a = p.get("arguments", {})
        with open(sys.argv[1], "a") as seen:
            seen.write(json.dumps(p) + "\\n")
        if a.get("content") != "a lie":
            pathlib.Path(a["path"]).write_text(a["content"])
        r = {"content": [{"type": "text", "text": "written"}]}
    print(json.dumps({"jsonrpc": "2.0", "id": m["id"], "result": r}), flush=True)
"""
POLICY = """
soothsayer: policy/v1
name: seven
default: {read: allow, other: deny, checked: allow}
servers: {fs: {files: local}}
labels: [{tools: "fs.write | fs.remove", does: write, touches: file(args.path)}]
risk: [{add: 30, because: "it writes", does: write}]
budgets: {calls: 9}
rules:
  - allow: "Edits inside the work tree."
    id: edits
    tools: fs.write
    args: {path: {under: "${workspace}"}}
    verify: [{artifact: {file: "${args.path}", equals: args.content}}]
    undo: {restore: file(args.path)}
  - {deny: "Nothing is removed.", id: kept, tools: fs.remove}
"""
WORDS = (sys.executable, "-m", "soothsayer_mcp")


@dataclass(frozen=True, slots=True, kw_only=True)
class Played:
    """One run, to its end and back."""

    answers: dict[str, JsonObject]
    sent: list[JsonObject]
    entries: list[JsonObject]
    state: Path
    before_rollback: str
    after_rollback: str
    told: str

    def reason(self, name: str) -> object:
        """Why a call failed; nothing where it did not."""
        result = self.answers[name]["result"]
        return at(result, "_meta", "dev.soothsayer/step", "reason") if "isError" in str(result) else None

    def of(self, kind: str) -> list[JsonObject]:
        """The entries of one kind."""
        return [entry for entry in self.entries if entry["kind"] == kind]


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Played:
    top = tmp_path_factory.mktemp("seven")
    work, state, seen = top / "ws", top / "state", top / "seen"
    work.mkdir()
    app = work / "app.py"
    app.write_text("as it was")
    (top / "server.py").write_text(SERVER)
    (top / "policy.yaml").write_text(POLICY)
    (top / "config.yaml").write_text(
        "soothsayer: config/v1\npolicy: [policy.yaml]\nworkspace: ws\nmcpServers:\n"
        f"  fs: {{command: {sys.executable}, args: [{top / 'server.py'}, {seen}]}}\n"
        'probes: {files: {roots: ["${workspace}"]}}\n'
    )
    environ = {**os.environ, "SOOTHSAYER_INTENT": "mend the app"}
    calls: dict[str, tuple[str, dict[str, Json]]] = {
        "allowed": ("write", {"path": str(app), "content": "mended"}),
        "denied": ("remove", {"path": str(app)}),
        "invalid": ("write", {"path": str(app), "content": 7}),
        "outside": ("write", {"path": str(top / "other.py"), "content": "x"}),
        "lie": ("write", {"path": str(work / "new.py"), "content": "a lie"}),
    }
    with RawHost([*WORDS, "proxy", "--state", state, "-c", top / "config.yaml"], env=environ) as host:
        host.initialize()
        answers = {name: host.call(tool, arguments) for name, (tool, arguments) in calls.items()}
        # The self-test of the proxy has a run of its own.
        opened = entries(state, "run.opened")
        (run,) = [str(entry["run"]) for entry in opened if at(entry, "host", "name") == "raw"]
        command(state, "run", "complete", "--failed", run)
        answers["late"] = host.call("write", {"path": str(app), "content": "late"})
    before = app.read_text()
    told = command(state, "rollback", run, "--yes")
    return Played(
        answers=answers,
        sent=[json.loads(line) for line in seen.read_text().splitlines()],
        entries=[entry for entry in entries(state) if entry.get("run") == run],
        state=state,
        before_rollback=before,
        after_rollback=app.read_text(),
        told=told,
    )


def command(state: Path, *words: str) -> str:
    ended = soothsayer(*words, "--state", state)
    assert ended.code == 0, ended.out + ended.err
    return ended.out


def test_lifecycle_a_run_that_has_ended_takes_no_more_calls(played: Played) -> None:
    assert played.reason("late") == "run_closed"
    assert "late" not in str(played.sent)


def test_permission_what_a_rule_denies_is_not_sent(played: Played) -> None:
    assert played.reason("denied") == "rule_denied"
    assert "remove" not in [call["name"] for call in played.sent]


def test_validation_arguments_that_do_not_fit_their_schema_are_not_sent(played: Played) -> None:
    assert played.reason("invalid") == "arguments_invalid"
    assert all(isinstance(at(call, "arguments", "content"), str) for call in played.sent)


def test_scope_what_lies_outside_of_the_work_is_not_sent(played: Played) -> None:
    assert played.reason("outside") == "no_rule"
    assert "other.py" not in str(played.sent)


def test_verification_a_server_that_says_written_and_wrote_nothing_is_not_believed(played: Played) -> None:
    assert played.reason("lie") == "check_broken"
    assert "its answer is withheld" in str(played.answers["lie"])
    assert "'written'" not in str(played.answers["lie"])
    assert "'written'" in str(played.answers["allowed"])


def test_rollback_what_a_failed_run_wrote_is_put_back(played: Played) -> None:
    assert (played.before_rollback, played.after_rollback) == ("mended", "as it was"), played.told


def test_trace_every_call_is_on_record_and_the_record_holds(played: Played) -> None:
    ends = [entry["no"] for kind in ("step.refused", "step.outcome") for entry in played.of(kind)]
    assert set(range(1, len(played.answers) + 1)) <= {no for no in ends if isinstance(no, int)}
    assert verify([played.state]).holds


def test_loop_1_the_intent_is_captured_with_who_declared_it(played: Played) -> None:
    (opened,) = played.of("run.opened")
    assert at(opened, "intent", "by") == "host"


def test_loop_2_the_model_proposes_and_what_it_sent_is_kept(played: Played) -> None:
    proposed = {(entry["server"], entry["tool"]) for entry in played.of("step.intent") + played.of("step.refused")}
    assert {("fs", "write"), ("fs", "remove")} <= proposed


def test_loop_3_policy_and_risk_are_applied_to_every_call(played: Played) -> None:
    decided = [*played.of("step.intent"), *played.of("step.refused")]
    found = {
        entry["no"]: (entry["effect"], at(entry, "rules", 0, "id"), at(entry, "risk", "score"))
        for entry in decided
        if entry["no"] in {1, 2, 4}
    }
    assert found == {1: ("allow", "seven/edits", 30), 2: ("deny", "seven/kept", 30), 4: ("deny", "default", 30)}


def test_loop_4_only_what_is_allowed_is_executed_and_as_it_was_sent(played: Played) -> None:
    assert [at(call, "arguments", "content") for call in played.sent] == ["mended", "a lie"]


def test_loop_5_outcomes_and_artifacts_are_captured(played: Played) -> None:
    findings = [(entry["check"], entry["finding"]) for entry in played.of("step.finding")]
    assert findings[:2] == [("artifact", "kept"), ("artifact", "broken")]


def test_loop_6_the_outcome_is_recorded_with_the_next_step(played: Played) -> None:
    ends = played.of("step.outcome")[:2]
    assert [(at(entry, "outcome"), entry.get("next")) for entry in ends] == [
        ("succeeded", "continue"),
        ("failed", "continue"),
    ]
