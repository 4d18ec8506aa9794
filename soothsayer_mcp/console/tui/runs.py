"""Runs: pieces of work, what they came to, and what a person decides about them; and one run with its steps."""

from collections.abc import Sequence
from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.widgets import Static

from soothsayer_mcp.console import render
from soothsayer_mcp.console.layout import BAD, BOLD, DIM, ODD, Page, visible
from soothsayer_mcp.console.measures import ago, count
from soothsayer_mcp.console.render import STATES
from soothsayer_mcp.console.tui.desk import RunPage
from soothsayer_mcp.console.tui.dialogs import Confirm, Prompt
from soothsayer_mcp.console.tui.filters import Completion, read_filter
from soothsayer_mcp.console.tui.live import StepLines
from soothsayer_mcp.console.tui.sheet import CURSOR, Lines, Piece, Sheet, fit
from soothsayer_mcp.console.tui.step import StepScreen
from soothsayer_mcp.console.tui.undo import UndoScreen
from soothsayer_mcp.console.tui.view import View
from soothsayer_mcp.model.run import TRANSITIONS, RunState
from soothsayer_mcp.trace.query import Filter
from soothsayer_mcp.trace.rows import RunRow

MOST_RUNS = 1_000
MOST_STEPS = 1_000
_COLUMNS = (("RUN", 8), ("STATE", 9), ("STEPS", 7), ("FAILED", 6), ("UNKNOWN", 7), ("ASKED", 5), ("LAST STEP", 11))
_WORDS = 2
"""The first columns are words; the rest are numbers, and stand at the right."""


def run_lines(page: RunPage, look: render.Look) -> list[Text]:
    """A run, what it came to, and what it still has: the page of `run show` without its steps, and a few lines more."""
    lines = render.run_story(page.story, (), look, more=0)
    more = Page(look.width)
    tally = page.tally
    if tally.failures:
        more.add("failures", ", ".join(f"{number:,} {failure}" for failure, number in tally.failures))
    if tally.unverified_writes:
        what = count(tally.unverified_writes, "write")
        more.add("unverified", Text(what, style=ODD), " that nothing checked")
    if tally.in_flight:
        more.add("in flight", count(tally.in_flight, "step"))
    if tally.next:
        more.add("next", tally.next)
    return [*lines, *more.lines]


class Ruled(View):
    """A screen with a run on it that can be held, let go on, or stopped."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("p", "pause", "pause"),
        Binding("r", "resume", "resume"),
        Binding("S", "stop", "stop"),
        Binding("plus", "raise", "budget"),
        Binding("u", "undo", "undo"),
    ]

    def run_here(self) -> RunRow | None:
        """The run that the keys are about."""
        raise NotImplementedError

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Only what the run's state permits is offered."""
        target = {"pause": RunState.PAUSED, "resume": RunState.OPEN, "stop": RunState.STOPPED}.get(action)
        if target is not None:
            run = self.run_here()
            return run is not None and run.state in set(RunState) and target in TRANSITIONS[RunState(run.state)]
        if action == "raise":
            run = self.run_here()
            return run is not None and run.state in {RunState.OPEN, RunState.PAUSED}
        if action == "undo":
            run = self.run_here()
            return run is not None and run.steps > 0
        return super().check_action(action, parameters)

    def action_raise(self) -> None:
        """Raise a budget, and let the run go on."""
        run = self.run_here()
        if run is None:
            return
        name = self.shorts.get(run.run, run.run[:4])

        def typed(text: str | None) -> None:
            if text and text.strip():
                self.start(self._raised(run.run, text.strip()))

        lines = [
            Text("NAME=N, such as calls=50 or bytes_returned=2MB, as far as the policy's ceiling; a pause is over.")
        ]
        self.watch_app.push_screen(Prompt(f"Raise a budget of run {name}", lines=lines, most=200), typed)

    async def _raised(self, run: str, typed: str) -> None:
        await self.write(self.desk.raise_budgets, run, typed)
        self.say(f"run {self.shorts.get(run, run[:4])} is open, with {typed} more")
        self.reload()

    def action_undo(self) -> None:
        """What undoing it would do; nothing is done before that was seen."""
        run = self.run_here()
        if run is not None:
            self.watch_app.push_screen(UndoScreen(run.run))

    def action_pause(self) -> None:
        """Take no more calls for now."""
        self._change(RunState.PAUSED)

    def action_resume(self) -> None:
        """Take calls again."""
        self._change(RunState.OPEN)

    def action_stop(self) -> None:
        """Take no more calls, ever; it is asked first."""
        run = self.run_here()
        if run is None:
            return
        name = self.shorts.get(run.run, run.run[:4])

        def confirmed(wanted: bool | None) -> None:
            if wanted:
                self.start(self._changed(run.run, RunState.STOPPED))

        lines = [
            visible(f"{count(run.steps, 'step')}, {run.host or 'an unnamed host'} for {run.principal}"),
            Text("It takes no more calls, ever; what is in flight may end."),
        ]
        self.watch_app.push_screen(Confirm(f"Stop run {name}?", lines, "stop it"), confirmed)

    def _change(self, to: RunState) -> None:
        run = self.run_here()
        if run is not None:
            self.start(self._changed(run.run, to))

    async def _changed(self, run: str, to: RunState) -> None:
        await self.write(self.desk.change_run, run, to)
        self.say(f"run {self.shorts.get(run, run[:4])} is {to}")
        self.reload()


class RunsScreen(Ruled):
    """All runs, the one with the newest step first, and what the chosen one came to."""

    TAB = "runs"
    DEFAULT_CSS = """
    RunsScreen #runs { height: 1fr; min-height: 3; }
    RunsScreen #run { height: 1fr; min-height: 12; border-top: solid $primary; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "open", "run"),
        Binding("slash", "filter", "filter"),
        Binding("x", "clear", "all runs"),
    ]

    def __init__(self) -> None:
        """No run yet."""
        super().__init__()
        self._list = Lines(self._row, empty="No run.", id="runs")
        self._sheet = Sheet(id="run")
        self.rows: Sequence[RunRow] = ()
        self._page: RunPage | None = None
        self._filter = Filter()

    def body(self) -> ComposeResult:
        """Titles, rows, and the chosen run."""
        yield Static(classes="line", id="titles")
        yield self._list
        yield self._sheet

    def place(self) -> str:
        """How many runs there are, and which."""
        parts = [count(len(self.rows), "run")]
        if self._filter.source:
            parts.append(f"filter {self._filter.source}")
        return ", ".join(parts)

    def id_under_cursor(self) -> str:
        """The run's id."""
        run = self.run_here()
        return "" if run is None else run.run

    def run_here(self) -> RunRow | None:
        """The run under the cursor."""
        cursor = self._list.cursor
        return self.rows[cursor] if cursor < len(self.rows) else None

    async def load(self) -> None:
        """Read the runs, and what the chosen one came to."""
        rows = await self.read(self.desk.runs, self._filter, MOST_RUNS)
        await self.look({row.run for row in rows})
        chosen = self.run_here()
        self.rows = rows
        lines = self._list
        names = [row.run for row in rows]
        cursor = names.index(chosen.run) if chosen is not None and chosen.run in names else lines.cursor
        lines.show(len(rows), cursor)
        await self._load_page()

    def on_mount(self) -> None:
        """The rows have the keys."""
        super().on_mount()
        self._list.focus()
        line = Text(" " * len(CURSOR))
        for name, width in _COLUMNS:
            line.append(f"{name:<{width}} " if name in {"RUN", "STATE"} else f"{name:>{width}} ", style=BOLD)
        self._show_line("#titles", line.append(" HOST", style=BOLD))

    def on_lines_moved(self, _event: Lines.Moved) -> None:
        """Another run is looked at."""
        self.start(self._load_page())

    async def _load_page(self) -> None:
        run = self.run_here()
        self._page = None if run is None else await self.read(self.desk.run_page, run.run, 0)
        page = self._page

        def made(width: int) -> list[Text]:
            return [] if page is None else run_lines(page, self.look_for(width))

        self._sheet.show(made, from_top=True)
        self.refresh_bindings()

    def _row(self, number: int, width: int) -> list[Piece]:
        row = self.rows[number]
        cells = (
            (self.shorts.get(row.run, row.run[:4]), ""),
            (row.state, STATES.get(row.state, "")),
            (f"{row.steps:,}", ""),
            (f"{row.failed:,}", BAD if row.failed else DIM),
            (f"{row.unknown:,}", ODD if row.unknown else DIM),
            (f"{row.asked:,}", "" if row.asked else DIM),
            (ago(row.last_us, self.desk.now_us()), ""),
        )
        line: list[Piece] = []
        for n, ((text, style), (_name, size)) in enumerate(zip(cells, _COLUMNS, strict=True)):
            line.append((f"{fit(text, size, right=n >= _WORDS)} ", style))
        used = sum(size + 1 for _name, size in _COLUMNS)
        return [*line, (fit(f" {row.host or '-'} for {row.principal}", max(1, width - used)), "")]

    # Keys.

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Only what works now is offered."""
        if action == "open":
            return bool(self.rows)
        if action == "clear":
            return bool(self._filter.source)
        return super().check_action(action, parameters)

    def action_open(self) -> None:
        """The run with its steps."""
        run = self.run_here()
        if run is not None:
            self.watch_app.push_screen(RunScreen(run.run))

    def action_filter(self) -> None:
        """Type a filter: a run is listed when one of its steps fits."""
        question = "Show runs with a step with: KEY:VALUE, -KEY:VALUE, WORD"
        seen = {"run": {row.run[:8] for row in self.rows}}
        prompt = Prompt(question, value=self._filter.source, suggester=Completion(seen))
        self.watch_app.push_screen(prompt, self._take_filter)

    def action_clear(self) -> None:
        """Show all runs."""
        self._take_filter("")

    def _take_filter(self, typed: str | None) -> None:
        if typed is not None:
            self.start(self._filtered(typed.strip()))

    async def _filtered(self, typed: str) -> None:
        self._filter = read_filter(typed)
        await self.load()
        self.draw_head()
        if not self.rows:
            self.say("no run fits")


class RunScreen(Ruled):
    """One run: what it came to, and its newest steps."""

    DEFAULT_CSS = """
    RunScreen #run { height: auto; max-height: 50%; border-bottom: solid $primary; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "open", "step"),
    ]

    def __init__(self, run: str) -> None:
        """Show this run."""
        super().__init__()
        self._sheet = Sheet(id="run")
        self._list = Lines(self._row, empty="No step yet.", id="steps")
        self._run = run
        self._page: RunPage | None = None
        self._lines: StepLines | None = None

    def body(self) -> ComposeResult:
        """The run, and its steps."""
        yield self._sheet
        yield Static(classes="line", id="titles")
        yield self._list

    def place(self) -> str:
        """Which run."""
        return f"run {self.shorts.get(self._run, self._run[:4])}"

    def id_under_cursor(self) -> str:
        """The run's id."""
        return self._run

    def run_here(self) -> RunRow | None:
        """This run."""
        return None if self._page is None else self._page.story.run

    def on_mount(self) -> None:
        """The steps have the keys."""
        super().on_mount()
        self._list.focus()

    def on_resize(self) -> None:
        """New columns for the width."""
        super().on_resize()
        self._lines = StepLines(self._list.room - len(CURSOR))
        self._show_line("#titles", Text(" " * len(CURSOR)).append_text(self._lines.titles()))

    async def load(self) -> None:
        """Read the run as it stands now."""
        page = await self.read(self.desk.run_page, self._run, MOST_STEPS)
        await self.look({self._run})
        lines = self._list
        at_last = lines.cursor >= lines.count - 1
        first = self._page is None
        self._page = page
        sheet = self._sheet
        sheet.show(lambda width: run_lines(page, self.look_for(width)), from_top=first)
        sheet.styles.height = len(run_lines(page, self.look_for(sheet.room))) + 1
        lines.show(len(page.steps), len(page.steps) - 1 if at_last else lines.cursor)
        self.refresh_bindings()

    def _row(self, number: int, width: int) -> list[Piece]:
        assert self._page is not None
        row = self._page.steps[number]
        lines = self._lines or StepLines(width)
        return lines.row(row, f"{self.shorts.get(row.run, row.run[:4])}.{row.no}", self.desk.now_us())

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Only what works now is offered."""
        if action == "open":
            return self._page is not None and bool(self._page.steps)
        return super().check_action(action, parameters)

    def action_open(self) -> None:
        """All about the step under the cursor."""
        if self._page is not None and self._page.steps:
            row = self._page.steps[self._list.cursor]
            self.watch_app.push_screen(StepScreen((row.run, row.no)))
