"""The sentence: its order, what each failing port leads to, and that no forward comes before a durable intent."""

import itertools
from collections.abc import Awaitable, Callable
from typing import TypeVar

import anyio
import anyio.lowlevel
import pytest
import trio
import trio.testing

from soothsayer_mcp.governor import Governor, Unrecorded
from soothsayer_mcp.model.call import ArgumentFault
from soothsayer_mcp.model.decision import Effect, Mode
from soothsayer_mcp.model.entry import Kind
from soothsayer_mcp.model.evidence import Support
from soothsayer_mcp.model.facts import Facts
from soothsayer_mcp.model.failure import Acted, Failure, FailureClass, Reason
from soothsayer_mcp.model.finding import Answer
from soothsayer_mcp.model.outcome import Refused, Returned, Unknown
from soothsayer_mcp.model.run import NextStep, RunState
from soothsayer_mcp.model.step import ClosedStep, DecidedStep, ProposedStep, RecordedStep, SupportedStep, WithheldStep
from soothsayer_mcp.policy.policy import Policy
from soothsayer_mcp.policy.rules import Limit, Rule
from soothsayer_mcp.ports import Admit, Call, Close, PortError, Store, Tools
from soothsayer_mcp.testing.factories import make_policy, make_rule, make_step, make_tool
from soothsayer_mcp.testing.world import World

T = TypeVar("T")

ALL_STAGES = ["read_run", "record_intent", "forward", "record_outcome"]
TIMEOUT_S = 30.0


class Governed:
    """A governor over a recording world, with a policy that a test may change."""

    def __init__(self, policy: Policy | None = None) -> None:
        self.world = World()
        self.policy = policy or make_policy()
        self.call = Call()
        store: Store = self.world
        tools: Tools = self.world
        self.governor = Governor(
            policy=lambda: self.policy,
            store=store,
            tools=tools,
            look=self.world.look,
            inspector=self.world,
            call_timeout_s=TIMEOUT_S,
        )

    async def govern(self, step: ProposedStep | None = None) -> ClosedStep:
        """Govern a step that must come to its recorded end."""
        closed = await self.governor.govern(step or make_step(), self.call)
        assert isinstance(closed, ClosedStep), closed
        return closed

    @property
    def kinds(self) -> list[Kind]:
        return [kind for kind, _ in self.world.entries]


def run(scene: Callable[[], Awaitable[T]]) -> T:
    """Run on trio with a clock that jumps whenever everybody waits: hours pass at once."""
    return trio.run(scene, clock=trio.testing.MockClock(autojump_threshold=0))


def failing(reason: Reason, *, acted: Acted) -> Callable[[], None]:
    def fail() -> None:
        raise PortError(reason, "the port says why", acted=acted)

    return fail


def broken() -> None:
    raise RuntimeError("a fault of the port's own")


async def hang() -> None:
    await trio.sleep_forever()


def test_an_allowed_call_passes_every_stage_once_and_in_order() -> None:
    governed = Governed()
    closed = run(governed.govern)
    assert governed.world.log == ALL_STAGES
    assert governed.kinds == [Kind.STEP_INTENT, Kind.STEP_OUTCOME]
    assert isinstance(closed.outcome, Returned)
    assert closed.outcome is governed.world.answer
    assert closed.failure is None
    assert closed.acted is Acted.YES
    assert closed.next_step is NextStep.CONTINUE
    assert governed.call.recorded is governed.world.forwarded[0]


@pytest.mark.parametrize(
    ("policy", "reason"),
    [
        (make_policy(Effect.DENY), Reason.NO_RULE),
        (make_policy(Effect.ASK), Reason.NOBODY_TO_ASK),
        (make_policy(rules=[make_rule(Effect.DENY)]), Reason.RULE_DENIED),
        (make_policy(rules=[make_rule(Effect.ASK)]), Reason.NOBODY_TO_ASK),
    ],
    ids=["deny by default", "ask by default", "deny by rule", "ask by rule"],
)
def test_what_is_not_allowed_is_one_entry_and_never_forwarded(policy: Policy, reason: Reason) -> None:
    governed = Governed(policy)
    closed = run(governed.govern)
    assert governed.world.log == ["read_run", "record_intent", "record_outcome"]
    assert governed.kinds == [Kind.STEP_REFUSED]
    assert closed.failure is not None
    assert closed.failure.reason is reason
    assert closed.acted is Acted.NO


def test_a_flaw_of_the_proposal_is_refused_under_a_policy_that_allows_all() -> None:
    governed = Governed()
    flaw = Failure(reason=Reason.ARGUMENTS_INVALID, summary="argument /path must be a string")
    closed = run(lambda: governed.govern(make_step(flaws=[flaw])))
    assert governed.world.forwarded == []
    assert closed.failure == flaw


def test_observing_forwards_what_would_be_denied_and_records_the_decision() -> None:
    governed = Governed(make_policy(rules=[make_rule(Effect.DENY)], mode=Mode.OBSERVE))
    closed = run(governed.govern)
    assert governed.world.log == ALL_STAGES
    assert closed.decision.would is Effect.DENY
    assert closed.decision.mode is Mode.OBSERVE


FAILURES: dict[str, Callable[[], object]] = {
    "works": lambda: None,
    "says no": failing(Reason.TRACE_UNAVAILABLE, acted=Acted.NO),
    "says maybe": failing(Reason.OUTCOME_LOST, acted=Acted.MAYBE),
    "breaks": broken,
    "hangs": hang,
}
POINTS = [
    f"{when} {port}" for port in ALL_STAGES for when in ("before", "after") if f"{when} {port}" != "after read_run"
]


@pytest.mark.parametrize("allowed", [True, False])
@pytest.mark.parametrize(
    "failures", list(itertools.product(FAILURES, repeat=4)), ids=lambda failures: "-".join(failures).replace(" ", "_")
)
def test_however_the_ports_fail_a_forward_never_comes_before_a_durable_intent(
    failures: tuple[str, ...], *, allowed: bool
) -> None:
    """Four ports, five behaviours each. The world raises when it receives a step whose intent is not in its entries."""
    governed = Governed(make_policy(Effect.ALLOW if allowed else Effect.DENY))
    for port, name in zip(ALL_STAGES, failures, strict=True):
        governed.world.before[port] = _happening(name)
    ended = run(lambda: _end_of(governed))
    world = governed.world
    assert len(world.forwarded) <= (1 if allowed else 0)
    assert world.log.count("forward") <= 1
    for step in world.forwarded:
        assert world.kinds(step.id)[0] is Kind.STEP_INTENT
    _assert_nothing_better_was_said_than_is_on_record(governed, ended)


@pytest.mark.parametrize("point", POINTS)
@pytest.mark.parametrize("name", [name for name in FAILURES if name != "works"])
def test_a_single_failure_at_any_point_never_ends_as_a_success(point: str, name: str) -> None:
    governed = Governed()
    when, port = point.split()
    getattr(governed.world, when)[port] = _happening(name)
    ended = run(lambda: _end_of(governed))
    assert not (isinstance(ended, ClosedStep) and ended.failure is None)
    _assert_nothing_better_was_said_than_is_on_record(governed, ended)


def _happening(name: str) -> Callable[[], Awaitable[None] | None]:
    happening: Callable[[], Awaitable[None] | None] = FAILURES[name]  # type: ignore[assignment]  # one table for all
    return happening


async def _end_of(governed: Governed) -> ClosedStep | Unrecorded | None:
    """What the caller of a call sees: an end, or `None` when a port never came back and the caller gave up."""
    step = make_step()
    with anyio.move_on_after(10 * TIMEOUT_S):
        try:
            return await governed.governor.govern(step, governed.call)
        except (RuntimeError, AssertionError):
            governed.world.before.clear()
            governed.world.after.clear()
            return await governed.governor.abandon(step, governed.call)
    return None


def _assert_nothing_better_was_said_than_is_on_record(
    governed: Governed, ended: ClosedStep | Unrecorded | None
) -> None:
    sent = bool(governed.world.forwarded)
    match ended:
        case None:
            return
        case Unrecorded(failure=failure):
            assert failure.acted is (Acted.MAYBE if sent else failure.acted)
            assert failure.acted is not Acted.YES
        case ClosedStep():
            last = governed.world.kinds(ended.id)[-1]
            assert last in {Kind.STEP_OUTCOME, Kind.STEP_REFUSED}
            if ended.failure is None:
                assert sent
            if sent and not isinstance(ended.outcome, Returned):
                assert ended.acted is not Acted.NO or _port_vouched(ended)


def _port_vouched(ended: ClosedStep) -> bool:
    """Whether the tools themselves said that nothing was done."""
    return isinstance(ended.outcome, Refused) and ended.outcome.failure.certainly_not_acted


def test_without_a_durable_intent_the_agent_reads_that_nothing_was_sent() -> None:
    governed = Governed()
    governed.world.before["record_intent"] = failing(Reason.TRACE_UNAVAILABLE, acted=Acted.NO)
    ended = run(lambda: governed.governor.govern(make_step(), governed.call))
    assert isinstance(ended, Unrecorded)
    assert ended.failure.reason is Reason.TRACE_UNAVAILABLE
    assert ended.failure.acted is Acted.NO
    assert governed.world.log == ["read_run", "record_intent"]


def test_without_a_durable_outcome_the_agent_reads_that_the_tool_may_have_acted() -> None:
    governed = Governed()
    governed.world.before["record_outcome"] = failing(Reason.OUTCOME_LOST, acted=Acted.MAYBE)
    ended = run(lambda: governed.governor.govern(make_step(), governed.call))
    assert isinstance(ended, Unrecorded)
    assert ended.failure.reason is Reason.OUTCOME_LOST
    assert ended.failure.acted is Acted.MAYBE
    assert governed.world.log == ALL_STAGES


def test_an_answer_that_does_not_come_ends_as_unknown_when_time_is_up() -> None:
    governed = Governed()
    governed.world.after["forward"] = hang

    async def scene() -> tuple[ClosedStep, float]:
        began = anyio.current_time()
        return await governed.govern(), anyio.current_time() - began

    closed, took_s = run(scene)
    assert took_s == pytest.approx(TIMEOUT_S)  # pyright: ignore[reportUnknownMemberType]  # approx is untyped
    assert isinstance(closed.outcome, Unknown)
    assert closed.outcome.failure.reason is Reason.CALL_TIMEOUT
    assert closed.outcome.failure.failure is FailureClass.TIMEOUT_OR_BUDGET_EXCEEDED
    assert closed.acted is Acted.MAYBE
    assert governed.kinds == [Kind.STEP_INTENT, Kind.STEP_OUTCOME]


def test_a_call_that_no_server_took_in_time_is_no_unknown() -> None:
    governed = Governed()
    governed.world.before["forward"] = hang
    closed = run(governed.govern)
    assert isinstance(closed.outcome, Refused)
    assert closed.outcome.failure.reason is Reason.SERVER_UNREACHABLE
    assert closed.acted is Acted.NO


@pytest.mark.parametrize(("limit_s", "holds_s"), [(3.0, 3.0), (TIMEOUT_S + 1, TIMEOUT_S)])
def test_the_smaller_of_a_rules_and_the_general_time_limit_holds(limit_s: float, holds_s: float) -> None:
    rule = make_rule(Effect.ALLOW)
    limited = Rule(id=rule.id, effect=rule.effect, text=rule.text, tools=rule.tools, limit=Limit(timeout_s=limit_s))
    governed = Governed(make_policy(Effect.DENY, rules=[limited]))
    governed.world.after["forward"] = hang

    async def scene() -> float:
        began = anyio.current_time()
        await governed.govern()
        return anyio.current_time() - began

    assert run(scene) == pytest.approx(holds_s)  # pyright: ignore[reportUnknownMemberType]  # approx is untyped


@pytest.mark.parametrize(
    ("acted", "outcome"), [(Acted.NO, Refused), (Acted.MAYBE, Unknown)], ids=["not sent", "perhaps sent"]
)
def test_what_the_tools_say_about_having_acted_is_believed(acted: Acted, outcome: type[Refused | Unknown]) -> None:
    governed = Governed()
    governed.world.before["forward"] = failing(Reason.CONNECTION_LOST, acted=acted)
    closed = run(governed.govern)
    assert type(closed.outcome) is outcome
    assert closed.acted is acted
    assert governed.kinds == [Kind.STEP_INTENT, Kind.STEP_OUTCOME]


def test_a_surprise_after_the_call_was_sent_is_unknown_and_on_record() -> None:
    governed = Governed()
    governed.world.after["forward"] = broken
    closed = run(governed.govern)
    assert isinstance(closed.outcome, Unknown)
    assert closed.acted is Acted.MAYBE
    assert governed.kinds == [Kind.STEP_INTENT, Kind.STEP_OUTCOME]


def test_a_surprise_before_the_call_was_sent_is_a_refusal_and_on_record() -> None:
    governed = Governed()
    governed.world.before["forward"] = broken
    closed = run(governed.govern)
    assert isinstance(closed.outcome, Refused)
    assert closed.outcome.failure.reason is Reason.INTERNAL_ERROR
    assert closed.acted is Acted.NO


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (Returned(raw=b"{}", result=None, error={"code": -32603, "message": "no"}), Reason.PROTOCOL_ERROR),
        (Returned(raw=b"{}", result={"content": [], "isError": True}), Reason.TOOL_FAILED),
        (Returned(raw=b"{}", result=None), Reason.ANSWER_UNREADABLE),
    ],
    ids=["an error", "isError", "no object"],
)
def test_an_answer_that_is_no_success_has_one_class_and_its_own_reason(answer: Returned, reason: Reason) -> None:
    governed = Governed()
    governed.world.answer = answer
    closed = run(governed.govern)
    assert closed.failure is not None
    assert closed.failure.reason is reason
    assert closed.failure.failure is FailureClass.TOOL_ERROR
    assert closed.findings == ()


def test_an_answer_that_breaks_its_own_schema_fails_verification() -> None:
    governed = Governed()
    governed.world.answer = Returned(raw=b"{}", result={"content": [], "structuredContent": {"n": "x"}})
    fault = ArgumentFault(path="/n", problem="must be a number")
    tool = make_tool(check_result=lambda _: fault)
    closed = run(lambda: governed.govern(make_step(tool)))
    assert [finding.answer for finding in closed.findings] == [Answer.BROKEN]
    assert closed.failure is not None
    assert closed.failure.failure is FailureClass.VERIFICATION_FAILED
    assert closed.acted is Acted.YES


def test_a_channel_that_brings_no_yes_lets_nothing_through() -> None:
    governed = Governed(make_policy(Effect.ASK))

    async def says_nothing(_step: DecidedStep) -> Support:
        return Support()

    governed.call = Call(says_nothing)
    closed = run(governed.govern)
    assert closed.failure is not None
    assert closed.failure.reason is Reason.INTERNAL_ERROR
    assert governed.world.forwarded == []


def test_a_run_stopped_after_the_decision_refuses_the_call() -> None:
    governed = Governed()
    governed.world.before["record_intent"] = lambda: governed.world.change_run(state=RunState.STOPPED)
    closed = run(governed.govern)
    assert closed.failure is not None
    assert closed.failure.reason is Reason.RUN_CLOSED
    assert closed.next_step is NextStep.STOP
    assert governed.world.forwarded == []


def test_a_run_paused_after_the_decision_refuses_the_call() -> None:
    governed = Governed()
    governed.world.before["record_intent"] = lambda: governed.world.change_run(state=RunState.PAUSED)
    closed = run(governed.govern)
    assert closed.failure is not None
    assert closed.failure.reason is Reason.RUN_PAUSED
    assert governed.world.forwarded == []


def test_a_policy_that_denies_by_the_time_of_the_record_refuses_the_call() -> None:
    governed = Governed()

    def reload() -> None:
        governed.policy = make_policy(rules=[make_rule(Effect.DENY)])

    governed.world.before["record_intent"] = reload
    closed = run(governed.govern)
    assert closed.failure == Failure(reason=Reason.STATE_CHANGED, summary="the policy")
    assert governed.world.forwarded == []


def test_a_new_policy_that_says_the_same_of_this_call_lets_it_go_on() -> None:
    governed = Governed()

    def reload() -> None:
        governed.policy = make_policy(rules=[make_rule(Effect.DENY, tools="other.*")])

    governed.world.before["record_intent"] = reload
    assert run(governed.govern).failure is None


def test_a_new_policy_that_gives_less_time_refuses_the_call() -> None:
    governed = Governed()

    def reload() -> None:
        rule = make_rule(Effect.ALLOW)
        limited = Rule(id=rule.id, effect=rule.effect, text=rule.text, tools=rule.tools, limit=Limit(timeout_s=1))
        governed.policy = make_policy(rules=[limited])

    governed.world.before["record_intent"] = reload
    closed = run(governed.govern)
    assert closed.failure is not None
    assert closed.failure.reason is Reason.STATE_CHANGED


def test_a_link_that_leads_elsewhere_by_the_time_of_the_record_refuses_the_call() -> None:
    rule = make_rule(Effect.ALLOW)
    under = Rule(id=rule.id, effect=rule.effect, text="", tools=rule.tools, args={"path": {"under": "/work"}})
    governed = Governed(make_policy(Effect.DENY, rules=[under], local=True))
    step = make_step(arguments={"path": "/work/notes/a"})
    governed.world.facts = Facts(links={"/work/notes/a": "/work/notes/a"})

    def swap() -> None:
        governed.world.facts = Facts(links={"/work/notes/a": "/etc/a"})

    governed.world.before["record_intent"] = swap
    closed = run(lambda: governed.govern(step))
    assert closed.failure == Failure(reason=Reason.STATE_CHANGED, summary="what the decision rested on")
    assert governed.world.forwarded == []
    assert governed.world.log == ["read_run", "look", "record_intent", "look", "record_outcome"]


def test_a_policy_that_now_allows_does_not_rescue_a_call_that_was_denied() -> None:
    governed = Governed(make_policy(Effect.DENY))

    def reload() -> None:
        governed.policy = make_policy(Effect.ALLOW)

    governed.world.before["record_intent"] = reload
    closed = run(governed.govern)
    assert closed.failure is not None
    assert closed.failure.reason is Reason.NO_RULE
    assert governed.world.forwarded == []


def test_a_call_withdrawn_before_its_intent_is_durable_is_refused_in_the_hosts_words() -> None:
    governed = Governed()

    def withdraw() -> None:
        governed.call.withdrawn = True
        governed.call.cancel_reason = "the person changed their mind"

    governed.world.before["record_intent"] = withdraw
    closed = run(governed.govern)
    assert closed.failure == Failure(reason=Reason.WITHDRAWN, summary="the person changed their mind")
    assert governed.world.forwarded == []


@pytest.mark.parametrize(
    ("when", "outcome", "reason"),
    [("after", Unknown, Reason.OUTCOME_LOST), ("before", Refused, Reason.WITHDRAWN)],
    ids=["sent", "not sent"],
)
def test_a_caller_that_is_cancelled_during_the_forward_leaves_a_recorded_outcome(
    when: str, outcome: type[Unknown | Refused], reason: Reason
) -> None:
    governed = Governed()

    async def scene() -> bool:
        with anyio.CancelScope() as scope:
            getattr(governed.world, when)["forward"] = _cancel_and_wait(scope)
            await governed.govern()
        return scope.cancelled_caught

    assert run(scene) is True
    assert governed.world.log == ALL_STAGES
    assert governed.kinds == [Kind.STEP_INTENT, Kind.STEP_OUTCOME]
    ended = governed.world.outcomes[0]
    assert type(ended.outcome) is outcome
    assert ended.failure is not None
    assert ended.failure.reason is reason


def test_a_store_that_is_away_when_a_caller_is_cancelled_does_not_hide_the_cancel() -> None:
    governed = Governed()

    async def scene() -> bool:
        with anyio.CancelScope() as scope:
            governed.world.after["forward"] = _cancel_and_wait(scope)
            governed.world.before["record_outcome"] = failing(Reason.OUTCOME_LOST, acted=Acted.MAYBE)
            await governed.govern()
        return scope.cancelled_caught

    assert run(scene) is True


def test_a_record_that_hangs_after_a_cancel_holds_the_end_of_the_program_for_a_bounded_time() -> None:
    governed = Governed()

    async def scene() -> float:
        began = anyio.current_time()
        with anyio.CancelScope() as scope:
            governed.world.after["forward"] = _cancel_and_wait(scope)
            governed.world.before["record_outcome"] = hang
            await governed.govern()
        return anyio.current_time() - began

    assert 0 < run(scene) < 15


def test_a_cancel_before_the_intent_leaves_nothing_forwarded() -> None:
    governed = Governed()

    async def scene() -> None:
        with anyio.CancelScope() as scope:
            governed.world.before["record_intent"] = _cancel_and_wait(scope)
            await governed.govern()

    run(scene)
    assert governed.world.log == ["read_run", "record_intent"]
    assert governed.kinds == []


def _cancel_and_wait(scope: anyio.CancelScope) -> Callable[[], Awaitable[None]]:
    async def happening() -> None:
        scope.cancel()
        await anyio.lowlevel.checkpoint()

    return happening


@pytest.mark.parametrize("port", ["read_run", "record_intent"])
def test_a_step_abandoned_before_its_intent_is_refused_and_on_record(port: str) -> None:
    governed = Governed()
    governed.world.before[port] = broken
    ended = run(lambda: _end_of(governed))
    assert isinstance(ended, ClosedStep)
    assert ended.failure is not None
    assert ended.failure.reason is Reason.INTERNAL_ERROR
    assert governed.kinds == [Kind.STEP_REFUSED]
    assert governed.world.forwarded == []


@pytest.mark.parametrize(
    ("sent", "outcome", "reason"),
    [(True, Unknown, Reason.OUTCOME_LOST), (False, Refused, Reason.INTERNAL_ERROR)],
    ids=["sent", "not sent"],
)
def test_a_step_abandoned_after_its_intent_ends_by_whether_it_was_sent(
    *, sent: bool, outcome: type[Unknown | Refused], reason: Reason
) -> None:
    governed = Governed()
    if not sent:
        governed.world.before["forward"] = failing(Reason.SERVER_UNREACHABLE, acted=Acted.NO)
    governed.world.before["record_outcome"] = broken
    ended = run(lambda: _end_of(governed))
    assert isinstance(ended, ClosedStep)
    assert type(ended.outcome) is outcome
    assert ended.failure is not None
    assert ended.failure.reason is reason
    assert governed.kinds == [Kind.STEP_INTENT, Kind.STEP_OUTCOME]


def test_a_step_abandoned_while_the_store_is_away_is_told_so() -> None:
    governed = Governed()
    governed.world.before["record_intent"] = failing(Reason.TRACE_UNAVAILABLE, acted=Acted.NO)
    ended = run(lambda: governed.governor.abandon(make_step(), governed.call))
    assert isinstance(ended, Unrecorded)
    assert ended.failure.acted is Acted.NO


class Yielding(World):
    """A store that records an intent whatever `admit` says: what a store must never do."""

    async def record_intent(self, step: SupportedStep, admit: Admit, close: Close) -> RecordedStep | WithheldStep:
        del admit
        return await super().record_intent(step, lambda _standing, _step: None, close)


def test_a_store_that_overrules_a_refusal_is_a_fault_and_nothing_is_sent() -> None:
    governed = Governed()
    world = Yielding()
    governor = Governor(
        policy=make_policy, store=world, tools=world, look=world.look, inspector=world, call_timeout_s=TIMEOUT_S
    )
    ended = run(lambda: governor.abandon(make_step(), governed.call))
    assert isinstance(ended, Unrecorded)
    assert ended.failure.reason is Reason.INTERNAL_ERROR
    assert world.forwarded == []


def test_the_sentence_runs_on_asyncio_as_it_does_on_trio() -> None:
    governed = Governed()
    assert anyio.run(governed.govern).failure is None
    assert governed.world.log == ALL_STAGES
