"""Before the first byte: what is not on the path stops the start, and is named."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import anyio
import pytest

from soothsayer_mcp import governor as sentence
from soothsayer_mcp.adapters.lab import EVIDENCE_CONDITIONS
from soothsayer_mcp.adapters.probes.probes import LocalProbes
from soothsayer_mcp.adapters.probes.settings import ProbeSettings
from soothsayer_mcp.adapters.schemas import compile_output
from soothsayer_mcp.gathering import Inspection
from soothsayer_mcp.governor import Governor
from soothsayer_mcp.model.budget import NO_BUDGETS, Budgets
from soothsayer_mcp.model.decision import Decision, Effect, Mode
from soothsayer_mcp.model.entry import Kind
from soothsayer_mcp.model.evidence import Support
from soothsayer_mcp.model.failure import Acted, Reason
from soothsayer_mcp.model.run import Closing, NextStep, Run
from soothsayer_mcp.policy.policy import Policy
from soothsayer_mcp.ports import Inspector, PortError
from soothsayer_mcp.selftest import self_test
from soothsayer_mcp.testing.factories import make_policy
from soothsayer_mcp.testing.world import PRINCIPAL, CountingIds, SteppingClock, World


def not_live(world: World, policy: Policy | None = None, *, inspector: Inspector | None = None) -> str | None:
    """Run the self-test over a world; tells what is not live."""
    chosen = policy or make_policy(Effect.ALLOW)
    looking = inspector or Inspection(
        held=lambda: world.held,
        probes=LocalProbes(ProbeSettings()),
        conditions=EVIDENCE_CONDITIONS.compile,
        schema=compile_output,
        workspace="/work",
        clock=SteppingClock(),
        ids=CountingIds(),
        reach={},
    )
    governor = Governor(
        policy=lambda: chosen, store=world, tools=world, look=world.look, inspector=looking, call_timeout_s=1.0
    )

    async def scene() -> str | None:
        return await self_test(
            governor,
            world,
            principal=PRINCIPAL,
            workspace="/work",
            policy=chosen,
            clock=SteppingClock(),
            ids=CountingIds(),
        )

    return anyio.run(scene)


@pytest.mark.parametrize("mode", Mode)
def test_the_forbidden_call_is_refused_on_record_and_never_sent_whatever_the_policy_allows(mode: Mode) -> None:
    world = World()
    assert not_live(world, make_policy(Effect.ALLOW, mode=mode)) is None
    assert [kind for kind, _ in world.entries] == [Kind.STEP_REFUSED]
    assert world.forwarded == []


def _allow(policy: Policy, *_: object) -> Decision:
    return Decision(effect=Effect.ALLOW, reason=None, rules=(), mode=Mode.ENFORCE, policy_digest=policy.digest)


def _deny_for_another_reason(policy: Policy, *_: object) -> Decision:
    return Decision(
        effect=Effect.DENY, reason=Reason.INTERNAL_ERROR, rules=(), mode=Mode.ENFORCE, policy_digest=policy.digest
    )


def _find_nothing_missing(_step: object) -> Support:
    return Support()


@pytest.mark.parametrize(
    ("stage", "instead", "named"),
    [
        ("decide", _allow, "the policy"),
        ("decide", _deny_for_another_reason, "the loop"),
        ("weigh", _find_nothing_missing, "the loop"),
    ],
)
def test_a_stage_that_is_not_on_the_path_is_named(
    monkeypatch: pytest.MonkeyPatch, stage: str, instead: Callable[..., object], named: str
) -> None:
    monkeypatch.setattr(sentence, stage, instead)
    assert (not_live(World()) or "").startswith(named)


def test_a_record_that_cannot_be_made_is_named() -> None:
    world = World()

    def full() -> None:
        raise PortError(Reason.TRACE_UNAVAILABLE, "the disk is full", acted=Acted.NO)

    world.before["record_intent"] = full
    assert not_live(world) == "the trace: the disk is full"
    assert world.forwarded == []


def test_a_record_that_cannot_be_read_back_is_named() -> None:
    world = World()
    world.after["record_outcome"] = world.entries.clear
    assert not_live(world) == "the trace: a refusal is not on record"


def _nothing(*_: object, **__: object) -> None:
    return None


def _unchanged(step: object) -> object:
    return step


def _goes_on(run: Run, *_: object) -> Closing:
    return Closing(next_step=NextStep.CONTINUE, run_state=run.state)


def _masks_nothing(*_: object) -> None:
    return None


@pytest.mark.pitfall("P-OPEN-02")
@pytest.mark.parametrize(
    ("stage", "instead", "named"),
    [
        ("refuse_over_budget", _nothing, "budgets"),
        ("refuse_over_cap", _nothing, "limit"),
        ("refuse_repeated", _nothing, "repeats"),
        ("shown", _masks_nothing, "redact"),
        ("set_aside", _unchanged, "large_results"),
        ("close", _goes_on, "on_failure"),
        ("_unapproved", _nothing, "ask"),
    ],
)
def test_a_part_behind_a_decision_that_is_not_on_the_path_is_named(
    monkeypatch: pytest.MonkeyPatch, stage: str, instead: Callable[..., object], named: str
) -> None:
    monkeypatch.setattr(sentence, stage, instead)
    assert (not_live(World()) or "").startswith(f"{named}: ")


@pytest.mark.pitfall("P-OPEN-02")
@pytest.mark.parametrize(("method", "named"), [("gather", "require"), ("verify", "verify")])
def test_evidence_and_checks_that_look_at_nothing_are_named(
    monkeypatch: pytest.MonkeyPatch, method: str, named: str
) -> None:
    looks_at_nothing: Callable[..., object] = getattr(World(), method)

    def instead(_self: Inspection, *given: object) -> object:
        return looks_at_nothing(*given)

    monkeypatch.setattr(Inspection, method, instead)
    assert (not_live(World()) or "").startswith(f"{named}: ")


@pytest.mark.pitfall("P-OPEN-02")
@pytest.mark.parametrize("budgets", [Budgets(cost_micro=3), Budgets(unverified_writes=3), Budgets(error_streak=3)])
def test_a_budget_that_the_policy_sets_and_nothing_holds_is_named(
    monkeypatch: pytest.MonkeyPatch, budgets: Budgets
) -> None:
    policy = make_policy(Effect.ALLOW)
    policy.budgets = budgets
    assert not_live(World(), policy) is None

    def of_people_alone(run: Run, _budgets: Budgets) -> Budgets:
        return NO_BUDGETS if run.allowance is None else replace(NO_BUDGETS, **run.allowance.own)

    monkeypatch.setattr(sentence, "budgets_of", of_people_alone)
    assert (not_live(World(), policy) or "").startswith("budgets: ")


@pytest.mark.parametrize("figure", ["calls", "writes", "minutes", "denials", "bytes_returned", "unverified_writes"])
def test_a_budget_of_nothing_keeps_no_proxy_from_starting(figure: str) -> None:
    policy = make_policy(Effect.ALLOW)
    budgets: dict[str, Any] = {figure: 0, "cost_micro": 0, "error_streak": 1}
    policy.budgets = Budgets(**budgets)
    assert not_live(World(), policy) is None


def test_a_part_that_fails_inside_is_not_live(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError

    monkeypatch.setattr(sentence, "refuse_over_cap", broken)
    told = not_live(World()) or ""
    assert told.startswith("limit: ")
    assert told.endswith(": what it should hold up or change went on as if it were not there")
