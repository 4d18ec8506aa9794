"""Live: steps as they happen, the newest at the bottom; any number can be scrolled through."""

from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.widgets import Static

from soothsayer_mcp.console import views
from soothsayer_mcp.console.layout import BAD, BOLD, DIM, EFFECTS, ODD
from soothsayer_mcp.console.measures import clock_time, count, duration
from soothsayer_mcp.console.tui.desk import Key
from soothsayer_mcp.console.tui.dialogs import Prompt
from soothsayer_mcp.console.tui.filters import Completion, read_filter
from soothsayer_mcp.console.tui.sheet import CURSOR, Lines, Piece, fit
from soothsayer_mcp.console.tui.step import StepScreen
from soothsayer_mcp.console.tui.view import View
from soothsayer_mcp.console.tui.window import Window, key_of
from soothsayer_mcp.trace.query import Filter
from soothsayer_mcp.trace.rows import StepRow

FETCH = 1_000
"""How many steps are fetched at once while one scrolls."""

FIRST = 200
"""How many are fetched before anything is seen."""

MARGIN = 300
"""How near an end of what is held the cursor has to come until more is fetched."""

_TIME, _STEP, _EFFECT, _ENDED, _TOOK = 8, 9, 6, 26, 7
_TOOK_AT = 5
"""How long it took stands at the right of its column."""
_LEAST_CALL, _WIDE_CALL, _WIDE_STEP, _WIDE = 10, 26, 13, 110


class StepLines:
    """How steps are laid out for a width: the columns are the same for every row, whatever is seen."""

    def __init__(self, width: int) -> None:
        """Give each column its width."""
        self.step = _WIDE_STEP if width >= _WIDE else _STEP
        fixed = _TIME + self.step + _EFFECT + _ENDED + _TOOK + 5
        self.call = max(_LEAST_CALL, width - fixed)
        self.because = 0
        if width >= _WIDE:
            self.call = min(self.call, _WIDE_CALL)
            self.because = max(0, width - fixed - self.call - 1)

    def titles(self) -> Text:
        """The line above."""
        names = ["TIME", "STEP", "CALL", "EFFECT", "ENDED AS", "TOOK", "BECAUSE"]
        return Text("".join(text for text, _style in self._line([(name, "") for name in names])), style=BOLD)

    def row(self, row: StepRow, name: str, now_us: int) -> list[Piece]:
        """One step."""
        would = row.would if row.would != row.effect else ""
        effect = f"({would})" if would else row.effect or "-"
        style = ODD if row.outcome == "unknown" else BAD if row.failure else "" if row.outcome else "cyan"
        # The number says more than the run.
        short = name if len(name) <= self.step else f"…{name[len(name) - self.step + 1 :]}"
        return self._line(
            [
                (clock_time(row.at_us, now_us)[-_TIME:], DIM),
                (short, ""),
                (row.call, ""),
                (effect, EFFECTS.get(would or row.effect, "")),
                (views.ended_as(row), style),
                (duration(row.dur_us), DIM),
                (views.because(row) if self.because else "", ""),
            ]
        )

    def _line(self, cells: list[Piece]) -> list[Piece]:
        widths = (_TIME, self.step, self.call, _EFFECT, _ENDED, _TOOK, self.because)
        line: list[Piece] = []
        for n, ((text, style), width) in enumerate(zip(cells, widths, strict=True)):
            if width:
                line.append((f"{fit(text, width, right=n == _TOOK_AT)} ", style))
        return line


class LiveScreen(View):
    """Steps as they happen."""

    TAB = "live"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "open", "step"),
        Binding("f", "follow", "follow"),
        Binding("slash", "filter", "filter"),
        Binding("x", "clear", "all steps"),
    ]

    def __init__(self) -> None:
        """Follow what happens, until a person looks at something."""
        super().__init__()
        self._list = Lines(self._row, empty="No step yet: calls are shown here as they happen.", id="steps")
        self.window = Window()
        self.following = True
        self._filter: Filter | None = None
        self._typed = ""
        self._pos = -1
        self._lines: StepLines | None = None
        self._now_us = 0
        self._fetching = False

    def body(self) -> ComposeResult:
        """Titles and rows."""
        yield Static(classes="line", id="titles")
        yield self._list

    def place(self) -> str:
        """How many steps there are, and which."""
        held = f"{count(len(self.window.rows), 'step')}{'' if self.window.at_start else ' of more'}"
        parts = [held, "following" if self.following else "not following"]
        if self._typed:
            parts.append(f"filter {self._typed}")
        return ", ".join(parts)

    def id_under_cursor(self) -> str:
        """The step's full name."""
        row = self._under_cursor()
        return "" if row is None else row.step

    async def load(self) -> None:
        """Take in what went on since the last look."""
        if self._pos < 0:
            await self._newest()
            return
        news = await self.read(self.desk.news, self._pos, self._wanted)
        if news.many:
            if self.window.at_end:
                await self._newest()
            else:
                self._pos = news.pos
            return
        self._pos = news.pos
        if not news.touched:
            return
        await self.look({row.run for row in news.rows})
        chosen = self._under_cursor()
        self.window.update(news.touched, news.rows)
        self._show(chosen)

    def on_mount(self) -> None:
        """The rows have the keys."""
        super().on_mount()
        self._filter = self.watch_app.wanted
        self._typed = self.watch_app.wanted.source
        self._list.focus()

    def on_resize(self) -> None:
        """New columns for the width."""
        super().on_resize()
        lines = self._list
        self._lines = StepLines(lines.room - len(CURSOR))
        self._show_line("#titles", Text(" " * len(CURSOR)).append_text(self._lines.titles()))

    def on_lines_moved(self, event: Lines.Moved) -> None:
        """Who moves looks at something: what comes is not followed, but at the end. More is fetched near the ends."""
        lines = event.lines
        at_last = lines.cursor >= lines.count - 1
        if event.to_edge == 1:
            self.following = True
            if not self.window.at_end:
                self.start(self._newest())
        elif event.to_edge == 0:
            self.following = False
            if not self.window.at_start:
                self.start(self._oldest())
        else:
            self.following = at_last and self.window.at_end
            self._fetch_if_near()
        self.draw_head()
        self.refresh_bindings()

    @property
    def _wanted(self) -> Filter:
        return self._filter or Filter()

    def _row(self, number: int, width: int) -> list[Piece]:
        row = self.window.rows[number]
        lines = self._lines or StepLines(width)
        return lines.row(row, f"{self.shorts.get(row.run, row.run[:4])}.{row.no}", self._now_us)

    def _under_cursor(self) -> StepRow | None:
        lines = self._list
        return self.window.rows[lines.cursor] if lines.cursor < len(self.window.rows) else None

    def _show(self, chosen: StepRow | None) -> None:
        """Show the window as it is, with the cursor on the step it was on, or on the last."""
        self._now_us = self.desk.now_us()
        cursor = None if chosen is None else self.window.find((chosen.run, chosen.no))
        if cursor is None and chosen is not None:
            cursor = next((n for n, row in enumerate(self.window.rows) if key_of(row) >= key_of(chosen)), None)
        if (self.following and self.window.at_end) or cursor is None:
            cursor = len(self.window.rows) - 1
        self._list.show(len(self.window.rows), cursor)
        self.draw_head()
        self.refresh_bindings()

    async def _newest(self) -> None:
        pos = await self.read(self.desk.position)
        rows = await self.read(self.desk.before, None, self._wanted, FIRST)
        await self.look({row.run for row in rows})
        self._pos = pos
        self.window.replace(rows, at_start=len(rows) < FIRST, at_end=True)
        self._show(rows[-1] if rows else None)
        self._fetch_if_near()

    async def _oldest(self) -> None:
        rows = await self.read(self.desk.after, None, self._wanted, FETCH)
        await self.look({row.run for row in rows})
        self.window.replace(rows, at_start=True, at_end=len(rows) < FETCH)
        self._show(rows[0] if rows else None)

    def _fetch_if_near(self) -> None:
        lines = self._list
        if self._fetching or not self.window.rows:
            return
        if lines.cursor < MARGIN and not self.window.at_start:
            self._fetching = True
            self.start(self._fetch(key_of(self.window.rows[0]), earlier=True))
        elif lines.count - lines.cursor <= MARGIN and not self.window.at_end:
            self._fetching = True
            self.start(self._fetch(key_of(self.window.rows[-1]), earlier=False))

    async def _fetch(self, key: Key, *, earlier: bool) -> None:
        try:
            wanted = self._wanted
            rows = await self.read(self.desk.before if earlier else self.desk.after, key, wanted, FETCH)
            await self.look({row.run for row in rows})
            held = self.window.rows
            if wanted is not self._wanted or not held or key != key_of(held[0] if earlier else held[-1]):
                return  # Something else is shown by now.
            chosen = self._under_cursor()
            if earlier:
                self.window.prepend(rows, at_start=len(rows) < FETCH)
            else:
                self.window.append(rows, at_end=len(rows) < FETCH)
            self._show(chosen)
        finally:
            self._fetching = False
        self._fetch_if_near()

    # Keys.

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Only what works now is offered."""
        if action == "open":
            return bool(self.window.rows)
        if action == "clear":
            return bool(self._typed)
        if action == "follow":
            return not self.following
        return super().check_action(action, parameters)

    def action_open(self) -> None:
        """All about the step under the cursor."""
        row = self._under_cursor()
        if row is not None:
            self.watch_app.push_screen(StepScreen((row.run, row.no)))

    def action_follow(self) -> None:
        """Go to the newest step, and stay with the newest."""
        self._list.action_edge(1)

    def action_filter(self) -> None:
        """Type a filter."""
        seen = {"server": {row.server for row in self.window.rows}, "tool": {row.tool for row in self.window.rows}}
        question = "Show steps with: KEY:VALUE, -KEY:VALUE, WORD"
        self.watch_app.push_screen(Prompt(question, value=self._typed, suggester=Completion(seen)), self._take_filter)

    def action_clear(self) -> None:
        """Show all steps."""
        self._take_filter("")

    def _take_filter(self, typed: str | None) -> None:
        if typed is not None:
            self.start(self._filtered(typed.strip()))

    async def _filtered(self, typed: str) -> None:
        wanted = read_filter(typed)
        before = (self._filter, self._typed)
        self._filter, self._typed = wanted, typed
        try:
            await self._newest()
        except BaseException:
            self._filter, self._typed = before
            raise
        if not self.window.rows:
            self.say("no step fits")
