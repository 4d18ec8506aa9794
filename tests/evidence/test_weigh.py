"""What a decision that is no allow says to the agent."""

from dataclasses import replace

from soothsayer_mcp.evidence.weigh import weigh
from soothsayer_mcp.model.decision import Decision, Effect, Mode
from soothsayer_mcp.model.failure import Reason
from soothsayer_mcp.model.json import digest
from soothsayer_mcp.model.step import ProposedStep
from soothsayer_mcp.testing.factories import make_step


def denied(step: ProposedStep, reason: Reason) -> str:
    decision = Decision(effect=Effect.DENY, reason=reason, rules=(), mode=Mode.ENFORCE, policy_digest=digest(b""))
    [gap] = weigh(step.decided(decision)).gaps
    assert gap.reason is reason
    return gap.agent_text("")


def test_a_changed_definition_is_told_by_the_tools_own_name() -> None:
    assert denied(make_step(), Reason.DEFINITION_CHANGED).startswith("Denied: files.read changed since it was pinned.")


def test_a_call_that_names_no_tool_is_told_so() -> None:
    step = make_step()
    nameless = replace(step, proposal=replace(step.proposal, tool=""))
    assert denied(nameless, Reason.TOOL_UNKNOWN).startswith("Denied: the call names no tool. Nothing was sent.")
