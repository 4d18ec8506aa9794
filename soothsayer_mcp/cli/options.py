"""The options as data: one table for every command and one for `proxy`, and the small parser that a host's start uses.

`cli/main.py` makes click's options from the same rows. Nothing here imports click: a host starts one proxy per server.
"""

import difflib
import os
from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import Literal, TypeAlias

from soothsayer_mcp.adapters.config import NAME, near_name
from soothsayer_mcp.cli.problems import Problem
from soothsayer_mcp.model.call import CONTROL
from soothsayer_mcp.model.value import dataclass

ColorWhen: TypeAlias = Literal["auto", "always", "never"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """One option of the command line."""

    names: tuple[str, ...]
    field: str
    help: str
    metavar: str = ""
    """What stands for the value in the help; empty for a flag."""
    many: bool = False
    """Whether it may be given more than once, each time adding; a flag is then counted."""
    choices: tuple[str, ...] = ()
    variable: str = ""
    """The environment variable that stands in for it; empty when there is none."""

    @property
    def is_flag(self) -> bool:
        """Whether it takes no value."""
        return not self.metavar


STATE = Option(
    names=("--state",),
    field="state",
    metavar="DIR",
    variable="SOOTHSAYER_STATE",
    help="The folder that holds the trace.",
)
CONFIG = Option(
    names=("-c", "--config"),
    field="config",
    metavar="FILE",
    variable="SOOTHSAYER_CONFIG",
    help="The configuration file.",
)
JSON = Option(
    names=("--json",), field="json", variable="SOOTHSAYER_JSON", help="One JSON document for programs; errors as JSON."
)
NO_INPUT = Option(names=("--no-input",), field="no_input", variable="SOOTHSAYER_NO_INPUT", help="Never ask anybody.")
COLOR = Option(
    names=("--color",),
    field="color",
    metavar="WHEN",
    choices=("auto", "always", "never"),
    variable="SOOTHSAYER_COLOR",
    help="auto, always or never.",
)
NO_PROGRESS = Option(
    names=("--no-progress",), field="no_progress", variable="SOOTHSAYER_NO_PROGRESS", help="No progress bars."
)
NO_PAGER = Option(
    names=("--no-pager",), field="no_pager", variable="SOOTHSAYER_NO_PAGER", help="Print at once, without a pager."
)
QUIET = Option(names=("-q", "--quiet"), field="quiet", variable="SOOTHSAYER_QUIET", help="No remarks, only answers.")
VERBOSE = Option(
    names=("-v", "--verbose"), field="verbose", many=True, variable="SOOTHSAYER_VERBOSE", help="Full ids; more remarks."
)
DEBUG = Option(
    names=("--debug",), field="debug", variable="SOOTHSAYER_DEBUG", help="Show the traceback of a bug of ours."
)

GLOBAL: tuple[Option, ...] = (
    STATE,
    CONFIG,
    JSON,
    NO_INPUT,
    COLOR,
    NO_PROGRESS,
    NO_PAGER,
    QUIET,
    VERBOSE,
    DEBUG,
)
"""What every command takes, before or after its name."""

PROXY: tuple[Option, ...] = (
    Option(names=("--name",), field="name", metavar="NAME", help="What the server is called; else from its command."),
    Option(
        names=("--policy",),
        field="policy",
        metavar="FILE|NAME",
        many=True,
        help="A policy file, or the name of a packaged one; may be repeated.",
    ),
    Option(
        names=("--mode",),
        field="mode",
        metavar="MODE",
        choices=("enforce", "observe"),
        help="enforce decisions, or only observe and record them.",
    ),
    CONFIG,
    STATE,
    Option(
        names=("--pass-env",),
        field="pass_env",
        metavar="NAME",
        many=True,
        help="An environment variable that the server may see; may be repeated.",
    ),
    Option(names=("--intent",), field="intent", metavar="TEXT", help="What the work is for, in a person's words."),
    Option(names=("--run",), field="run", metavar="ID", help="The run that the calls belong to."),
    Option(
        names=("--control-tools",),
        field="control_tools",
        help="Give the model tools to ask about its own run; without a server they are all there is.",
    ),
    Option(names=("--url",), field="url", metavar="URL", help="Govern a remote server instead of a command."),
    Option(
        names=("--header-env",),
        field="header_env",
        metavar="HEADER=NAME",
        many=True,
        help="A header for the remote server, its value from an environment variable; may be repeated.",
    ),
    Option(
        names=("--allow-address",),
        field="allow_address",
        metavar="NETWORK",
        many=True,
        help="A network beside public ones that the remote server may be at: private, loopback or 10.0.0.0/8.",
    ),
    Option(
        names=("--durability",),
        field="durability",
        metavar="LEVEL",
        choices=("strict", "balanced", "relaxed"),
        help="When a record counts as durable: strict, balanced or relaxed.",
    ),
    Option(
        names=("--unsafe-pass-all-env",),
        field="unsafe_pass_all_env",
        help="Let the server see every environment variable.",
    ),
    JSON,
    NO_INPUT,
    QUIET,
    VERBOSE,
    DEBUG,
)
"""What `proxy` takes before `--`. It draws no tables, so it has no options about colour, pages or progress."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The options that every command takes, with the environment behind them."""

    state: str | None = None
    config: str | None = None
    json: bool = False
    no_input: bool = False
    color: ColorWhen = "auto"
    no_progress: bool = False
    no_pager: bool = False
    quiet: bool = False
    verbose: int = 0
    debug: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxyOptions:
    """What `soothsayer proxy` was asked to do."""

    command: tuple[str, ...] = ()
    """The server's own command line, as it stood after `--`."""
    name: str | None = None
    policy: tuple[str, ...] = ()
    mode: Literal["enforce", "observe"] | None = None
    config: str | None = None
    state: str | None = None
    pass_env: tuple[str, ...] = ()
    intent: str | None = None
    run: str | None = None
    control_tools: bool = False
    url: str | None = None
    header_env: tuple[tuple[str, str], ...] = ()
    """Header and the environment variable that holds its value."""
    allow_address: tuple[str, ...] = ()
    durability: Literal["strict", "balanced", "relaxed"] | None = None
    unsafe_pass_all_env: bool = False
    json: bool = False
    no_input: bool = False
    quiet: bool = False
    verbose: int = 0
    debug: bool = False


@dataclass(slots=True)
class Given:
    """What was typed, before it is checked: a value per option, or how often a flag stood there."""

    values: dict[str, list[str]] = field(default_factory=dict[str, list[str]])
    flags: dict[str, int] = field(default_factory=dict[str, int])

    def take(self, option: Option, value: str | None) -> None:
        """Note one occurrence; `value` is `None` for a flag."""
        if value is None:
            self.flags[option.field] = self.flags.get(option.field, 0) + 1
        elif option.many:
            self.values.setdefault(option.field, []).append(value)
        else:
            self.values[option.field] = [value]


def usage(text: str, *, near: str = "", fix: str = "") -> Problem:
    """A mistake on the command line."""
    return Problem(text, id="usage", near=near, fix=fix)


def nearest(word: str, known: Sequence[str]) -> str:
    """The known word that was probably meant; empty when none is near."""
    found = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    return found[0] if found else ""


def parse_words(argv: Sequence[str], options: Sequence[Option]) -> tuple[Given, int]:
    """Read options from the front of `argv`; tells also where reading ended: at `--`, or at the end.

    Raises `Problem` for an unknown option, a missing value, or a word that is no option.
    """
    by_name = {name: option for option in options for name in option.names}
    given = Given()
    at = 0
    while at < len(argv):
        word = argv[at]
        if word == "--":
            break
        if not word.startswith("-") or word == "-":
            raise usage(f'unexpected word "{word}"', fix="the command of the server goes after `--`")
        at = _take_long(argv, at, by_name, given) if word.startswith("--") else _take_short(argv, at, by_name, given)
    return given, at


def _take_long(argv: Sequence[str], at: int, by_name: Mapping[str, Option], given: Given) -> int:
    name, equals, value = argv[at].partition("=")
    option = by_name.get(name)
    if option is None:
        raise usage(f'unknown option "{name}"', near=nearest(name, tuple(by_name)))
    if option.is_flag:
        if equals:
            raise usage(f"option {name} takes no value")
        given.take(option, None)
        return at + 1
    if equals:
        given.take(option, value)
        return at + 1
    given.take(option, _next(argv, at, name))
    return at + 2


def _next(argv: Sequence[str], at: int, name: str) -> str:
    if at + 1 >= len(argv) or argv[at + 1] == "--":
        raise usage(f"option {name} needs a value")
    return argv[at + 1]


def _take_short(argv: Sequence[str], at: int, by_name: Mapping[str, Option], given: Given) -> int:
    letters = argv[at][1:]
    for n, letter in enumerate(letters):
        name = f"-{letter}"
        option = by_name.get(name)
        if option is None:
            raise usage(f'unknown option "{name}"')
        if option.is_flag:
            given.take(option, None)
            continue
        rest = letters[n + 1 :]
        if rest:
            given.take(option, rest)
            return at + 1
        given.take(option, _next(argv, at, name))
        return at + 2
    return at + 1


def parse_proxy(argv: Sequence[str], environ: Mapping[str, str] | None = None) -> ProxyOptions:
    """Read what follows the word `proxy`; `environ` is the process's own unless given. Raises `Problem`."""
    given, at = parse_words(argv, PROXY)
    return proxy_options(given, tuple(argv[at + 1 :]), os.environ if environ is None else environ)


def proxy_argv(given: Given, command: Sequence[str]) -> list[str]:
    """Spell what was typed for `proxy` again, as `parse_proxy` reads it."""
    argv: list[str] = []
    for option in PROXY:
        name = option.names[-1]
        argv += [f"{name}={value}" for value in given.values.get(option.field, [])]
        argv += [name] * given.flags.get(option.field, 0)
    return [*argv, "--", *command] if command else argv


def proxy_options(given: Given, command: tuple[str, ...], environ: Mapping[str, str]) -> ProxyOptions:
    """Check what was typed after `proxy`. Raises `Problem`."""
    read = _Reading(given, environ)
    url = read.text(_BY_FIELD["url"])
    headers = tuple(_header(text) for text in given.values.get("header_env", []))
    if url is not None and command:
        raise usage("give either a command after `--` or --url, not both")
    if url is not None and not url.startswith(("https://", "http://")):
        raise usage(f"--url {url}: a url begins with https:// or http://")
    name = read.text(_BY_FIELD["name"])
    if name is not None and NAME.fullmatch(name) is None:
        raise usage(f'--name: "{name}" is no server name: 1 to 20 of a-z, 0-9 and "-"', near=near_name(name))
    if name == CONTROL:
        raise usage(f'the name "{CONTROL}" is kept for our own tools', fix="give the server another")
    if headers and url is None:
        raise usage("--header-env is for a remote server", fix="add --url")
    if given.values.get("allow_address") and url is None:
        raise usage("--allow-address is for a remote server", fix="add --url")
    if (given.values.get("pass_env") or given.flags.get("unsafe_pass_all_env")) and url is not None:
        raise usage("--pass-env is for a command; a remote server sees no environment", fix="use --header-env")
    return ProxyOptions(
        command=command,
        name=name,
        policy=tuple(given.values.get("policy", [])),
        mode=read.mode(),
        config=read.text(CONFIG),
        state=read.text(STATE),
        pass_env=tuple(given.values.get("pass_env", [])),
        intent=read.text(_BY_FIELD["intent"]),
        run=read.text(_BY_FIELD["run"]),
        control_tools="control_tools" in given.flags,
        url=url,
        header_env=headers,
        allow_address=tuple(given.values.get("allow_address", [])),
        durability=read.durability(),
        unsafe_pass_all_env="unsafe_pass_all_env" in given.flags,
        json=read.flag(JSON),
        no_input=read.flag(NO_INPUT),
        quiet=read.flag(QUIET),
        verbose=read.count(VERBOSE),
        debug=read.flag(DEBUG),
    )


def settings(given: Given, environ: Mapping[str, str]) -> Settings:
    """Check the options that every command takes. Raises `Problem`."""
    read = _Reading(given, environ)
    return Settings(
        state=read.text(STATE),
        config=read.text(CONFIG),
        json=read.flag(JSON),
        no_input=read.flag(NO_INPUT),
        color=read.color(),
        no_progress=read.flag(NO_PROGRESS),
        no_pager=read.flag(NO_PAGER),
        quiet=read.flag(QUIET),
        verbose=read.count(VERBOSE),
        debug=read.flag(DEBUG),
    )


_BY_FIELD = {option.field: option for option in (*GLOBAL, *PROXY)}
_YES = frozenset({"1", "true", "yes", "on"})
_NO = frozenset({"0", "false", "no", "off", ""})


def _header(text: str) -> tuple[str, str]:
    header, equals, name = text.partition("=")
    if not equals or not header or not name:
        raise usage(f'--header-env wants HEADER=NAME, not "{text}"')
    return header, name


class _Reading:
    """What was typed, else what the environment says, checked."""

    def __init__(self, given: Given, environ: Mapping[str, str]) -> None:
        self._given = given
        self._environ = environ

    def _raw(self, option: Option) -> tuple[str | None, str]:
        typed = self._given.values.get(option.field)
        if typed:
            return typed[-1], option.names[-1]
        if option.variable and self._environ.get(option.variable):
            return self._environ[option.variable], option.variable
        return None, ""

    def text(self, option: Option) -> str | None:
        value, where = self._raw(option)
        if value == "":
            raise usage(f"{where} is empty")
        return value

    def flag(self, option: Option) -> bool:
        return self.count(option) > 0

    def count(self, option: Option) -> int:
        typed = self._given.flags.get(option.field, 0)
        if typed:
            return typed
        word = self._environ.get(option.variable, "").strip().lower()
        if word in _YES:
            return 1
        if word in _NO:
            return 0
        if option.many and word.isascii() and word.isdigit():
            return int(word)
        raise usage(f'{option.variable} is "{word}", which is neither yes nor no', fix="set it to 1 or 0")

    def _choice(self, option: Option) -> str | None:
        value, where = self._raw(option)
        if value is None or value in option.choices:
            return value
        words = ", ".join(option.choices)
        raise usage(f'{where} is "{value}"; it takes {words}', near=nearest(value, option.choices))

    def mode(self) -> Literal["enforce", "observe"] | None:
        match self._choice(_BY_FIELD["mode"]):
            case "enforce":
                return "enforce"
            case "observe":
                return "observe"
            case _:
                return None

    def durability(self) -> Literal["strict", "balanced", "relaxed"] | None:
        match self._choice(_BY_FIELD["durability"]):
            case "strict":
                return "strict"
            case "balanced":
                return "balanced"
            case "relaxed":
                return "relaxed"
            case _:
                return None

    def color(self) -> ColorWhen:
        match self._choice(COLOR):
            case "always":
                return "always"
            case "never":
                return "never"
            case _:
                return "auto"
