"""Measure, print, and keep the figures as JSON."""

import argparse
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks import decide
from benchmarks.connection import BenchError, Connection
from benchmarks.contestants import DIRECT, LEVELS, NAMES, PUMP, Stage
from benchmarks.figures import Figures, document, quantile, short, table, targets_table

RESULTS = Path(__file__).parent / "results"
SIZES = (100, 10_000, 1_000_000)
WINDOWS = (16, 64)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """How long to look."""

    rounds: int
    latency: dict[int, int]
    """Size -> calls one at a time, per round."""
    burst: dict[tuple[int, int], int]
    """Size and window -> calls in flight, per round; the direct connection makes more of them."""
    starts: int
    many: int
    """Calls of the run that looks for growth."""


QUICK = Scale(
    rounds=3,
    latency={100: 200, 10_000: 60, 1_000_000: 6},
    burst={(100, 16): 1_500, (100, 64): 2_000, (10_000, 16): 500, (1_000_000, 16): 24},
    starts=3,
    many=0,
)
FULL = Scale(
    rounds=9,
    latency={100: 1_000, 10_000: 300, 1_000_000: 20},
    burst={(100, 16): 8_000, (100, 64): 12_000, (10_000, 16): 3_000, (10_000, 64): 3_000, (1_000_000, 16): 64}
    | {(1_000_000, 64): 128},
    starts=9,
    many=100_000,
)


def sync_us(folder: Path, count: int = 60) -> float:
    """The median of a small append made durable: the floor of every durable call."""
    took: list[float] = []
    with (folder / "sync").open("ab", buffering=0) as file:
        for _ in range(count):
            file.write(b"x" * 512)
            before = time.perf_counter()
            os.fdatasync(file.fileno())
            took.append(time.perf_counter() - before)
    return statistics.median(took) * 1e6


def measure_round(stage: Stage, live: dict[str, Connection], figures: Figures, scale: Scale) -> None:
    """One round: every contestant in turn, the direct connection three times, pinned and not."""
    figures.add("sync_us", sync_us(stage.folder))
    # Direct first, in the middle and last, so that a drift of the machine does not favour anybody.
    order = [DIRECT, PUMP, LEVELS[0], DIRECT, *LEVELS[1:], DIRECT]
    cores = os.sched_getaffinity(0)
    for where in ("pinned", "free"):
        chosen = {min(cores)} if where == "pinned" else cores
        os.sched_setaffinity(0, chosen)
        for connection in live.values():
            connection.pin(chosen)
        for size, calls in scale.latency.items():
            seen: dict[str, list[float]] = {}
            for name in order:
                took = live[name].one_at_a_time(size, max(2, calls // (3 if name == DIRECT else 1)))
                seen.setdefault(name, []).extend(took)
            for name, took in seen.items():
                figures.add(f"{where}/{name}/{size}/p50_us", statistics.median(took) * 1e6)
                figures.add(f"{where}/{name}/{size}/p99_us", quantile(took, 0.99) * 1e6)
        if where == "pinned":
            continue
        for (size, window), calls in scale.burst.items():
            for name in NAMES:
                burst = live[name].in_flight(size, calls, window)
                figures.add(f"{where}/{name}/{size}/{window}/calls_s", burst.calls / burst.seconds)
                figures.add(f"{where}/{name}/{size}/{window}/cpu_us", burst.cpu_us)
        for name in NAMES:
            figures.add(f"{where}/{name}/list_us", statistics.median(live[name].lists(50)) * 1e6)
    os.sched_setaffinity(0, cores)


def measure_starts(stage: Stage, figures: Figures, count: int) -> None:
    """From the start of the process to the first `tools/list`; each proxy on a state folder that it knows."""
    states = {level: stage.fresh_state() for level in LEVELS}
    for turn in range(count + 1):
        for name in NAMES:
            connection = stage.start(stage.argv(name, state=states.get(name)))
            took = connection.open()
            connection.close()
            if turn == 0:
                # The first start makes the state folder and checks the policy.
                figures.add(f"start/{name}_first_ms", took * 1000)
            else:
                figures.add(f"start/{name}_ms", took * 1000)


def measure_growth(stage: Stage, figures: Figures, many: int) -> None:
    """What a call costs after many, with many tools, with many rules."""
    connection = opened(stage, stage.argv("strict"))
    connection.in_flight(100, many // 10, 64)
    fresh, memory = statistics.median(connection.one_at_a_time(100, 2_000)), connection.resident_mib()
    connection.in_flight(100, many, 64)
    after = statistics.median(connection.one_at_a_time(100, 2_000))
    figures.add("growth/after_many", after / fresh)
    figures.add("growth/kib_per_1000", (connection.resident_mib() - memory) * 1024 / (many / 1000))
    connection.close()
    policy = stage.write_policy("policy-1000.yaml", 1_000, 10)
    few, wide, long = (
        opened(stage, stage.argv("relaxed", tools=10)),
        opened(stage, stage.argv("relaxed", tools=2_000)),
        opened(stage, stage.argv("relaxed", tools=10, policy=policy)),
    )
    for _ in range(9):
        usual, many_tools, many_rules = (statistics.median(each.one_at_a_time(100, 300)) for each in (few, wide, long))
        figures.add("growth/tools_2000", many_tools / usual)
        figures.add("growth/rules_1000_us", (many_rules - usual) * 1e6)
        figures.add("growth/list_2000_ms", statistics.median(wide.lists(5)) * 1e3)
    for each in (few, wide, long):
        each.close()


def opened(stage: Stage, argv: list[str]) -> Connection:
    connection = stage.start(argv)
    connection.open()
    connection.check(100)
    return connection


def show(figures: Figures) -> None:
    head = ("", *NAMES)
    print("\np50 us one at a time (x direct)")
    rows = [head]
    for where in ("pinned", "free"):
        for size in SIZES:
            cells = [f"{where} {size:,} B"]
            for name in NAMES:
                figure = f"{where}/{name}/{size}/p50_us"
                times = figures.ratio(figure, f"{where}/{DIRECT}/{size}/p50_us")
                cells.append(f"{short(figures.median(figure))} ({times:.1f})")
            rows.append(tuple(cells))
        rows.append((f"{where} 100 B p99", *(short(figures.median(f"{where}/{name}/100/p99_us")) for name in NAMES)))
    print(table(rows))
    print("\ncalls/s in flight (CPU us per call of the process in between)")
    rows = [head]
    for size in SIZES:
        for window in WINDOWS:
            if figures.has(f"free/{DIRECT}/{size}/{window}/calls_s"):
                cells = [f"{size:,} B, {window} in flight"]
                for name in NAMES:
                    figure = f"free/{name}/{size}/{window}"
                    cpu = "" if name == DIRECT else f" ({short(figures.median(f'{figure}/cpu_us'))})"
                    cells.append(short(figures.median(f"{figure}/calls_s")) + cpu)
                rows.append(tuple(cells))
    print(table(rows))
    print("\nper process")
    rows = [head]
    for what, figure in (("first start ms", "start/{}_first_ms"), ("start ms", "start/{}_ms")):
        rows.append((what, *(short(figures.median(figure.format(name))) for name in NAMES)))
    rows.append(("tools/list us", *(short(figures.median(f"free/{name}/list_us")) for name in NAMES)))
    for what, figure in (("peak MiB, 100 B only", "memory/{}_small_mib"), ("peak MiB", "memory/{}_mib")):
        rows.append((what, *(short(figures.median(figure.format(name))) for name in NAMES)))
    rows.append(("peak MiB with its server", *(short(figures.median(f"memory/{name}_tree_mib")) for name in NAMES)))
    print(table(rows))
    print(f"\nfdatasync of a small append, this run: {short(figures.median('sync_us'))} us\n")
    print(targets_table(figures))


def machine(stage: Stage, mode: str) -> dict[str, object]:
    revision = subprocess.run(["git", "rev-parse", "--short", "HEAD"], check=False, capture_output=True, text=True)
    return {
        "mode": mode,
        "when": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "revision": revision.stdout.strip(),
        "python": platform.python_version(),
        "system": platform.platform(),
        "cores": len(os.sched_getaffinity(0)),
        "load": os.getloadavg(),
        "server": stage.server_kind,
    }


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="under a minute, fewer rounds, no growth")
    parser.add_argument("--rounds", type=int, help="another number of rounds")
    parser.add_argument("--folder", type=Path, help="where the traces are written (its file system counts)")
    options = parser.parse_args()
    scale = QUICK if options.quick else FULL
    RESULTS.mkdir(exist_ok=True)
    # Beside the results and not under /tmp, which may be memory: there a sync costs nothing.
    folder = Path(tempfile.mkdtemp(prefix="run-", dir=options.folder or RESULTS))
    stage = Stage(folder)
    figures = Figures()
    live: dict[str, Connection] = {}
    try:
        about = machine(stage, "quick" if options.quick else "full")
        print(" ".join(f"{name}={value}" for name, value in about.items()))
        measure_starts(stage, figures, scale.starts)
        decide.measure(folder, figures, 5)
        live = {name: opened(stage, stage.argv(name)) for name in NAMES}
        for name, connection in live.items():
            connection.in_flight(100, 500, 16)
            figures.add(f"memory/{name}_small_mib", connection.memory_mib()[0])
            for size in SIZES:
                connection.check(size)
        for turn in range(options.rounds or scale.rounds):
            before = time.perf_counter()
            measure_round(stage, live, figures, scale)
            print(f"round {turn + 1}: {time.perf_counter() - before:.1f} s", file=sys.stderr)
        for name, connection in live.items():
            own, tree = connection.memory_mib()
            figures.add(f"memory/{name}_mib", own)
            figures.add(f"memory/{name}_tree_mib", tree)
        if scale.many:
            measure_growth(stage, figures, scale.many)
        show(figures)
        target = RESULTS / f"{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}-{about['mode']}.json"
        target.write_text(document(figures, about), encoding="utf-8")
        print(f"\n{target}")
    except BenchError as error:
        print(f"{error}\n{stage.last_words()}", file=sys.stderr)
        return 1
    finally:
        for connection in live.values():
            connection.close()
        shutil.rmtree(folder, ignore_errors=True)
    return 0


sys.exit(main())
