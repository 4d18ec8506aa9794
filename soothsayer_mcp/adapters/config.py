"""The configuration: which servers there are, and what is set around them. Where a file is wrong, it does not load.

The block `mcpServers` is the one that hosts have; pasted from any of them it loads, and what of it does not count
here is said once.
"""

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from soothsayer_mcp.adapters.launch import Launch
from soothsayer_mcp.adapters.lines import MAX_FRAME
from soothsayer_mcp.adapters.policy_files.positions import Items, Node, Pair, Pairs, Scalar, read
from soothsayer_mcp.adapters.policy_files.problems import START, LoadErrors, Mark, Problem, nearest
from soothsayer_mcp.adapters.system import config_folder
from soothsayer_mcp.model.decision import Mode
from soothsayer_mcp.model.json import Json, canonical, digest
from soothsayer_mcp.ports import ServerIdentity

FORMAT: Final = "config/v1"
FILE_NAME: Final = "soothsayer.yaml"
START_TIMEOUT_S: Final = 60.0
"""How long a server has for its first answer: package runners may have to download it."""
CALL_TIMEOUT_S: Final = 300.0
"""How long a call may take where no rule gives it less."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Remote:
    """How one server is reached over streamable HTTP."""

    name: str
    url: str
    headers: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSpec:
    """One server: how it is started or reached, and under which name."""

    name: str
    declared: bool
    """Whether a person gave the name; else it was made from the command."""
    reach: Launch | Remote
    start_timeout_s: float = START_TIMEOUT_S


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """A configuration that loaded, with its defaults filled in."""

    file: Path | None = None
    mode: Mode = Mode.ENFORCE
    policy: tuple[str, ...] = ("guarded",)
    """Files by absolute path, packaged policies by name; the first rules over the later ones."""
    workspace: str
    servers: tuple[ServerSpec, ...] = ()
    state: str | None = None
    run_id: str | None = None
    durability: str = "strict"
    trace_timeout_s: float = 2.0
    blob_max: int = 8 * 1024 * 1024
    max_frame: int = MAX_FRAME
    in_flight: int = 256
    call_timeout_s: float = CALL_TIMEOUT_S
    warnings: tuple[str, ...] = ()
    """What a person should know although the file loads; each a line."""


def find_config(given: str | None, *, environ: Mapping[str, str] = os.environ) -> Path | None:
    """Choose the file: `-c`, `SOOTHSAYER_CONFIG`, else the one in the platform's folder if it is there.

    Never one of the working directory: that belongs to whoever wrote the repository.
    """
    for chosen in (given, environ.get("SOOTHSAYER_CONFIG")):
        if chosen:
            return Path(chosen).expanduser().absolute()
    usual = config_folder() / FILE_NAME
    return usual if usual.is_file() else None


def load(path: Path, *, environ: Mapping[str, str] = os.environ) -> Config:
    """Load a configuration. Raises `LoadErrors` with everything that is wrong, each with its place."""
    try:
        raw = path.read_bytes()
    except OSError as error:
        text = f"the configuration cannot be read ({error.strerror})"
        raise LoadErrors([Problem(file=str(path), mark=START, id="config-file", text=text)]) from error
    return parse(raw, path, environ=environ)


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


def workspace_without_config() -> str:
    """The workspace where no configuration names one: the folder we were started in."""
    return os.path.realpath(".")


def spec_of_command(
    argv: Sequence[str],
    *,
    name: str | None = None,
    env: Mapping[str, str] | None = None,
    pass_env: Sequence[str] = (),
    unsafe_pass_all_env: bool = False,
) -> ServerSpec:
    """Make the one server of `proxy -- CMD ARGS`; without a name it gets one from its command."""
    chosen = name or default_name(argv)
    reach = Launch(
        name=chosen,
        argv=tuple(argv),
        env=dict(env or {}),
        pass_env=tuple(pass_env),
        unsafe_pass_all_env=unsafe_pass_all_env,
    )
    return ServerSpec(name=chosen, declared=name is not None, reach=reach)


def spec_of_url(url: str, *, name: str | None = None, headers: Mapping[str, str] | None = None) -> ServerSpec:
    """Make the one server of `proxy --url URL`; without a name it gets one from its host."""
    host = re.sub(r"^[a-z+]+://(?:[^/@]*@)?([^/:?#]*).*$", r"\1", url.lower())
    parts = [part for part in host.split(".") if part not in {"www", "mcp", "api"}]
    chosen = name or _cleaned(parts[0] if parts else host)
    return ServerSpec(
        name=chosen, declared=name is not None, reach=Remote(name=chosen, url=url, headers=dict(headers or {}))
    )


def server_identity(spec: ServerSpec) -> ServerIdentity:
    """What a server's pins hang on: its command line or address, and the names of its declared variables."""
    what: dict[str, Json]
    match spec.reach:
        case Launch() as launch:
            what = {"argv": list(launch.argv), "env": sorted({*launch.env, *launch.pass_env})}
        case Remote() as remote:
            what = {"url": remote.url, "headers": sorted(name.lower() for name in remote.headers)}
    return ServerIdentity(name=spec.name, digest=digest(canonical(what)), declared=spec.declared)


NAME: Final = re.compile(r"[a-z0-9-]{1,20}")
"""A server's name. Hosts put it before tool names, and the whole is cut at 64 characters by some."""

_LATER: Final = frozenset({"asks", "probes", "tiers", "serve", "otel", "control_tools"})
_TOP: Final = ("soothsayer", "mode", "policy", "workspace", "mcpServers", "state", "run", "trace", "limits")
_STDIO: Final = ("command", "args", "cwd", "env", "pass_env", "start_timeout", "disabled", "type")
_HTTP: Final = ("url", "headers", "start_timeout", "disabled", "type")
_HOST_KEYS: Final = frozenset({"timeout", "description", "gallery", "version"})
"""What hosts write for themselves: understood, and without effect here."""
_HOST_APPROVALS: Final = frozenset({"alwaysAllow", "autoApprove", "trust"})
"""What hosts write about their own asking: it answers to another gate."""
_TYPES: Final = {"stdio": "stdio", "http": "http", "streamable-http": "http", "streamableHttp": "http"}

_PLACEHOLDER: Final = re.compile(r"\$\{([^}]*)\}")
_DURATION: Final = re.compile(r"([0-9]{1,6}(?:\.[0-9]{1,3})?)(ms|s|m|h|d)")
_SECONDS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3_600.0, "d": 86_400.0}
_SIZE: Final = re.compile(r"([1-9][0-9]{0,11})(B|kB|KiB|MB|MiB|GB|GiB)?")
_BYTES: Final = {"": 1, "B": 1, "kB": 10**3, "KiB": 2**10, "MB": 10**6, "MiB": 2**20, "GB": 10**9, "GiB": 2**30}


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
        run = self.section(top, "run", ("id",))
        trace = self.section(top, "trace", ("durability", "timeout", "blob_max"))
        limits = self.section(top, "limits", ("max_frame", "in_flight", "call_timeout"))
        state = top.get("state")
        usual = Config(workspace=self.workspace)
        return Config(
            file=path,
            mode=Mode(self.word(top.get("mode"), [*Mode], usual.mode)),
            policy=self.policies(top.get("policy"), usual.policy),
            workspace=self.workspace,
            servers=self.servers(top.get("mcpServers")),
            state=None if state is None else self.path(state),
            run_id=None if "id" not in run else self.filled(run["id"]),
            durability=self.word(trace.get("durability"), ["strict", "balanced", "relaxed"], usual.durability),
            trace_timeout_s=self.seconds(trace.get("timeout"), usual.trace_timeout_s),
            blob_max=self.bytes(trace.get("blob_max"), usual.blob_max),
            max_frame=self.bytes(limits.get("max_frame"), usual.max_frame),
            in_flight=self.count(limits.get("in_flight"), usual.in_flight),
            call_timeout_s=self.seconds(limits.get("call_timeout"), usual.call_timeout_s),
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

    # -- parts --------------------------------------------------------------------------------------------------------

    def policies(self, node: Node | None, usual: tuple[str, ...]) -> tuple[str, ...]:
        if node is None:
            return usual
        named = [self.filled(item) for item in self.items(node)]
        if not named:
            self.wrong(node.mark, "value", "a list without a policy governs nothing; leave the key out for `guarded`")
        return tuple(self.beside(each) if each.endswith((".yaml", ".yml")) else each for each in named)

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
                near = re.sub(r"[^a-z0-9]+", "-", pair.key.lower()).strip("-")[:20].strip("-")
                self.wrong(pair.mark, "name", f'"{pair.key}" is no server name: 1 to 20 of a-z, 0-9 and "-"', near)
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
        return ServerSpec(name=pair.key, declared=True, reach=reach, start_timeout_s=start_timeout_s)

    def is_remote(self, node: Pairs) -> bool | None:
        kind = node.get("type")
        has_url = any(node.get(key) is not None for key in ("url", "serverUrl"))
        has_command = node.get("command") is not None
        if has_url and has_command:
            self.wrong(node.mark, "value", "`command` and `url` exclude each other")
            return None
        if kind is None:
            if not has_url and not has_command:
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
        return Remote(name=name, url=url, headers=self.mapping(found.get("headers"), "headers"))


def _seconds(text: str) -> float | None:
    found = _DURATION.fullmatch(text)
    return None if found is None else float(found.group(1)) * _SECONDS[found.group(2)]


def _bytes(text: str) -> int | None:
    found = _SIZE.fullmatch(text)
    return None if found is None else int(found.group(1)) * _BYTES[found.group(2) or ""]


def _count(text: str) -> int | None:
    return int(text) if re.fullmatch(r"[1-9][0-9]{0,5}", text) else None


_RUNNERS: Final = frozenset({"npx", "bunx", "pnpx", "uvx", "pipx"})
"""Programs whose first plain argument is the package they run."""
_RUNNING: Final = {
    "npm": ("exec", "x"),
    "pnpm": ("dlx", "exec"),
    "yarn": ("dlx",),
    "bun": ("x", "run"),
    "deno": ("run",),
    "uv": ("tool", "run"),
    "pipx": ("run",),
    "docker": ("run",),
    "podman": ("run",),
    "cmd": ("/c",),
    "env": (),
}
"""Program -> the words between it and what it runs."""
_WITH_VALUE: Final = frozenset(
    {"-p", "--package", "--from", "--with", "--python", "--directory", "--project", "-C", "--index", "-e", "--env"}
    | {"-v", "--volume", "--mount", "--name", "--network", "-w", "--workdir", "-u", "--user", "--env-file", "-c"}
)
"""Options of those programs that take the next word."""
_GENERIC: Final = frozenset({"", "mcp", "server", "mcp-server", "index", "main", "app", "src", "dist", "build", "cli"})
_INTERPRETERS: Final = re.compile(r"(?:python|pypy)[0-9.]*w?|py|node|bun|deno|ruby|perl|tsx|ts-node|sh|bash|zsh")


def default_name(argv: Sequence[str]) -> str:
    """Make a short name for a server from its command: what is left of it without runners, scopes and versions."""
    program = _stem(argv[0]) if argv else ""
    words = _plain_words(argv[1:])
    if program in _RUNNING:
        while words and words[0] in _RUNNING[program]:
            words = _plain_words(words[1:])
        if program in {"cmd", "env"}:
            words = [word for word in words if "=" not in word]
        if words and (program in {"cmd", "env"} or _INTERPRETERS.fullmatch(_stem(words[0]))):
            return default_name(words)
        return _cleaned(_package(words[0]) if words else program)
    if program in _RUNNERS:
        return _cleaned(_package(words[0]) if words else program)
    if _INTERPRETERS.fullmatch(program):
        rest = list(argv[1:])
        if "-m" in rest[:-1]:
            return _cleaned(rest[rest.index("-m") + 1].split(".")[0])
        return _cleaned(_script(words[0]) if words else program)
    return _cleaned(program)


def _plain_words(words: Sequence[str]) -> list[str]:
    """Leave out options and their values, up to the first plain word; what follows is all plain."""
    at = 0
    while at < len(words) and words[at].startswith("-"):
        at += 2 if words[at] in _WITH_VALUE else 1
    return list(words[at:])


def _stem(path: str) -> str:
    name = re.split(r"[/\\]", path)[-1]
    return re.sub(r"\.(?:exe|cmd|bat|py|js|mjs|cjs|ts|sh)$", "", name, flags=re.IGNORECASE).lower()


def _script(path: str) -> str:
    """Name a script, or the nearest folder above it that says more than `main` or `dist` do."""
    for part in reversed(re.split(r"[/\\]", path)):
        stem = _stem(part)
        if stem not in _GENERIC | {".", ".."}:
            return stem
    return _stem(path)


def _package(spec: str) -> str:
    """Name a package, npm, Python or container: without registry, scope, version and extras."""
    if re.match(r"(?:\.|/|[A-Za-z]:[/\\])", spec) or _stem(spec) != spec.rsplit("/", 1)[-1].lower():
        return _script(spec)
    scope, slash, name = spec.partition("/") if spec.startswith("@") else ("", "", spec)
    name = name if not scope else name or scope
    bare = re.split(r"[@:\[<>=!~]", name.rsplit("/", 1)[-1])[0]
    return scope.removeprefix("@") if slash and _bare(bare) in _GENERIC else bare


def _bare(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def _cleaned(name: str) -> str:
    bare = _bare(name)
    short = re.sub(r"^(?:mcp-server-|server-|mcp-)", "", bare)
    short = re.sub(r"(?:-mcp-server|-server-mcp|-server|-mcp)$", "", short)
    chosen = bare if short in _GENERIC else short
    return chosen[:20].strip("-") or "server"
