"""Every stage before a forward throws, hangs, and answers with what is none of its answers: nothing is sent."""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import cast

import anyio
import pytest
import trio
import trio.testing

from soothsayer_mcp.governor import Governor, Unrecorded
from soothsayer_mcp.model.decision import Effect
from soothsayer_mcp.model.entry import Kind
from soothsayer_mcp.model.failure import Acted
from soothsayer_mcp.model.step import ClosedStep
from soothsayer_mcp.policy.dues import Owes
from soothsayer_mcp.policy.policy import Policy
from soothsayer_mcp.ports import Call
from soothsayer_mcp.testing.factories import make_policy, make_rule, make_step
from soothsayer_mcp.testing.world import World

GIVE_UP_S = 300.0
REQUIRE = {"step": {"tools": "files.*", "ok": True}}
SUPPORTED = make_policy(rules=[replace(make_rule(Effect.ALLOW), demands=Owes(require=(REQUIRE,)))])
"""Allows, and has evidence gathered before."""
ASKING = make_policy(Effect.ASK)

STAGES: dict[str, Policy] = {
    "policy": SUPPORTED,
    "read_run": SUPPORTED,
    "gather": SUPPORTED,
    "ask": ASKING,
    "record_intent": SUPPORTED,
}
"""Stage -> a policy under which a call passes it."""


def _throw() -> object:
    raise RuntimeError("a fault of the stage's own")


async def _hang() -> object:
    await anyio.sleep_forever()


FAULTS: dict[str, Callable[[], object]] = {
    "throws": _throw,
    "runs out of time": lambda: _raised(TimeoutError("too slow")),
    "hangs": _hang,
    "says nothing": lambda: None,
    "says true": lambda: True,
    "says a word": lambda: "allow",
    "says an object": lambda: {"effect": "allow", "gaps": [], "ok": True},
}


def _raised(error: Exception) -> object:
    raise error


class Faulty(World):
    """A world in which one stage does something else, until it is mended."""

    def __init__(self, stage: str, fault: Callable[[], object]) -> None:
        super().__init__()
        self._faults = {stage: fault}
        for name in ("read_run", "gather", "record_intent"):
            setattr(self, name, self._through(name))

    def mend(self) -> None:
        self._faults.clear()

    def policy(self, policy: Policy) -> Policy:
        fault = self._faults.get("policy")
        return policy if fault is None else fault()  # type: ignore[return-value]  # that is the fault

    async def ask(self, _step: object) -> object:
        return await self._answer(self._faults.get("ask", lambda: None))

    def _through(self, name: str) -> Callable[..., Awaitable[object]]:
        sound = getattr(World, name)

        async def stage(*given: object) -> object:
            fault = self._faults.get(name)
            return await (sound(self, *given) if fault is None else self._answer(fault))

        return stage

    @staticmethod
    async def _answer(fault: Callable[[], object]) -> object:
        answer = fault()
        if isinstance(answer, Awaitable):
            return await cast("Awaitable[object]", answer)
        return answer


def governed(world: Faulty, policy: Policy) -> tuple[ClosedStep | Unrecorded | None, Call]:
    """How a call ends, as the proxy has it: what is thrown, or never comes, is abandoned."""
    governor = Governor(
        policy=lambda: world.policy(policy),
        store=world,
        tools=world,
        look=world.look,
        inspector=world,
        call_timeout_s=30.0,
    )
    call = Call(world.ask) if policy is ASKING else Call()  # type: ignore[arg-type]  # a fault answers as it likes
    step = make_step()

    async def scene() -> ClosedStep | Unrecorded | None:
        with anyio.move_on_after(GIVE_UP_S):
            try:
                return await governor.govern(step, call)
            except Exception:  # noqa: BLE001 - whatever a stage throws
                pass
        world.mend()
        return await governor.abandon(step, call)

    return trio.run(scene, clock=trio.testing.MockClock(autojump_threshold=0)), call


@pytest.mark.pitfall("P-OPEN-01")
@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_that_fails_sends_nothing_and_the_refusal_is_on_record(stage: str, fault: str) -> None:
    if stage == "policy" and fault == "hangs":
        fault = "throws"  # it is a plain function: there is nothing to wait for
    world = Faulty(stage, FAULTS[fault])
    ended, call = governed(world, STAGES[stage])
    assert world.forwarded == []
    assert not call.sent
    assert isinstance(ended, ClosedStep)
    assert ended.failure is not None
    assert ended.failure.reason
    assert ended.acted is Acted.NO
    assert world.kinds(ended.id) == [Kind.STEP_REFUSED]


def test_the_same_call_is_sent_when_no_stage_fails() -> None:
    world = Faulty("none", _throw)
    ended, call = governed(world, SUPPORTED)
    assert isinstance(ended, ClosedStep)
    assert ended.failure is None
    assert call.sent
    assert len(world.forwarded) == 1
