"""What programs get: answers as JSON values, full ids, UTC, nothing cut. Fields are only ever added."""

from collections.abc import Mapping, Sequence

from soothsayer_mcp.console import views
from soothsayer_mcp.console.measures import rfc3339
from soothsayer_mcp.model.ask import Ask, Grant
from soothsayer_mcp.model.json import Json
from soothsayer_mcp.trace.rows import (
    Budget,
    EntryRow,
    Figures,
    Payload,
    RunRow,
    RunStory,
    Spread,
    StepRow,
    Story,
    Table,
    Tally,
)
from soothsayer_mcp.undo.kept import KEPT

SCHEMA = 1
"""The version of these documents."""


def step(row: StepRow) -> dict[str, Json]:
    """One step; what is not known is null."""
    return {
        "step": row.step,
        "run": row.run,
        "no": row.no,
        "span": row.span,
        "at": rfc3339(row.at_us),
        "principal": row.principal or None,
        "host": row.host or None,
        "server": row.server,
        "tool": row.tool,
        "does": labels(row.does),
        "cause": row.cause,
        "of_step": row.of_step or None,
        "continues": row.continues or None,
        "effect": row.effect or None,
        "would": row.would or None,
        "rule": row.rule or None,
        "risk": row.risk,
        "policy": row.policy or None,
        "asked": row.asked,
        "outcome": row.outcome or None,
        "acted": row.acted or None,
        "failure": row.failure or None,
        "reason": row.reason or None,
        "next": row.next or None,
        "kept": list(row.levels),
        "not_kept": list(row.checks),
        "undo": row.undo or None,
        "undone_by": row.undone_by or None,
        "dur_ms": _ms(row.dur_us),
        "tool_ms": _ms(row.tool_us),
    }


STEP_FIELDS = (
    "step",
    "run",
    "no",
    "span",
    "at",
    "principal",
    "host",
    "server",
    "tool",
    "does",
    "cause",
    "of_step",
    "continues",
    "effect",
    "would",
    "rule",
    "risk",
    "policy",
    "asked",
    "outcome",
    "acted",
    "failure",
    "reason",
    "next",
    "kept",
    "not_kept",
    "undo",
    "undone_by",
    "dur_ms",
    "tool_ms",
)
"""The fields of `step`, in order: the header of a table of steps."""


def labels(does: str) -> list[Json]:
    """The labels of a step as a list."""
    return [*does.replace(",", " ").split()]


def run(row: RunRow) -> dict[str, Json]:
    """One run."""
    return {
        "run": row.run,
        "state": row.state,
        "why": row.why or None,
        "principal": row.principal,
        "host": row.host or None,
        "workspace": row.workspace or None,
        "policy": row.policy or None,
        "steps": row.steps,
        "failed": row.failed,
        "unknown": row.unknown,
        "asked": row.asked,
        "opened_at": rfc3339(row.opened_us),
        "last_at": rfc3339(row.last_us),
        "closed_at": rfc3339(row.closed_us),
    }


def entry(row: EntryRow) -> dict[str, Json]:
    """One entry. One that this version cannot read is given as the text it is."""
    body: dict[str, Json] = {"entry": row.fields} if row.fields else {"body": row.body}
    return {"pos": row.pos, "leaf": row.leaf.hex(), **body}


def payload(row: Payload, *, with_text: bool) -> dict[str, Json]:
    """One payload, with what it says only when that was asked for."""
    document: dict[str, Json] = {
        "pos": row.pos,
        "part": row.part,
        "bytes": row.size_bytes,
        "kept": row.kept,
        "masked": row.masked,
        "cut": row.cut,
        "file": row.file or None,
    }
    return {**document, "text": row.text} if with_text else document


def story(told: Story, *, payloads: bool) -> dict[str, Json]:
    """All that is known about one step."""
    return {
        "step": step(told.step),
        "policy_name": told.policy_name or None,
        "guidance": guidance(told.step.reason),
        "entries": [entry(row) for row in told.entries],
        "payloads": [payload(row, with_text=payloads and row.part not in KEPT) for row in told.payloads],
        "approvals": [
            {
                "approval": row.id,
                "rule": row.rule,
                "state": row.state,
                "asked_at": rfc3339(row.asked_us),
                "answered_at": rfc3339(row.answered_us),
                "by": row.answered_by or None,
                "channel": row.channel or None,
                "call": row.call,
            }
            for row in told.approvals
        ],
        "checkpoint": told.checkpoint,
    }


def ask(row: Ask) -> dict[str, Json]:
    """A question to a person. What it shows is there while it is open."""
    return {
        "id": row.id,
        "run": row.run,
        "no": row.no or None,
        "state": row.state,
        "rule": row.rule,
        "strong": row.strong,
        "asked_at": rfc3339(row.asked_at_us),
        "expires_at": rfc3339(row.expires_at_us),
        "digest": row.shown[:8],
        "card": dict(row.card) or None,
        "roles": [{"role": need.role, "count": need.count} for need in row.needs],
        "signed": [{"by": vote.by, "answer": vote.answer, "at": rfc3339(vote.at_us)} for vote in row.votes],
        "answered_at": rfc3339(row.answered_at_us),
        "by": row.answered_by or None,
        "channel": row.channel or None,
        "comment": row.comment or None,
    }


def grant(row: Grant) -> dict[str, Json]:
    """A remembered answer."""
    return {
        "id": row.id,
        "run": row.run,
        "server": row.server,
        "tool": row.tool,
        "shape": dict(row.shape),
        "by": row.by,
        "at": rfc3339(row.at_us),
        "revoked": row.revoked,
    }


def run_story(told: RunStory, steps: Sequence[StepRow]) -> dict[str, Json]:
    """All that is known about one run."""
    return {
        "run": run(told.run),
        "policy_name": told.policy_name or None,
        "intent": {"text": told.intent, "by": told.intent_by} if told.intent or told.intent_by else None,
        "limited_to": None if told.scope is None else told.scope.text,
        "budgets": [_budget(row) for row in told.budgets],
        "entries": [entry(row) for row in told.entries],
        "steps": [step(row) for row in steps],
    }


def guidance(reason: str) -> dict[str, Json] | None:
    """What is known about a reason; null when there is none, or none that this version knows."""
    row = views.guidance(reason)
    if row is None:
        return None
    return {
        "reason": reason,
        "failure": row.failure,
        "acted": row.acted,
        "fix_by": row.fix_by,
        "meaning": row.meaning,
        "agent_reads": row.first_line,
        "agent_does": row.do,
        "remedy": row.remedy,
    }


def figures(told: Figures) -> dict[str, Json]:
    """What `stats` tells."""
    return {
        "all": _tally(told.all),
        "runs": told.runs,
        "tool": _spread(told.tool),
        "own": _spread(told.own),
        "groups": [_tally(row) for row in told.groups],
        "failures": [
            {
                "failure": row.failure,
                "reason": row.reason,
                "call": row.call,
                "rule": row.rule,
                "steps": row.steps,
            }
            for row in told.failures
        ],
        "asks": [
            {
                "rule": row.rule,
                "asks": row.asks,
                "yes": row.yes,
                "no": row.no,
                "open": row.open,
                "median_wait_ms": _ms(row.median_wait_us),
                "habit": row.is_habit,
            }
            for row in told.asks
        ],
        "risk": None
        if told.risk is None
        else {"steps": told.risk.steps, "mean": round(told.risk.mean, 1), "max": told.risk.most},
        "export_dropped": told.export_dropped,
    }


def table(answer: Table) -> dict[str, Json]:
    """What a SQL query answered; bytes as hex."""
    return {
        "columns": list(answer.columns),
        "rows": [[cell.hex() if isinstance(cell, bytes) else cell for cell in row] for row in answer.rows],
        "more": answer.more,
    }


def _tally(row: Tally) -> dict[str, Json]:
    return {
        "key": row.key,
        "steps": row.steps,
        "allowed": row.allowed,
        "asked": row.asked,
        "denied": row.denied,
        "failed": row.failed,
        "unknown": row.unknown,
        "open": row.open,
        "took": _spread(row.took),
    }


def _spread(row: Spread | None) -> Mapping[str, Json] | None:
    if row is None:
        return None
    return {
        "count": row.count,
        "p50_ms": _ms(row.p50),
        "p95_ms": _ms(row.p95),
        "p99_ms": _ms(row.p99),
        "max_ms": _ms(row.most),
    }


def _budget(row: Budget) -> dict[str, Json]:
    return {"name": row.name, "cap": row.cap, "used": row.used}


def _ms(us: int | None) -> float | None:
    return None if us is None else us / 1000
