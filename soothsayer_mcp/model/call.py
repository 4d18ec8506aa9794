"""Who calls what: principals, servers, tools and the call as it was sent."""

from collections.abc import Callable, Mapping
from dataclasses import field
from enum import StrEnum
from typing import Final, NewType, TypeAlias

from soothsayer_mcp.model.json import Digest, Json, JsonObject
from soothsayer_mcp.model.value import dataclass

RunId = NewType("RunId", str)
"""32 lower-case hex digits; also a valid OpenTelemetry trace id."""

StepId = NewType("StepId", str)
"""16 lower-case hex digits: the step's span id. People and entries name a step `RUN.NO`."""

RequestId: TypeAlias = str | int
"""A JSON-RPC id. `7` and `"7"` are different ids; a bool is none."""


CONTROL = "soothsayer"
"""The name that stands for ourselves where a server's does; no server may have it."""


class Does(StrEnum):
    """What a tool does to the world, in the operator's word."""

    READ = "read"
    WRITE = "write"
    SEND = "send"
    SHARE = "share"
    DELETE = "delete"
    PAY = "pay"
    EXEC = "exec"
    ADMIN = "admin"


class Cause(StrEnum):
    """Why a step was proposed."""

    AGENT = "agent"
    UNDO = "undo"
    PROBE = "probe"
    SELFTEST = "selftest"
    CONTROL = "control"
    """The model asks about its own run, through a tool of ours."""


class PinState(StrEnum):
    """How a tool's present definition stands to the one that was pinned."""

    PINNED = "pinned"
    NEW = "new"
    CHANGED = "changed"
    SHADOWED = "shadowed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """On whose authority a call is made."""

    id: str
    """`os:ada` on stdio, `token:NAME` or issuer and subject over HTTP; never from an argument or a client name."""
    how: str
    """`os_account`, `token` or `oauth`."""
    groups: tuple[str, ...] = ()


DECLARED: Final = ("elicitation", "elicitation.form", "elicitation.url", "roots", "sampling", "tasks")
"""The capabilities of hosts that are told apart; others are not kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """What a host says of itself: a hint for wording and hold times that decides nothing."""

    name: str
    version: str = ""
    declares: tuple[str, ...] = ()
    """What it says that it can do, of `DECLARED`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ArgumentFault:
    """The first way in which arguments do not fit their schema."""

    path: str
    """JSON Pointer into `arguments`; empty for the whole."""
    problem: str
    """A phrase that follows "argument PATH", free of the value itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolDefinition:
    """A tool as its server defines it, and how that compares with what was pinned."""

    server: str
    name: str
    raw: bytes
    """The wire object, byte for byte."""
    digest: Digest
    """Over the canonical form of the whole wire object."""
    pin: PinState = PinState.PINNED
    moved: bool = False
    """Whether its server's command or address is another than when it was pinned."""
    annotations: Mapping[str, Json] = field(default_factory=dict[str, Json])
    properties: frozenset[str] | None = None
    """Argument names that the input schema declares; `None` when it has no usable schema."""
    check_arguments: Callable[[Json], ArgumentFault | None] | None = None
    """Validates against the pinned input schema; `None` when there is no usable schema."""
    check_result: Callable[[Json], ArgumentFault | None] | None = None
    """Validates structured content against the output schema; `None` when the tool declares none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """A tool call as the host sent it."""

    server: str
    tool: str
    """The server's own name for it, never a displayed one."""
    arguments: JsonObject
    """Strictly parsed; `{}` when the request had none."""
    raw_arguments: bytes
    """The bytes of the `arguments` member as they crossed the wire; empty when it was absent."""
    raw: bytes
    """The bytes that go to the server when the step is allowed: the host's own, unless an edit was due."""
    request_id: RequestId | None
    meta: Mapping[str, Json] = field(default_factory=dict[str, Json])
