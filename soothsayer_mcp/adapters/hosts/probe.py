"""Starts a server as a host would, to see whether it answers and what it offers. No tool is called."""

import contextlib
import json
import os
import queue
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Final, cast

from soothsayer_mcp import __version__
from soothsayer_mcp.adapters.launch import printable
from soothsayer_mcp.model.json import Json, JsonObject
from soothsayer_mcp.model.value import dataclass

LIMIT_S: Final = 60.0
"""Package runners may have to download a server."""
END_S: Final = 3.0
_TOOLS_MAX: Final = 1_000
_WORDS: Final = 2_000


class ProbeError(Exception):
    """A server did not answer; the text follows its name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """What a server said of itself."""

    name: str
    version: str
    tools: tuple[str, ...]


def ask(
    argv: Sequence[str],
    environment: Mapping[str, str],
    *,
    cwd: str | None = None,
    tools: bool = True,
    limit_s: float = LIMIT_S,
) -> Listed:
    """Start a command with exactly this environment, open a connection, list its tools, end it. Raises `ProbeError`."""
    program = argv[0]
    if os.sep not in program:
        found = shutil.which(program, path=environment.get("PATH", os.defpath))
        if found is None:
            raise ProbeError(f"does not start: {printable(program)} is not on its PATH")
        program = found
    with tempfile.TemporaryFile() as words:
        try:
            process = subprocess.Popen(  # noqa: S603 - what a host starts is started here, after a person said so
                [program, *argv[1:]],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=words,
                cwd=cwd,
                env=dict(environment),
                start_new_session=os.name != "nt",
            )
        except OSError as error:
            raise ProbeError(f"does not start ({error.strerror})") from error
        session = _Session(process, limit_s)
        try:
            return session.ask(tools=tools)
        except ProbeError as error:
            session.end()
            words.seek(0)
            said = words.read()[-_WORDS:].decode(errors="replace").strip()
            last = printable(said.splitlines()[-1]) if said else ""
            raise ProbeError(f"{error}{f'; it said: {last}' if last else ''}") from error
        finally:
            session.end()


class _Session:
    def __init__(self, process: "subprocess.Popen[bytes]", limit_s: float) -> None:
        self._process = process
        self._until = time.monotonic() + limit_s
        self._limit_s = limit_s
        self._lines: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._reading = threading.Thread(target=self._read, daemon=True)
        self._reading.start()

    def ask(self, *, tools: bool) -> Listed:
        opened = self._request(
            1,
            "initialize",
            {
                "protocolVersion": "2025-11-25",
                "capabilities": {},
                "clientInfo": {"name": "soothsayer-inspect", "version": __version__},
            },
        )
        server = opened.get("serverInfo")
        about = server if isinstance(server, dict) else {}
        self._send({"jsonrpc": "2.0", "method": "notifications/initialized"})
        names: list[str] = []
        capabilities = opened.get("capabilities")
        if tools and isinstance(capabilities, dict) and "tools" in capabilities:
            cursor: Json = None
            number = 2
            while len(names) < _TOOLS_MAX:
                page = self._request(number, "tools/list", {} if cursor is None else {"cursor": cursor})
                listed = page.get("tools")
                found = listed if isinstance(listed, list) else []
                names += [str(tool["name"]) for tool in found if isinstance(tool, dict) and "name" in tool]
                cursor, number = page.get("nextCursor"), number + 1
                if not isinstance(cursor, str) or not found:
                    break
        return Listed(name=str(about.get("name", "")), version=str(about.get("version", "")), tools=tuple(names))

    def end(self) -> None:
        """End the input, then the group."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(END_S)
        if os.name != "nt":
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        self._reading.join(END_S)
        self._process.stdout.close()

    def _read(self) -> None:
        assert self._process.stdout is not None
        with contextlib.suppress(ValueError, OSError):
            for line in self._process.stdout:
                self._lines.put(line)
        self._lines.put(b"")

    def _send(self, message: JsonObject) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(message).encode() + b"\n")
            self._process.stdin.flush()
        except OSError as error:
            raise ProbeError("ended before it answered") from error

    def _request(self, number: int, method: str, params: JsonObject) -> JsonObject:
        self._send({"jsonrpc": "2.0", "id": number, "method": method, "params": params})
        while True:
            try:
                line = self._lines.get(timeout=max(0.0, self._until - time.monotonic()))
            except queue.Empty:
                raise ProbeError(f"did not answer {method} within {self._limit_s:g} s") from None
            if not line:
                raise ProbeError("ended before it answered")
            try:
                said = cast("Json", json.loads(line))
            except (ValueError, RecursionError):
                continue
            if not isinstance(said, dict) or said.get("id") != number or "method" in said:
                continue
            result = said.get("result")
            if isinstance(result, dict):
                return result
            error = said.get("error")
            text = error.get("message") if isinstance(error, dict) else ""
            raise ProbeError(f"answered {method} with an error: {printable(str(text))}")
