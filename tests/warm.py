"""Programs forked from a process that has imported them: a tenth of the processor time of a fresh interpreter.

What runs is a process of its own with its own session, pipes, folder and environment; it was only spared the imports.
What a test says of imports, of the start itself or of an installed command is marked `cold` and pays for all of it.

Proxies descend from the test, as from a host. What people type does not: it is answered from another terminal.
"""

import atexit
import contextlib
import fcntl
import gc
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import termios
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Final

from soothsayer_mcp.testing.hosts import Child, start_fresh

PROXY: Final = "proxy"
REMOTE: Final = "remote"
PEOPLE: Final = "people"
PAGES: Final = "pages"
_PROXIES: Final = ("cli.wiring", "cli.proxy", "adapters.policy_files.gather")
_COMMANDS: Final = (*_PROXIES, "cli.undoing", "cli.always", "cli.at_once", "cli.policy", "console.explanation")
WARMED: Final[Mapping[str, tuple[str, ...]]] = {
    PROXY: _PROXIES,
    REMOTE: (*_PROXIES, "adapters.http_client"),
    PEOPLE: _COMMANDS,
    PAGES: (*_COMMANDS, "web.serve", "web.app", "web.access"),
}
"""What each kind has imported beside the commands of the table; these go without those of which others see much."""
LEFT_OUT: Final = ("demo", "watch")
OF_HOSTS: Final = (PROXY, REMOTE)
COMMANDS: Final = (
    (sys.executable, "-m", "soothsayer_mcp", "proxy"),
    (str(Path(sys.executable).with_name("soothsayer")), "proxy"),
)
OF_THE_START: Final = ("PYTHON", "LC_", "LANG")
"""Variables that mean something only to an interpreter that starts."""
MOST: Final = 1 << 20
HOLDS: Final = 4


class Forked:
    """A forked program, with as much of `subprocess.Popen` as hosts use."""

    def __init__(self, told: socket.socket, pipes: tuple[int, int, int] | None) -> None:
        self.stdin: IO[bytes] | None = os.fdopen(pipes[0], "wb") if pipes else None
        self.stdout: IO[bytes] | None = os.fdopen(pipes[1], "rb") if pipes else None
        self.stderr: IO[bytes] | None = os.fdopen(pipes[2], "rb") if pipes else None
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
            raise subprocess.TimeoutExpired("soothsayer", timeout or 0.0)
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
            assert said, "the process that it was forked from has ended"
            self.returncode = os.waitstatus_to_exitcode(int(said))
            self._told.close()
        return self.returncode


class Forge:
    """The process that programs of one kind are forked from; it ends with whoever made it."""

    def __init__(self, kind: str) -> None:
        self._line, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        words = [sys.executable, __file__, kind, str(theirs.fileno())]
        self.process = subprocess.Popen(
            words, stdin=subprocess.DEVNULL, pass_fds=[theirs.fileno()], start_new_session=True
        )
        theirs.close()
        atexit.register(self.close)

    @property
    def lives(self) -> bool:
        """Whether it is still there."""
        try:
            return self._line.recv(1, socket.MSG_DONTWAIT | socket.MSG_PEEK) != b""
        except BlockingIOError:
            return True  # it never says anything
        except OSError:
            return False

    def close(self) -> None:
        """Have it end."""
        self._line.close()
        self.process.wait(30)

    def start(
        self,
        words: Sequence[str],
        cwd: Path | None,
        env: Mapping[str, str],
        streams: Sequence[int] = (),
        *,
        fresh: bool = False,
    ) -> Forked:
        """Start a program with these words, on these three streams or on pipes; a fresh one in an interpreter anew."""
        told, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        pipes = [] if streams else [os.pipe() for _ in range(3)]
        ours: tuple[int, int, int] | None = None
        if pipes:
            (their_in, our_in), (our_out, their_out), (our_err, their_err) = pipes
            streams, ours = (their_in, their_out, their_err), (our_in, our_out, our_err)
        wanted = {"words": [*words], "cwd": str(cwd or Path.cwd()), "env": dict(env), "fresh": fresh}
        said = json.dumps(wanted).encode()
        try:
            socket.send_fds(self._line, [said], [*streams, theirs.fileno()])
        finally:
            if pipes:
                for descriptor in streams:
                    os.close(descriptor)
            theirs.close()
        return Forked(told, ours)


_forges: dict[tuple[int, str], Forge] = {}


def forge(kind: str) -> Forge:
    """The process that programs of this kind are forked from."""
    mine = (os.getpid(), kind)
    if mine not in _forges or not _forges[mine].lives:
        _forges[mine] = Forge(kind)
    return _forges[mine]


def may_be_forked(environ: Mapping[str, str]) -> bool:
    """Whether a program with this environment starts as one that was forked would."""
    return _of_the_start(environ) == _of_the_start(os.environ)


def start(command: Sequence[str], *, cwd: Path | None, env: Mapping[str, str] | None) -> Child:
    """Start a command: forked, where it is a proxy like all others, else as everything is started."""
    environ = dict(os.environ if env is None else env)
    for known in COMMANDS:
        if tuple(command[: len(known)]) == known and may_be_forked(environ):
            return forge(REMOTE if "--url" in command else PROXY).start(command[len(known) - 1 :], cwd, environ)
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
                # Not only their descriptors: what is collected later closes whatever has its number by then.
                chosen.close()
                for ours in (line, waking, rung, *running.values()):
                    ours.close()
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
    words: list[str] = list(said["words"])  # type: ignore[call-overload]
    sys.argv[1:] = words
    if os.isatty(0):
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    if said["fresh"]:
        os.execve(sys.executable, [sys.executable, "-m", "soothsayer_mcp", *words], os.environ)
    sys.stdout.reconfigure(line_buffering=os.isatty(1))  # type: ignore[union-attr]
    return words


def _leave() -> None:
    """Have another process go on, which descends from nobody."""
    if os.fork():
        os._exit(0)
    os.setsid()


if __name__ == "__main__":
    import importlib

    from soothsayer_mcp.__main__ import run
    from soothsayer_mcp.cli.table import COMMANDS as ROWS

    _kind, _line = sys.argv[1:3]
    _rows = [row.runs.partition(":")[0] for row in ROWS if row.words not in LEFT_OUT and _kind not in OF_HOSTS]
    if _kind not in OF_HOSTS:
        _leave()
    for _name in (*_rows, *(f"soothsayer_mcp.{name}" for name in WARMED[_kind])):
        importlib.import_module(_name)
    gc.freeze()
    sys.exit(run(_serve(socket.socket(fileno=int(_line)))))
