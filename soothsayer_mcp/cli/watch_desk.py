"""One state folder as the screens of `watch` ask about it."""

import json
import os
import time
from collections.abc import Callable, Collection, Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar, cast

from rich.text import Text

from soothsayer_mcp.adapters.descent import ancestors
from soothsayer_mcp.adapters.faces import Face
from soothsayer_mcp.adapters.lazy import resolve
from soothsayer_mcp.adapters.store.reader import NoTraceError, Reader
from soothsayer_mcp.adapters.store.sqlite import SqliteStore
from soothsayer_mcp.adapters.store.watcher import START, Watcher
from soothsayer_mcp.adapters.system import account
from soothsayer_mcp.cli.budgets import raise_budgets, read_amounts
from soothsayer_mcp.cli.look import without_selftests
from soothsayer_mcp.cli.output import Output
from soothsayer_mcp.cli.problems import Problem, as_problem
from soothsayer_mcp.cli.state import state_dir
from soothsayer_mcp.console import documents
from soothsayer_mcp.console.card import roles_of
from soothsayer_mcp.console.less import less_of
from soothsayer_mcp.console.tui.desk import Card, DeskError, Key, News, RunPage, StepName
from soothsayer_mcp.evidence.approvers import held_back
from soothsayer_mcp.evidence.grants import shape_of, why_not_remembered
from soothsayer_mcp.model.ask import Ask, AskAnswer, AskState, Channel
from soothsayer_mcp.model.budget import RAISED
from soothsayer_mcp.model.call import Principal, RunId
from soothsayer_mcp.model.json import Json
from soothsayer_mcp.model.run import RunState
from soothsayer_mcp.model.undo import Done
from soothsayer_mcp.trace.query import Filter, parse
from soothsayer_mcp.trace.rows import RunRow, StepRow, Story
from soothsayer_mcp.undo.plan import Plan

if TYPE_CHECKING:
    from soothsayer_mcp.cli.options import Settings
    from soothsayer_mcp.cli.undoing import Wish
    from soothsayer_mcp.console.explanation import Explained


R = TypeVar("R")

ABOUT = "soothsayer watch"

MANY = 20_000
"""After more entries than this since the last look, what is shown is read anew."""


LIVE_S = 1.0
"""How often it is looked whether another segment of the trace was begun."""


class StateDesk:
    """Implements `console.tui.desk.Desk`. The trace need not be there yet; then there is nothing to see."""

    def __init__(self, output: Output, *, channel: Channel = Channel.WATCH, about: str = ABOUT) -> None:
        """Open nothing yet: what reads is opened in the thread that reads. Answers are given by way of `channel`."""
        self._output = output
        self._folder = state_dir(output.settings)
        self._channel = channel
        self._about = about
        self._face = Face(self._folder, channel)
        self._watcher: Watcher | None = None
        self._looked_at = 0.0

    def leave(self) -> None:
        """Nobody looks here any more."""
        self._face.close()

    # What the screens ask.

    def has_changed(self) -> bool:
        """Whether something was written since this was asked last; true at first."""
        with told_in_a_line():
            if self._watcher is not None and time.monotonic() - self._looked_at > LIVE_S:
                self._looked_at = time.monotonic()
                if not self._watcher.is_live():
                    self._watcher.close()
                    self._watcher = None
        return self._ask(lambda watcher: watcher.has_changed(), none=False)

    def now_us(self) -> int:
        """The present moment."""
        return time.time_ns() // 1000

    def position(self) -> int:
        """The position of the newest entry."""
        return self._ask(lambda watcher: watcher.last_pos(), -1)

    def news(self, pos: int, wanted: Filter) -> News:
        """What went on since a position."""

        def ask(watcher: Watcher) -> News:
            last = watcher.last_pos()
            if last - pos > MANY:
                return News(pos=last, touched=frozenset(), rows=(), many=True)
            touched = frozenset(watcher.touched(pos, last))
            rows = watcher.touched_rows(pos, last, without_selftests(wanted), watcher.now()) if touched else ()
            return News(pos=last, touched=touched, rows=rows)

        return self._ask(ask, News(pos=pos, touched=frozenset(), rows=()))

    def before(self, key: Key | None, wanted: Filter, most: int) -> list[StepRow]:
        """The last steps before a place, or of all, oldest first."""
        none: list[StepRow] = []
        return self._ask(lambda it: it.before(key, without_selftests(wanted), it.now(), most=most), none)

    def after(self, key: Key | None, wanted: Filter, most: int) -> list[StepRow]:
        """The first steps after a place, or of all, oldest first."""
        none: list[StepRow] = []
        return self._ask(lambda it: it.after(key or START, without_selftests(wanted), it.now(), most=most), none)

    def shorts(self, runs: Sequence[str]) -> Mapping[str, str]:
        """Run id -> the shortest beginning of it that no other run has."""
        none: Mapping[str, str] = {}
        return self._ask(lambda watcher: watcher.short_runs(runs), none)

    def story(self, step: StepName) -> Story:
        """All that is known about one step."""
        return self._must(lambda watcher: watcher.story(watcher.find_step(f"{step[0]}.{step[1]}")))

    def explain(self, step: StepName, width: int) -> list[Text]:
        """Every rule that could concern a step, and why it did or did not match."""
        explain = cast("Callable[[Output, str], Explained]", resolve("soothsayer_mcp.cli.policy:explain_step"))
        lay_out = cast(
            "Callable[[Explained, int], list[Text]]", resolve("soothsayer_mcp.console.explanation:explanation")
        )
        with told_in_a_line():
            return lay_out(explain(self._output, f"{step[0]}.{step[1]}"), width)

    def runs(self, wanted: Filter, most: int) -> list[RunRow]:
        """Runs, the one with the newest step first."""
        none: list[RunRow] = []
        selftests = any(term.key == "cause" for term in wanted.terms)
        return self._ask(lambda it: it.runs(wanted, it.now(), limit=most, selftests=selftests), none)

    def run_page(self, run: str, most: int) -> RunPage:
        """A run and its newest steps."""

        def ask(watcher: Watcher) -> RunPage:
            steps = watcher.before(None, parse(f"run:{run}"), watcher.now(), most=most) if most else []
            return RunPage(story=watcher.run(run), tally=watcher.run_tally(run), steps=steps)

        return self._must(ask)

    def open_asks(self) -> list[Ask]:
        """Questions that wait for an answer now, oldest first."""
        now = self.now_us()
        none: list[Ask] = []
        found = self._ask(lambda watcher: watcher.open_asks(), none)
        seen = [self._seen(ask) for ask in found if ask.asked_at_us <= now <= ask.expires_at_us]
        return [ask for ask in seen if ask is not None]

    def _seen(self, ask: Ask) -> Ask | None:
        """A question as whoever looks here may see it; `None` where it is not for them."""
        return held_back(ask)

    def card(self, ask_id: str) -> Card | None:
        """A question as it stands now."""

        def ask(watcher: Watcher) -> Card | None:
            found = watcher.ask(ask_id)
            found = None if found is None else self._seen(found)
            if found is None:
                return None
            server, tool, args = (found.card.get(key) for key in ("server", "tool", "args"))
            last, yeses = None, 0
            if not found.needs and isinstance(server, str) and isinstance(tool, str):
                last, yeses = watcher.last_yes(server, tool), watcher.yeses(found.rule, server, tool)
            return Card(
                ask=found,
                last=last,
                why_once=why_not_remembered(found),
                shape=shape_of(args if isinstance(args, Mapping) else {}),
                yeses=yeses,
                less=less_of(found, yeses, by=account().id),
            )

        return self._ask(ask, None)

    # What the person decides.

    def answer(self, ask: Ask, state: AskState, comment: str, shape: Mapping[str, Json] | None) -> tuple[Ask, bool]:
        """Answer a question as the person at this terminal: as it stands then, and whether this answer counted."""
        if ask.host_pid > 1 and ask.host_pid in ancestors():
            text = "this terminal belongs to the host whose call is asked about; answer from another"
            raise DeskError(text)
        if ask.needs:
            text = f"it needs the signed answer of {roles_of(ask)}: soothsayer approve {ask.id[:6]} --as NAME"
            raise DeskError(text)
        by = Principal(id=account().id, how="terminal")
        told = AskAnswer(ask=ask.id, state=state, by=by, channel=self._channel, comment=comment, shape=shape)
        with self._writing() as store:
            return store.answer_ask(told)

    def change_run(self, run: str, to: RunState) -> None:
        """Move a run to another state, as the person at this terminal."""
        who = account().id
        with self._writing() as store:
            store.change_run(RunId(run), to, by=who, reason=f"by {who}")

    def raise_budgets(self, run: str, typed: str) -> None:
        """Raise budgets of a run by what was typed, such as `calls=50`, and open it where it is paused."""
        with self._writing() as store, Reader(self._folder) as reader:
            added = read_amounts("the budget", typed.split(), RAISED)
            raise_budgets(reader, store, RunId(run), added, by=account().id)

    def write_step(self, step: StepName, path: str) -> str:
        """Write all that is on record of a step to a file that is not there yet; where that is."""
        told = self.story(step)
        target = Path(path).expanduser().absolute()
        try:
            with os.fdopen(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
                json.dump({"schema": documents.SCHEMA, **documents.story(told, payloads=True)}, file, indent=2)
                file.write("\n")
        except OSError as error:
            text = f"not written, {error.strerror}: {target}"
            raise DeskError(text) from error
        return str(target)

    def plan(self, run: str, to: int, left: Collection[int]) -> Plan:
        """How a run would come back to the state after step `to`, as things stand now; steps in `left` stay."""
        wish = cast("Callable[..., Wish]", resolve("soothsayer_mcp.cli.undoing:Wish"))(run=RunId(run), to=to, left=left)
        seen = cast("Callable[[Settings, Reader, Wish], Plan]", resolve("soothsayer_mcp.cli.undoing:seen"))
        with told_in_a_line(), Reader(self._folder) as reader:
            return seen(self._output.settings, reader, wish)

    def roll_back(self, run: str, to: int, left: Collection[int], confirmed: str) -> list[Done]:
        """Pause a run and carry out the plan whose digest was confirmed; nothing, where that is the plan no more."""
        wish = cast("Callable[..., Wish]", resolve("soothsayer_mcp.cli.undoing:Wish"))(run=RunId(run), to=to, left=left)
        carried_out = cast("Callable[..., list[Done] | None]", resolve("soothsayer_mcp.cli.undoing:carried_out"))
        with self._writing() as store:
            done = carried_out(self._output.settings, store, wish, confirmed, by=account().id)
        if done is None:
            text = "something changed since the plan was shown; nothing was undone"
            raise DeskError(text)
        return done

    def beat(self) -> None:
        """Say that somebody looks, so that calls wait for an answer."""
        with told_in_a_line():
            self._face.beat()

    # How it is asked.

    def _ask(self, ask: Callable[[Watcher], R], none: R) -> R:
        try:
            return self._must(ask)
        except DeskError as error:
            if isinstance(error.__cause__, NoTraceError):
                return none
            raise

    def _must(self, ask: Callable[[Watcher], R]) -> R:
        with told_in_a_line():
            if self._watcher is None:
                self._watcher = Watcher(self._folder)
            return ask(self._watcher)

    @contextmanager
    def _writing(self) -> Generator[SqliteStore]:
        with told_in_a_line():
            store = SqliteStore.open(self._folder, about=self._about)
            try:
                yield store
            finally:
                store.close()


@contextmanager
def told_in_a_line() -> Generator[None]:
    """Say what went wrong below in one line."""
    try:
        yield
    except OSError as error:
        text = f"the state folder cannot be written: {error.strerror}"
        raise DeskError(text) from error
    except Exception as error:
        problem = error if isinstance(error, Problem) else as_problem(error)
        if not isinstance(problem, Problem):
            raise
        text = "; ".join(part for part in (problem.text, problem.fix) if part)
        raise DeskError(text) from error
