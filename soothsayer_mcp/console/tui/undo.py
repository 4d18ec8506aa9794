"""Undo: what putting a run back would do, line by line; a person leaves lines out and confirms the rest."""

from collections.abc import Sequence
from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.widgets import Static

from soothsayer_mcp.console.layout import BAD, BOLD, DIM, ODD, Page, visible
from soothsayer_mcp.console.measures import count
from soothsayer_mcp.console.text import escape
from soothsayer_mcp.console.tui.desk import DeskError
from soothsayer_mcp.console.tui.dialogs import Prompt
from soothsayer_mcp.console.tui.sheet import CURSOR, Lines, Piece, Sheet, fit
from soothsayer_mcp.console.tui.view import View
from soothsayer_mcp.console.undoing import DIGEST_CHARS, told_done, told_move
from soothsayer_mcp.model.undo import Done, UndoState
from soothsayer_mcp.undo.plan import ACTS, BLOCKS, Move, MoveKind, Plan

_WHAT, _STEP = 16, 9
_STYLES = {
    MoveKind.IRREVERSIBLE: ODD,
    MoveKind.CONFLICT: BAD,
    MoveKind.UNSETTLED: ODD,
    MoveKind.NOT_NEEDED: DIM,
    MoveKind.LEFT: DIM,
}
_WELL = {UndoState.UNDONE, UndoState.NOT_NEEDED}


class UndoScreen(View):
    """The plan of one run, and, once it was carried out, what became of it."""

    DEFAULT_CSS = """
    UndoScreen #moves { height: 1fr; min-height: 3; }
    UndoScreen #move { height: 10; max-height: 50%; border-top: solid $primary; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("u", "undo", "undo"),
        Binding("s", "leave", "skip"),
        Binding("t", "stay", "stay here"),
        Binding("l", "again", "look again"),
    ]

    def __init__(self, run: str) -> None:
        """Plan for the whole of this run."""
        super().__init__()
        self._list = Lines(self._row, empty="There is nothing to undo.", id="moves")
        self._sheet = Sheet(id="move")
        self._run = run
        self._to = 0
        self._left: frozenset[int] = frozenset()
        self._plan: Plan | None = None
        self._done: Sequence[Done] = ()
        self._busy = False

    def body(self) -> ComposeResult:
        """Titles and lines, and all about the line under the cursor."""
        yield Static(classes="line", id="titles")
        yield self._list
        yield self._sheet

    def place(self) -> str:
        """Which run, and how many steps."""
        plan = self._plan
        parts = [f"undo run {self._short}"]
        if plan is None:
            return f"{parts[0]}, looking"
        if self._busy:
            parts.append("undoing")
        elif self._done:
            well = sum(done.state in _WELL for done in self._done)
            parts.append(f"{well} of {count(len(self._done), 'step')} put back")
        else:
            parts.append(count(len(plan.of(ACTS)), "step"))
            for kinds, words in ((BLOCKS, "in the way"), ({MoveKind.IRREVERSIBLE}, "irreversible")):
                found = plan.of(kinds)
                parts += [f"{len(found)} {words}"] if found else []
            parts += [f"back to .{self._to}"] if self._to else []
        return ", ".join(parts)

    def id_under_cursor(self) -> str:
        """The step's full name."""
        no = self._no
        return f"{self._run}.{no}" if no else ""

    def on_mount(self) -> None:
        """The lines have the keys."""
        super().on_mount()
        self._list.focus()
        titles = f"{' ' * len(CURSOR)}{fit('WHAT', _WHAT)} {fit('STEP', _STEP)} ABOUT"
        self._show_line("#titles", Text(titles, style=BOLD))

    async def load(self) -> None:
        """Plan once; what changes meanwhile is noticed before anything is done."""
        if self._plan is None:
            await self._look_around()

    def on_lines_moved(self, _event: Lines.Moved) -> None:
        """Another line is looked at."""
        self._draw()

    @property
    def _short(self) -> str:
        return self.shorts.get(self._run, self._run[:4])

    @property
    def _moves(self) -> Sequence[Move]:
        return () if self._plan is None else self._plan.shown

    @property
    def _no(self) -> int:
        """The step of the line under the cursor; 0 where there is none."""
        rows = self._done or self._moves
        cursor = self._list.cursor
        return rows[cursor].no if cursor < len(rows) else 0

    async def _look_around(self) -> None:
        await self.look({self._run})
        self._plan = await self.read(self.desk.plan, self._run, self._to, self._left)
        self._done = ()
        self._draw()

    def _draw(self) -> None:
        rows = self._done or self._moves
        lines = self._list
        lines.show(len(rows), lines.cursor)
        self._sheet.show(self._about, from_top=True)
        self.draw_head()
        self.refresh_bindings()

    def _row(self, number: int, width: int) -> list[Piece]:
        rest = max(1, width - _WHAT - _STEP - 2)
        if self._done:
            done = self._done[number]
            cells = (done.state.value, done.no, told_done(done), "" if done.state in _WELL else BAD)
        else:
            move = self._moves[number]
            cells = (move.kind.value, move.no, _in(rest, told_move(move), move.about), _STYLES.get(move.kind, ""))
        what, no, words, style = cells
        return [(f"{fit(what, _WHAT)} ", style), (f"{fit(f'{self._short}.{no}', _STEP)} ", ""), (fit(words, rest), "")]

    def _about(self, width: int) -> list[Text]:
        """What the line under the cursor is about in full, and what comes next."""
        page = Page(width)
        cursor = self._list.cursor
        if self._plan is None:
            return []
        if self._done:
            if cursor < len(self._done):
                page.add("came to", f"{self._done[cursor].state}: {told_done(self._done[cursor])}")
            return page.lines
        if cursor < len(self._moves):
            page.add("line", told_move(self._moves[cursor]))
        if self._plan.of(BLOCKS):
            page.add("blocked", "nothing is undone while a step stands in the way; s leaves it, and what lies under it")
        elif self._can_undo:
            page.add("plan", f"{self._plan.digest[:DIGEST_CHARS]}, typed before anything is done")
        return page.lines

    # Keys.

    @property
    def _can_undo(self) -> bool:
        plan = self._plan
        if plan is None or self._busy or self._done or plan.of(BLOCKS):
            return False
        return bool(plan.of(ACTS | {MoveKind.NOT_NEEDED, MoveKind.IRREVERSIBLE}))

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Only what works now is offered."""
        match action:
            case "undo":
                return self._can_undo
            case "leave" | "stay":
                return bool(self._moves) and not self._done and not self._busy
            case "again":
                return not self._busy
            case _:
                return super().check_action(action, parameters)

    def action_again(self) -> None:
        """Plan anew, as things stand now."""
        self.start(self._look_around())

    def action_leave(self) -> None:
        """Leave the step under the cursor as it is, or take it again."""
        self._left ^= {self._no}
        self.start(self._look_around())

    def action_stay(self) -> None:
        """Let the step under the cursor stay, and what came before it; again: all is undone."""
        self._to = 0 if self._to else self._no
        self.start(self._look_around())

    def action_undo(self) -> None:
        """Carry the plan out, once its digest was typed."""
        plan = self._plan
        if plan is None:
            return
        short = plan.digest[:DIGEST_CHARS]

        def typed(text: str | None) -> None:
            if text == short:
                self.start(self._undone(plan))
            else:
                self.say("nothing was undone")

        never = plan.of({MoveKind.IRREVERSIBLE})
        lines = [f"The run is paused, and {count(len(plan.of(ACTS)), 'step')} of it undone, the last one first."]
        lines += [f"{count(len(never), 'step')} cannot be taken back, and stays as it is."] if never else []
        question = f"Type {short} to do this"
        self.watch_app.push_screen(Prompt(question, lines=[visible(line) for line in lines], most=64), typed)

    async def _undone(self, plan: Plan) -> None:
        self._busy = True
        self.draw_head()
        self.refresh_bindings()
        try:
            self._done = await self.write(self.desk.roll_back, self._run, self._to, self._left, plan.digest)
        except DeskError:
            self._busy = False
            await self._look_around()
            raise
        self._busy = False
        self._draw()
        well = all(done.state in _WELL for done in self._done)
        self.say("undone" if well else "not all of it came back; look at each line")


def _in(width: int, words: str, about: str) -> str:
    """All words where they fit; else what they are about, whose end says more than its beginning."""
    if len(escape(words)) <= width:
        return words
    return about if len(escape(about)) <= width else f"…{about[len(about) - width + 1 :]}"
