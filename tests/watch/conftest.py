"""The screens of `watch` over real stores, driven by keys."""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from rich.segment import Segment
from textual.color import Color
from textual.pilot import Pilot
from textual.strip import Strip

from recording import PRINCIPAL, bind, opened, run
from soothsayer_mcp.adapters.store.reader import Reader
from soothsayer_mcp.adapters.store.sqlite import SqliteStore
from soothsayer_mcp.cli.options import Given, settings
from soothsayer_mcp.cli.output import Output
from soothsayer_mcp.cli.watch_desk import StateDesk
from soothsayer_mcp.console.tui.app import Watch
from soothsayer_mcp.console.tui.sheet import Lines
from soothsayer_mcp.console.tui.view import View
from soothsayer_mcp.model.ask import Ask, AskAnswer, AskState, NewAsk, Remember
from soothsayer_mcp.model.call import RunId
from soothsayer_mcp.model.json import JsonObject
from soothsayer_mcp.testing.servers import LIMIT_S
from soothsayer_mcp.trace.query import Filter

SIZES = [(80, 24), (120, 40)]


class Shown:
    """The program while it runs."""

    def __init__(self, app: Watch, pilot: "Pilot[int]") -> None:
        self.app = app
        self.pilot = pilot

    @property
    def text(self) -> str:
        """What the upmost screen shows, line by line."""
        return "\n".join(strip.text.rstrip() for strip in self.app.screen._compositor.render_strips())

    @property
    def segments(self) -> list[Segment]:
        """What the upmost screen shows, with its styles, as the terminal gets it."""
        strips = self.app.screen._compositor.render_strips()
        return [segment for strip in strips for segment in self._filtered(strip)]

    def _filtered(self, strip: Strip) -> Strip:
        for one in self.app._filters:
            if one.enabled:
                strip = strip.apply_filter(one, Color.parse("black"))
        return strip

    @property
    def footer(self) -> str:
        return self.text.split("\n")[-1]

    @property
    def view(self) -> View:
        assert self.app.view is not None
        return self.app.view

    @property
    def chosen(self) -> str:
        """The line under the cursor."""
        return next((line for line in self.text.split("\n") if line.startswith("> ")), "")

    @property
    def lines(self) -> Lines:
        return self.view.query_one(Lines)

    async def press(self, *keys: str) -> None:
        await self.pilot.press(*keys)
        await self.pilot.pause()

    async def until(self, holds: Callable[[], bool] | str) -> None:
        """Wait until something holds, or a text is seen."""
        end = time.monotonic() + LIMIT_S
        while not (holds in self.text if isinstance(holds, str) else holds()):
            if time.monotonic() > end:
                pytest.fail(f"waited in vain; seen was\n{self.text}")
            await asyncio.sleep(0.005)
            await self.pilot.pause()


def output_on(folder: Path) -> Output:
    return Output(settings(Given(values={"state": [str(folder)]}), {}))


def desk(folder: Path) -> StateDesk:
    return StateDesk(output_on(folder))


@asynccontextmanager
async def watching(
    folder: Path, mode: str = "live", *, size: tuple[int, int] = (80, 24), seen_s: float = 0.01, wanted: str = ""
) -> AsyncGenerator[Shown]:
    """The program on a state folder."""
    it = desk(folder)
    app = Watch(it, wanted=Filter(source=wanted), beat_s=5.0, interrupted=130, seen_s=seen_s, mode=mode)
    try:
        async with app.run_test(size=size) as pilot:
            shown = Shown(app, pilot)
            await shown.until(lambda: app.view is not None and not app.view._loading)
            yield shown
    finally:
        it.leave()


class Office:
    """A store in which questions are put and answered, beside the program."""

    def __init__(self, folder: Path, store: SqliteStore) -> None:
        self.folder = folder
        self.store = store
        self.run: RunId = run(lambda: bind(store))
        self._count = 0

    async def put(self, args: JsonObject | None = None, **more: object) -> str:
        """Put a question; its id."""
        self._count += 1
        name = f"{self._count:02x}" * 8
        values = {
            "rule": "look",
            "strong": False,
            "remember": Remember.RUN,
            "expires_at_us": time.time_ns() // 1000 + 600_000_000,
            "host_pid": 0,
            "does": "write",
            "tool": "send",
            **more,
        }
        card: JsonObject = {
            "server": "mail",
            "tool": str(values.pop("tool")),
            "does": [str(values.pop("does"))],
            "why": [{"rule": "look", "text": "A person looks first."}],
            "args": {"to": "ann"} if args is None else args,
            "client": "test-host",
            "run": self.run,
        }
        await self.store.asks.open(
            NewAsk(
                id=name,
                run=self.run,
                span=name,
                digest=f"{self._count:02x}" * 32,
                card=card,
                shown="5e" * 32,
                channels=("terminal",),
                **values,  # pyright: ignore[reportArgumentType] - as the caller says
            )
        )
        return name

    async def answer_elsewhere(self, name: str, state: AskState) -> None:
        told = AskAnswer(ask=name, state=state, by=PRINCIPAL, channel="terminal")
        await self.store.asks.answer(told)

    def ask(self, name: str) -> Ask:
        with Reader(self.folder) as reader:
            (found,) = reader.asks_named(name)
        return found


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Office]:
    with opened(tmp_path / "state") as store:
        yield Office(tmp_path / "state", store)
