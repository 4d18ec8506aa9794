"""The process of a scripted server. What scripts hold, and how it is started: `servers.py`.

It imports the standard library only, and as little of it as it can: tests start it hundreds of times.
"""

from __future__ import annotations

import json
import os
import re
import signal
import sys
import threading

TYPE_CHECKING = False  # importing `typing` takes as long as all the rest
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any, TypeAlias

    JsonObject: TypeAlias = dict[str, Any]

LIMIT_S = 60.0
STEP_S = 0.005
GAVE_UP = 97
VERSION_KEY = "io.modelcontextprotocol/protocolVersion"
PLACEHOLDER = re.compile(r"\$(ID|TOKEN|PARAMS|ARGUMENTS|LINE|ANSWER|N)\b")
WAITING = frozenset({"wait", "wait_for", "wait_path"})


class Occasion:
    """A message that came, and what is known while it is served."""

    def __init__(self, came: bytes, message: JsonObject, since: int) -> None:
        params = message.get("params")
        self.params: JsonObject = params if isinstance(params, dict) else {}
        self.arguments = self.params.get("arguments", {})
        meta = self.params.get("_meta")
        self.meta: JsonObject = meta if isinstance(meta, dict) else {}
        self.method = message.get("method", "")
        self.is_request = "id" in message
        self.since = since
        self.known: dict[str, Callable[[], str]] = {
            "ID": lambda: json.dumps(message.get("id")),
            "TOKEN": lambda: json.dumps(self.meta.get("progressToken")),
            "PARAMS": lambda: json.dumps(self.params),
            "ARGUMENTS": lambda: json.dumps(self.arguments),
            "LINE": lambda: json.dumps(came.decode("utf-8", "replace")),
        }

    @property
    def is_stateless(self) -> bool:
        """Whether the message carries the envelope of the stateless era."""
        return VERSION_KEY in self.meta

    def fill(self, text: str) -> bytes:
        """Put what is known into a literal text."""
        filled = PLACEHOLDER.sub(lambda found: self.known.get(found[1], found.group)(), text)
        return filled.encode("utf-8", "surrogateescape")


class Server:
    """Reads lines, writes them down, and does what the script says."""

    def __init__(self, script: JsonObject, record: str) -> None:
        self._script = script
        self._writing = threading.Lock()
        self._received: list[JsonObject] = []
        self._arrival = threading.Condition()
        with open(record + ".starts", "a+", encoding="ascii") as starts:  # noqa: PTH123 - pathlib is slow to import
            starts.write(f"{os.getpid()}\n")
            starts.seek(0)
            self._life = len(starts.readlines())
        self._record = os.open(record, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._verbs: dict[str, Callable[[JsonObject, Occasion], None]] = {
            "line": lambda act, occasion: self._write(occasion.fill(act["text"]) + b"\n"),
            "raw": lambda act, _: self._write(bytes.fromhex(act["hex"])),
            "burst": self._burst,
            "echo": self._echo,
            "wait": lambda act, _: pause(act["seconds"]),
            "wait_for": self._wait_for,
            "wait_path": lambda act, _: wait_path(act["path"]),
            "say": lambda act, _: say(act["text"]),
            "die": lambda act, _: os._exit(act["code"]),
            "hush": lambda _act, _occasion: os.close(1),
            "in_life": self._in_life,
        }

    def serve(self) -> None:
        """Serve until the input ends, or for ever when stubborn."""
        stubborn: bool = self._script["stubborn"]
        if stubborn:
            for name in ("SIGTERM", "SIGINT", "SIGHUP"):
                if hasattr(signal, name):
                    signal.signal(getattr(signal, name), signal.SIG_IGN)
        self._run(self._script["at_start"], Occasion(b"", {}, 0))
        for came in sys.stdin.buffer:
            text = came.rstrip(b"\r\n")
            os.write(self._record, text + b"\n")
            message = read(text)
            if message is None:
                continue
            with self._arrival:
                self._received.append(message)
                since = len(self._received)
                self._arrival.notify_all()
            if isinstance(message.get("method"), str):
                occasion = Occasion(text, message, since)
                self._run(self._acts(occasion), occasion)
        while stubborn:
            pause(LIMIT_S)

    def _acts(self, occasion: Occasion) -> Sequence[JsonObject]:
        on: dict[str, Sequence[JsonObject]] = self._script["on"]
        of_tool = on.get(f"tool:{occasion.params.get('name')}") if occasion.method == "tools/call" else None
        acts = of_tool if of_tool is not None else on.get(occasion.method)
        if acts is not None:
            return acts
        return [self._sound(occasion)] if occasion.is_request else []

    def _sound(self, occasion: Occasion) -> JsonObject:
        """Answer as a sound server of the script's eras does."""
        eras: Sequence[str] = self._script["eras"]
        capabilities: str = self._script["capabilities"]
        info = json.dumps({"name": self._script["name"], "version": "1"})
        match occasion.method:
            case "initialize" if "handshake" in eras:
                version = json.dumps(self._script["version"] or occasion.params.get("protocolVersion"))
                return result(f'{{"protocolVersion":{version},"capabilities":{capabilities},"serverInfo":{info}}}')
            case "server/discover" if "stateless" in eras:
                return result(
                    f'{{"resultType":"complete","supportedVersions":["2026-07-28"],"capabilities":{capabilities},'
                    f'"ttlMs":0,"cacheScope":"private","_meta":{{"io.modelcontextprotocol/serverInfo":{info}}}}}'
                )
            case "ping" if not occasion.is_stateless:
                return result("{}")
            case "tools/list":
                extra = ',"resultType":"complete","ttlMs":0,"cacheScope":"private"' if occasion.is_stateless else ""
                return result(f'{{"tools":[{",".join(self._script["tools"])}]{extra}}}')
            case "tools/call" if self._has_tool(occasion.params.get("name")):
                return {"do": "echo"}
            case "tools/call":
                return error('{"code":-32602,"message":"Unknown tool"}')
            case _:
                return error('{"code":-32601,"message":"Method not found"}')

    def _has_tool(self, name: object) -> bool:
        return any((read(text.encode()) or {}).get("name") == name for text in self._script["tools"])

    def _run(self, acts: Sequence[JsonObject], occasion: Occasion) -> None:
        """Do it here and now, or beside the reading of further messages when it waits for something."""
        if waits(acts):
            threading.Thread(target=self._do_or_end, args=(acts, occasion), daemon=True).start()
        else:
            self._do(acts, occasion)

    def _do_or_end(self, acts: Sequence[JsonObject], occasion: Occasion) -> None:
        try:
            self._do(acts, occasion)
        except TimeoutError as late:
            say(str(late))
            os._exit(GAVE_UP)
        except OSError:
            # Nobody reads any more.
            os._exit(0)

    def _do(self, acts: Sequence[JsonObject], occasion: Occasion) -> None:
        for act in acts:
            self._verbs[act["do"]](act, occasion)

    def _echo(self, _act: JsonObject, occasion: Occasion) -> None:
        text = json.dumps(json.dumps(occasion.arguments))
        extra = ',"resultType":"complete"' if occasion.is_stateless else ""
        self._do([result(f'{{"content":[{{"type":"text","text":{text}}}]{extra}}}')], occasion)

    def _burst(self, act: JsonObject, occasion: Occasion) -> None:
        lines: list[bytes] = []
        for number in range(act["count"]):
            occasion.known["N"] = number.__repr__
            lines.append(occasion.fill(act["text"]) + b"\n")
        self._write(b"".join(lines))

    def _in_life(self, act: JsonObject, occasion: Occasion) -> None:
        if act["number"] == self._life:
            self._do(act["acts"], occasion)

    def _wait_for(self, act: JsonObject, occasion: Occasion) -> None:
        what = act["what"]

        def found() -> JsonObject | None:
            for message in self._received[occasion.since :]:
                if message.get("method") == what or ("method" not in message and message.get("id") == what):
                    return message
            return None

        with self._arrival:
            if not self._arrival.wait_for(lambda: found() is not None, LIMIT_S):
                raise TimeoutError(f"waited in vain for {what}")
            answer = json.dumps(found())
        occasion.known["ANSWER"] = lambda: answer

    def _write(self, content: bytes) -> None:
        with self._writing:
            while content:
                content = content[os.write(1, content) :]


def read(text: bytes) -> JsonObject | None:
    """Read a line; `None` when it is no JSON object."""
    try:
        value: JsonObject | list[Any] | str | float | None = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def result(text: str) -> JsonObject:
    """Answer with a result."""
    return {"do": "line", "text": '{"jsonrpc":"2.0","id":$ID,"result":' + text + "}"}


def error(text: str) -> JsonObject:
    """Answer with an error."""
    return {"do": "line", "text": '{"jsonrpc":"2.0","id":$ID,"error":' + text + "}"}


def waits(acts: Sequence[JsonObject]) -> bool:
    """Whether something among the acts takes time."""
    return any(act["do"] in WAITING or waits(act.get("acts", ())) for act in acts)


def pause(seconds: float) -> None:
    """Let time pass."""
    threading.Event().wait(seconds)


def wait_path(path: str) -> None:
    """Wait until a file is there. Raises `TimeoutError`."""
    for _ in range(int(LIMIT_S / STEP_S)):
        if os.path.exists(path):  # noqa: PTH110 - pathlib is slow to import
            return
        pause(STEP_S)
    raise TimeoutError(f"waited in vain for {path}")


def say(text: str) -> None:
    """Write a line to standard error."""
    os.write(2, text.encode("utf-8", "surrogateescape") + b"\n")


def main() -> None:
    """Serve the script named first on standard input and output; what comes is written into the file named next."""
    path, record = sys.argv[1:3]
    with open(path, "rb") as script:  # noqa: PTH123 - pathlib is slow to import
        server = Server(json.load(script), record)
    try:
        server.serve()
    except OSError:
        # Nobody reads any more.
        os._exit(0)
    # Threads that still wait for something do not hold up the end.
    os._exit(0)
