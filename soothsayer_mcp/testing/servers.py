"""A tool server that says literal lines and writes down every line it gets. Plain Python: it starts in no time.

A test writes a `Script`, gives `script.command(folder)` to whatever starts servers, and reads the `Record` afterwards.
The process itself is `scripted.py`.

Literal texts may hold `$ID` (the request's id), `$TOKEN` (its progress token), `$PARAMS`, `$ARGUMENTS`, `$LINE` (the
line that came, as a JSON string), `$ANSWER` (the message last waited for) and `$N` (the number within a burst).
"""

import json
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import field
from pathlib import Path
from typing import Final, TypeAlias, cast

from soothsayer_mcp.model.json import Json, JsonObject
from soothsayer_mcp.model.value import dataclass

Act: TypeAlias = JsonObject
"""One thing that the server does; made by the functions below."""

HANDSHAKE: Final = "handshake"
STATELESS: Final = "stateless"
LIMIT_S: Final = 60.0
"""How long a test waits for a server at most; a server that waits in vain as long ends with code 97."""

_STEP_S: Final = 0.005
_HERE: Final = Path(__file__).parent

# Isolated, without site-packages, and as a module, which is compiled once: so it starts in half the time.
_RUN: Final = "import sys; sys.path.append(sys.argv.pop(1)); import scripted; scripted.main()"


def result(text: str) -> Act:
    """Answer the request with this literal result."""
    return line('{"jsonrpc":"2.0","id":$ID,"result":' + text + "}")


def error(text: str) -> Act:
    """Answer the request with this literal error."""
    return line('{"jsonrpc":"2.0","id":$ID,"error":' + text + "}")


def line(text: str) -> Act:
    """Write this line, whatever it is."""
    return {"do": "line", "text": text}


def raw(content: bytes) -> Act:
    """Write these bytes and nothing else: no end of line either."""
    return {"do": "raw", "hex": content.hex()}


def burst(count: int, text: str) -> Act:
    """Write this line many times in one piece."""
    return {"do": "burst", "count": count, "text": text}


def echo() -> Act:
    """Answer a tool call with its arguments, as the text of its one block."""
    return {"do": "echo"}


def wait(seconds: float) -> Act:
    """Let time pass before what follows; other messages are served meanwhile."""
    return {"do": "wait", "seconds": seconds}


def wait_for(what: str) -> Act:
    """Wait for a message with this method, or an answer to this id, since the request came."""
    return {"do": "wait_for", "what": what}


def wait_path(path: Path) -> Act:
    """Wait until this file is there: the test says when."""
    return {"do": "wait_path", "path": str(path)}


def say(text: str) -> Act:
    """Write a line to standard error."""
    return {"do": "say", "text": text}


def die(code: int = 1) -> Act:
    """End at once, with this exit code."""
    return {"do": "die", "code": code}


def hush() -> Act:
    """Close standard output and live on."""
    return {"do": "hush"}


def in_life(number: int, *acts: Act) -> Act:
    """Do this only in the process that was started as the given one, counted from 1."""
    return {"do": "in_life", "number": number, "acts": list(acts)}


def tool(name: str, **members: Json) -> str:
    """Spell the definition of a tool that takes any object."""
    return json.dumps({"name": name, "inputSchema": {"type": "object"}, **members})


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    """What a server is, and what it does when a message comes."""

    name: str = "raw"
    eras: Sequence[str] = (HANDSHAKE, STATELESS)
    version: str = "2025-11-25"
    """Answered to `initialize`; `""` repeats what the host asked for."""
    capabilities: str = '{"tools":{"listChanged":true}}'
    tools: Sequence[str] = (tool("echo"),)
    """Literal definitions, listed in this order."""
    on: Mapping[str, Sequence[Act]] = field(default_factory=dict[str, Sequence[Act]])
    """What to do for a method, or for one tool (`tool:NAME`); what is not here is answered as a sound server would."""
    at_start: Sequence[Act] = ()
    stubborn: bool = False
    """Whether it ignores the end of its input and every polite signal."""

    def command(self, folder: Path) -> list[str]:
        """Write the script into a folder and give the command that starts the server."""
        script = folder / f"{self.name}.script.json"
        beside = folder / f"{self.name}.script.json.new"
        beside.write_text(
            json.dumps({name: getattr(self, name) for name in self.__dataclass_fields__}), encoding="utf-8"
        )
        beside.replace(script)  # a server started from here before may be reading it
        return [sys.executable, "-I", "-S", "-c", _RUN, str(_HERE), str(script), str(self.record(folder).path)]

    def record(self, folder: Path) -> "Record":
        """Give what the server writes down when it was started from this folder."""
        return Record(folder / f"{self.name}.record")


class Record:
    """What reached a server, in all its lives."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def lines(self) -> list[bytes]:
        """Every line that came, byte for byte, without its end."""
        return self.path.read_bytes().split(b"\n")[:-1] if self.path.exists() else []

    @property
    def messages(self) -> list[JsonObject]:
        """The lines that are JSON objects."""
        found = [_object(text) for text in self.lines]
        return [message for message in found if message is not None]

    @property
    def methods(self) -> list[str]:
        """The methods that came, in order."""
        return [method for message in self.messages if isinstance(method := message.get("method"), str)]

    def calls(self, name: str = "") -> list[JsonObject]:
        """Give the params of the tool calls that came, of one tool or of all."""
        params = [cast("JsonObject", m.get("params", {})) for m in self.messages if m.get("method") == "tools/call"]
        return [one for one in params if not name or one.get("name") == name]

    @property
    def pids(self) -> list[int]:
        """The processes that were started, in order."""
        starts = self.path.with_name(self.path.name + ".starts")
        return [int(pid) for pid in starts.read_text(encoding="ascii").split()] if starts.exists() else []

    def wait_for(self, method: str, count: int = 1) -> None:
        """Wait until a method came so many times. Raises `TimeoutError`."""
        wait_until(lambda: self.methods.count(method) >= count, f"{count} of {method}, got {self.methods}")


def wait_until(holds: Callable[[], bool], what: str) -> None:
    """Wait until something holds. Raises `TimeoutError`, naming what was waited for."""
    pause = threading.Event()
    for _ in range(int(LIMIT_S / _STEP_S)):
        if holds():
            return
        pause.wait(_STEP_S)
    raise TimeoutError(f"waited in vain for {what}")


def _object(text: bytes) -> JsonObject | None:
    try:
        value: Json = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None
