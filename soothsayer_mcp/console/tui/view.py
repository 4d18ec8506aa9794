"""What every screen has: a line that says where one is, a line for what was said, a line of the keys that work now."""

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import Any, ClassVar, ParamSpec, TypeVar, cast

from rich.cells import cell_len
from rich.text import Text
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.screen import Screen
from textual.widgets import Static

from soothsayer_mcp.console.layout import BOLD, DIM
from soothsayer_mcp.console.render import Look
from soothsayer_mcp.console.text import cut
from soothsayer_mcp.console.tui.desk import Desk, DeskError
from soothsayer_mcp.console.tui.dialogs import KeyList
from soothsayer_mcp.trace.query import Filter

P = ParamSpec("P")
R = TypeVar("R")

TABS = (("live", "1 Live"), ("asks", "2 Asks"), ("runs", "3 Runs"))

_LAST = {"back": 1, "copy": 2, "keys": 3, "app.leave": 4}
"""What every screen has stands last."""

_NAMES = {
    "enter": "Enter",
    "escape": "Esc",
    "slash": "/",
    "question_mark": "?",
    "plus": "+",
    "pageup": "PgUp",
    "pagedown": "PgDn",
    "up": "Up",
    "down": "Down",
    "home": "Home",
    "end": "End",
    "space": "Space",
    "ctrl+c": "Ctrl-C",
}


class Program(App[int]):
    """What the screens know of the program they are part of."""

    def __init__(self, desk: Desk, *, wanted: Filter, seen_s: float) -> None:
        """`wanted` limits the steps at first; a question stands `seen_s` before a yes to it counts."""
        super().__init__()
        self.desk = desk
        self.wanted = wanted
        self.seen_s = seen_s
        self.open_asks = 0
        self.leaving = False
        """Whether it ends, so that nothing more can be asked."""
        self.reading = ThreadPoolExecutor(1, thread_name_prefix="reading")
        self.writing = ThreadPoolExecutor(1, thread_name_prefix="writing")


class _GoneError(Exception):
    """The screen was taken down while something was read for it: there is nowhere to show the answer."""


class View(Screen[None], inherit_bindings=False):
    """One screen. It loads what it shows beside the screen's thread, and shows it when it is there."""

    DEFAULT_CSS = """
    View { layout: vertical; }
    View .line { height: 1; text-wrap: nowrap; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y", "copy", "copy"),
        Binding("question_mark", "keys", "keys"),
        Binding("escape", "back", "back"),
        Binding("1", "app.show('live')", "steps as they happen", show=False),
        Binding("2", "app.show('asks')", "open questions", show=False),
        Binding("3", "app.show('runs')", "runs", show=False),
        Binding("tab", "other_part", "to the other part, to scroll there", show=False),
        Binding("q", "app.leave", "quit"),
    ]
    TAB: ClassVar[str] = ""
    """Which of the three it belongs to."""

    def __init__(self) -> None:
        """Show nothing yet."""
        super().__init__()
        self.shorts: dict[str, str] = {}
        self._said = Text()
        self._loading = False
        self._again = False
        self._covered = False
        self._drawn_lines: dict[str, Text] = {}

    def compose(self) -> ComposeResult:
        """Head, body, what was said, keys."""
        yield Static(classes="line", id="head")
        yield from self.body()
        yield Static(classes="line", id="said")
        yield Static(classes="line", id="footer")

    def body(self) -> ComposeResult:
        """What stands between head and foot."""
        raise NotImplementedError

    async def load(self) -> None:
        """Read what is shown, and show it. Raises `DeskError`."""
        raise NotImplementedError

    def tick(self) -> None:
        """A second has passed."""

    def place(self) -> str:
        """What is said in the head beside the three screens."""
        return ""

    def id_under_cursor(self) -> str:
        """The id that `y` copies; empty where there is none."""
        return ""

    # What the screens share.

    @property
    def watch_app(self) -> Program:
        """The program."""
        return cast("Program", self.app)  # pyright: ignore[reportUnknownMemberType] - textual leaves its answer open

    @property
    def desk(self) -> Desk:
        """The state folder."""
        return self.watch_app.desk

    async def read(self, ask: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Ask the desk something beside the screen's thread."""
        return await self._beside(self.watch_app.reading, ask, *args, **kwargs)

    async def write(self, tell: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Have the desk change something; it waits for no question."""
        return await self._beside(self.watch_app.writing, tell, *args, **kwargs)

    async def _beside(self, executor: Executor, ask: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        if self.children and not self.watch_app.leaving:
            answer = await asyncio.get_running_loop().run_in_executor(executor, lambda: ask(*args, **kwargs))
            if self.children:
                return answer
        raise _GoneError

    async def look(self, runs: Mapping[str, object] | set[str]) -> None:
        """Know the short ids of these runs."""
        missing = [run for run in runs if run not in self.shorts]
        if missing:
            self.shorts.update(await self.read(self.desk.shorts, missing))

    def look_for(self, width: int) -> Look:
        """How pages are laid out for a width."""
        return Look(width=width, now_us=self.desk.now_us(), short=self.shorts)

    def say(self, text: str) -> None:
        """Say something in the line above the keys, until the next key."""
        self._said = Text(cut(text, self.size.width))
        self._show_line("#said", self._said)

    def start(self, doing: Coroutine[Any, Any, None]) -> None:
        """Do something that takes a while; what goes wrong is said."""
        self.run_worker(self._reported(doing), exit_on_error=True)

    def reload(self) -> None:
        """Load again what is shown; once more when asked for meanwhile."""
        if self._loading:
            self._again = True
            return
        self._loading = True
        self.start(self._load())

    async def _load(self) -> None:
        try:
            while True:
                self._again = False
                await self.load()
                if not self._again:
                    break
        finally:
            self._loading = False
        self.draw_head()
        self.refresh_bindings()

    async def _reported(self, doing: Coroutine[Any, Any, None]) -> None:
        try:
            await doing
        except DeskError as error:
            self.say(str(error))
        except _GoneError:
            return

    # Head and foot.

    def on_mount(self) -> None:
        """Begin to load, and keep the line of keys true."""
        self.reload()

    def refresh_bindings(self) -> None:
        """What works may have changed; so the line of keys does."""
        super().refresh_bindings()
        if self.is_mounted:
            self._draw_keys()

    def on_screen_resume(self) -> None:
        """What was missed meanwhile is shown."""
        self._covered = False
        self._draw_keys()
        self.reload()

    def on_screen_suspend(self) -> None:
        """A dialog, or another screen, has the keys."""
        self._covered = True
        self._draw_keys()

    def on_resize(self) -> None:
        """Fit head and foot."""
        self.draw_head()
        self._draw_keys()

    def on_key(self) -> None:
        """What was said before is over."""
        if self._said:
            self._said = Text()
            self._show_line("#said", self._said)

    def draw_head(self) -> None:
        """Say where one is, and how many questions are open."""
        line = Text()
        asks = self.watch_app.open_asks
        for name, label in TABS:
            text = f"{label} ({asks})" if name == "asks" and asks else label
            line.append(
                f"[{text}]" if name == self.TAB else f" {text} ", style="bold reverse" if name == self.TAB else ""
            )
        line.append("  ")
        line.append(cut(self.place(), max(0, self.size.width - cell_len(line.plain))), style=DIM)
        self._show_line("#head", line)

    def _draw_keys(self) -> None:
        line = Text()
        # Below a dialog no key of the screen works; the dialog says which do.
        for name, does in () if self._covered else self._keys(shown_only=True):
            text = Text.assemble((name, BOLD), f" {does}")
            if cell_len(line.plain) + cell_len(text.plain) + 2 > self.size.width:
                break
            line.append("  " if line else "").append_text(text)
        self._show_line("#footer", line)

    def _keys(self, *, shown_only: bool) -> list[tuple[str, str]]:
        """The keys that work now, a row for each thing they do."""
        names: dict[str, tuple[list[str], str]] = {}
        hidden: set[str] = set()
        for key, active in self.active_bindings.items():
            binding = active.binding
            if not active.enabled or not binding.description or (shown_only and not binding.show):
                continue
            held = names.setdefault(binding.action, ([], binding.description))
            held[0].append(_NAMES.get(key, key))
            if not binding.show:
                hidden.add(binding.action)
        ordered = sorted(names, key=lambda action: (action in hidden, _LAST.get(action, 0)))
        rows = (names[action] for action in ordered)
        return [(keys[0] if shown_only else " ".join(keys), does) for keys, does in rows]

    def _show_line(self, selector: str, line: Text) -> None:
        if self._drawn_lines.get(selector) == line:
            return
        for widget in self.query(selector).results(Static):
            # One line stays one line: nothing has to be laid out again.
            widget.update(line, layout=False)
            self._drawn_lines[selector] = line

    # Keys of every screen.

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:  # noqa: ARG002 - textual's signature
        """Only what works now is offered."""
        if action == "back":
            return len(self.watch_app.screen_stack) > 1
        if action == "copy":
            return bool(self.id_under_cursor())
        if action == "other_part":
            return len(self.focus_chain) > 1
        return True

    def action_back(self) -> None:
        """Back to the screen before."""
        self.watch_app.pop_screen()

    def action_other_part(self) -> None:
        """Give the keys to the other part of the screen."""
        self.focus_next()

    def action_copy(self) -> None:
        """Copy the id under the cursor, where the terminal takes it."""
        name = self.id_under_cursor()
        self.watch_app.copy_to_clipboard(name)
        self.say(f"copied {name}")

    def action_keys(self) -> None:
        """List the keys that work now."""
        self.watch_app.push_screen(KeyList(self._keys(shown_only=False)))
