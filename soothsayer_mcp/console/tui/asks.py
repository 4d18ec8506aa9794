"""Asks: questions that wait for an answer, oldest first, and the card of one with its exact arguments.

A key answers the card that is seen and nothing else: when a question ends elsewhere its card stays and says so, and a
new card takes a yes only after it was seen whole, and for a moment.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType

from soothsayer_mcp.console.against import against_last
from soothsayer_mcp.console.card import card, shape_lines
from soothsayer_mcp.console.layout import BOLD, DIM, visible
from soothsayer_mcp.console.less import less_lines
from soothsayer_mcp.console.measures import ago, count
from soothsayer_mcp.console.tui.desk import Card
from soothsayer_mcp.console.tui.dialogs import Confirm, Prompt
from soothsayer_mcp.console.tui.sheet import Lines, Piece, Scrolled, Sheet, fit
from soothsayer_mcp.console.tui.view import View
from soothsayer_mcp.model.ask import Ask, AskState
from soothsayer_mcp.model.json import Json

ID_CHARS = 6
"""How much of an id people type."""

MOST_ROWS = 5
"""How many lines of the screen the list takes at most."""

DIGEST_CHARS = 8


def decided(ask: Ask) -> str:
    """How a question ended."""
    match ask.state:
        case AskState.OPEN:
            return "open"
        case AskState.EXPIRED:
            return "expired: nobody answered in time"
        case AskState.WITHDRAWN:
            return "withdrawn: the call was given up by its host"
        case AskState.YES | AskState.NO:
            return f"already decided: {ask.state}, by {ask.answered_by} in {ask.channel}"


class AsksScreen(View):
    """Open questions."""

    TAB = "asks"
    DEFAULT_CSS = """
    AsksScreen #asks { height: auto; max-height: 5; }
    AsksScreen #card { height: 1fr; border-top: solid $primary; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("a", "allow", "allow once"),
        Binding("A", "remember", "allow in run"),
        Binding("d", "deny", "deny"),
        Binding("c", "comment", "comment"),
        Binding("enter", "read_on", "read on"),
    ]

    def __init__(self) -> None:
        """No question yet."""
        super().__init__()
        self._list = Lines(self._row, empty="No question is open. Calls wait for you while this is open.", id="asks")
        self._sheet = Sheet(id="card")
        self.asks: list[Ask] = []
        self.card: Card | None = None
        self.ended: Ask | None = None
        """How the question on the card ended, when it did while it was seen."""
        self._wanted = ""
        self._comments: dict[str, str] = {}
        self._seen_whole: set[str] = set()
        self._stood = ""
        self._answering = ""

    def body(self) -> ComposeResult:
        """The list, and below it the card."""
        yield self._list
        yield self._sheet

    def place(self) -> str:
        """How many wait."""
        return f"{count(len(self.asks), 'open question')}" if self.asks else "no question is open"

    def id_under_cursor(self) -> str:
        """The question's id."""
        return "" if self.card is None else self.card.ask.id

    def on_mount(self) -> None:
        """The list has the keys."""
        super().on_mount()
        self._list.focus()

    async def load(self) -> None:
        """Show what waits now, with the card of the chosen one; one that ended stays until a person moves on."""
        asks = await self.read(self.desk.open_asks)
        self.watch_app.open_asks = len(asks)
        await self.look({ask.run for ask in asks})
        names = [ask.id for ask in asks]
        shown = "" if self.card is None else self.card.ask.id
        if shown and shown not in names and self._wanted in {"", shown}:
            await self._see_how_it_ended(shown)
        else:
            wanted = self._wanted if self._wanted in names else shown if shown in names else names[0] if names else ""
            if wanted != shown or self.ended is not None:
                await self._see(wanted)
        self._wanted = ""
        # Nothing is waited for between these: the list is drawn at any time, by as many rows as it was told of.
        self.asks = asks
        self._draw()
        if self.card is None:
            self._draw_card(from_top=True)

    def tick(self) -> None:
        """Time runs, and a question expires without anything being written."""
        if self.card is not None and self.ended is None:
            if self.desk.now_us() > self.card.ask.expires_at_us:
                self.reload()
            self._draw_card(from_top=False)
        self._list.refresh()

    async def _see(self, ask_id: str) -> None:
        found = await self.read(self.desk.card, ask_id) if ask_id else None
        if found is not None and found.ask.state is AskState.OPEN:
            await self.look({found.ask.run, *([found.last.run] if found.last else [])})
            # A yes may come once a person can have read it.
            self.set_timer(self.watch_app.seen_s, lambda: self._has_stood(ask_id))
        else:
            found = None
        # Nothing is waited for between these and the drawing: what was seen of one card never counts for another.
        self.card, self.ended, self._stood = found, None, ""
        self._draw_card(from_top=True)

    async def _see_how_it_ended(self, ask_id: str) -> None:
        found = await self.read(self.desk.card, ask_id)
        if found is None or self.card is None:
            self.card, self.ended = None, None
        elif found.ask.state is AskState.OPEN:
            self.ended = replace(found.ask, state=AskState.EXPIRED)
        else:
            self.ended = found.ask
        self._draw_card(from_top=True)

    def _has_stood(self, ask_id: str) -> None:
        if self.card is not None and self.card.ask.id == ask_id:
            self._stood = ask_id
            self._look_whether_whole()

    def on_scrolled_turned(self, _event: Scrolled.Turned) -> None:
        """Whoever scrolls to the end has seen it."""
        self._look_whether_whole()

    def on_resize(self) -> None:
        """More or less of the card is seen now."""
        super().on_resize()
        self.call_after_refresh(self._look_whether_whole)

    def _look_whether_whole(self) -> None:
        if self.card is not None and self._sheet.is_seen_whole():
            self._seen_whole.add(self.card.ask.id)
        self.refresh_bindings()

    # What is seen.

    def _draw(self) -> None:
        lines = self._list
        chosen = self.card.ask.id if self.card is not None else ""
        cursor = next((n for n, ask in enumerate(self.asks) if ask.id == chosen), lines.cursor)
        lines.styles.height = max(1, min(MOST_ROWS, len(self.asks)))
        lines.show(len(self.asks), cursor)
        self.draw_head()
        self.refresh_bindings()

    def _row(self, number: int, width: int) -> list[Piece]:
        ask = self.asks[number]
        server, tool = ask.card.get("server"), ask.card.get("tool")
        left = max(0, ask.expires_at_us - self.desk.now_us()) // 1_000_000
        parts = [
            f"{ask.id[:ID_CHARS]}  {server}.{tool}",
            f"run {self.shorts.get(ask.run, ask.run[:4])}",
            ago(ask.asked_at_us, self.desk.now_us()),
            f"{left // 60}:{left % 60:02d} left",
            *(["strong"] if ask.strong else []),
            ask.rule,
        ]
        return [(fit("  ".join(parts), width), "")]

    def _draw_card(self, *, from_top: bool) -> None:
        self._sheet.show(self._card_lines, from_top=from_top)
        self.call_after_refresh(self._look_whether_whole)

    def _card_lines(self, _width: int) -> list[Text]:
        if self.card is None:
            return []
        ask, now_us = self.card.ask, self.desk.now_us()
        left_s = max(0, ask.expires_at_us - now_us) // 1_000_000
        head, *rest = card(ask.id[:ID_CHARS], ask.card, left_s).split("\n")
        lines = [Text(head, style=BOLD)]
        if self.ended is not None:
            lines.insert(0, visible(f"{decided(self.ended)}. Enter: on to the next.", "bold reverse"))
        lines += [Text(line) for line in rest]
        args = ask.card.get("args")
        if self.card.last is not None and isinstance(args, Mapping):
            last = self.card.last
            name = f"{self.shorts.get(last.run, last.run[:4])}.{last.no}"
            lines += [Text(line) for line in against_last(args, last, name=name, now_us=now_us)]
        if ask.strong:
            lines.append(Text(f"strong: a yes is typed, {ask.id[:ID_CHARS]}, and covers this call only"))
        elif self.card.why_once:
            lines.append(visible(f"only once: {self.card.why_once}", DIM))
        lines += [Text(line) for line in less_lines(self.card.less, ask, self.card.yeses)]
        comment = self._comments.get(ask.id, "")
        if comment:
            lines.append(visible(f'comment "{comment}"'))
        lines.append(Text(f"shown {ask.shown[:DIGEST_CHARS]}", style=DIM))
        return lines

    # Keys.

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Only what works now is offered."""
        if action in {"allow", "remember", "deny", "comment"}:
            ready = self.card is not None and self.ended is None and not self._answering
            if not ready or self.card is None:
                return False
            ask = self.card.ask
            if action == "remember" and (self.card.why_once or ask.strong):
                return False
            return action in {"deny", "comment"} or (ask.id in self._seen_whole and self._stood == ask.id)
        if action == "read_on":
            return self.card is not None and (self.ended is not None or self.card.ask.id not in self._seen_whole)
        return super().check_action(action, parameters)

    def on_lines_moved(self, event: Lines.Moved) -> None:
        """Another card is wanted."""
        if self.asks and self._answering == "":
            self._wanted = self.asks[event.lines.cursor].id
            self.reload()

    def action_read_on(self) -> None:
        """The next page of the card; on to the next question when this one has ended."""
        if self.ended is not None:
            self.card, self.ended = None, None
            self.reload()
        else:
            self._sheet.action_pages(1)

    def action_allow(self) -> None:
        """A yes to this one call; a strong question wants six characters typed."""
        if self.card is None:
            return
        ask = self.card.ask
        if not ask.strong:
            self._answer(ask, AskState.YES)
            return
        short = ask.id[:ID_CHARS]

        def typed(text: str | None) -> None:
            if text == short:
                self._answer(ask, AskState.YES)
            else:
                self.say(f"{short}: nothing was answered; the question stays open")

        self.watch_app.push_screen(Prompt(f"Type {short} to allow this once", most=2 * ID_CHARS), typed)

    def action_remember(self) -> None:
        """A yes to all calls of a shape in this run, which is shown first."""
        if self.card is None:
            return
        ask, shape = self.card.ask, self.card.shape
        call = visible(f"{ask.card.get('server')}.{ask.card.get('tool')}", BOLD)
        lines = [call, *(Text(line) for line in shape_lines(shape))]

        def confirmed(wanted: bool | None) -> None:
            if wanted:
                self._answer(ask, AskState.YES, shape)

        question = "Further calls of this run that would not be asked about:"
        self.watch_app.push_screen(Confirm(question, lines, "allow all of these"), confirmed)

    def action_deny(self) -> None:
        """A no, with the comment if there is one."""
        if self.card is not None:
            self._answer(self.card.ask, AskState.NO)

    def action_comment(self) -> None:
        """Type a comment that goes with the answer; the agent reads that of a no."""
        if self.card is None:
            return
        name = self.card.ask.id

        def typed(text: str | None) -> None:
            if text is not None:
                self._comments[name] = " ".join(text.split())
                self._draw_card(from_top=False)

        question = "Comment, which goes with your answer; the agent reads that of a no"
        self.watch_app.push_screen(Prompt(question, value=self._comments.get(name, ""), most=500), typed)

    def _answer(self, ask: Ask, state: AskState, shape: Mapping[str, Json] | None = None) -> None:
        self._answering = ask.id
        self.refresh_bindings()
        self.start(self._answered(ask, state, shape))

    async def _answered(self, ask: Ask, state: AskState, shape: Mapping[str, Json] | None) -> None:
        try:
            comment = self._comments.get(ask.id, "")
            stands, counted = await self.write(self.desk.answer, ask, state, comment, shape)
        finally:
            self._answering = ""
        if counted:
            reach = "" if state is AskState.NO else ", once" if shape is None else ", for this shape in the run"
            self.say(f"{ask.id[:ID_CHARS]}: {'allowed' if state is AskState.YES else 'denied'}{reach}")
            self._comments.pop(ask.id, None)
            if self.card is not None and self.card.ask.id == ask.id:
                self.card, self.ended = None, None
        else:
            self.say(f"{ask.id[:ID_CHARS]}: {decided(stands)}")
        self.reload()
