"""The budgets of one run: those of the policy, what a person opened it with, and what a person added since."""

from dataclasses import replace

from soothsayer_mcp.model.budget import RAISED, Budgets
from soothsayer_mcp.model.run import Run


def budgets_of(run: Run, budgets: Budgets) -> Budgets:
    """What a run may use up. A person's figure tightens; what was added raises, no higher than the ceiling."""
    said = run.allowance
    if said is None:
        return budgets
    figures = {name: figure for name in RAISED if (figure := _figure(name, budgets, said.own, said.added)) is not None}
    return replace(budgets, **figures)


def _figure(name: str, budgets: Budgets, own: dict[str, int], added: dict[str, int]) -> int | None:
    stated: int | None = getattr(budgets, name)
    said = [figure for figure in (stated, own.get(name)) if figure is not None]
    if not said:
        return None
    most = min(said) + added.get(name, 0)
    ceiling = budgets.ceiling.get(name)
    return most if ceiling is None else min(most, max(ceiling, min(said)))
