"""The words for what the trace says: how a step ended, and because of what. Pure; read from the record, never guessed.

Words only. How they are laid out is `render.py`; what programs get is `documents.py`.
"""

import json
from collections.abc import Mapping, Sequence
from typing import cast

from soothsayer_mcp.console.measures import count, duration, size
from soothsayer_mcp.model.call import Cause
from soothsayer_mcp.model.failure import REASONS, Acted, Guidance, Reason
from soothsayer_mcp.model.json import Json
from soothsayer_mcp.model.undo import UndoClass
from soothsayer_mcp.trace.rows import EntryRow, Payload, StepRow, Story

DEFAULT = "default"
"""What stands in the place of a rule where none matched."""

NOTHING_SENT = "nothing was sent"


def ended_as(step: StepRow) -> str:
    """How a step ended: `succeeded, kept E3`, a failure class, or that it has not."""
    if not step.outcome:
        return "in flight"
    if step.failure:
        return step.failure
    if step.outcome == "unknown" and step.acted == Acted.MAYBE:
        return "task goes on"
    how = "task ended" if step.outcome == "unknown" else "succeeded"
    # What a check read is no step of the agent's: what was checked of the look itself shows nothing for the run.
    return f"{how}, kept {step.levels[-1]}" if step.levels and step.cause != Cause.PROBE else how


def because(step: StepRow) -> str:
    """Why a step ended so: the rule for a success or a denial, else the reason, and whether the tool acted."""
    rule = step.rule or DEFAULT
    parts: list[str] = ["self-test, as it must be"] if step.cause == Cause.SELFTEST and step.effect == "deny" else []
    if step.failure:
        by_rule = step.reason in _BY_RULE and bool(step.rule)
        parts.append(step.rule if by_rule else step.reason)
        if step.checks:
            parts[-1] += f": {', '.join(step.checks)}"
        parts += _acted(step)
    else:
        parts.append(rule)
        if step.outcome == "unknown" and step.checks:
            parts[-1] += f": {', '.join(step.checks)}"
    if step.would and step.would != step.effect:
        parts.append(f"observed only: enforcing would {_WOULD[step.would]}")
    if step.next in {"stop", "compact"} and step.cause != Cause.UNDO:
        parts.append(step.next)
    if step.undo and step.undo not in set(UndoClass):
        parts.append(f"{step.undo}{_by(step.undone_by)}")
    if step.of_step and step.cause == Cause.UNDO:
        parts = [f"undoes {_short(step.of_step)}", *parts[bool(parts) and parts[0] == DEFAULT :]]
    if step.cause == Cause.PROBE:
        parts = ["read for a check", *parts[bool(parts) and parts[0] == DEFAULT :]]
    return "; ".join(parts)


def _by(step: str) -> str:
    return f" by {_short(step)}" if step else ""


def _short(step: str) -> str:
    return f".{step.rpartition('.')[2]}"


_BY_RULE = frozenset({Reason.RULE_DENIED, Reason.DECLINED, Reason.APPROVAL_PENDING})
_WOULD = {"deny": "deny it", "ask": "ask", "allow": "allow it"}


_SETTLED = {"yes": "settled later: it happened", "no": "settled later: it did not happen"}


def _acted(step: StepRow) -> list[str]:
    if step.outcome == "unknown":
        return [_SETTLED.get(step.acted, "unknown, not settled")]
    match step.acted:
        case "no":
            return [NOTHING_SENT] if step.failure != "tool_error" else ["it did not act"]
        case "yes":
            return ["it acted"]
        case _:
            return []


def decided_by(rules: Sequence[str], rule: str, reason: str) -> str:
    """By what a step was decided: rules, the default, or, where neither was asked, the reason."""
    named = ", ".join(rules) or (rule if rule != DEFAULT else "")
    if named:
        return f"by {named}"
    return "by default; no rule matched" if reason in _BY_DEFAULT else f"because {reason}"


_BY_DEFAULT = frozenset({"", Reason.NO_RULE, Reason.NOBODY_TO_ASK, Reason.APPROVAL_PENDING, Reason.APPROVAL_EXPIRED})


def guidance(reason: str) -> Guidance | None:
    """What is known about a reason; `None` for one that this version does not know."""
    return REASONS.get(Reason(reason)) if reason in _REASONS else None


_REASONS = frozenset(Reason)


def summary(value: Json, *, most: int = 60) -> str:
    """A value in a few words: short ones in full, long ones by their size."""
    match value:
        case str():
            return f'"{value}"' if len(value) <= most else size(len(value.encode(errors="replace")))
        case bool() | None | int() | float():
            return json.dumps(value)
        case Mapping():
            return "{}" if not value else count(len(value), "field")
        case Sequence():
            return "[]" if not value else count(len(value), "item")


def parsed(text: str) -> Json:
    """A kept payload as a value; the text itself when it is no JSON."""
    try:
        return cast("Json", json.loads(text))
    except (ValueError, RecursionError):
        return text


def arguments_line(arguments: Json) -> str:
    """Arguments in one line: `path "src/app.py", content 1.2 kB`."""
    if not isinstance(arguments, Mapping):
        return summary(arguments)
    return ", ".join(f"{name} {summary(value)}" for name, value in arguments.items()) or "no arguments"


def kept_note(payload: Payload) -> str:
    """What has to be said about how a payload was kept; empty when it is there in full."""
    notes: list[str] = []
    if payload.masked:
        notes.append(f"{count(payload.masked, 'value')} masked")
    if payload.cut:
        notes.append("cut")
    if payload.kept == "erased":
        notes.append("erased")
    elif payload.kept == "digest":
        notes.append("only its digest was kept")
    elif payload.file:
        notes.append("kept in a file")
    return ", ".join(notes)


def rules_of(story: Story) -> list[Mapping[str, Json]]:
    """The rules that decided, as recorded."""
    entry = story.entry("step.intent", "step.refused", "step.asked")
    rules = None if entry is None else entry.fields.get("rules")
    return [rule for rule in _items(rules) if isinstance(rule, Mapping)]


def risk_terms_of(story: Story) -> list[str]:
    """What made the step risky, as recorded: points, cause, and why a term is in doubt."""
    entry = story.entry("step.intent", "step.refused", "step.asked")
    risk = None if entry is None else entry.fields.get("risk")
    terms = _items(risk.get("terms")) if isinstance(risk, Mapping) else ()
    return [risk_term(*_items(term)) for term in terms]


def risk_term(because: Json = "", add: Json = 0, unknown: Json = "") -> str:
    """One risk term as a line."""
    points = f"{add:+d}" if isinstance(add, int) else "?"
    return f"risk {points}: {because}" + (f" (could not be evaluated: {unknown})" if unknown else "")


def findings_of(story: Story) -> list[Mapping[str, Json]]:
    """What the checks said, as recorded."""
    return [entry.fields for entry in story.entries if entry.kind == "step.finding"]


def finding_line(words: Mapping[str, str]) -> str:
    """What one check looked at, how much its answer is worth, and what is wrong."""
    about = words.get("subject", "")
    line = f"{words.get('check', '?')}, {words.get('level', '?')}"
    line += f", of {subject_words(about)}" if about else ""
    said = words.get("detail") or words.get("reason", "")
    return f"{line}: {said}" if said else line


def cited(story: Story) -> list[str]:
    """What the intent rests on: kind, level, subject, source and age of each piece of evidence."""
    intent = story.entry("step.intent")
    wanted = [] if intent is None else texts(intent.fields.get("cites"))
    gathered = {field(entry, "evidence"): entry for entry in story.entries if entry.kind == "evidence.gathered"}
    lines: list[str] = []
    for name in wanted:
        entry = gathered.get(name)
        if entry is None:
            lines.append(f"{name}, not on record here")
            continue
        source = entry.fields.get("from")
        step = source.get("step") if isinstance(source, Mapping) else None
        by = f" {_short_step(step)}" if isinstance(step, str) else ""
        about = field(entry, "subject")
        line = f"{field(entry, 'type')}{by}, kept {field(entry, 'level')}"
        line += "" if about.startswith("step:") else f", about {subject_words(about)}"
        seen_us = number(entry.fields, "seen_us")
        line += "" if seen_us is None else f", {duration(max(0, entry.at_us - seen_us))} old"
        lines.append(line + (", used up by this call" if entry.fields.get("single_use") is True else ""))
    return lines


def _short_step(name: str) -> str:
    run, _, no = name.partition(".")
    return f"{run[:4]}.{no}"


def subject_words(subjects: str) -> str:
    """A subject as people read it: files by their path."""
    return ", ".join(
        one.removeprefix("file:").removeprefix("tool:").removeprefix("diff:") for one in subjects.split(",")
    )


def texts(value: Json) -> list[str]:
    """The strings of a list; empty for anything else."""
    return [item for item in _items(value) if isinstance(item, str)]


def number(fields: Mapping[str, Json], name: str) -> int | None:
    """An integer field, if it is there."""
    value = fields.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def field(entry: EntryRow | None, name: str) -> str:
    """A text field, empty when it is not there."""
    value = None if entry is None else entry.fields.get(name)
    return value if isinstance(value, str) else ""


def _items(value: Json) -> Sequence[Json]:
    return value if isinstance(value, Sequence) and not isinstance(value, str) else ()


def what_it_does(does: str) -> str:
    """The labels of a tool, as they follow "the tool"."""
    words = does.replace(",", " ").split()
    if words == ["unlabelled"]:
        return "has no label: what it does is not known"
    return f"is labelled {', '.join(words)}"
