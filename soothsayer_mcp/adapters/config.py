"""The configuration: which servers there are, and what is set around them. Where a file is wrong, it does not load.

The block `mcpServers` is the one that hosts have; pasted from any of them it loads, and what of it does not count
here is said once.
"""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import field
from pathlib import Path
from typing import Final, Protocol, cast

from soothsayer_mcp.adapters.launch import Launch
from soothsayer_mcp.adapters.lazy import resolve
from soothsayer_mcp.adapters.lines import MAX_FRAME
from soothsayer_mcp.adapters.policy_files.places import Organisation
from soothsayer_mcp.adapters.policy_files.problems import START, LoadErrors, Problem
from soothsayer_mcp.adapters.probes.settings import ProbeSettings
from soothsayer_mcp.adapters.system import config_folder
from soothsayer_mcp.model.call import CONTROL
from soothsayer_mcp.model.decision import Mode
from soothsayer_mcp.model.json import Json, canonical, digest
from soothsayer_mcp.model.tier import Tier
from soothsayer_mcp.model.value import dataclass
from soothsayer_mcp.ports import ServerIdentity

FORMAT: Final = "config/v1"
FILE_NAME: Final = "soothsayer.yaml"
START_TIMEOUT_S: Final = 60.0
"""How long a server has for its first answer: package runners may have to download it."""
NAME: Final = re.compile(r"[a-z0-9-]{1,20}")
"""A server's name. Hosts put it before tool names, and the whole is cut at 64 characters by some."""
CALL_TIMEOUT_S: Final = 300.0
"""How long a call may take where no rule gives it less."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Remote:
    """How one server is reached over streamable HTTP."""

    name: str
    url: str
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    addresses: tuple[str, ...] = ()
    """Networks beside public ones that its name may lead to, as `adapters/addresses.py` reads them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSpec:
    """One server: how it is started or reached, and under which name."""

    name: str
    declared: bool
    """Whether a person gave the name; else it was made from the command."""
    reach: Launch | Remote
    start_timeout_s: float = START_TIMEOUT_S
    spelled: Mapping[str, Json] | None = None
    """What tells it from others as the configuration spells it, where something was filled in."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """A configuration that loaded, with its defaults filled in."""

    file: Path | None = None
    mode: Mode = Mode.ENFORCE
    policy: tuple[str, ...] = ("guarded",)
    """Files by absolute path, packaged policies by name; the first rules over the later ones."""
    organisation: Organisation | None = None
    workspace: str
    servers: tuple[ServerSpec, ...] = ()
    servers_of_file: bool = True
    """Whether the servers are those of the file, over which the lock beside it rules."""
    state: str | None = None
    run_id: str | None = None
    control_tools: bool = False
    """Whether the model has tools to ask about its own run."""
    explicit_run: bool = False
    """Whether a call that no run was named or opened for is refused."""
    durability: str = "strict"
    trace_timeout_s: float = 2.0
    blob_max: int = 8 * 1024 * 1024
    max_frame: int = MAX_FRAME
    in_flight: int = 256
    call_timeout_s: float = CALL_TIMEOUT_S
    ask_expires_s: float = 600.0
    """How long a question to a person stays open."""
    ask_hold_s: float = 45.0
    """How long a call is held while somebody watches who may answer."""
    ask_notify: bool = True
    """Whether the desktop is told of a question."""
    tiers: tuple[Tier, ...] = ()
    """Model tiers, weakest first."""
    probes: ProbeSettings = field(default_factory=ProbeSettings)
    warnings: tuple[str, ...] = ()
    """What a person should know although the file loads; each a line."""


class Parse(Protocol):
    """Reads a configuration's bytes; loaded only where there is a file, since a proxy of one server has none."""

    def __call__(self, raw: bytes, path: Path, *, environ: Mapping[str, str]) -> Config:
        """Raises `LoadErrors`."""
        ...


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
    parse = cast("Parse", resolve("soothsayer_mcp.adapters.config_file:parse"))
    return parse(raw, path, environ=environ)


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
    chosen = name or _but_ours(default_name(argv))
    reach = Launch(
        name=chosen,
        argv=tuple(argv),
        env=dict(env or {}),
        pass_env=tuple(pass_env),
        unsafe_pass_all_env=unsafe_pass_all_env,
    )
    return ServerSpec(name=chosen, declared=name is not None, reach=reach)


def spec_of_url(
    url: str, *, name: str | None = None, headers: Mapping[str, str] | None = None, addresses: tuple[str, ...] = ()
) -> ServerSpec:
    """Make the one server of `proxy --url URL`; without a name it gets one from its host."""
    host = re.sub(r"^[a-z+]+://(?:[^/@]*@)?([^/:?#]*).*$", r"\1", url.lower())
    parts = [part for part in host.split(".") if part not in {"www", "mcp", "api"}]
    chosen = name or _but_ours(_cleaned(parts[0] if parts else host))
    remote = Remote(name=chosen, url=url, headers=dict(headers or {}), addresses=addresses)
    return ServerSpec(name=chosen, declared=name is not None, reach=remote)


def server_identity(spec: ServerSpec) -> ServerIdentity:
    """What a server's pins hang on: its command line or address, and the names of its declared variables."""
    what: dict[str, Json]
    match spec.reach:
        case Launch() as launch:
            what = {"argv": list(launch.argv), "env": sorted({*launch.env, *launch.pass_env})}
        case Remote() as remote:
            what = {"url": remote.url, "headers": sorted(name.lower() for name in remote.headers)}
    return ServerIdentity(
        name=spec.name,
        digest=digest(canonical(what)),
        declared=spec.declared,
        spelled=None if spec.spelled is None else digest(canonical(spec.spelled)),
    )


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


def _but_ours(name: str) -> str:
    """A name made for a server; never the one that stands for our own tools."""
    return "server" if name == CONTROL else name


def near_name(name: str) -> str:
    """The name of a server that is nearest to one that no server may have; empty where none is near."""
    return _bare(name)[:20].strip("-")


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
