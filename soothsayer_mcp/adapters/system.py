"""The machine we run on: time, randomness, folders, links, the account. It serves before there is an event loop."""

import os
import signal
import stat
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Final, NoReturn, cast

from soothsayer_mcp.adapters.lazy import resolve
from soothsayer_mcp.model.call import Principal, StepId
from soothsayer_mcp.model.facts import Facts

if sys.platform != "win32":
    import pwd

PROGRAM: Final = "soothsayer"
"""What our folders are called."""

IDS_AT_ONCE: Final = 256
"""How many ids are fetched at once."""

LOOKS_MAX: Final = 1_000
"""Paths that are looked up for one decision; further ones stay unknown."""

PATH_MAX: Final = 4_096
"""The longest path that is looked up."""

ENDING: Final = tuple(number for number in signal.Signals if number.name in {"SIGTERM", "SIGINT", "SIGHUP", "SIGBREAK"})
"""The signals that ask us to end."""


class SystemClock:
    """The time of this machine."""

    def now_us(self) -> int:
        """Microseconds since 1970, UTC."""
        return time.time_ns() // 1_000

    def monotonic_ns(self) -> int:
        """Nanoseconds, for durations only."""
        return time.monotonic_ns()


class RandomIds:
    """Ids from the system's randomness, fetched for many at once; a fork repeats none."""

    def __init__(self) -> None:
        """Fetch nothing yet."""
        self._stock: list[str] = []
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._stock.clear)

    def step(self) -> StepId:
        """A fresh step id."""
        return StepId(self.token())

    def token(self) -> str:
        """16 fresh lower-case hex digits."""
        try:
            return self._stock.pop()
        except IndexError:
            # Each call of the system lets go of the interpreter, and beside a busy thread waits to have it back: for
            # one id at a time that took 40 us of a governed call.
            fetched = os.urandom(8 * IDS_AT_ONCE).hex()
            self._stock += [fetched[at : at + 16] for at in range(16, len(fetched), 16)]
            return fetched[:16]


def state_folder(given: str | None, *, configured: str | None = None, environ: Mapping[str, str] = os.environ) -> Path:
    """Choose where trace and state lie: `--state`, `SOOTHSAYER_STATE`, the configuration, else the system's place."""
    for chosen in (given, environ.get("SOOTHSAYER_STATE"), configured):
        if chosen:
            return Path(chosen).expanduser().absolute()
    place = cast("Callable[..., Path]", resolve("platformdirs:user_state_path"))
    return place(PROGRAM, appauthor=False)


def config_folder() -> Path:
    """Tell where a person keeps a configuration that no option names."""
    place = cast("Callable[..., Path]", resolve("platformdirs:user_config_path"))
    return place(PROGRAM, appauthor=False)


def account() -> Principal:
    """The operating system's account that we run as, whatever the environment says of it."""
    return Principal(id=f"os:{_account_name()}", how="os_account")


def _account_name() -> str:
    if sys.platform == "win32":
        return os.getlogin()
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # a container that runs under a number without a name
        return str(os.getuid())


def look(paths: Sequence[str]) -> Facts:
    """Follow the links of paths up to their nearest existing parent; what cannot be followed is absent."""
    links: dict[str, str] = {}
    for path in paths[:LOOKS_MAX]:
        target = _followed(path)
        if target is not None:
            links[path] = target
    return Facts(links=links)


def _followed(path: str) -> str | None:
    if len(path) > PATH_MAX or not os.path.isabs(path):  # noqa: PTH117 - text is asked for and text is returned
        return None
    try:
        target = os.path.realpath(path)
        here = target
        while True:
            try:
                found = os.lstat(here)
            except (FileNotFoundError, NotADirectoryError):
                above = os.path.dirname(here)  # noqa: PTH120 - the same
                if above == here:
                    return None
                here = above
                continue
            # A link that is still there was not followed: it leads to itself.
            return None if stat.S_ISLNK(found.st_mode) else target
    except (OSError, ValueError):  # no permission to look; a zero byte; too long
        return None


def exit_on_signals() -> None:
    """Let the signals that ask us to end do so in order, before an event loop is there to hear of them.

    Without this the system ends us on the spot and servers that were started already stay behind.
    """

    def leave(number: int, _frame: FrameType | None) -> NoReturn:
        sys.exit(128 + number)

    for number in ENDING:
        signal.signal(number, leave)
