"""What a run has come to, in facts of the record; no text that a tool returned is among them."""

from soothsayer_mcp.model.run import Debts, Run
from soothsayer_mcp.model.value import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """A subject whose last write was a step of the run."""

    subject: str
    no: int
    finding: str
    """The worst that its checks found; empty where nothing checked it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldEvidence:
    """Evidence that the run holds."""

    kind: str
    level: str
    subject: str
    expires_us: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Denied:
    """A refusal that another call like it would meet again."""

    no: int
    """Of the latest step that met it."""
    call: str
    """`server.tool`."""
    rule: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredSize:
    """A result that can be read back."""

    no: int
    call: str
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """All of it; lists are cut, the newest kept."""

    run: Run
    debts: Debts
    written: tuple[Written, ...] = ()
    evidence: tuple[HeldEvidence, ...] = ()
    denied: tuple[Denied, ...] = ()
    stored: tuple[StoredSize, ...] = ()
