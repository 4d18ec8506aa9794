"""How tests run a command line and what came of it."""

import os
import pty
import selectors
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import warm
from soothsayer_mcp.testing.hosts import Child
from soothsayer_mcp.testing.servers import LIMIT_S


@dataclass(frozen=True)
class Ended:
    """What a command left behind."""

    code: int
    out: str
    err: str


Soothsayer = Callable[..., Ended]


class Cold:
    """Whether commands start from nothing, in interpreters of their own; set for each test."""

    now = False


def soothsayer(*words: str | Path, cwd: Path | None = None, env: Mapping[str, str] | None = None) -> Ended:
    """Run a command as somebody does at another terminal: in a process of its own, which belongs to no host of ours."""
    argv, environ = [str(word) for word in words], dict(os.environ if env is None else env)
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err, Path(os.devnull).open("rb") as nothing:
        streams = [nothing.fileno(), out.fileno(), err.fileno()]
        started = start(argv, streams, cwd=cwd, env=environ)
        try:
            code = started.wait(LIMIT_S)
        finally:
            started.kill()
        return Ended(code=code, out=_all_of(out), err=_all_of(err))


def start(
    argv: Sequence[str],
    streams: Sequence[int],
    *,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    kind: str = warm.PEOPLE,
) -> Child:
    """Start a command on these streams, as somebody does at another terminal."""
    environ = os.environ if env is None else env
    fresh = Cold.now or not warm.may_be_forked(environ)
    return warm.forge(kind).start(argv, cwd, environ, streams, fresh=fresh)


def begin(*words: str | Path) -> Child:
    """Start a command that somebody may put an end to; what it says is not heard."""
    with Path(os.devnull).open("r+b", buffering=0) as nothing:
        return start([str(word) for word in words], [nothing.fileno()] * 3)


def at_a_terminal(keys: str, *words: str | Path, cwd: Path | None = None) -> tuple[int, str]:
    """Run a command as somebody does who sits before it and types; how it ended, and what was seen."""
    ours, theirs = pty.openpty()
    try:
        started = start([str(word) for word in words], [theirs] * 3, cwd=cwd)
        os.close(theirs)
        os.write(ours, keys.encode())
        seen = _seen(ours)
        return started.wait(LIMIT_S), seen
    finally:
        os.close(ours)


def _seen(terminal: int) -> str:
    """Everything that a terminal shows until nobody writes to it any more."""
    text, end = b"", time.monotonic() + LIMIT_S
    with selectors.DefaultSelector() as waiting:
        waiting.register(terminal, selectors.EVENT_READ)
        while time.monotonic() < end:
            if not waiting.select(end - time.monotonic()):
                break
            try:
                text += os.read(terminal, 65536)
            except OSError:  # nobody has it open any more
                return text.decode()
    raise TimeoutError(f"a command goes on, after\n{text.decode()}")


def _all_of(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode()
