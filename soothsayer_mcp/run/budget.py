"""Whether what a step would use up is still there, and whether what is used up pauses the run."""

from soothsayer_mcp.model.budget import NO_BUDGETS, Budgets
from soothsayer_mcp.model.facts import Charge
from soothsayer_mcp.model.failure import Failure, Reason
from soothsayer_mcp.model.run import Counters
from soothsayer_mcp.run.repeat import MOST_REFUSED

MICRO = 1_000_000


def refuse_over_budget(counters: Counters, charge: Charge, budgets: Budgets, now_us: int) -> Failure | None:
    """Refuse a call for which a budget of its run does not suffice; calls in flight count in full."""
    if budgets is NO_BUDGETS:
        return None
    returned = counters.bytes_returned + counters.bytes_reserved
    rows = (
        ("calls", counters.calls, budgets.calls),
        ("minutes", counters.minutes(now_us), budgets.minutes),
        ("writes", counters.writes if charge.write else 0, budgets.writes),
        ("denials", counters.denials, budgets.denials),
    )
    for name, used, most in rows:
        if most is not None and used >= most:
            return _spent(name, used, most)
    most = budgets.bytes_returned
    if most is not None and (returned >= most or returned + (charge.bytes_most or 0) > most):
        return _spent("bytes_returned", returned, most)
    most = budgets.cost_micro
    if most is not None and charge.cost_micro is None:
        return Failure(reason=Reason.BUDGET_SPENT, summary="the budget cost (what this call costs is not known)")
    if most is not None and charge.cost_micro and counters.cost_micro + charge.cost_micro > most:
        used = (
            f"{counters.cost_micro / MICRO:,g} of {most / MICRO:,g}, and this call costs {charge.cost_micro / MICRO:,g}"
        )
        return Failure(reason=Reason.BUDGET_SPENT, summary=f"the budget cost ({used})")
    debt = budgets.unverified_writes
    if charge.write and debt is not None and counters.unverified_writes >= debt:
        summary = f"{counters.unverified_writes} of the run's writes are not verified yet, {debt} may be"
        return Failure(reason=Reason.DEBT_LIMIT, summary=summary)
    return None


def why_pause(counters: Counters, failure: Failure | None, budgets: Budgets) -> str:
    """Why a run takes no more calls after a step that was counted; empty when it goes on.

    A figure for one kind of call only refuses that kind; one for all of them pauses the run.
    """
    if budgets is NO_BUDGETS or failure is None:
        return ""
    if budgets.error_streak is not None and counters.error_streak >= budgets.error_streak:
        return f"{counters.error_streak} calls failed one after the other"
    if failure.reason is Reason.REPEAT_LIMIT and counters.repeats_refused >= MOST_REFUSED:
        return f"{counters.repeats_refused} calls were refused as repetitions, and nothing has changed"
    if budgets.denials is not None and counters.denials >= budgets.denials:
        return f"the budget denials is used up ({counters.denials} of {budgets.denials})"
    wide = ("the budget calls ", "the budget minutes ", "the budget bytes_returned ")
    if budgets.cost_micro is not None and counters.cost_micro >= budgets.cost_micro:
        wide = (*wide, "the budget cost ")  # while something is left, cheaper calls may go on
    if failure.reason is Reason.BUDGET_SPENT and failure.summary.startswith(wide):
        return failure.summary.replace(" (", " is used up (", 1)
    return ""


def _spent(name: str, used: int, most: int) -> Failure:
    return Failure(reason=Reason.BUDGET_SPENT, summary=f"the budget {name} ({used:,} of {most:,})")
