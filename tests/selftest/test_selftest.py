"""Before the first byte: what is not on the path stops the start, and is named."""

from collections.abc import Callable

import anyio
import pytest

from soothsayer_mcp import governor as sentence
from soothsayer_mcp.governor import Governor
from soothsayer_mcp.model.decision import Decision, Effect, Mode
from soothsayer_mcp.model.entry import Kind
from soothsayer_mcp.model.evidence import Support
from soothsayer_mcp.model.failure import Acted, Reason
from soothsayer_mcp.policy.policy import Policy
from soothsayer_mcp.ports import PortError
from soothsayer_mcp.selftest import self_test
from soothsayer_mcp.testing.factories import make_policy
from soothsayer_mcp.testing.world import PRINCIPAL, CountingIds, SteppingClock, World


def not_live(world: World, policy: Policy | None = None) -> str | None:
    """Run the self-test over a world; tells what is not live."""
    chosen = policy or make_policy(Effect.ALLOW)
    governor = Governor(
        policy=lambda: chosen, store=world, tools=world, look=world.look, inspector=world, call_timeout_s=1.0
    )

    async def scene() -> str | None:
        return await self_test(
            governor,
            world,
            principal=PRINCIPAL,
            workspace="/work",
            policy=chosen.digest,
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
