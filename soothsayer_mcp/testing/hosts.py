"""A host that writes literal lines to a command and reads literal lines back, each wait bounded."""

import contextlib
import json
import os
import queue
import signal
import subprocess
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, ClassVar, Final, Protocol, Self

from soothsayer_mcp.model.call import RequestId
from soothsayer_mcp.model.json import Json, JsonObject, compact
from soothsayer_mcp.wire import eras

LIMIT_S: Final = 60.0
"""How long anything here waits at most, when nothing else is said."""

LAST_WORDS_S: Final = 10.0
"""How long the rest of standard error is waited for: something that outlives the command may hold it open."""

STATELESS_META: Final[JsonObject] = {
    eras.META_PROTOCOL_VERSION: eras.STATELESS_VERSION,
    eras.META_CLIENT_CAPABILITIES: {},
    eras.META_CLIENT_INFO: {"name": "raw", "version": "1"},
}
"""What a request of the stateless era carries in `_meta`."""


class EndedError(Exception):
    """The command closed its output while more was expected; the text has what it said on standard error."""


class Child(Protocol):
    """As much of `subprocess.Popen` as is used."""

    pid: int
    stdin: IO[bytes] | None
    stdout: IO[bytes] | None
    stderr: IO[bytes] | None

    def poll(self) -> int | None:
        """Tell how it ended; `None` while it runs."""
        ...

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end. Raises `subprocess.TimeoutExpired`."""
        ...

    def send_signal(self, sig: int) -> None:
        """Send it a signal, unless it is known to have ended."""
        ...

    def kill(self) -> None:
        """Kill it."""
        ...


class Start(Protocol):
    """Starts a command with pipes for its streams, in a session of its own."""

    def __call__(self, command: Sequence[str], *, cwd: Path | None, env: Mapping[str, str] | None) -> Child:
        """Start it in a folder, with this as its whole environment, or the present one when `None`."""
        ...


def start_fresh(command: Sequence[str], *, cwd: Path | None, env: Mapping[str, str] | None) -> Child:
    """Start a command as everything is started, in a group of its own, so that nothing it started outlives `close`."""
    pipe = subprocess.PIPE
    return subprocess.Popen(  # noqa: S603 - the command is the test's own
        command, stdin=pipe, stdout=pipe, stderr=pipe, cwd=cwd, env=env, start_new_session=True
    )


class RawHost:
    """One connection to a command over its standard input and output."""

    start: ClassVar[Start] = staticmethod(start_fresh)
    """How commands are started; a suite may have a cheaper way."""

    def __init__(
        self, command: Sequence[str | Path], *, cwd: Path | None = None, env: Mapping[str, str] | None = None
    ) -> None:
        """Start the command; `env` is its whole environment, or the present one when `None`."""
        self._child = self.start([str(word) for word in command], cwd=cwd, env=env)
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        assert self._child.stderr is not None
        self._stdin, self._stdout, self._stderr = self._child.stdin, self._child.stdout, self._child.stderr
        self._lines: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._ended = False
        self._said = bytearray()
        self._last_id = 0
        self.aside: deque[bytes] = deque()
        """Lines that came while something else was waited for, oldest first."""
        self._reading = threading.Thread(target=self._read_lines, daemon=True)
        self._words = threading.Thread(target=self._read_words, daemon=True)
        self._reading.start()
        self._words.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # What goes in.

    def write(self, content: bytes) -> None:
        """Write these bytes and nothing else."""
        self._stdin.write(content)
        self._stdin.flush()

    def send(self, line: bytes | str | JsonObject) -> None:
        """Write one line: literally, or a message in its shortest spelling."""
        if isinstance(line, str):
            line = line.encode()
        self.write((line if isinstance(line, bytes) else compact(line)) + b"\n")

    def end_input(self) -> None:
        """Close the command's input."""
        self._stdin.close()

    def signal(self, number: int) -> None:
        """Send a signal to the command alone."""
        self._child.send_signal(number)

    # What comes out.

    def line(self, limit_s: float = LIMIT_S) -> bytes:
        """Give the next line, without its end. Raises `TimeoutError` or `EndedError`."""
        return self.aside.popleft() if self.aside else self._next(limit_s)

    def answer(self, id: RequestId | None, limit_s: float = LIMIT_S) -> bytes:  # noqa: A002 - its name on the wire
        """Give the line that answers this id, its type included; other lines are put `aside`."""
        return self._find(lambda message: "method" not in message and _same(message.get("id"), id), limit_s)

    def message(self, method: str, limit_s: float = LIMIT_S) -> bytes:
        """Give the next request or notice of this method; other lines are put `aside`."""
        return self._find(lambda message: message.get("method") == method, limit_s)

    def rest(self, limit_s: float = LIMIT_S) -> list[bytes]:
        """Close the command's input, and give every line that still comes until it closes its output."""
        self.end_input()
        lines = list(self.aside)
        self.aside.clear()
        while True:
            try:
                lines.append(self._next(limit_s))
            except EndedError:
                return lines

    @property
    def stderr(self) -> str:
        """What the command has said on standard error: all of it once it has ended, else what came so far."""
        if self._child.poll() is not None:
            self._words.join(LAST_WORDS_S)
        return self._said.decode("utf-8", "replace")

    def exit_code(self, limit_s: float = LIMIT_S) -> int:
        """Wait for the command to end. Raises `TimeoutError`."""
        try:
            return self._child.wait(limit_s)
        except subprocess.TimeoutExpired:
            raise TimeoutError(f"still running after {limit_s} s; stderr: {self.stderr}") from None

    @property
    def pid(self) -> int:
        """The process id of the command."""
        return self._child.pid

    # Conversations.

    def request(self, method: str, params: JsonObject | None = None, *, stateless: bool = False) -> JsonObject:
        """Send a request under the next id and give the answer, read."""
        return _read(self.answer(self.ask(method, params, stateless=stateless)))

    def ask(self, method: str, params: JsonObject | None = None, *, stateless: bool = False) -> int:
        """Send a request under the next id and give the id, without waiting."""
        self._last_id += 1
        message: JsonObject = {"jsonrpc": "2.0", "id": self._last_id, "method": method}
        if stateless:
            given: Json = (params or {}).get("_meta")
            meta: JsonObject = {**STATELESS_META, **(given if isinstance(given, Mapping) else {})}
            params = {**(params or {}), "_meta": meta}
        if params is not None:
            message["params"] = params
        self.send(message)
        return self._last_id

    def notify(self, method: str, params: JsonObject | None = None) -> None:
        """Send a notice."""
        message: JsonObject = {"jsonrpc": "2.0", "method": method}
        self.send(message if params is None else {**message, "params": params})

    def initialize(self, version: str = eras.LATEST_HANDSHAKE, *, capabilities: JsonObject | None = None) -> JsonObject:
        """Open the handshake era and give the server's answer, read."""
        params: JsonObject = {
            "protocolVersion": version,
            "capabilities": capabilities or {},
            "clientInfo": {"name": "raw", "version": "1"},
        }
        answer = self.request("initialize", params)
        self.notify("notifications/initialized")
        return answer

    def call(self, tool: str, arguments: JsonObject | None = None, *, stateless: bool = False) -> JsonObject:
        """Call a tool and give the answer, read."""
        return self.request("tools/call", {"name": tool, "arguments": arguments or {}}, stateless=stateless)

    # The end.

    def close(self, limit_s: float = 30.0) -> None:
        """End the command: its input is closed, and whatever of its group still runs after the limit is killed."""
        # It fails when something was written after the command had gone.
        with contextlib.suppress(OSError):
            self._stdin.close()
        try:
            self._child.wait(limit_s)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()
        self._kill_group()
        self._reading.join(limit_s)
        self._words.join(limit_s)
        self._stdout.close()
        self._stderr.close()

    def _kill_group(self) -> None:
        """Kill what is left of its group; the command itself has ended, so who has its number now is somebody else."""
        if hasattr(os, "killpg") and not Path(f"/proc/{self._child.pid}").exists():
            # It fails when nothing of the group is left.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._child.pid, signal.SIGKILL)

    def _read_lines(self) -> None:
        for line in self._stdout:
            self._lines.put(line.removesuffix(b"\n"))
        self._lines.put(None)

    def _read_words(self) -> None:
        while chunk := os.read(self._stderr.fileno(), 65536):
            self._said += chunk

    def _next(self, limit_s: float) -> bytes:
        if self._ended:
            raise EndedError(self.stderr)
        try:
            line = self._lines.get(timeout=limit_s)
        except queue.Empty:
            raise TimeoutError(
                f"no line within {limit_s} s; aside: {list(self.aside)}; stderr: {self.stderr}"
            ) from None
        if line is None:
            self._ended = True
            raise EndedError(self.stderr)
        return line

    def _find(self, fits: Callable[[JsonObject], bool], limit_s: float) -> bytes:
        for place, line in enumerate(self.aside):
            if fits(_read(line)):
                del self.aside[place]
                return line
        while not fits(_read(line := self._next(limit_s))):
            self.aside.append(line)
        return line


def _read(line: bytes) -> JsonObject:
    """Read a line; empty when it is no JSON object."""
    try:
        value: Json = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _same(one: Json, other: RequestId | None) -> bool:
    return type(one) is type(other) and one == other
