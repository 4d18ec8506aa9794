"""Reads a configuration file: YAML or JSON in, a `Config` out, or everything that is wrong with it."""

import os
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import field
from pathlib import Path
from typing import Final

from soothsayer_mcp.adapters.addresses import networks
from soothsayer_mcp.adapters.config import FORMAT, NAME, START_TIMEOUT_S, Config, Remote, ServerSpec, near_name
from soothsayer_mcp.adapters.launch import Launch
from soothsayer_mcp.adapters.policy_files.places import Organisation
from soothsayer_mcp.adapters.policy_files.positions import Items, Node, Pair, Pairs, Scalar, read
from soothsayer_mcp.adapters.policy_files.problems import START, LoadErrors, Mark, Problem, nearest
from soothsayer_mcp.adapters.policy_files.signed import KEY
from soothsayer_mcp.adapters.probes.settings import Command, ProbeSettings
from soothsayer_mcp.model.call import CONTROL
from soothsayer_mcp.model.decision import Mode
from soothsayer_mcp.model.json import Json
from soothsayer_mcp.model.tier import Tier
from soothsayer_mcp.model.value import dataclass

TIER: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,59}")

_LATER: Final = frozenset({"serve", "otel"})
_TOP: Final = (
    "soothsayer",
    "mode",
    "policy",
    "organisation",
    "workspace",
    "mcpServers",
    "asks",
    "state",
    "run",
    "trace",
    "limits",
    "control_tools",
    "tiers",
    "probes",
)
_STDIO: Final = ("command", "args", "cwd", "env", "pass_env", "start_timeout", "disabled", "type")
_HTTP: Final = ("url", "headers", "addresses", "start_timeout", "disabled", "type")
_HOST_KEYS: Final = frozenset({"timeout", "description", "gallery", "version"})
"""What hosts write for themselves: understood, and without effect here."""
_HOST_APPROVALS: Final = frozenset({"alwaysAllow", "autoApprove", "trust"})
"""What hosts write about their own asking: it answers to another gate."""
_TYPES: Final = {"stdio": "stdio", "http": "http", "streamable-http": "http", "streamableHttp": "http"}

_WORD_USE: Final = re.compile(r"\$\{(?!workspace\})[a-z][a-z0-9_-]*\}")
"""A word of a command that a check fills in."""
COMMAND_S: Final = 60.0
MOST_COMMAND_S: Final = 900.0

_PLACEHOLDER: Final = re.compile(r"\$\{([^}]*)\}")
_DURATION: Final = re.compile(r"([0-9]{1,6}(?:\.[0-9]{1,3})?)(ms|s|m|h|d)")
_SECONDS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3_600.0, "d": 86_400.0}
_SIZE: Final = re.compile(r"([1-9][0-9]{0,11})(B|kB|KiB|MB|MiB|GB|GiB)?")
_BYTES: Final = {"": 1, "B": 1, "kB": 10**3, "KiB": 2**10, "MB": 10**6, "MiB": 2**20, "GB": 10**9, "GiB": 2**30}


def parse(raw: bytes, path: Path, *, environ: Mapping[str, str]) -> Config:
    """Read a configuration's bytes; `path` says what relative names are relative to. Raises `LoadErrors`."""
    is_json = raw.lstrip().startswith(b"{")
    if is_json:
        # JSON is YAML but for tabs between its tokens. Within a text JSON has none, so nothing else changes.
        raw = raw.replace(b"\t", b" ")
    root = read(raw, str(path), prefix="config")
    reading = _Reading(file=str(path), folder=path.absolute().parent, environ=environ)
    config = reading.config(root, path, needs_format=not is_json)
    if reading.problems:
        raise LoadErrors(reading.problems)
    return config


@dataclass(slots=True, kw_only=True)
class _Reading:
    """One pass over a file; problems gather and every method answers something harmless where there is one."""

    file: str
    folder: Path
    environ: Mapping[str, str]
    workspace: str = ""
    problems: list[Problem] = field(default_factory=list[Problem])
    warnings: list[str] = field(default_factory=list[str])

    def wrong(self, mark: Mark, kind: str, text: str, near: str = "") -> None:
        self.problems.append(Problem(file=self.file, mark=mark, id=f"config-{kind}", text=text, nearest=near))

    def config(self, root: Pairs, path: Path, *, needs_format: bool) -> Config:
        top = self.keys(root, _TOP, "key")
        written = top.get("soothsayer")
        if written is None:
            if needs_format:
                self.wrong(START, "format", f"the file does not say its format; begin it with `soothsayer: {FORMAT}`")
        elif self.text(written) != FORMAT:
            self.wrong(written.mark, "format", f"this version reads {FORMAT} and nothing else", FORMAT)
        place = top.get("workspace")
        self.workspace = os.path.realpath(self.folder / (self.filled(place) if place is not None else "."))
        run = self.section(top, "run", ("id", "bind"))
        trace = self.section(top, "trace", ("durability", "timeout", "blob_max"))
        asks = self.section(top, "asks", ("expires", "hold", "notify"))
        limits = self.section(top, "limits", ("max_frame", "in_flight", "call_timeout"))
        state = top.get("state")
        usual = Config(workspace=self.workspace)
        return Config(
            file=path,
            mode=Mode(self.word(top.get("mode"), [*Mode], usual.mode)),
            policy=self.policies(top.get("policy"), usual.policy),
            organisation=self.organisation(top.get("organisation")),
            workspace=self.workspace,
            servers=self.servers(top.get("mcpServers")),
            state=None if state is None else self.path(state),
            run_id=None if "id" not in run else self.filled(run["id"]),
            control_tools=self.flag(top.get("control_tools")),
            explicit_run=self.word(run.get("bind"), ["auto", "explicit"], "auto") == "explicit",
            durability=self.word(trace.get("durability"), ["strict", "balanced", "relaxed"], usual.durability),
            trace_timeout_s=self.seconds(trace.get("timeout"), usual.trace_timeout_s),
            blob_max=self.bytes(trace.get("blob_max"), usual.blob_max),
            max_frame=self.bytes(limits.get("max_frame"), usual.max_frame),
            in_flight=self.count(limits.get("in_flight"), usual.in_flight),
            call_timeout_s=self.seconds(limits.get("call_timeout"), usual.call_timeout_s),
            probes=self.probes(top),
            ask_expires_s=self.seconds(asks.get("expires"), usual.ask_expires_s),
            ask_hold_s=self.seconds(asks.get("hold"), usual.ask_hold_s),
            ask_notify=self.notifies(asks.get("notify"), otherwise=usual.ask_notify),
            tiers=self.tiers(top.get("tiers")),
            warnings=tuple(self.warnings),
        )

    # -- shapes -------------------------------------------------------------------------------------------------------

    def keys(
        self, node: Node, known: Sequence[str], kind: str, ignored: frozenset[str] = frozenset()
    ) -> dict[str, Node]:
        if not isinstance(node, Pairs):
            self.wrong(node.mark, "type", f"keys and values have to stand here: {', '.join(known)}")
            return {}
        found: dict[str, Node] = {}
        for pair in node.pairs:
            if pair.key in known:
                found[pair.key] = pair.value
            elif pair.key not in ignored:
                self.unknown(pair, known, kind)
        return found

    def unknown(self, pair: Pair, known: Sequence[str], kind: str) -> None:
        if pair.key in _LATER and "mcpServers" in known:
            self.wrong(pair.mark, "later", f"`{pair.key}` is not in this version")
        else:
            self.wrong(pair.mark, kind, f'there is no key "{pair.key}" here', nearest(pair.key, known))

    def section(self, top: Mapping[str, Node], name: str, known: Sequence[str]) -> dict[str, Node]:
        return self.keys(top[name], known, "key") if name in top else {}

    def items(self, node: Node | None) -> list[Node]:
        match node:
            case None:
                return []
            case Items():
                return node.items
            case Pairs():
                self.wrong(node.mark, "type", "a list has to stand here")
                return []
            case Scalar():
                return [node]

    def text(self, node: Node) -> str:
        match node:
            case Scalar(value=str() as text):
                return text
            case Scalar(value=bool() | float()):
                self.wrong(node.mark, "type", "a text has to stand here; quote it")
            case Scalar(value=int() as number):
                return str(number)
            case _:
                self.wrong(node.mark, "type", "a text has to stand here")
        return ""

    def flag(self, node: Node | None) -> bool:
        match node:
            case None:
                return False
            case Scalar(value=bool() as flag):
                return flag
            case _:
                self.wrong(node.mark, "type", "true or false has to stand here")
                return False

    def word(self, node: Node | None, known: Sequence[str], usual: str) -> str:
        if node is None:
            return usual
        text = self.text(node)
        if text in known:
            return text
        if text:
            self.wrong(node.mark, "value", f'"{text}" is none of {", ".join(known)}', nearest(text, known))
        return usual

    def measure(self, node: Node | None, usual: float, read_text: Callable[[str], float | None], example: str) -> float:
        if node is None:
            return usual
        text = self.text(node)
        value = read_text(text)
        if value is None or value <= 0:
            if text:
                self.wrong(node.mark, "value", f'"{text}" is not what has to stand here: {example}')
            return usual
        return value

    def notifies(self, node: Node | None, *, otherwise: bool) -> bool:
        """Whether the desktop is told of questions: `[desktop]`, or an empty list for nobody."""
        if node is None:
            return otherwise
        return "desktop" in [self.word(item, ("desktop",), "") for item in self.items(node)]

    def seconds(self, node: Node | None, usual: float) -> float:
        return self.measure(node, usual, _seconds, "a duration such as 500ms, 30s or 10m")

    def bytes(self, node: Node | None, usual: int) -> int:
        return int(self.measure(node, usual, _bytes, "a size such as 500kB, 8MiB or 64MB"))

    def count(self, node: Node | None, usual: int) -> int:
        return int(self.measure(node, usual, _count, "a number from 1"))

    # -- substitutions ------------------------------------------------------------------------------------------------

    def filled(self, node: Node) -> str:
        """Read a text and fill in `${env:NAME}` and `${workspace}`."""

        def fill(found: re.Match[str]) -> str:
            what = found.group(1)
            if what == "workspace" and self.workspace:
                return self.workspace
            if what.startswith("env:"):
                value = self.environ.get(what[4:])
                if value is not None:
                    return value
                text = f"the environment variable {what[4:]} is not set; set it where the proxy is started"
                self.wrong(node.mark, "variable", text)
                return ""
            known = ["${workspace}", f"${{env:{what}}}"] if self.workspace else [f"${{env:{what}}}"]
            meant = nearest(found.group(0), known) or known[-1]
            self.wrong(node.mark, "variable", f"{found.group(0)} is not filled in here", meant)
            return ""

        return _PLACEHOLDER.sub(fill, self.text(node))

    def path(self, node: Node) -> str:
        return self.beside(self.filled(node))

    def beside(self, name: str) -> str:
        """Complete a path that is relative to the file."""
        return str(self.folder / Path(name).expanduser())

    def mapping(self, node: Node | None, what: str) -> dict[str, str]:
        match node:
            case None:
                return {}
            case Pairs():
                return {pair.key: self.filled(pair.value) for pair in node.pairs}
            case _:
                self.wrong(node.mark, "type", f"names and values of {what} have to stand here")
                return {}

    # -- what checks may look at --------------------------------------------------------------------------------------

    def probes(self, top: Mapping[str, Node]) -> ProbeSettings:
        found = self.section(top, "probes", ("files", "http", "commands", "keys"))
        files = self.section(found, "files", ("roots",))
        http = self.section(found, "http", ("hosts",))
        return ProbeSettings(
            roots=tuple(os.path.realpath(self.path(node)) for node in self.items(files.get("roots"))),
            hosts=frozenset(self.filled(node).lower() for node in self.items(http.get("hosts"))),
            commands={pair.key: self.command(pair.value) for pair in self.pairs(found.get("commands"))},
            keys={pair.key: self.path(pair.value) for pair in self.pairs(found.get("keys"))},
        )

    def pairs(self, node: Node | None) -> Sequence[Pair]:
        if node is None or isinstance(node, Pairs):
            return [] if node is None else node.pairs
        self.wrong(node.mark, "type", "names and what they stand for have to stand here")
        return []

    def command(self, node: Node) -> Command:
        found = self.keys(node, ("argv", "cwd", "env", "timeout"), "key")
        words = self.items(found.get("argv"))
        argv = [self.text(word) if _WORD_USE.fullmatch(self.text(word)) else self.filled(word) for word in words]
        program = shutil.which(argv[0], path=self.environ.get("PATH")) if argv else None
        if program is None:
            text = (
                "a command has an `argv` that begins with a program" if not argv else f'no program "{argv[0]}" is found'
            )
            self.wrong(node.mark, "value", text)
        timeout_s = self.seconds(found.get("timeout"), COMMAND_S)
        if timeout_s > MOST_COMMAND_S:
            self.wrong(found["timeout"].mark, "value", "a check runs 15m at most")
        names = [self.text(name) for name in self.items(found.get("env"))]
        return Command(
            argv=(program or "", *argv[1:]),
            cwd=self.path(found["cwd"]) if "cwd" in found else self.workspace,
            env={name: self.environ[name] for name in names if name in self.environ},
            timeout_s=timeout_s,
        )

    # -- parts --------------------------------------------------------------------------------------------------------

    def policies(self, node: Node | None, usual: tuple[str, ...]) -> tuple[str, ...]:
        if node is None:
            return usual
        named = [self.filled(item) for item in self.items(node)]
        if not named:
            self.wrong(node.mark, "value", "a list without a policy governs nothing; leave the key out for `guarded`")
        return tuple(self.beside(each) if each.endswith((".yaml", ".yml")) else each for each in named)

    def tiers(self, node: Node | None) -> tuple[Tier, ...]:
        found: dict[str, Tier] = {}
        for item in self.items(node):
            keys = self.keys(item, ("name", "hints", "cost", "speed", "intelligence"), "key")
            name = self.text(keys["name"]) if "name" in keys else ""
            if TIER.fullmatch(name) is None:
                self.wrong(item.mark, "name", "a tier has a name: small letters, digits and -")
            elif name in found:
                self.wrong(keys["name"].mark, "name", f'there are two tiers called "{name}"')
            found[name] = Tier(
                name=name,
                hints=tuple(self.text(hint) for hint in self.items(keys.get("hints"))),
                cost=self.share(keys.get("cost")),
                speed=self.share(keys.get("speed")),
                intelligence=self.share(keys.get("intelligence")),
            )
            if not found[name].preferences:
                self.wrong(item.mark, "value", "a tier says what it means: hints, cost, speed or intelligence")
        return tuple(found.values())

    def share(self, node: Node | None) -> float | None:
        match node:
            case None:
                return None
            case Scalar(value=int() | float() as share) if not isinstance(share, bool) and 0 <= share <= 1:
                return float(share)
            case _:
                self.wrong(node.mark, "value", "a number from 0 to 1 has to stand here")
                return None

    def organisation(self, node: Node | None) -> Organisation | None:
        """A file, or a file and the key that has to have signed it."""
        if node is None:
            return None
        if not isinstance(node, Pairs):
            return Organisation(policy=self.beside(self.filled(node)))
        parts = self.keys(node, ("policy", "key"), "key")
        if "policy" not in parts:
            self.wrong(node.mark, "key", "the key `policy` is missing: the organisation's policy file")
            return None
        key = self.filled(parts["key"]) if "key" in parts else ""
        if "key" in parts and KEY.fullmatch(key) is None:
            self.wrong(parts["key"].mark, "value", "a key is ed25519: and 64 digits of 0-9 and a-f")
        return Organisation(policy=self.beside(self.filled(parts["policy"])), key=key)

    def servers(self, node: Node | None) -> tuple[ServerSpec, ...]:
        if node is None:
            return ()
        if not isinstance(node, Pairs):
            self.wrong(node.mark, "type", "servers have to stand here, each under its name")
            return ()
        alone = len(node.pairs) == 1
        specs: list[ServerSpec] = []
        for pair in node.pairs:
            if NAME.fullmatch(pair.key) is None:
                text = f'"{pair.key}" is no server name: 1 to 20 of a-z, 0-9 and "-"'
                self.wrong(pair.mark, "name", text, near_name(pair.key))
            elif pair.key == CONTROL:
                self.wrong(
                    pair.mark, "name", f'the name "{CONTROL}" is kept for our own tools; give the server another'
                )
            spec = self.server(pair, alone=alone)
            if spec is not None:
                specs.append(spec)
        return tuple(specs)

    def server(self, pair: Pair, *, alone: bool) -> ServerSpec | None:
        node = pair.value
        if not isinstance(node, Pairs):
            self.wrong(node.mark, "type", "what starts or reaches the server has to stand here: `command` or `url`")
            return None
        approvals = sorted(_HOST_APPROVALS & {each.key for each in node.pairs})
        if approvals:
            self.warnings.append(
                f"{self.file}:{pair.mark.line}:{pair.mark.column}: {', '.join(approvals)} of server {pair.key} is "
                "ignored: it is about what the host asks; here policy decides"
            )
        remote = self.is_remote(node)
        if remote is None:
            return None
        known = _HTTP if remote else _STDIO
        if remote:
            # Windsurf's word for the same thing.
            pairs = [Pair("url", each.mark, each.value) if each.key == "serverUrl" else each for each in node.pairs]
            node = Pairs(pairs=pairs, mark=node.mark)
        found = self.keys(node, known, "key", _HOST_KEYS | _HOST_APPROVALS)
        start_timeout_s = self.seconds(found.get("start_timeout"), START_TIMEOUT_S)
        reach = self.remote(pair.key, found, node.mark) if remote else self.launch(pair.key, found, alone=alone)
        if self.flag(found.get("disabled")) or reach is None:
            return None
        return ServerSpec(
            name=pair.key,
            declared=True,
            reach=reach,
            start_timeout_s=start_timeout_s,
            spelled=self.spelled(found, reach),
        )

    def spelled(self, found: Mapping[str, Node], reach: Launch | Remote) -> Mapping[str, Json] | None:
        """What the server's identity is made of before anything is filled in; `None` where nothing was."""
        match reach:
            case Launch():
                argv = [self.text(found["command"]), *(self.text(item) for item in self.items(found.get("args")))]
                plain = tuple(argv) == reach.argv
                return None if plain else {"argv": argv, "env": sorted({*reach.env, *reach.pass_env})}
            case Remote():
                url = self.text(found["url"])
                headers = sorted(name.lower() for name in reach.headers)
                return None if url == reach.url else {"url": url, "headers": headers}

    def is_remote(self, node: Pairs) -> bool | None:
        kind = node.get("type")
        has_url = any(node.get(key) is not None for key in ("url", "serverUrl"))
        has_command = node.get("command") is not None
        if has_url and has_command:
            self.wrong(node.mark, "value", "`command` and `url` exclude each other")
            return None
        if kind is None:
            if not has_url and not has_command:
                strange = [
                    each for each in node.pairs if each.key not in {*_STDIO, *_HTTP, *_HOST_KEYS, *_HOST_APPROVALS}
                ]
                for each in strange:
                    self.unknown(each, ("command", "url", *_STDIO), "key")
                if not strange:
                    self.wrong(node.mark, "value", "the server has neither `command` nor `url`")
                return None
            return has_url
        text = self.text(kind)
        if text == "sse":
            self.wrong(kind.mark, "value", "the transport sse is not spoken; use the server's streamable HTTP address")
            return None
        if text not in _TYPES:
            self.wrong(kind.mark, "value", f'"{text}" is none of stdio, http', nearest(text, _TYPES))
            return None
        return _TYPES[text] == "http"

    def launch(self, name: str, found: Mapping[str, Node], *, alone: bool) -> Launch | None:
        if "command" not in found:
            return None
        command = self.filled(found["command"])
        if not command:
            self.wrong(found["command"].mark, "value", "the command is empty")
        cwd = found.get("cwd")
        passed = [self.text(item) for item in self.items(found.get("pass_env"))]
        program = str(Path(command).expanduser()) if command.startswith("~") else command
        return Launch(
            name=name,
            argv=(program, *(self.filled(item) for item in self.items(found.get("args")))),
            cwd=None if cwd is None else self.path(cwd),
            env=self.mapping(found.get("env"), "variables"),
            pass_env=tuple(passed),
            label_stderr=not alone,
        )

    def remote(self, name: str, found: Mapping[str, Node], mark: Mark) -> Remote | None:
        node = found.get("url")
        if node is None:
            self.wrong(mark, "value", "the server has no `url`")
            return None
        url = self.filled(node)
        if not url.startswith(("https://", "http://")):
            self.wrong(node.mark, "value", "a url begins with https:// or http://")
        return Remote(
            name=name,
            url=url,
            headers=self.mapping(found.get("headers"), "headers"),
            addresses=tuple(self.network(item) for item in self.items(found.get("addresses"))),
        )

    def network(self, node: Node) -> str:
        text = self.filled(node)
        try:
            networks(text)
        except ValueError:
            self.wrong(node.mark, "value", f'"{text}" is none of loopback, private, a network such as 10.0.0.0/8')
        return text


def _seconds(text: str) -> float | None:
    found = _DURATION.fullmatch(text)
    return None if found is None else float(found.group(1)) * _SECONDS[found.group(2)]


def _bytes(text: str) -> int | None:
    found = _SIZE.fullmatch(text)
    return None if found is None else int(found.group(1)) * _BYTES[found.group(2) or ""]


def _count(text: str) -> int | None:
    return int(text) if re.fullmatch(r"[1-9][0-9]{0,5}", text) else None
