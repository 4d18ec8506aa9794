"""Starts a tool server in a process group of its own. No event loop here: a server boots while the rest still loads.

What a child sees of our environment is a short list and what its entry names; nothing else is inherited.
"""

import atexit
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import field
from typing import Final

from soothsayer_mcp.model.failure import Acted, Reason
from soothsayer_mcp.model.value import dataclass
from soothsayer_mcp.ports import PortError

if sys.platform == "win32":
    from soothsayer_mcp.adapters.windows_job import Job

BASE_ENVIRONMENT: Final = frozenset(
    {"APPDATA", "COMSPEC", "HOMEDRIVE", "HOMEPATH", "LOCALAPPDATA", "NUMBER_OF_PROCESSORS", "OS", "PATH", "PATHEXT"}
    | {"PROCESSOR_ARCHITECTURE", "PROGRAMDATA", "PROGRAMFILES", "PROGRAMFILES(X86)", "SYSTEMDRIVE", "SYSTEMROOT"}
    | {"TEMP", "TMP", "USERNAME", "USERPROFILE", "WINDIR"}
    if sys.platform == "win32"
    else {"HOME", "LANG", "LOGNAME", "PATH", "SHELL", "TERM", "TMPDIR", "TZ", "USER"}
)
"""The variables of ours that every child sees; on POSIX those that begin with `LC_` as well."""

INPUT_END_S: Final = 1.0
"""How long a server has to end by itself once its input has ended."""

TERM_S: Final = 0.5
"""How long a process group has after it was asked to end."""

WORDS_KEPT: Final = 20
"""How many of its last lines on standard error are kept."""

WORD_MAX: Final = 500
"""The longest line that is kept or shown of them; what a server writes without a line end is cut there too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """How one server is started."""

    name: str
    argv: tuple[str, ...]
    cwd: str | None = None
    env: Mapping[str, str] = field(default_factory=dict[str, str])
    pass_env: tuple[str, ...] = ()
    """Names of variables that are handed on from our own environment, if they are set."""
    unsafe_pass_all_env: bool = False
    label_stderr: bool = False
    """Whether each line of its standard error is shown under the server's name."""

    def environment(self, ours: Mapping[str, str]) -> dict[str, str]:
        """Choose what the server sees of our environment, and add what its entry sets."""
        named = frozenset(self.pass_env)
        chosen = {name: value for name, value in ours.items() if self.unsafe_pass_all_env or _passes(name, named)}
        return chosen | dict(self.env)


def _passes(name: str, named: frozenset[str]) -> bool:
    if sys.platform == "win32":
        return name.upper() in BASE_ENVIRONMENT or name.upper() in {each.upper() for each in named}
    return name in BASE_ENVIRONMENT or name in named or name.startswith("LC_")


class Child:
    """A started server: its process, its two pipes, and what it last said on standard error."""

    def __init__(self, launch: Launch, process: "subprocess.Popen[bytes]", stdin_fd: int, stdout_fd: int) -> None:
        """Watch over a process that was just started as the leader of a group."""
        self.name = launch.name
        self.argv = launch.argv
        self.pid = process.pid
        self.stdin_fd = stdin_fd
        self.stdout_fd = stdout_fd
        self._process = process
        self._words: deque[str] = deque(maxlen=WORDS_KEPT)
        self._quiet = threading.Event()
        self.when_forgotten: Callable[[], None] = _nothing
        """Called once the whole group has ended."""
        if sys.platform == "win32":
            self._job = Job(process)

    @property
    def process(self) -> "subprocess.Popen[bytes]":
        """The leader of the group."""
        return self._process

    @property
    def last_words(self) -> str:
        """The last lines of standard error, control characters shown as escapes."""
        return "\n".join(self._words)

    def heard(self, line: str) -> None:
        """Keep a line of standard error."""
        self._words.append(line)

    def said_all(self) -> None:
        """Take note that standard error has ended."""
        self._quiet.set()

    def wait_for_words(self, timeout_s: float) -> None:
        """Wait until standard error has ended, so that the last words are the last."""
        self._quiet.wait(timeout_s)

    def ended(self) -> int | None:
        """The exit code, negative for a signal, once the leader has ended; reaps it."""
        return self._process.poll()

    def describe_end(self) -> str:
        """A phrase that follows the server's name."""
        code = self.ended()
        if code is None:
            return "closed its output"
        if code < 0:
            return f"was ended by {_signal_name(-code)}"
        return f"exited with code {code}"

    def group_lives(self) -> bool:
        """Whether any process of the group is left, the leader included."""
        return self.signal_group(0)

    def ask_to_end(self) -> None:
        """Ask the whole group to end."""
        if sys.platform == "win32":
            with contextlib.suppress(OSError):
                self._process.send_signal(signal.CTRL_BREAK_EVENT)
        else:
            self.signal_group(signal.SIGTERM)

    def kill(self) -> None:
        """End the whole group."""
        if sys.platform == "win32":
            self._job.close()
            with contextlib.suppress(OSError):
                self._process.kill()
        else:
            self.signal_group(signal.SIGKILL)

    def signal_group(self, number: int) -> bool:
        """Send a signal to the group; false when none of it is left."""
        if sys.platform == "win32":
            return self.ended() is None
        self.ended()  # a dead leader that is not reaped still counts as a member
        try:
            os.killpg(self.pid, number)
        except (ProcessLookupError, PermissionError):  # macOS: EPERM when only dead members are left
            return False
        return True

    def forget(self) -> None:
        """The group has ended: nothing is left to do when we end."""
        _alive.discard(self)
        self.when_forgotten()


def _nothing() -> None:
    """Nobody keeps a note of it."""


_alive: set[Child] = set()


def launch(how: Launch) -> Child:
    """Start a server now.

    Raises `PortError` (`server_unreachable`, acted no) with the cause and how to mend it.
    """
    env = how.environment(os.environ)
    argv = (_executable(how, env), *how.argv[1:])
    child_in, stdin_fd = os.pipe()
    stdout_fd, child_out = os.pipe()
    words_fd, child_err = os.pipe()
    theirs, ours = (child_in, child_out, child_err), (stdin_fd, stdout_fd, words_fd)
    try:
        process = _start(argv, how.cwd, env, theirs)
    except OSError as error:
        for fd in ours:
            os.close(fd)
        raise _unreachable(how, _why_not(how, argv[0], error)) from error
    finally:
        for fd in theirs:
            os.close(fd)
    child = Child(how, process, stdin_fd, stdout_fd)
    _alive.add(child)
    prefix = f"[{printable(how.name)}] " if how.label_stderr else ""
    threading.Thread(target=_pump_words, args=(child, words_fd, prefix), name="words", daemon=True).start()
    return child


def _start(
    argv: tuple[str, ...], cwd: str | None, env: Mapping[str, str], fds: tuple[int, int, int]
) -> "subprocess.Popen[bytes]":
    child_in, child_out, child_err = fds
    if sys.platform == "win32":
        flags = subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.CREATE_NO_WINDOW
        return subprocess.Popen(  # noqa: S603 - starting the operator's own command is the purpose
            argv, stdin=child_in, stdout=child_out, stderr=child_err, cwd=cwd, env=env, creationflags=flags
        )
    return subprocess.Popen(  # noqa: S603 - starting the operator's own command is the purpose
        argv, stdin=child_in, stdout=child_out, stderr=child_err, cwd=cwd, env=env, start_new_session=True
    )


def _executable(how: Launch, env: Mapping[str, str]) -> str:
    """Find the command in the child's own PATH, as the child would."""
    command = how.argv[0]
    if os.path.dirname(command):  # noqa: PTH120 - the command as it is written decides, not a path made of it
        return command
    found = shutil.which(command, path=env.get("PATH", os.defpath))
    if found is not None:
        return found
    raise _unreachable(
        how,
        f"its command `{printable(command)}` is not on PATH ({printable(env.get('PATH', os.defpath))}). "
        f"Give its full path, or set PATH under `env`: hosts started from a desktop have a short one",
    )


def _why_not(how: Launch, path: str, error: OSError) -> str:
    shown = printable(path)
    if how.cwd is not None and not os.path.isdir(how.cwd):  # noqa: PTH112 - a question about text, asked once
        return f"its folder {printable(how.cwd)} is not there: mend `cwd`"
    if isinstance(error, FileNotFoundError):
        if os.path.exists(os.path.join(how.cwd or "", path)):  # noqa: PTH110, PTH118 - the same
            return f"{shown} is there, but the interpreter that its first line names is not"
        return f"its command {shown} is not there: mend `command`"
    if isinstance(error, PermissionError):
        if os.path.isdir(os.path.join(how.cwd or "", path)):  # noqa: PTH112, PTH118 - the same
            return f"its command {shown} is a folder: name the program in it"
        return f"its command {shown} may not be run: check its permissions"
    return f"its command {shown} could not be started ({error.strerror})"


def _unreachable(how: Launch, why: str) -> PortError:
    return PortError(
        Reason.SERVER_UNREACHABLE, f"server {printable(how.name)} could not be started: {why}", acted=Acted.NO
    )


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _pump_words(child: Child, fd: int, prefix: str) -> None:
    """Show what a server writes on standard error on ours, line by line, and keep the last of it.

    A thread, because our own standard error may block: a host that does not read it then stops the server's
    chatter, as it would without us, and nothing else.
    """
    pending = b""
    while True:
        try:
            chunk = os.read(fd, 64 * 1024)
        except OSError:
            chunk = b""
        *lines, pending = (pending + chunk).split(b"\n") if chunk else (pending, b"")
        while len(pending) > WORD_MAX:
            lines.append(pending[:WORD_MAX])
            pending = pending[WORD_MAX:]
        words = [printable(line.rstrip(b"\r").decode("utf-8", "replace")) for line in lines if line]
        for word in words:
            child.heard(word[:WORD_MAX])
        if words:
            shown = "".join(f"{prefix}{word}\n" for word in words)
            with contextlib.suppress(OSError):
                _write_all(2, shown.encode())
        if not chunk:
            break
    os.close(fd)
    child.said_all()


def _write_all(fd: int, raw: bytes) -> None:
    while raw:
        raw = raw[os.write(fd, raw) :]


def printable(text: str) -> str:
    """Show text on one line, control and invisible characters as escapes: a server may not move our cursor."""
    if text.isprintable():
        return text
    return "".join(
        each if each.isprintable() or each == "\t" else each.encode("unicode_escape").decode() for each in text
    )


@atexit.register
def _end_all() -> None:
    """End what is left when we end in any way that is not the ordinary one."""
    for child in _alive:
        with contextlib.suppress(OSError):
            child.ask_to_end()
    deadline = time.monotonic() + TERM_S
    for child in _alive:
        while child.group_lives() and time.monotonic() < deadline:
            time.sleep(0.01)
        child.kill()
