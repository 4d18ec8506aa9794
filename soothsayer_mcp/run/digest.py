"""A run in short, for a context that begins anew: what it is for, what is left, what was done, what is owed."""

from collections.abc import Iterable, Sequence

from soothsayer_mcp.model.budget import Budgets
from soothsayer_mcp.model.summary import Summary
from soothsayer_mcp.run.allowance import budgets_of
from soothsayer_mcp.run.gate import missing
from soothsayer_mcp.run.used import used

INTENT_CHARS = 2_000
SHOWN_CHARS = 120
"""Of a name from outside."""
MOST_LISTED = 20


def digest_of(
    summary: Summary,
    budgets: Budgets,
    now_us: int,
    *,
    refuse_unverified: bool,
    unmet: Iterable[str],
    tools: Sequence[tuple[str, int, int]] = (),
) -> str:
    """Tell it in lines. Names from outside are quoted; nothing that a tool returned is in it.

    `tools` are name, used and most of the budgets that some tools share.
    """
    run, short = summary.run, summary.run.id[:4]
    state = f"{run.state} ({_cut(run.why)})" if run.why else run.state
    lines = [f"Run {short} is {state}; {run.counters.calls} calls were sent, {run.counters.denials} were refused."]
    if run.intent is not None:
        lines.append(f"Its intent, said by the {run.intent.declared_by}: {run.intent.text[:INTENT_CHARS]!a}")
    if run.scope is not None:
        lines.append(f"It is limited to {run.scope.text}.")
    left = [
        f"{name} {most - count:,} of {most:,}"
        for name, count, most in (*used(run.counters, budgets_of(run, budgets), now_us), *tools)
    ]
    lines += _listed("Left of its budgets", left)
    lines += _listed(
        "Last written by it",
        [
            f"{'anything' if one.subject == '*' else _cut(one.subject)}, step {short}.{one.no}"
            f"{f', checked: {one.finding}' if one.finding else ', not checked'}"
            for one in summary.written
        ],
    )
    lines += _listed(
        "Evidence held",
        [
            f"{one.kind} ({one.level}){f' about {_cut(one.subject)}' if one.subject else ''}"
            f"{f', for {max(0, one.expires_us - now_us) // 1_000_000} s more' if one.expires_us is not None else ''}"
            for one in summary.evidence
        ],
    )
    lines += _listed(
        "Refused, and would be again",
        [f"{_cut(one.call)}: {_cut(one.rule)} ({one.reason}, step {short}.{one.no})" for one in summary.denied],
    )
    lines += _listed(
        "Stored results",
        [f"step {short}.{one.no}, {_cut(one.call)}, {one.size_bytes:,} bytes" for one in summary.stored],
    )
    lacks = missing(short, summary.debts, refuse_unverified=refuse_unverified, unmet=unmet)
    lines += _listed("Missing before it can be completed", lacks) or ["Nothing stands against completing it."]
    return "\n".join(lines)


def _listed(head: str, items: Sequence[str]) -> list[str]:
    if not items:
        return []
    more = len(items) - MOST_LISTED
    rest = [f"- and {more} more"] if more > 0 else []
    return [f"{head}:", *(f"- {item}" for item in items[:MOST_LISTED]), *rest]


def _cut(text: str) -> str:
    """A name as it may stand in a line: cut, and nothing in it that could end the line or pass for another."""
    return ascii(text[:SHOWN_CHARS])[1:-1]
