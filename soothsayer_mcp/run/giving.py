"""Whether a run may be given more to read outside of its calls: parts of stored results."""

from soothsayer_mcp.model.budget import Budgets
from soothsayer_mcp.model.facts import Charge
from soothsayer_mcp.model.failure import Failure
from soothsayer_mcp.model.run import Run
from soothsayer_mcp.run.allowance import budgets_of
from soothsayer_mcp.run.budget import refuse_over_budget
from soothsayer_mcp.run.reserve import refuse_unless_open


def refuse_to_give(run: Run, size: int, budgets: Budgets, now_us: int) -> Failure | None:
    """Refuse what a run that takes no calls, or has no bytes left, would be given."""
    closed = refuse_unless_open(run)
    if closed is not None:
        return closed
    only_bytes = Budgets(bytes_returned=budgets_of(run, budgets).bytes_returned)
    return refuse_over_budget(run.counters, Charge(bytes_most=size), only_bytes, now_us)
