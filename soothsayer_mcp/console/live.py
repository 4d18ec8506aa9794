"""What moves on a terminal: a bar for long work, on standard error, gone when the work is done."""

import time
from contextlib import AbstractContextManager
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

AFTER_S = 0.5
"""Work that is done sooner shows no bar."""


class Bar(AbstractContextManager["Bar"]):
    """A progress bar with the rate and the time left; nothing at all where `shown` is false."""

    def __init__(self, title: str, *, shown: bool) -> None:
        """Get ready; the bar appears with the first step after half a second."""
        self._shown = shown
        self._began = time.monotonic()
        self._bar: Progress | None = None
        self._title = title

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.stop()

    def step(self, done: int, total: int) -> None:
        """Show how far the work is."""
        spent_s = time.monotonic() - self._began
        if not self._shown or spent_s < AFTER_S:
            return
        if self._bar is None:
            self._bar = Progress(
                TextColumn("{task.description}", markup=False),
                BarColumn(),
                TaskProgressColumn(),
                TextColumn("{task.fields[rate]}", markup=False),
                TimeRemainingColumn(compact=True),
                console=Console(stderr=True, highlight=False),
                transient=True,
            )
            self._bar.add_task(self._title, total=total, rate="")
            self._bar.start()
        self._bar.update(self._bar.task_ids[0], completed=done, total=total, rate=f"{done / spent_s:,.0f}/s")
