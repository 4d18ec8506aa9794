"""Settling by asking: another tool says whether a call took effect of which nobody knows. No host waits for it."""

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import anyio

from soothsayer_mcp.evidence.checks import Conditions
from soothsayer_mcp.evidence.settle import judge_effect
from soothsayer_mcp.model.call import Cause, Client, Principal, Proposal, StepId
from soothsayer_mcp.model.failure import Acted
from soothsayer_mcp.model.finding import Finding
from soothsayer_mcp.model.json import Json
from soothsayer_mcp.model.settlement import How, Settlement
from soothsayer_mcp.model.settling import Unsettled
from soothsayer_mcp.model.step import ProposedStep
from soothsayer_mcp.ports import Call, PortError, Readback

CLIENT = Client(name="soothsayer-settle")
MOST_READS = 50
"""How often one step is asked about."""


class SettleBook(Protocol):
    """The record of settling. Each raises `PortError`."""

    def unsettled(self, principal: str, workspace: str) -> Sequence[Unsettled]:
        """The steps of ended processes whose outcome is not known and which something settles."""
        ...

    async def settle_by(self, settlement: Settlement, findings: Sequence[Finding]) -> bool:
        """Record whether a step took effect, with what its checks found."""
        ...


class Effects(Protocol):
    """Carries out the checks of a step that took effect and of which no answer came."""

    async def effects(self, step: ProposedStep, unsettled: Unsettled, call: Call) -> tuple[Finding, ...]:
        """What they find. Never raises `PortError`."""
        ...


class ReadBacks:
    """Settles steps by reading back."""

    def __init__(
        self,
        *,
        book: SettleBook,
        effects: Effects,
        conditions: Conditions,
        principal: Principal,
        reach: Mapping[str, Json],
    ) -> None:
        """Record in `book`; a step that turns out to have taken effect has its checks carried out by `effects`.

        `reach` says of each server here how it is reached, by which it is told from another of its name.
        """
        self.book = book
        self.reach = reach
        self._effects = effects
        self._conditions = conditions
        self._principal = principal

    async def settle(
        self, unsettled: Unsettled, read: Readback, over: Callable[[], bool], *, looks: int = MOST_READS
    ) -> Acted:
        """Ask until it is known, the time is up, or it was asked about so often.

        That it took effect is believed at once; that it did not, only of an answer that was asked for when nothing of
        the call could land any more.
        """
        terms, step = unsettled.settling.terms, self._asking(unsettled)
        known = Acted.MAYBE
        with anyio.move_on_after(terms.within_s):
            for look in range(looks):
                if look:
                    await anyio.sleep(terms.every_s)
                was_over = over()
                try:
                    facts = await read(step, terms.tool, dict(terms.args))
                except PortError:
                    continue
                found = judge_effect(unsettled.settling, facts, self._conditions)
                if found is Acted.YES or (found is Acted.NO and was_over):
                    known = found
                    break
        if known is Acted.MAYBE:
            return known
        findings: tuple[Finding, ...] = ()
        if known is Acted.YES and unsettled.settling.verify:
            call = Call()
            call.read = read
            findings = await self._effects.effects(step, unsettled, call)
        told = Settlement(run=unsettled.run, no=unsettled.no, acted=known, how=How.READ_BACK, by=f"rule:{terms.rule}")
        try:
            return known if await self.book.settle_by(told, findings) else Acted.MAYBE
        except PortError:
            # Somebody else has settled it meanwhile: its late answer, a person, another process.
            return Acted.MAYBE

    def _asking(self, unsettled: Unsettled) -> ProposedStep:
        """The step as far as what is asked for it names it."""
        proposal = Proposal(
            server=unsettled.server, tool=unsettled.tool, arguments={}, raw_arguments=b"", raw=b"", request_id=None
        )
        return ProposedStep(
            id=StepId(""),
            run_id=unsettled.run,
            cause=Cause.AGENT,
            principal=self._principal,
            client=CLIENT,
            tool=None,
            proposal=proposal,
            flaws=(),
            proposed_at_us=0,
            began_ns=0,
        )
