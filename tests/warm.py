"""Proxies forked from a process that has imported them: a tenth of the processor time of a fresh interpreter.

What runs is a process of its own with its own session, pipes, folder and environment; it was only spared the imports.
What a test says of imports, of the start itself or of an installed command is marked `cold` and pays for all of it.
"""

import atexit
import contextlib
import gc
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Final

from soothsayer_mcp.testing.hosts import Child, start_fresh

WARMED: Final = ("soothsayer_mcp.cli.wiring", "soothsayer_mcp.cli.proxy", "soothsayer_mcp.adapters.policy_files.gather")
COMMANDS: Final = (
    (sys.executable, "-m", "soothsayer_mcp", "proxy"),
    (str(Path(sys.executable).with_name("soothsayer")), "proxy"),
)
OF_THE_START: Final = ("PYTHON", "LC_", "LANG")
"""Variables that mean something only to an interpreter that starts."""
MOST: Final = 1 << 20
HOLDS: Final = 4


class Forked:
    """A forked proxy, with as much of `subprocess.Popen` as hosts use."""

    def __init__(self, told: socket.socket, pipes: tuple[int, int, int]) -> None:
        self.stdin: IO[bytes] | None = os.fdopen(pipes[0], "wb")
        self.stdout: IO[bytes] | None = os.fdopen(pipes[1], "rb")
        self.stderr: IO[bytes] | None = os.fdopen(pipes[2], "rb")
        self._told = told
        self.returncode: int | None = None
        self.pid = int(told.recv(32))

    def poll(self) -> int | None:
        """Tell how it ended; `None` while it runs."""
        return self._ended(0)

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end."""
        code = self._ended(timeout)
        if code is None:
            raise subprocess.TimeoutExpired("proxy", timeout or 0.0)
        return code

    def send_signal(self, sig: int) -> None:
        """Send it a signal, unless it is known to have ended."""
        if self.poll() is None:
            os.kill(self.pid, sig)

    def kill(self) -> None:
        """Kill it."""
        self.send_signal(signal.SIGKILL)

    def _ended(self, timeout: float | None) -> int | None:
        if self.returncode is None:
            self._told.settimeout(timeout)
            try:
                said = self._told.recv(32)
            except (BlockingIOError, TimeoutError):
                return None
            assert said, "the process that proxies are forked from has ended"
            self.returncode = os.waitstatus_to_exitcode(int(said))
            self._told.close()
        return self.returncode


class Forge:
    """The process that proxies are forked from; it ends with whoever made it."""

    def __init__(self) -> None:
        self._line, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        words = [sys.executable, __file__, str(theirs.fileno())]
        self.process = subprocess.Popen(
            words, stdin=subprocess.DEVNULL, pass_fds=[theirs.fileno()], start_new_session=True
        )
        theirs.close()
        atexit.register(self.close)

    def close(self) -> None:
        """Have it end."""
        self._line.close()
        self.process.wait(30)

    def start(self, words: Sequence[str], cwd: Path | None, env: Mapping[str, str]) -> Forked:
        """Start a proxy with these words."""
        told, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        pipes = [os.pipe() for _ in range(3)]
        (their_in, our_in), (our_out, their_out), (our_err, their_err) = pipes
        given = [their_in, their_out, their_err, theirs.fileno()]
        said = json.dumps({"words": [*words], "cwd": str(cwd or Path.cwd()), "env": dict(env)}).encode()
        try:
            socket.send_fds(self._line, [said], given)
        finally:
            for descriptor in given[:-1]:
                os.close(descriptor)
            theirs.close()
        return Forked(told, (our_in, our_out, our_err))


_forges: dict[int, Forge] = {}


def start(command: Sequence[str], *, cwd: Path | None, env: Mapping[str, str] | None) -> Child:
    """Start a command: forked, where it is a proxy like all others, else as everything is started."""
    environ = dict(os.environ if env is None else env)
    for known in COMMANDS:
        if tuple(command[: len(known)]) == known and _of_the_start(environ) == _of_the_start(os.environ):
            forge = _forges.get(os.getpid())
            if forge is None or forge.process.poll() is not None:
                forge = _forges[os.getpid()] = Forge()
            return forge.start(command[len(known) - 1 :], cwd, environ)
    return start_fresh(command, cwd=cwd, env=env)


def _of_the_start(environ: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environ.items() if name.startswith(OF_THE_START)}


def _serve(line: socket.socket) -> list[str]:
    """Fork whenever asked. Returns in each child, with its words; ends with whoever asks."""
    waking, rung = socket.socketpair()
    rung.settimeout(0)
    signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
    signal.set_wakeup_fd(rung.fileno(), warn_on_full_buffer=False)
    running: dict[int, socket.socket] = {}
    chosen = selectors.DefaultSelector()
    chosen.register(line, selectors.EVENT_READ)
    chosen.register(waking, selectors.EVENT_READ)
    while True:
        for key, _ in chosen.select():
            if key.fileobj is waking:
                waking.recv(4096)
                _reap(running)
                continue
            said, given, _, _ = socket.recv_fds(line, MOST, HOLDS)
            if not said:
                os._exit(0)
            told = socket.socket(fileno=given[3])
            pid = os.fork()
            if not pid:
                signal.set_wakeup_fd(-1)
                return _become(json.loads(said), given, told)
            running[pid] = told
            for descriptor in given[:3]:
                os.close(descriptor)


def _reap(running: dict[int, socket.socket]) -> None:
    while running:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if not pid:
            return
        told = running.pop(pid)
        with contextlib.suppress(OSError), told:  # mostly somebody waits for it
            told.send(str(status).encode())


def _become(said: dict[str, object], given: list[int], told: socket.socket) -> list[str]:
    """Take on everything that a process is given when it starts."""
    os.setsid()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    told.send(str(os.getpid()).encode())
    for target, descriptor in enumerate(given[:3]):
        os.dup2(descriptor, target)
    told.detach()
    os.closerange(3, 1024)
    os.chdir(str(said["cwd"]))
    os.environ.clear()
    os.environ.update(said["env"])  # type: ignore[arg-type]
    time.tzset()
    sys.path[0] = str(said["cwd"])
    return list(said["words"])  # type: ignore[call-overload]


if __name__ == "__main__":
    import importlib

    for _name in WARMED:
        importlib.import_module(_name)
    from soothsayer_mcp.__main__ import run

    gc.freeze()
    sys.exit(run(_serve(socket.socket(fileno=int(sys.argv[1])))))
