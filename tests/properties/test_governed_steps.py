"""Whatever happens to the ports, in whatever combination, the promises of the sentence hold."""

from collections.abc import Awaitable, Callable

import anyio
import trio
import trio.testing
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from soothsayer_mcp.governor import Governor, Unrecorded
from soothsayer_mcp.model.call import StepId
from soothsayer_mcp.model.decision import Effect
from soothsayer_mcp.model.entry import Kind
from soothsayer_mcp.model.failure import Acted, Reason
from soothsayer_mcp.model.outcome import Returned
from soothsayer_mcp.model.run import NextStep, RunState
from soothsayer_mcp.model.step import ClosedStep
from soothsayer_mcp.policy.policy import Policy
from soothsayer_mcp.ports import Call, PortError
from soothsayer_mcp.testing.factories import make_policy, make_rule, make_step
from soothsayer_mcp.testing.world import World

PORTS = ("read_run", "record_intent", "forward", "record_outcome")
POLICIES = {
    "allow": make_policy(),
    "allow by rule": make_policy(Effect.DENY, rules=[make_rule(Effect.ALLOW)]),
    "ask": make_policy(Effect.ASK),
    "deny": make_policy(rules=[make_rule(Effect.DENY)]),
}
HAPPENINGS = (
    "nothing",
    "refused by the port",
    "perhaps done by the port",
    "a surprise",
    "a long wait",
    "the run is stopped",
    "the run changes",
    "the policy changes",
    "the host withdraws",
)

places = st.tuples(st.sampled_from(("before", "after")), st.sampled_from(PORTS))
plots = st.dictionaries(places, st.sampled_from(HAPPENINGS), max_size=5)


class Play:
    """One call, in a world to which a plot happens."""

    def __init__(self, policy: Policy, later: Policy) -> None:
        self.world = World()
        self.policy = policy
        self.later = later
        self.call = Call()
        self.governor = Governor(
            policy=lambda: self.policy,
            store=self.world,
            tools=self.world,
            look=self.world.look,
            inspector=self.world,
            call_timeout_s=5,
        )

    def set(self, plot: dict[tuple[str, str], str]) -> None:
        for (when, port), name in plot.items():
            getattr(self.world, when)[port] = self._happening(name)

    def _happening(self, name: str) -> Callable[[], Awaitable[None]]:
        async def happen() -> None:
            match name:
                case "refused by the port":
                    raise PortError(Reason.TRACE_UNAVAILABLE, "no", acted=Acted.NO)
                case "perhaps done by the port":
                    raise PortError(Reason.OUTCOME_LOST, "perhaps", acted=Acted.MAYBE)
                case "a surprise":
                    raise RuntimeError(name)
                case "a long wait":
                    await trio.sleep(60)
                case "the run is stopped":
                    self.world.change_run(state=RunState.STOPPED)
                case "the run changes":
                    self.world.change_run()
                case "the policy changes":
                    self.policy = self.later
                case "the host withdraws":
                    self.call.withdrawn = True
                case _:
                    pass

        return happen

    async def act(self, number: int = 1) -> ClosedStep | Unrecorded:
        step = make_step(id_=StepId(f"{number:016x}"))
        try:
            return await self.governor.govern(step, self.call)
        except RuntimeError:
            self.world.before.clear()
            self.world.after.clear()
            return await self.governor.abandon(step, self.call)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(policy=st.sampled_from(sorted(POLICIES)), later=st.sampled_from(sorted(POLICIES)), plot=plots)
def test_no_plot_gets_a_call_past_its_intent_its_refusal_or_its_record(
    policy: str, later: str, plot: dict[tuple[str, str], str]
) -> None:
    play = Play(POLICIES[policy], POLICIES[later])
    play.set(plot)
    ended = trio.run(play.act, clock=trio.testing.MockClock(autojump_threshold=0))
    world = play.world
    assert len(world.forwarded) <= 1
    if world.forwarded:
        step = world.forwarded[0]
        assert "allow" in policy or "allow" in later
        assert step.decision.effect is Effect.ALLOW
        assert world.kinds(step.id)[0] is Kind.STEP_INTENT
    for _, step_id in world.entries:
        assert world.kinds(step_id) in (
            [Kind.STEP_INTENT],
            [Kind.STEP_INTENT, Kind.STEP_OUTCOME],
            [Kind.STEP_REFUSED],
        )
    if isinstance(ended, Unrecorded):
        assert ended.failure.acted is (Acted.MAYBE if world.forwarded else ended.failure.acted)
        assert ended.failure.acted is not Acted.YES
        return
    if ended.failure is None:
        assert isinstance(ended.outcome, Returned)
        assert world.forwarded
        assert world.kinds(ended.id)[-1] is Kind.STEP_OUTCOME
    if world.run.state is RunState.OPEN:
        assert ended.next_step is NextStep.CONTINUE


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(stopped_at=st.integers(min_value=0, max_value=12), calls=st.integers(min_value=1, max_value=12))
def test_no_call_whose_intent_comes_after_the_stop_of_its_run_is_forwarded(stopped_at: int, calls: int) -> None:
    play = Play(POLICIES["allow"], POLICIES["allow"])
    intents = 0

    def count() -> None:
        nonlocal intents
        if intents == stopped_at:
            play.world.change_run(state=RunState.STOPPED)
        intents += 1

    async def wait() -> None:
        await trio.sleep(1)

    play.world.before["record_intent"] = count
    play.world.after["read_run"] = wait

    async def scene() -> None:
        async with anyio.create_task_group() as group:
            for number in range(calls):
                group.start_soon(play.act, number)

    trio.run(scene, clock=trio.testing.MockClock(autojump_threshold=0))
    assert len(play.world.forwarded) == min(stopped_at, calls)
