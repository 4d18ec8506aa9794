"""How much of its budgets a run has used."""

from soothsayer_mcp.model.budget import Budgets
from soothsayer_mcp.model.run import Counters


def used(counters: Counters, budgets: Budgets, now_us: int) -> tuple[tuple[str, int, int], ...]:
    """Name, used and most of every budget that is set; what calls in flight may still return counts as used."""
    rows = (
        ("calls", counters.calls, budgets.calls),
        ("writes", counters.writes, budgets.writes),
        ("minutes", counters.minutes(now_us), budgets.minutes),
        ("bytes_returned", counters.bytes_returned + counters.bytes_reserved, budgets.bytes_returned),
        ("denials", counters.denials, budgets.denials),
        ("asks", counters.asks, budgets.asks),
        ("unverified_writes", counters.unverified_writes, budgets.unverified_writes),
        ("cost_micro", counters.cost_micro, budgets.cost_micro),
        ("error_streak", counters.error_streak, budgets.error_streak),
    )
    return tuple((name, count, most) for name, count, most in rows if most is not None)
