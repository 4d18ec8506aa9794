"""Asking until it is known, under every order of a late effect, an end of the server, and answers that do not come."""

from collections.abc import Sequence

import anyio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from soothsayer_mcp.adapters.lab import EVIDENCE_CONDITIONS
from soothsayer_mcp.evidence.checks import ReadFacts
from soothsayer_mcp.evidence.settle import settling_of
from soothsayer_mcp.model.call import Principal, RunId
from soothsayer_mcp.model.dues import Item
from soothsayer_mcp.model.evidence import Level
from soothsayer_mcp.model.failure import Acted, Reason
from soothsayer_mcp.model.finding import Answer, Finding
from soothsayer_mcp.model.json import JsonObject
from soothsayer_mcp.model.settlement import Settlement, SettleTerms
from soothsayer_mcp.model.settling import Unsettled
from soothsayer_mcp.model.step import ProposedStep
from soothsayer_mcp.ports import Call, PortError
from soothsayer_mcp.settling import ReadBacks


class World:
    """A call that lands after so many looks, or never, and a server process that ends after so many."""

    def __init__(self, lands: int, ends: int, mute: frozenset[int]) -> None:
        self.looks = 0
        self.lands = lands if lands <= ends else 10**6  # what has ended lands nothing any more
        self.ends = ends
        self.mute = mute
        self.told: list[tuple[Settlement, int]] = []

    def over(self) -> bool:
        return self.looks >= self.ends

    async def read(self, step: ProposedStep, tool: str, arguments: JsonObject) -> ReadFacts:
        assert (step.run_id, tool, arguments) == (RunId("r"), "a.get", {"id": 1})
        self.looks += 1
        if self.looks in self.mute:
            raise PortError(Reason.UNREACHABLE, "", acted=Acted.NO)
        return ReadFacts(result={"there": self.looks >= self.lands}, text="", step="")

    def unsettled(self, principal: str, workspace: str) -> Sequence[Unsettled]:
        del principal, workspace
        return ()

    async def settle_by(self, settlement: Settlement, findings: Sequence[Finding]) -> bool:
        self.told.append((settlement, len(findings)))
        return True

    async def effects(self, step: ProposedStep, unsettled: Unsettled, call: Call) -> tuple[Finding, ...]:
        del step, unsettled
        assert call.read is not None
        return (Finding(check="artifact", answer=Answer.KEPT, level=Level.E3, reason=None),)


def settle(world: World) -> Acted:
    terms = SettleTerms(
        rule="t/x",
        tool="a.get",
        args={"id": "${args.id}"},
        happened="result.there == true",
        not_happened="result.there == false",
        within_s=20.0,
    )
    checks = (Item(kind="artifact", spec={}, rule="t/x"),)
    settling = settling_of(terms, {"args": {"id": 1}}, verify=checks, before={}, reach={})
    assert settling is not None
    one = Unsettled(run=RunId("r"), no=1, server="a", tool="do", settling=settling)
    asks = ReadBacks(
        book=world,
        effects=world,
        conditions=EVIDENCE_CONDITIONS.compile,
        principal=Principal(id="os:ada", how="os_account"),
        reach={},
    )
    clock = trio.testing.MockClock(autojump_threshold=0)

    async def scene() -> Acted:
        return await asks.settle(one, world.read, world.over)

    return anyio.run(scene, backend="trio", backend_options={"clock": clock})


@given(
    lands=st.integers(1, 30),
    ends=st.integers(0, 30),
    mute=st.frozensets(st.integers(1, 25), max_size=20),
)
def test_what_is_settled_is_what_became_of_the_call_and_nothing_is_settled_too_early(
    lands: int, ends: int, mute: frozenset[int]
) -> None:
    world = World(lands, ends, mute)
    known = settle(world)
    assert [told.acted for told, _ in world.told] == ([] if known is Acted.MAYBE else [known])
    if known is Acted.YES:
        assert world.looks >= world.lands
        assert world.told[0][1] == 1
    if known is Acted.NO:
        # The mutant that believes absence at once fails here: the effect would land behind the word that it did not.
        assert world.lands == 10**6
        assert world.looks > ends
        assert world.told[0][1] == 0
    if known is Acted.MAYBE:
        assert world.looks in {20, 21}
        told = [look for look in range(1, world.looks + 1) if look not in mute]
        assert all(look < world.lands and look <= ends for look in told)


def test_nothing_that_never_answers_is_asked_for_ever() -> None:
    world = World(1, 0, frozenset(range(1, 100)))
    assert settle(world) is Acted.MAYBE
    assert world.told == []
