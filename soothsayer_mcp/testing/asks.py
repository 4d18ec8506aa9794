"""Questions to people kept in memory: the same book as the store's, for tests whose time is scripted."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from soothsayer_mcp.model.ask import Ask, AskAnswer, AskState, Grant, NewAsk
from soothsayer_mcp.model.call import RunId


class MemoryAsks:
    """Implements `Asks`."""

    def __init__(self, now_us: Callable[[], int]) -> None:
        """No question was put yet."""
        self.asked: dict[str, Ask] = {}
        self._digests: dict[str, tuple[RunId, str]] = {}
        self._now_us = now_us

    async def open(self, ask: NewAsk) -> Ask:
        """Put a question."""
        self._digests[ask.id] = (ask.run, ask.digest)
        made = Ask(
            id=ask.id,
            run=ask.run,
            no=0,
            state=AskState.OPEN,
            rule=ask.rule,
            asked_at_us=self._now_us(),
            expires_at_us=ask.expires_at_us,
            strong=ask.strong,
            remember=ask.remember,
            shown=ask.shown,
            card=ask.card,
            bound=ask.bound,
            channels=ask.channels,
            call=ask.digest,
            needs=ask.needs,
            requester=ask.requester,
        )
        self.asked[ask.id] = made
        return made

    async def answer(self, answer: AskAnswer) -> tuple[Ask, bool]:
        """Answer a question, if nobody did."""
        ask = self.asked[answer.ask]
        if ask.state is not AskState.OPEN:
            return ask, False
        ask = replace(
            ask,
            state=answer.state,
            answered_at_us=self._now_us(),
            answered_by=answer.by.id,
            channel=answer.channel,
            comment=answer.comment,
            card={},
        )
        self.asked[ask.id] = ask
        return ask, True

    def find(self, run: RunId, digest: str) -> Ask | None:
        """The newest question about the call with this digest."""
        found = [self.asked[name] for name, key in self._digests.items() if key == (run, digest)]
        return found[-1] if found else None

    def look(self, ask_id: str) -> Ask | None:
        """A question as it stands."""
        return self.asked.get(ask_id)

    def spend(self, ask_id: str) -> None:
        """Use its yes up."""
        self.asked[ask_id] = replace(self.asked[ask_id], spent=True)

    def grants(self, run: RunId, server: str, tool: str) -> Sequence[Grant]:
        """No answer is remembered here."""
        del run, server, tool
        return ()
