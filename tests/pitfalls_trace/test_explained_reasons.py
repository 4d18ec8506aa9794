"""One step of each reason is explained from the record: the rule, the line where it stood, and what it looked at."""

import json
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any, Final

import pytest

from policy_kit import HOST
from recording import PRINCIPAL, bind, opened, run
from soothsayer_mcp.__main__ import run as command
from soothsayer_mcp.adapters.policy_files.load import load
from soothsayer_mcp.adapters.store.sqlite import SqliteStore
from soothsayer_mcp.adapters.system import RandomIds, SystemClock, look
from soothsayer_mcp.cli.recorded import make_definition
from soothsayer_mcp.cli.wiring import loaded_note
from soothsayer_mcp.governor import Governor, Unrecorded
from soothsayer_mcp.model.call import Cause, PinState, Proposal, RunId, ToolDefinition
from soothsayer_mcp.model.evidence import Level, Support
from soothsayer_mcp.model.failure import REASONS, Acted, Failure, Reason
from soothsayer_mcp.model.finding import Answer, Finding
from soothsayer_mcp.model.json import JsonObject, canonical, compact, digest
from soothsayer_mcp.model.outcome import Returned
from soothsayer_mcp.model.step import AnsweredStep, DecidedStep, ProposedStep, RecordedStep
from soothsayer_mcp.policy.policy import Policy
from soothsayer_mcp.ports import Call, PortError, SeenTool, ServerIdentity
from soothsayer_mcp.testing.world import World

POLICY: Final = """\
# Comments and empty lines count as lines.
soothsayer: policy/v1
name: told

default: {read: deny, other: deny}
arguments: {undeclared: allow, no_schema: allow}
rules:
  - deny: "Never this one."
    id: never
    tools: raw.forbidden
  - {deny: "No keys.", id: keys, tools: raw.doubtful, args: {path: {under: "~/.ssh"}}}

  - ask: "Somebody has to look."
    tools: raw.asked
  - {allow: "What is sent.", id: sent, tools: raw.sent}
  - {allow: "What is checked.", id: checked, tools: raw.checked}
  - {also: "It has to be there.", id: there, tools: raw.checked,
      verify: [{artifact: {file: "${args.of}", exists: true}}]}
"""

NEVER_A_STEP: Final = frozenset({Reason.TRACE_UNAVAILABLE, Reason.HELD})
"""Without a record there is no step, and no call is held until its run completes."""

BY_POLICY: Final = {
    Reason.RULE_DENIED: ("forbidden", "told/never"),
    Reason.RULE_ERROR: ("doubtful", "told/keys"),
    Reason.NOBODY_TO_ASK: ("asked", "told/somebody-has-to-look"),
    Reason.NO_RULE: ("nowhere", "default"),
}
FLAWS: Final = {
    Reason.ARGUMENTS_INVALID: "arguments/invalid",
    Reason.DEFINITION_CHANGED: "pins/changed",
    Reason.TOOL_UNKNOWN: "step/tool_unknown",
    Reason.RUN_UNKNOWN: "step/run_unknown",
}
LINES: Final = {
    rule: POLICY[: POLICY.index(text)].count("\n") + 1
    for rule, text in {
        "told/never": "- deny: ",
        "told/keys": "- {deny: ",
        "told/somebody-has-to-look": "- ask: ",
        "told/sent": '- {allow: "What is sent',
        "told/checked": '- {allow: "What is checked',
    }.items()
}
SCHEMA: Final[JsonObject] = {"properties": {"path": {}, "of": {}}}
TOOLS: Final = ("forbidden", "doubtful", "asked", "nowhere", "sent", "checked")


def call_of(reason: Reason) -> tuple[str, str]:
    """The tool that is called to meet with it, and the rule that decides."""
    if reason in BY_POLICY:
        return BY_POLICY[reason]
    if reason in FLAWS:
        return "sent", FLAWS[reason]
    match REASONS[reason].acted:
        case Acted.NO:
            return "asked", "told/somebody-has-to-look"
        case Acted.MAYBE:
            return "sent", "told/sent"
        case Acted.YES:
            return "checked", "told/checked"


class Fate(World):
    """A world in which every call ends by the reason that its arguments name."""

    async def forward(self, step: RecordedStep, call: Call) -> Returned:
        call.sent = True
        reason = Reason(str(step.proposal.arguments["of"]))
        if REASONS[reason].acted is Acted.MAYBE:
            raise PortError(reason, "as it was told", acted=Acted.MAYBE)
        return self.answer

    async def verify(self, step: AnsweredStep, call: Call) -> tuple[tuple[Finding, ...], dict[str, str]]:
        del call
        reason = Reason(str(step.proposal.arguments["of"]))
        return (Finding(check="artifact", answer=Answer.BROKEN, level=Level.E2, reason=reason, subject="f"),), {}

    async def put(self, step: DecidedStep) -> Support:
        return Support(gaps=(Failure(reason=Reason(str(step.proposal.arguments["of"])), summary="as it was told"),))


def proposal(tools: dict[str, ToolDefinition], run_id: RunId, reason: Reason) -> ProposedStep:
    name, _ = call_of(reason)
    arguments: JsonObject = {"path": 7, "of": reason}
    raw = compact(arguments)
    return ProposedStep(
        id=RandomIds().step(),
        run_id=run_id,
        cause=Cause.AGENT,
        principal=PRINCIPAL,
        client=HOST,
        tool=None if reason is Reason.TOOL_UNKNOWN else tools[name],
        proposal=Proposal(server="raw", tool=name, arguments=arguments, raw_arguments=raw, raw=raw, request_id=1),
        flaws=(Failure(reason=reason, summary="as it was told"),) if reason in FLAWS else (),
        proposed_at_us=SystemClock().now_us(),
        began_ns=0,
    )


async def live(store: SqliteStore, policy: Policy) -> None:
    """One call for each reason."""
    await store.note(loaded_note(policy))
    seen = [
        SeenTool(name=name, digest=digest(raw), raw=raw)
        for name in TOOLS
        for raw in (canonical({"name": name, "inputSchema": SCHEMA}),)
    ]
    server = ServerIdentity(name="raw", digest=digest(b"raw"), declared=True)
    await store.compare_definitions(server, seen, trust_first=True)
    tools = {tool.name: make_definition("raw", tool.name, tool.raw, PinState.PINNED) for tool in seen}
    fate, run_id = Fate(), await bind(store)
    governor = Governor(policy=lambda: policy, store=store, tools=fate, look=look, inspector=fate, call_timeout_s=5.0)
    for reason in sorted(set(Reason) - NEVER_A_STEP):
        call = Call(ask=None if reason is Reason.NOBODY_TO_ASK else fate.put)
        assert not isinstance(await governor.govern(proposal(tools, run_id, reason), call), Unrecorded)


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trace with one step of each reason; the policy is a file no more."""
    folder = tmp_path_factory.mktemp("reasons")
    file = folder / "told.yaml"
    file.write_text(POLICY)
    policy = load([str(file)], workspace=folder, home="/home/of/another", known_tools={})
    with opened(folder) as store:
        run(lambda: live(store, policy))
    file.unlink()
    return folder


def told(state: Path, *words: str) -> dict[str, Any]:
    out = StringIO()
    with redirect_stdout(out):
        assert command((*words, "--json", "--state", str(state))) == 0
    return json.loads(out.getvalue())


@pytest.mark.pitfall("P-TRACE-09")
@pytest.mark.parametrize("reason", sorted(set(Reason) - NEVER_A_STEP))
def test_a_step_of_each_reason_is_explained_with_rule_line_and_inputs_as_recorded(reason: Reason, state: Path) -> None:
    [step] = told(state, "log", "-n0", f"reason:{reason}")["steps"]
    name, rule = call_of(reason)
    explained = told(state, "policy", "explain", step["step"])["explanation"]
    assert (explained["call"], explained["arguments"]) == (f"raw.{name}", {"path": 7, "of": reason})
    assert explained["notes"] == ["explained under the recorded policy"]
    assert (explained["effect"], explained["policy"]) == (step["effect"], step["policy"])
    found = {each["id"]: (each["file"], each["line"]) for each in explained["rules"]}
    stood = (str(state / "told.yaml"), LINES[rule]) if rule in LINES else (None, None)
    assert found == {rule: stood}
