"""Budgets as people write them on a command line, and how far a run's policy lets them be raised."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple

from soothsayer_mcp.adapters.policy_files.positions import Pairs, Scalar, examine
from soothsayer_mcp.adapters.store.reader import Reader
from soothsayer_mcp.adapters.store.sqlite import SqliteStore
from soothsayer_mcp.cli.exits import Exit
from soothsayer_mcp.cli.problems import Problem
from soothsayer_mcp.model.budget import RAISED, Allowance
from soothsayer_mcp.model.call import RunId
from soothsayer_mcp.model.failure import Reason
from soothsayer_mcp.ports import PortError

_AMOUNT = re.compile(r"([1-9][0-9]{0,8})(B|kB|MB|GB)?")
_UNITS: Final = {None: 1, "B": 1, "kB": 1_000, "MB": 1_000_000, "GB": 1_000_000_000}


def read_amounts(option: str, pairs: Iterable[str], names: Sequence[str]) -> dict[str, int]:
    """Read `NAME=N`; sizes take a unit. Raises `Problem`."""
    found: dict[str, int] = {}
    for pair in pairs:
        name, _, text = pair.partition("=")
        if name not in names:
            raise Problem(f'{option} "{pair}" names no budget', id="usage", fix=f"one of {', '.join(names)}")
        amount = _amount(name, text)
        if amount is None:
            raise Problem(f'{option} "{pair}" has no number', id="usage", fix=f"write {name}=50")
        found[name] = amount
    return found


class Limit(NamedTuple):
    """What a policy says of one budget."""

    figure: int
    top: int
    """How high it may become; the figure itself where there is no ceiling."""


def limits_on_record(sources: Mapping[str, str], names: Iterable[str]) -> dict[str, Limit]:
    """What the files of a policy say of these budgets; of several the smallest holds."""
    found: dict[str, Limit] = {}
    for path, text in sources.items():
        tree, _ = examine(text.encode(), path)
        budgets = None if tree is None else tree.get("budgets")
        if not isinstance(budgets, Pairs):
            continue
        above = budgets.get("ceiling")
        for name in names:
            figure = _stated(name, budgets)
            if figure is not None:
                top = (_stated(name, above) if isinstance(above, Pairs) else None) or figure
                known = found.get(name, Limit(figure, top))
                found[name] = Limit(min(known.figure, figure), min(known.top, top))
    return found


def raise_budgets(
    reader: Reader, store: SqliteStore, run: RunId, added: Mapping[str, int], *, by: str, reason: str = ""
) -> None:
    """Raise budgets of a run as far as its policy lets them be, and open it where it is paused. Raises `Problem`."""
    limits = limits_on_record(reader.policy_sources(reader.run(run).run.policy), RAISED)
    try:
        _check_ceilings(store.run_now(run).allowance, added, limits)
        store.add_budget(run, added, by=by, reason=" ".join(reason.split()) or f"by {by}")
    except PortError as error:
        if error.reason is not Reason.RUN_CLOSED:
            raise
        raise Problem(f"run {error.summary}", id="run-state", exit=Exit.NO) from error


def _check_ceilings(said: Allowance | None, added: Mapping[str, int], limits: Mapping[str, Limit]) -> None:
    """Refuse what would have no effect, because the policy lets the budget be raised no further."""
    for name, more in added.items():
        limit = limits.get(name)
        figures = [] if limit is None else [limit.figure]
        figures += [] if said is None or name not in said.own else [said.own[name]]
        if not figures:
            raise Problem(f"the run has no budget {name}", id="run-budget", exit=Exit.NO)
        total = min(figures) + more + (0 if said is None else said.added.get(name, 0))
        if limit is None or total <= limit.top:
            continue
        fix = "ceiling: {" + name + ": N} beside the budget in the policy sets how far a person may raise it"
        raise Problem(f"the budget {name} may become {limit.top:,} at most", id="run-budget", exit=Exit.NO, fix=fix)


def _stated(name: str, pairs: Pairs) -> int | None:
    held = pairs.get(name)
    return _amount(name, str(held.value)) if isinstance(held, Scalar) else None


def _amount(name: str, text: str) -> int | None:
    found = _AMOUNT.fullmatch(text)
    if found is None or (found.group(2) is not None and name != "bytes_returned"):
        return None
    return int(found.group(1)) * _UNITS[found.group(2)]
