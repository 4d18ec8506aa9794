"""What a decision costs with 1,000 rules of which 10 concern the tool, and a start with a checked and a kept policy.

python -m benchmarks.decide
"""

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from benchmarks.figures import Figures
from soothsayer_mcp.adapters.policy_files.load import load
from soothsayer_mcp.model.call import ToolDefinition
from soothsayer_mcp.model.facts import NO_FACTS
from soothsayer_mcp.model.json import digest
from soothsayer_mcp.model.run import Run
from soothsayer_mcp.model.step import ProposedStep
from soothsayer_mcp.policy.decide import decide
from soothsayer_mcp.policy.policy import Policy
from soothsayer_mcp.testing.factories import make_step
from soothsayer_mcp.testing.world import World

ROUNDS = 20_000


def policy_text(rules: int, *, for_the_tool: int) -> str:
    lines = ["soothsayer: policy/v1", "name: bench", "default: {read: allow, other: ask}", "rules:"]
    for number in range(rules):
        tool = "fs.write_file" if number < for_the_tool else f"other.tool_{number}"
        match number % 5:
            case 0:
                args = f'path: {{under: "/srv/app{number}", not: {{glob: "**/*.pem"}}}}'
            case 1:
                args = f'"path | file": {{glob: ["**/secret{number}/**", "**/.env{number}"]}}'
            case 2:
                args = f"mode: {{in: [a{number}, b]}}, size: {{max: {number + 1}}}"
            case 3:
                args = f'url: {{host: ["*.corp{number}.test"], scheme: https}}'
            case _:
                args = f'command: {{argv: ["git status {number}"], no_shell_syntax: true}}'
        effect = ("deny", "ask", "allow")[number % 3]
        lines.append(f'  - {{{effect}: "Rule {number}.", id: r{number}, tools: "{tool}", args: {{{args}}}}}')
    return "\n".join(lines) + "\n"


def percentiles(work: Callable[[], object], rounds: int) -> tuple[float, float]:
    clock = time.perf_counter_ns
    for _ in range(200):
        work()
    took: list[int] = []
    for _ in range(rounds):
        began = clock()
        work()
        took.append(clock() - began)
    ordered = statistics.quantiles(took, n=100)
    return ordered[49] / 1000, ordered[98] / 1000


def measure(folder: Path, figures: Figures, rounds: int) -> None:
    """A decision by 10 rules of 1,000 and of 10, and what 1,000 rules add to a start; in turn: noise is shared."""
    ready = {count: _loaded(folder, count) for count in (10, 1_000)}
    for _ in range(rounds):
        few, many = (percentiles(partial(decide, *made, NO_FACTS), ROUNDS // 10)[0] for made in ready.values())
        figures.add("decide/rules_1000_us", many)
        figures.add("decide/rules_1000", many / few)
        took: list[float] = []
        for count in ready:
            began = time.perf_counter()
            _policy_of(folder, count)
            took.append(time.perf_counter() - began)
        figures.add("start/rules_1000_ms", (took[1] - took[0]) * 1e3)


def _policy_of(folder: Path, count: int) -> Policy:
    file = folder / f"p{count}.yaml"
    return load([str(file)], workspace="/w", home="/home/u", state=folder / "state")


def _loaded(folder: Path, count: int) -> tuple[Policy, Run, ProposedStep]:
    (folder / f"p{count}.yaml").write_text(policy_text(count, for_the_tool=10))
    _policy_of(folder, count)
    policy = _policy_of(folder, count)
    step = _step()
    assert step.tool is not None
    policy.candidates(step.tool)
    return policy, World().run, step


def _step() -> ProposedStep:
    raw = b'{"name":"write_file"}'
    names = frozenset({"path", "mode", "size", "url", "command"})
    tool = ToolDefinition(server="fs", name="write_file", raw=raw, digest=digest(raw), properties=names)
    return make_step(
        tool,
        arguments={
            "path": "/srv/app0/src/../main.py",
            "mode": "b",
            "size": 3,
            "url": "https://api.corp3.test/v1/x?y=z",
            "command": "git status 4",
        },
    )


def decisions(folder: Path) -> None:
    for count in (10, 100, 1_000, 5_000):
        file = folder / f"p{count}.yaml"
        file.write_text(policy_text(count, for_the_tool=10))
        began = time.perf_counter()
        policy = load([str(file)], workspace="/w", home="/home/u", state=folder / "state")
        cold = time.perf_counter() - began
        began = time.perf_counter()
        policy = load([str(file)], workspace="/w", home="/home/u", state=folder / "state")
        warm = time.perf_counter() - began
        step, run = _step(), World().run
        assert step.tool is not None
        began = time.perf_counter()
        policy.candidates(step.tool)
        indexed = time.perf_counter() - began
        p50, p99 = percentiles(partial(decide, policy, run, step, NO_FACTS), ROUNDS)
        asked, _ = percentiles(partial(policy.questions, step), ROUNDS)
        print(
            f"{count:>6} rules, 10 for the tool: decide p50 {p50:6.1f} us  p99 {p99:6.1f} us  questions {asked:4.1f} us"
            f"  index a tool {indexed * 1e3:5.2f} ms  load checked {cold * 1e3:7.1f} ms  kept {warm * 1e3:6.1f} ms"
        )


START = """
import sys, time
began = time.perf_counter()
from soothsayer_mcp.adapters.policy_files.load import load
imported = time.perf_counter()
load(["guarded"], workspace="/w", home="/home/u", state=sys.argv[1])
done = time.perf_counter()
import json
print(json.dumps([imported - began, done - imported, "yaml" in sys.modules, "pydantic" in sys.modules]))
"""


def starts(folder: Path) -> None:
    for what in ("checked", "kept", "kept", "kept"):
        output = subprocess.run(
            [sys.executable, "-c", START, str(folder / "start")], check=True, capture_output=True, text=True
        ).stdout
        imports, took, yaml, pydantic = json.loads(output)
        print(
            f"start with guarded, {what:>7}: imports {imports * 1e3:5.1f} ms, load {took * 1e3:6.1f} ms"
            f"   yaml {'loaded' if yaml else 'not loaded'}, pydantic {'loaded' if pydantic else 'not loaded'}"
        )


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        figures = Figures()
        measure(Path(folder), figures, 5)
        for name in ("decide/rules_1000_us", "decide/rules_1000", "start/rules_1000_ms"):
            print(f"{name}: {figures.median(name):.2f}")
        decisions(Path(folder))
        starts(Path(folder))


if __name__ == "__main__":
    main()
