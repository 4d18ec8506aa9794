"""The completion gate: what stands against completing a run. Pure; the store asks it inside its transaction."""

from collections.abc import Iterable

from soothsayer_mcp.model.run import Debts


def missing(run: str, debts: Debts, *, refuse_unverified: bool, unmet: Iterable[str]) -> tuple[str, ...]:
    """What is missing, a phrase each, named by step; empty when the run may be completed.

    `run` is the run's id as people see it; `refuse_unverified` counts writes that nothing checked; `unmet`
    is what policy requires and the record does not show.
    """
    found = [f"step {run}.{no} is still in flight" for no in debts.in_flight]
    found += [f"step {run}.{no}: it is not known whether it happened" for no in debts.unsettled]
    found += [f"step {run}.{no} waits for a person's answer" for no in debts.asked]
    found += [f"step {run}.{no}: its check {check} is {finding}" for no, check, finding in debts.unkept]
    if refuse_unverified:
        found += [f"step {run}.{no} changed something and nothing checked it" for no in debts.unverified]
    return (*found, *unmet)
