"""Questions to a person about one call, and their answers. The row in the store is the authority, all else a face."""

from collections.abc import Mapping
from dataclasses import field
from enum import StrEnum

from soothsayer_mcp.model.call import Principal, RunId
from soothsayer_mcp.model.json import Json
from soothsayer_mcp.model.value import dataclass


class AskState(StrEnum):
    """The states of a question; all but the first are final."""

    OPEN = "open"
    YES = "yes"
    NO = "no"
    EXPIRED = "expired"
    WITHDRAWN = "withdrawn"


class Channel(StrEnum):
    """By which face a question was answered."""

    HOST = "host"
    """A form in the host. A host can fill it in by itself, so it settles no strong ask."""
    TERMINAL = "terminal"
    WATCH = "watch"
    PAGE = "page"
    """The local page of `ui`."""


class Remember(StrEnum):
    """How far a yes may reach, from least to most."""

    NEVER = "never"
    ONCE = "once"
    RUN = "run"


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """Whose yes a rule demands: so many people of a role."""

    role: str
    count: int = 1
    not_requester: bool = False
    """On whose authority the call is made counts for nothing here."""
    keys: tuple[tuple[str, str], ...] = ()
    """Names of the role, each with its public key: `ed25519:` and 64 hex digits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Vote:
    """A signed answer of one approver; several may be due."""

    by: str
    key: str
    answer: AskState
    """`YES` or `NO`."""
    at_us: int
    signature: str
    """Over `evidence.approvers.statement`, in hex."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AskTerms:
    """What the rules that ask demand of the answer."""

    strong: bool = False
    """No answer counts that a host can give by itself."""
    expires_s: float | None = None
    """The shortest wait that a rule sets; `None` where none does."""
    remember: Remember = Remember.RUN
    """The narrowest memory that a rule allows."""
    needs: tuple[Need, ...] = ()
    """Whose signed answers are due, all of them; none where anybody at a terminal may answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewAsk:
    """A question about to be put."""

    id: str
    """16 lower-case hex digits; people type the first six."""
    run: RunId
    span: str
    """The id of the step it is for."""
    rule: str
    """The ids of the rules that ask, with blanks between."""
    digest: str
    """What a yes is bound to: `call_digest`, in hex."""
    card: Mapping[str, Json]
    """What a person is shown; its arguments are exact."""
    shown: str
    """SHA-256 over the canonical card, in hex; a script that answers repeats its first eight digits."""
    strong: bool
    remember: Remember
    expires_at_us: int
    channels: tuple[str, ...]
    bound: str = ""
    """What a remembered yes would hang on: the digest of server, definition and policy, in hex."""
    most: int | None = None
    """How many questions its run may put; `None` for any number."""
    host_pid: int = 0
    """The process that started the proxy: what descends from it is the host's, and answers nothing."""
    needs: tuple[Need, ...] = ()
    requester: str = ""
    """The principal of the call."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """A question as it stands."""

    id: str
    run: RunId
    no: int
    """The number of its step; 0 while the step is held."""
    state: AskState
    rule: str
    asked_at_us: int
    expires_at_us: int
    strong: bool
    remember: Remember
    shown: str
    card: Mapping[str, Json] = field(default_factory=dict[str, Json])
    """Empty once it is answered: exact arguments are kept no longer than the question is open."""
    bound: str = ""
    host_pid: int = 0
    channels: tuple[str, ...] = ()
    answered_at_us: int | None = None
    answered_by: str = ""
    channel: str = ""
    comment: str = ""
    spent: bool = False
    """Whether its yes was used by an intent."""
    call: str = ""
    """The digest of the call, keyed by the run."""
    needs: tuple[Need, ...] = ()
    requester: str = ""
    votes: tuple[Vote, ...] = ()
    """The signed answers that came; nothing here says that their signatures hold."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AskAnswer:
    """One person's answer."""

    ask: str
    state: AskState
    """`YES` or `NO`; `EXPIRED` and `WITHDRAWN` where nobody answered."""
    by: Principal
    channel: str
    comment: str = ""
    shape: Mapping[str, Json] | None = None
    """Which further calls of the run a yes covers; `None` for this one alone."""
    vote: Vote | None = None
    """What an approver signed; due where the question needs one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """A yes that covers further calls of its run, until it is taken back or what it hangs on changes."""

    id: str
    """The id of the question that was answered so."""
    run: RunId
    server: str
    tool: str
    shape: Mapping[str, Json]
    """Argument -> `{"is": value}` or `{"under": folder}`; no other argument is covered."""
    bound: str
    by: str
    at_us: int
    revoked: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Approval:
    """A yes that a step rests on; whether it counts is looked at again in commit A, where it is spent."""

    ask: str
    digest: str
    identity: str
    """The digest of the server's identity, for computing `digest` again."""
    grant: str = ""
    """The remembered yes that covers the call; nothing is spent then."""
    go: str = ""
    """The nonce of a sealed state that carries a call on whose yes was spent already; each serves once."""
