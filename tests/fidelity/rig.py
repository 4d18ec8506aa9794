"""The real command on real pipes, between a host and a server that both speak in literal lines."""

import json
import os
import sqlite3
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Self, cast

from kept import keep
from placing import put
from soothsayer_mcp.model.json import JsonObject
from soothsayer_mcp.testing.hosts import STATELESS_META, RawHost
from soothsayer_mcp.testing.servers import Record, Script

WATCHING = """\
soothsayer: policy/v1
name: watching
mode: observe
default: {read: allow, other: allow, checked: allow}
methods: {unknown: pass}
arguments: {max_bytes: 20MB}
"""
"""Nothing is refused: host and server cannot tell that the proxy is there."""

ALLOWING = """\
soothsayer: policy/v1
name: allowing
default: {read: allow, other: allow, checked: allow}
arguments: {max_bytes: 20MB, undeclared: allow, no_schema: allow}
"""
"""Everything is allowed, and all that is no matter of policy holds."""

META = json.dumps(STATELESS_META, separators=(",", ":"))
ERAS = ("handshake", "stateless")
OWN = b'"id":"sth-'
"""What the proxy itself asks a server carries this."""


class Rig:
    """A proxy that runs: its host's end, what its server was told, and what it wrote down."""

    def __init__(
        self,
        folder: Path,
        script: Script | None = None,
        *,
        policy: str = WATCHING,
        words: Sequence[str | Path] = (),
        command: Sequence[str | Path] = (),
        config: Path | None = None,
        url: str = "",
        env: Mapping[str, str] | None = None,
    ) -> None:
        self.folder = folder
        self.script = script or Script()
        file = folder / "policy.yaml"
        if not file.exists() or file.read_text(encoding="utf-8") != policy:
            put(file, policy)
        self.state = folder / "state"
        self.command: list[str | Path] = [
            sys.executable,
            "-m",
            "soothsayer_mcp",
            "proxy",
            "--state",
            self.state,
            *words,
        ]
        if config is not None:
            self.command += ["--config", config]
        else:
            self.command += ["--name", self.script.name, "--policy", folder / "policy.yaml"]
            self.command += ["--url", url] if url else ["--", *(command or self.script.command(folder))]
            keep(folder / "policy.yaml", self.state, servers=[self.script.name], workspace=folder)
        self.host = RawHost(self.command, cwd=folder, env=None if env is None else {**os.environ, **env})

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.host.close()

    @property
    def record(self) -> Record:
        """What reached the server."""
        return self.script.record(self.folder)

    def told(self, mark: int) -> list[bytes]:
        """What reached the server since it had been told so many lines, without what the proxy asked of its own."""
        return [line for line in self.record.lines[mark:] if OWN not in line]

    @property
    def last(self) -> bytes:
        """The last line of the host's that reached the server: the proxy may ask of its own at any time."""
        return self.told(0)[-1]

    def fence(self) -> int:
        """Have a request answered, so that all before it is done; how many lines the server was told until then."""
        name = self.host.ask("ping")
        self.host.answer(name)
        lines = self.record.lines
        assert b'{"jsonrpc":"2.0","id":%d,"method":"ping"}' % name in lines
        return len(lines)

    def entries(self, kind: str = "") -> list[JsonObject]:
        """The entries of the trace, of one kind or of all."""
        return entries(self.state, kind)


def entries(state: Path, kind: str = "") -> list[JsonObject]:
    """The entries of a state folder in order, of one kind or of all."""
    found: list[JsonObject] = []
    for segment in sorted(state.glob("trace-*.db")):
        db = sqlite3.connect(f"file:{segment}?mode=ro", uri=True)
        try:
            found += [
                cast("JsonObject", json.loads(row[0])) for row in db.execute("SELECT body FROM entries ORDER BY pos")
            ]
        finally:
            db.close()
    return [entry for entry in found if not kind or entry["kind"] == kind]


def quickest_s(state: Path) -> float:
    """The shortest time on record from a person's answer to the call that it let go.

    A machine that is busy with something else delays one of them, and whoever looks at its answer; a proxy that is slow
    delays them all.
    """
    answered = {entry["approval"]: moment(entry) for entry in entries(state, "approval.answered")}
    sent = [entry for entry in entries(state, "step.intent") if entry.get("approval") in answered]
    return min((moment(entry) - answered[entry["approval"]]).total_seconds() for entry in sent)


def moment(entry: JsonObject) -> datetime:
    """When an entry was made."""
    return datetime.fromisoformat(str(entry["at"]))


def read(raw: bytes) -> JsonObject:
    return cast("JsonObject", json.loads(raw))


def at(value: object, *path: str | int) -> object:
    """What stands at a path within a message; a `KeyError` or `IndexError` names what does not."""
    for step in path:
        value = cast("dict[str | int, object]", value)[step]
    return value


def request(method: str, params: str | None = "{}", request_id: str = "1", *, era: str = "handshake") -> str:
    """A request, spelt as given; in the stateless era with its envelope put first into the params."""
    if era == "stateless":
        inside = (params or "{}")[1:]
        params = '{"_meta":' + META + ("" if inside == "}" else ",") + inside
    more = "" if params is None else f',"params":{params}'
    return f'{{"jsonrpc":"2.0","id":{request_id},"method":"{method}"{more}}}'


def notice(method: str, params: str | None = "{}") -> str:
    more = "" if params is None else f',"params":{params}'
    return f'{{"jsonrpc":"2.0","method":"{method}"{more}}}'


def call(tool: str, arguments: str = "{}", request_id: str = "1", *, era: str = "handshake") -> str:
    return request("tools/call", f'{{"name":"{tool}","arguments":{arguments}}}', request_id, era=era)


def answered(result: str, request_id: str = "1") -> bytes:
    return f'{{"jsonrpc":"2.0","id":{request_id},"result":{result}}}'.encode()


def lives(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rsplit(")", 1)[1].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in "ZX"


def resident_mib(pid: int) -> float:
    """The most memory that a process has had resident."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def step(answer: bytes | JsonObject) -> JsonObject:
    """What the proxy says of a step that did not go well."""
    message = read(answer) if isinstance(answer, bytes) else answer
    return cast("JsonObject", at(message, "result", "_meta", "dev.soothsayer/step"))
