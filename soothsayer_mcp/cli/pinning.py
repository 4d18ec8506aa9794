"""Definitions beside a lock: what servers define now, how that differs, and agreeing on it."""

import difflib
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import field, replace
from pathlib import Path
from typing import cast

import click

from soothsayer_mcp.adapters.config import Config, find_config, server_identity
from soothsayer_mcp.adapters.config import load as load_config
from soothsayer_mcp.adapters.lazy import resolve
from soothsayer_mcp.adapters.lock_file import Lock, Locked, load_lock, lock_path, write_lock
from soothsayer_mcp.adapters.policy_files.load import KnownTools
from soothsayer_mcp.adapters.store.definitions import SELECT_PINS, Pin, read_pins
from soothsayer_mcp.adapters.store.reader import NoTraceError, Reader
from soothsayer_mcp.cli.exits import Exit
from soothsayer_mcp.cli.options import nearest
from soothsayer_mcp.cli.output import Output
from soothsayer_mcp.cli.problems import Problem
from soothsayer_mcp.cli.recorded import make_definition
from soothsayer_mcp.console import render
from soothsayer_mcp.console.measures import count
from soothsayer_mcp.console.text import escape
from soothsayer_mcp.model.call import PinState, ToolDefinition
from soothsayer_mcp.model.json import Digest, Json, JsonObject, canonical
from soothsayer_mcp.model.value import dataclass
from soothsayer_mcp.policy.wording import hides, instructs, texts_of
from soothsayer_mcp.ports import PortError, SeenTool, ServerIdentity

LIVE = "soothsayer_mcp.cli.live:live_tools"
EVERY = "*"
"""Stands for `--pin` without a server."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One definition that is not as it was pinned."""

    server: str
    tool: str
    state: str
    """`new`, `changed`, or `gone`."""
    old: bytes | None = None
    new: bytes | None = None
    moved: bool = False
    """Whether the server's own command or address is another."""
    twin: str = ""
    """The pinned tool that has the same definition under another name."""

    @property
    def name(self) -> str:
        """What people call it."""
        return f"{self.server}.{self.tool}"

    def lines(self) -> list[str]:
        """A unified difference, a member a line, what an eye misses as escapes; and what else to know of it."""
        before, after = laid_out(self.old), laid_out(self.new)
        old = "nothing pinned" if self.old is None else f"{self.name} as pinned"
        new = "not listed any more" if self.new is None else f"{self.name} as it is now"
        notes: list[str] = []
        if self.moved:
            notes.append("the server's own command or address is not the one it was pinned with")
        if self.twin:
            notes.append(f"renamed: {self.twin} is the same but for the name; a new name is a new tool")
        if self.new is not None:
            notes += [SIGNS[sign] for sign in signs_of(self.new)]
        return [
            *difflib.unified_diff(before, after, old, new, lineterm=""),
            *(f"@ {self.name}: {note}" for note in notes),
        ]

    def document(self) -> JsonObject:
        """The same for a program."""
        return {
            "server": self.server,
            "tool": self.tool,
            "state": self.state,
            "server_changed": self.moved,
            "renamed_from": self.twin or None,
            "signs": [*signs_of(self.new or b"{}")],
            "definition": None if self.old is None else self.old.decode(errors="replace"),
            "seen_definition": None if self.new is None else self.new.decode(errors="replace"),
        }


SIGNS: Mapping[str, str] = {
    "hidden_text": "it holds characters that nobody sees",
    "instructions": "it reads like an instruction to a model",
}
"""Signs that a definition does more than describe a tool, by the name that rules have for them."""


def signs_of(raw: bytes) -> tuple[str, ...]:
    """The signs that a definition shows."""
    texts = list(texts_of(raw))
    found = {"hidden_text": any(map(hides, texts)), "instructions": any(map(instructs, texts))}
    return tuple(sign for sign in SIGNS if found[sign])


def laid_out(raw: bytes | None) -> list[str]:
    """A definition a member a line, in the order of a lock; what an eye misses as escapes."""
    if raw is None:
        return []
    try:
        value = cast("Json", json.loads(raw))
    except (ValueError, RecursionError):
        return [escape(raw.decode(errors="replace"))]
    return [escape(line) for line in json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False).split("\n")]


def twins(pins: Sequence[Pin]) -> Mapping[tuple[str, str], str]:
    """New tools whose definition is that of another pinned one, but for the name: server and tool -> that name."""
    pinned = {
        (pin.server, _nameless(pin.raw)): f"{pin.server}.{pin.tool}" for pin in pins if pin.state is not PinState.NEW
    }
    return {
        (pin.server, pin.tool): pinned[found]
        for pin in pins
        if pin.state is PinState.NEW and (found := (pin.server, _nameless(pin.raw))) in pinned
    }


def _nameless(raw: bytes) -> bytes:
    try:
        value = cast("Json", json.loads(raw))
        return canonical({**value, "name": ""}) if isinstance(value, dict) else raw
    except (ValueError, RecursionError):
        return raw


def of_pin(pin: Pin, twin: str = "") -> Difference:
    """What a pin on record differs in."""
    return Difference(
        server=pin.server,
        tool=pin.tool,
        state=pin.state,
        old=None if pin.state is PinState.NEW else pin.raw,
        new=pin.seen_raw or pin.raw,
        moved=pin.seen_identity is not None and pin.seen_identity != pin.identity,
        twin=twin,
    )


# -- against a lock ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Present:
    """What one server defines, as far as it is known."""

    identity: ServerIdentity
    tools: Mapping[str, SeenTool] = field(default_factory=dict[str, SeenTool])
    whole: bool = False
    """Whether these are all of its tools."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """A configuration and its lock."""

    config: Config
    path: Path
    lock: Lock | None
    """`None` where there is none yet."""

    @classmethod
    def find(cls, output: Output) -> "Standing | None":
        """Find the lock beside the configuration that is in force; `None` without one. Raises `LoadErrors`."""
        file = find_config(output.settings.config)
        if file is None:
            return None
        path = lock_path(file)
        return cls(config=load_config(file), path=path, lock=load_lock(path))

    def identities(self) -> Mapping[str, ServerIdentity]:
        """The servers of the configuration."""
        return {spec.name: server_identity(spec) for spec in self.config.servers}

    def locked(self) -> Mapping[str, Present]:
        """What the lock has of the servers of the configuration."""
        lock = self.lock or Lock()
        return {
            name: Present(identity=identity, tools=lock.of(identity).tools)
            for name, identity in self.identities().items()
        }

    def as_pinned(self, pins: Sequence[Pin]) -> Lock:
        """What the record has pinned of them, in the form of a lock."""
        found: dict[str, Locked] = {}
        for name, identity in self.identities().items():
            own = [pin for pin in pins if pin.server == name and pin.state is not PinState.NEW]
            if own:
                moved = next((pin.identity for pin in own if pin.identity != identity.digest), None)
                found[name] = Locked(
                    identity=identity.as_spelled if moved is None else Digest(moved),
                    tools={pin.tool: SeenTool(name=pin.tool, digest=pin.digest, raw=pin.raw) for pin in own},
                )
        return Lock(servers=found)

    def on_record(self, pins: Sequence[Pin]) -> Mapping[str, Present]:
        """What the servers of the configuration defined when they were listed last."""
        found: dict[str, Present] = {}
        for name, identity in self.identities().items():
            tools = {
                pin.tool: SeenTool(name=pin.tool, digest=pin.seen or pin.digest, raw=pin.seen_raw or pin.raw)
                for pin in pins
                if pin.server == name and (pin.seen_identity or pin.identity) == identity.digest
            }
            found[name] = Present(identity=identity, tools=tools)
        return found

    def live(self, state: Path) -> Mapping[str, Present]:
        """What they define now: they are started and listed. Raises `Problem` for one that does not answer."""
        look = cast("Callable[[Config, Path], Mapping[str, list[SeenTool] | PortError]]", resolve(LIVE))
        identities = self.identities()
        found: dict[str, Present] = {}
        for name, tools in look(self.config, state).items():
            if isinstance(tools, PortError):
                raise Problem(tools.summary, id="server", exit=Exit.UNREACHABLE)
            found[name] = Present(identity=identities[name], tools={tool.name: tool for tool in tools}, whole=True)
        return found

    def differences(self, present: Mapping[str, Present]) -> list[Difference]:
        """How what servers define differs from the lock."""
        lock = self.lock or Lock()
        found: list[Difference] = []
        for name, one in present.items():
            locked = lock.of(one.identity)
            moved = locked.identity not in {None, one.identity.as_spelled}
            gone = {tool for tool in locked.tools if one.whole and tool not in one.tools}
            nameless = {_nameless(tool.raw): f"{name}.{tool.name}" for tool in locked.tools.values()}
            for tool in one.tools.values():
                before = locked.tools.get(tool.name)
                if before is not None and before.digest == tool.digest and not moved:
                    continue
                found.append(
                    Difference(
                        server=name,
                        tool=tool.name,
                        state="new" if before is None else "changed",
                        old=None if before is None else before.raw,
                        new=tool.raw,
                        moved=moved and before is not None,
                        twin="" if before is not None else nameless.get(_nameless(tool.raw), ""),
                    )
                )
            found += [
                Difference(server=name, tool=tool, state="gone", old=locked.tools[tool].raw) for tool in sorted(gone)
            ]
        return found

    def agree(self, present: Mapping[str, Present], differing: Sequence[Difference]) -> None:
        """Write the lock with what differs as it is now. Raises `LoadErrors` when it cannot be written."""
        lock = self.lock or Lock()
        for name, one in present.items():
            of_server = [each for each in differing if each.server == name]
            gone = frozenset(each.tool for each in of_server if each.state == "gone")
            tools = [one.tools[each.tool] for each in of_server if each.state != "gone"]
            if of_server:
                lock = lock.agreed(one.identity, tools, gone)
        write_lock(self.path, lock)


@dataclass(frozen=True, slots=True, kw_only=True)
class Definitions:
    """What a check of policies knows of definitions, and what it is to do about them."""

    known: KnownTools = field(default_factory=dict[str, Mapping[str, "Mapping[str, Json] | None"]])
    differing: Sequence[Difference] = ()
    present: Mapping[str, Present] = field(default_factory=dict[str, Present])
    standing: Standing | None = None
    pin: bool = False
    listed: Mapping[str, Present] = field(default_factory=dict[str, Present])
    """What rules are checked against: locked, or live."""

    def hints(self) -> list[tuple[str, str, Mapping[str, Json]]]:
        """Every tool that rules are checked against: its server, its name, and what the server says of it."""
        return [
            (name, tool.name, annotations_of(tool.raw))
            for name, one in self.listed.items()
            for tool in one.tools.values()
        ]

    def tools(self) -> list[ToolDefinition]:
        """The same tools as a connection would have them, pinned."""
        return [
            make_definition(name, tool.name, tool.raw, PinState.PINNED)
            for name, one in self.listed.items()
            for tool in one.tools.values()
        ]

    @classmethod
    def look(cls, output: Output, state: Path, *, live: bool, pin: str | None) -> "Definitions":
        """Read the lock, and what servers define now or did last. Raises `Problem`, `LoadErrors` or `ReadError`."""
        standing = Standing.find(output)
        if standing is None:
            if live or pin is not None:
                text = "there is no configuration, which names servers and has its lock beside it"
                raise Problem(text, id="usage", fix="name it with -c, or begin with soothsayer init")
            return cls()
        if not live and pin is None:
            locked = standing.locked()
            return cls(known=_known(locked), listed=locked)
        present = chosen_servers(standing.live(state) if live else standing.on_record(pins_of(state)), pin or EVERY)
        listed = present if live else standing.locked()
        if pin is None and standing.lock is None:
            standing = replace(standing, lock=standing.as_pinned(pins_of(state)))
        differing = standing.differences(present)
        return cls(
            known=_known(listed),
            differing=differing,
            present=present,
            standing=standing,
            pin=pin is not None,
            listed=listed,
        )

    def settle(self, output: Output, *, yes: bool) -> bool:
        """Show what differs, or have it pinned by a person; whether all is as agreed on now. Raises `Problem`."""
        standing = self.standing
        if standing is None:
            return True
        for name, one in self.present.items():
            if not one.tools and not one.whole:
                output.remark(f"{name} has not been listed as it is started now; --live lists it")
        if not self.differing:
            output.remark("every definition is as it was pinned")
            return True
        if not self.pin:
            if not output.as_json:
                show(output, self.differing)
            return False
        if not ask_person(output, self.differing, yes=yes, what="pinning definitions needs a person"):
            output.remark("nothing was pinned")
            return False
        standing.agree(self.present, self.differing)
        named = ", ".join(f"{each.name} ({each.state})" for each in self.differing)
        output.remark(f"pinned in {standing.path}: {named}")
        return True


def pins_of(state: Path) -> list[Pin]:
    """The pins on record; none where nothing is. Raises `ReadError`."""
    try:
        with Reader(state) as reader:
            return read_pins([tuple(row) for row in reader.sql(SELECT_PINS, limit=100_000).rows])
    except NoTraceError:
        return []


def _known(present: Mapping[str, Present]) -> KnownTools:
    """The tools that rules may name, and the input schema of each."""
    return {
        name: {tool.name: _schema(tool.raw) for tool in one.tools.values()}
        for name, one in present.items()
        if one.tools or one.whole
    }


def annotations_of(raw: bytes) -> Mapping[str, Json]:
    """What a server says of its tool."""
    value = cast("Json", json.loads(raw))
    hints = value.get("annotations") if isinstance(value, dict) else None
    return hints if isinstance(hints, dict) else {}


def _schema(raw: bytes) -> Mapping[str, Json] | None:
    value = cast("Json", json.loads(raw))
    schema = value.get("inputSchema") if isinstance(value, dict) else None
    return schema if isinstance(schema, dict) and isinstance(schema.get("properties", {}), dict) else None


def chosen_servers(present: Mapping[str, Present], server: str) -> Mapping[str, Present]:
    """All of them, or the one of a name. Raises `Problem` for a name that the configuration does not have."""
    if server == EVERY:
        return present
    if server not in present:
        text = f'the configuration has no server "{server}"'
        raise Problem(text, id="not-found", near=nearest(server, sorted(present)), exit=Exit.NO)
    return {server: present[server]}


def ask_person(output: Output, differing: Sequence[Difference], *, yes: bool, what: str) -> bool:
    """Show differences and have a person say yes; `--yes` says that they were read. Raises `Problem` with nobody."""
    if yes:
        return True
    if not output.as_json:
        show(output, differing)
    if output.settings.no_input or not (sys.stdin.isatty() and output.is_terminal):
        raise Problem(what, id="needs-yes", fix="read the differences, then --yes")
    return click.confirm(f"Pin {count(len(differing), 'definition')} as shown?", default=False, err=True)


def show(output: Output, differing: Sequence[Difference]) -> None:
    """Show differences to a person."""
    output.page(render.diff([line for each in differing for line in each.lines()]))
