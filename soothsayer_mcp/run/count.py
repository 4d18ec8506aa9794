"""What a step adds to the counters of its run, in the two commits that record it."""

from soothsayer_mcp.model.call import Cause
from soothsayer_mcp.model.facts import Charge
from soothsayer_mcp.model.failure import FailureClass, Reason
from soothsayer_mcp.model.run import Counters

_OURS = frozenset(
    {
        Reason.WITHDRAWN,
        Reason.STATE_CHANGED,
        Reason.TRACE_UNAVAILABLE,
        Reason.INTERNAL_ERROR,
        Reason.TOO_MANY_IN_FLIGHT,
        Reason.SERVER_UNREACHABLE,
    }
)
"""Refusals that say nothing about what the agent proposed: they are no denials."""


def admitted(counters: Counters, cause: Cause, charge: Charge) -> Counters:
    """Count a step whose intent is recorded: at its full cost, and at the most bytes it may return."""
    if cause is not Cause.AGENT:
        return counters
    return counters._replace(
        calls=counters.calls + 1,
        writes=counters.writes + charge.write,
        in_flight=counters.in_flight + 1,
        unverified_writes=counters.unverified_writes + charge.write,
        bytes_reserved=counters.bytes_reserved + (charge.bytes_most or 0),
        cost_micro=counters.cost_micro + (charge.cost_micro or 0),
        calls_since_compact=counters.calls_since_compact + 1,
    )


def asked(counters: Counters, cause: Cause) -> Counters:
    """Count a question that was put to a person, whatever is answered."""
    return counters if cause is not Cause.AGENT else counters._replace(asks=counters.asks + 1)


def withheld(counters: Counters, cause: Cause, reason: Reason, *, asked: bool) -> Counters:
    """Count a step that was refused; one that a person is asked about is no denial."""
    if cause is not Cause.AGENT:
        return counters
    if asked or reason in _OURS:
        return counters
    repeated = reason is Reason.REPEAT_LIMIT
    return counters._replace(
        denials=counters.denials + 1,
        repeats_refused=counters.repeats_refused + 1 if repeated else counters.repeats_refused,
    )


def ended(
    counters: Counters, cause: Cause, charge: Charge, *, failure: FailureClass | None, size: int, owes: bool
) -> Counters:
    """Count the end of an admitted step: what was reserved becomes what it was. Nothing is given back for failing.

    `size` is what the agent is given, in bytes; `owes` whether a check of it is not kept, or its outcome not known.
    """
    if cause is not Cause.AGENT:
        return counters
    failed = failure is not None
    return counters._replace(
        in_flight=counters.in_flight - 1,
        unverified_writes=counters.unverified_writes - (charge.write and not owes),
        bytes_reserved=counters.bytes_reserved - (charge.bytes_most or 0),
        bytes_returned=counters.bytes_returned + size,
        bytes_since_compact=counters.bytes_since_compact + size,
        errors=counters.errors + failed,
        error_streak=counters.error_streak + 1 if failed else 0,
    )
