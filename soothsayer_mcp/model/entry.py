"""What the trace keeps: entries and receipts."""

from enum import StrEnum

from soothsayer_mcp.model.call import RunId
from soothsayer_mcp.model.run import NextStep
from soothsayer_mcp.model.value import dataclass


class Kind(StrEnum):
    """The closed list of entry kinds."""

    WRITER_OPENED = "writer.opened"
    WRITER_CLOSED = "writer.closed"
    WRITER_RECOVERED = "writer.recovered"
    SEGMENT_OPENED = "segment.opened"
    SEGMENT_CLOSED = "segment.closed"
    POLICY_LOADED = "policy.loaded"
    POLICY_REJECTED = "policy.rejected"
    DEFINITION_PINNED = "definition.pinned"
    DEFINITION_CHANGED = "definition.changed"
    SERVER_CHANGED = "server.changed"
    RUN_OPENED = "run.opened"
    RUN_CHANGED = "run.changed"
    MESSAGE_CHECKED = "message.checked"
    MESSAGE_DROPPED = "message.dropped"
    STEP_PROPOSED = "step.proposed"
    STEP_INTENT = "step.intent"
    STEP_REFUSED = "step.refused"
    STEP_ASKED = "step.asked"
    STEP_FINDING = "step.finding"
    STEP_OUTCOME = "step.outcome"
    STEP_SETTLED = "step.settled"
    UNDO_PLANNED = "undo.planned"
    STEP_UNDO = "step.undo"
    FINDING_WAIVED = "finding.waived"
    GRANT_REVOKED = "grant.revoked"
    APPROVAL_ASKED = "approval.asked"
    APPROVAL_ANSWERED = "approval.answered"
    EVIDENCE_GATHERED = "evidence.gathered"
    EVIDENCE_CONSUMED = "evidence.consumed"
    TRACE_ERASED = "trace.erased"
    KEY_CHANGED = "key.changed"


class PayloadMode(StrEnum):
    """How much of a payload the trace keeps, from most to least."""

    FULL = "full"
    REDACTED = "redacted"
    DIGEST = "digest"


class Durability(StrEnum):
    """When a commit counts as durable."""

    STRICT = "strict"
    """Both commits of a step are synced."""
    BALANCED = "balanced"
    """The intent is synced; the outcome with the next sync or within a second."""
    RELAXED = "relaxed"
    """A sync a second; a killed process loses nothing, a lost machine up to a second."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """The store's word that an entry is durable at the level the store was opened with."""

    writer: str
    seq: int
    leaf: bytes
    """32 bytes."""
    run: RunId
    no: int
    """The number of the step in its run."""
    took_us: int = 0
    next_step: NextStep | None = None
    """What follows, where this entry also ended its step: a withheld step is one commit."""
    why: str = ""
    """Why that is not `continue`; empty when it is."""

    @property
    def step(self) -> str:
        """The step as people name it, run cut to four digits."""
        return f"{self.run[:4]}.{self.no}"
