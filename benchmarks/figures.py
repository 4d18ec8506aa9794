"""Figures of one run, what they have to reach, and how they are shown."""

import json
import math
import statistics
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field


def quantile(values: Sequence[float], part: float) -> float:
    """The value below which so much of the sample lies."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, math.ceil(part * len(ordered)) - 1)]


@dataclass(slots=True)
class Figures:
    """Name of a figure -> one value per round. A ratio to `direct` is taken within each round, then its median."""

    rounds: defaultdict[str, list[float]] = field(default_factory=lambda: defaultdict[str, list[float]](list))

    def add(self, name: str, value: float) -> None:
        self.rounds[name].append(value)

    def has(self, *names: str) -> bool:
        return all(self.rounds.get(name) for name in names)

    def median(self, name: str) -> float:
        return statistics.median(self.rounds[name])

    def ratio(self, name: str, to: str) -> float:
        return statistics.median(a / b for a, b in zip(self.rounds[name], self.rounds[to], strict=True))

    def difference(self, name: str, less: str) -> float:
        return statistics.median(a - b for a, b in zip(self.rounds[name], self.rounds[less], strict=True))

    def document(self) -> dict[str, object]:
        return {name: {"median": self.median(name), "rounds": values} for name, values in sorted(self.rounds.items())}


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What a figure has to reach, and what would be better still."""

    what: str
    measured: Callable[[Figures], float]
    target: Callable[[Figures], float]
    stretch: Callable[[Figures], float]
    unit: str
    needs: tuple[str, ...]
    at_least: bool = False

    def met(self, figures: Figures) -> bool:
        value, wanted = self.measured(figures), self.target(figures)
        return value >= wanted if self.at_least else value <= wanted


def _is(value: float) -> Callable[[Figures], float]:
    return lambda _figures: value


def _durable(syncs: int, us: float, pinned: str = "pinned") -> Callable[[Figures], float]:
    return lambda figures: figures.median(f"{pinned}/direct/100/p50_us") + syncs * figures.median("sync_us") + us


def _median(name: str) -> Callable[[Figures], float]:
    return lambda figures: figures.median(name)


TARGETS: tuple[Target, ...] = (
    Target(
        what="relaxed, 100 B, pinned, one at a time",
        measured=lambda figures: figures.ratio("pinned/relaxed/100/p50_us", "pinned/direct/100/p50_us"),
        target=_is(4.0),
        stretch=_is(3.0),
        unit="x direct",
        needs=("pinned/relaxed/100/p50_us",),
    ),
    Target(
        what="relaxed, CPU per call, 16 in flight",
        measured=_median("free/relaxed/100/16/cpu_us"),
        target=_is(60),
        stretch=_is(35),
        unit="us",
        needs=("free/relaxed/100/16/cpu_us",),
    ),
    *(
        Target(
            what=f"{level}, {window} in flight, 100 B",
            measured=_median(f"free/{level}/100/{window}/calls_s"),
            target=_is(target),
            stretch=_is(stretch),
            unit="calls/s",
            needs=(f"free/{level}/100/{window}/calls_s",),
            at_least=True,
        )
        for level, window, target, stretch in (
            ("relaxed", 16, 15_000, 30_000),
            ("relaxed", 64, 20_000, 35_000),
            ("strict", 16, 5_000, 10_000),
            ("strict", 64, 10_000, 20_000),
        )
    ),
    *(
        Target(
            what=f"{level}, one at a time, 100 B, {where}",
            measured=_median(f"{where}/{level}/100/p50_us"),
            target=_durable(syncs, target, where),
            stretch=_durable(syncs, stretch, where),
            unit="us",
            needs=(f"{where}/{level}/100/p50_us", f"{where}/direct/100/p50_us", "sync_us"),
        )
        for where in ("pinned", "free")
        for level, syncs, target, stretch in (("balanced", 1, 150, 70), ("strict", 2, 300, 150))
    ),
    Target(
        what="strict, 1 MB, one at a time",
        measured=lambda figures: figures.median("free/strict/1000000/p50_us") / 1000,
        target=_is(12),
        stretch=_is(8),
        unit="ms",
        needs=("free/strict/1000000/p50_us",),
    ),
    Target(
        what="strict, 10 kB, 16 in flight",
        measured=_median("free/strict/10000/16/calls_s"),
        target=_is(4_000),
        stretch=_is(9_000),
        unit="calls/s",
        needs=("free/strict/10000/16/calls_s",),
        at_least=True,
    ),
    Target(
        what="tools/list, added",
        measured=lambda figures: figures.difference("free/strict/list_us", "free/direct/list_us"),
        target=_is(100),
        stretch=_is(60),
        unit="us",
        needs=("free/strict/list_us", "free/direct/list_us"),
    ),
    Target(
        what="start to first list, added",
        measured=lambda figures: figures.difference("start/strict_ms", "start/direct_ms"),
        target=_is(150),
        stretch=_is(90),
        unit="ms",
        needs=("start/strict_ms", "start/direct_ms"),
    ),
    Target(
        what="memory of one proxy, after 100 B calls",
        measured=_median("memory/strict_small_mib"),
        target=_is(40),
        stretch=_is(28),
        unit="MiB",
        needs=("memory/strict_small_mib",),
    ),
    Target(
        what="memory per 1,000 calls",
        measured=_median("growth/kib_per_1000"),
        target=_is(5),
        stretch=_is(1),
        unit="KiB",
        needs=("growth/kib_per_1000",),
    ),
    Target(
        what="a call after many against a fresh one",
        measured=_median("growth/after_many"),
        target=_is(1.05),
        stretch=_is(1.0),
        unit="x",
        needs=("growth/after_many",),
    ),
    Target(
        what="a call with 2,000 tools against 10",
        measured=_median("growth/tools_2000"),
        target=_is(1.1),
        stretch=_is(1.0),
        unit="x",
        needs=("growth/tools_2000",),
    ),
    Target(
        what="a call with 1,000 rules against 100, added",
        measured=_median("growth/rules_1000_us"),
        target=_is(100),
        stretch=_is(30),
        unit="us",
        needs=("growth/rules_1000_us",),
    ),
    Target(
        what="a decision by 10 of 1,000 rules",
        measured=_median("decide/rules_1000_us"),
        target=_is(100),
        stretch=_is(30),
        unit="us",
        needs=("decide/rules_1000_us",),
    ),
    Target(
        what="a decision by 10 of 1,000 rules against 10 of 10",
        measured=_median("decide/rules_1000"),
        target=_is(1.1),
        stretch=_is(1.0),
        unit="x",
        needs=("decide/rules_1000",),
    ),
    Target(
        what="1,000 rules at a start, added",
        measured=_median("start/rules_1000_ms"),
        target=_is(100),
        stretch=_is(50),
        unit="ms",
        needs=("start/rules_1000_ms",),
    ),
    Target(
        what="tools/list of 2,000 tools, from cache",
        measured=_median("growth/list_2000_ms"),
        target=_is(25),
        stretch=_is(10),
        unit="ms",
        needs=("growth/list_2000_ms",),
    ),
)


def table(rows: Iterable[Sequence[str]]) -> str:
    """Columns as wide as their widest cell; the first to the left, the others to the right."""
    listed = [list(row) for row in rows]
    widths = [max(map(len, column)) for column in zip(*listed, strict=True)]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if at == 0 else cell.rjust(width)
            for at, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in listed
    )


def short(value: float) -> str:
    """Three digits that matter."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def targets_table(figures: Figures) -> str:
    rows = [("target", "measured", "", "target", "stretch", "")]
    for target in TARGETS:
        if not figures.has(*target.needs):
            continue
        rows.append(
            (
                target.what,
                short(target.measured(figures)),
                target.unit,
                ("at least " if target.at_least else "at most ") + short(target.target(figures)),
                short(target.stretch(figures)),
                "met" if target.met(figures) else "MISSED",
            )
        )
    return table(rows)


def document(figures: Figures, machine: dict[str, object]) -> str:
    """The run as data: every round, and the targets."""
    judged = [
        {
            "what": target.what,
            "measured": target.measured(figures),
            "unit": target.unit,
            "target": target.target(figures),
            "stretch": target.stretch(figures),
            "met": target.met(figures),
        }
        for target in TARGETS
        if figures.has(*target.needs)
    ]
    return json.dumps({"machine": machine, "targets": judged, "figures": figures.document()}, indent=1) + "\n"
