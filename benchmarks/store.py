"""What the store costs by itself: receipts one at a time, steps in flight, and what the event loop pays for them.

Run it from the repository: `python benchmarks/store.py [--seconds N] [--durability LEVEL]`.
"""

import argparse
import asyncio
import itertools
import os
import platform
import shutil
import sqlite3
import statistics
import sys
import tempfile
import time
from pathlib import Path

from soothsayer_mcp.adapters.store.sqlite import SqliteStore
from soothsayer_mcp.model.call import Cause, Client, Principal, Proposal, RunId, StepId
from soothsayer_mcp.model.decision import Decision, Effect, Mode, RuleMatch
from soothsayer_mcp.model.entry import Durability, PayloadMode
from soothsayer_mcp.model.evidence import Support
from soothsayer_mcp.model.json import Digest
from soothsayer_mcp.model.outcome import Returned
from soothsayer_mcp.model.run import RunBinding
from soothsayer_mcp.model.step import ProposedStep, RecordedStep, SupportedStep
from soothsayer_mcp.run.close import close

POLICY = Digest("sha256:" + "5c" * 32)
PRINCIPAL = Principal(id="os:bench", how="os_account")
CLIENT = Client(name="bench", version="1")
DECISION = Decision(
    effect=Effect.ALLOW,
    reason=None,
    rules=(RuleMatch(id="bench/allow", effect=Effect.ALLOW, text=""),),
    mode=Mode.ENFORCE,
    policy_digest=POLICY,
    does=("write",),
)
_ids = itertools.count()


def make_step(run: RunId, text: str) -> SupportedStep:
    number = next(_ids)
    raw = f'{{"path":"src/app.py","text":"{text}","n":{number}}}'.encode()
    proposal = Proposal(
        server="files",
        tool="write_file",
        arguments={"path": "src/app.py", "text": text, "n": number},
        raw_arguments=raw,
        raw=raw,
        request_id=number,
    )
    step = ProposedStep(
        id=StepId(f"{number:016x}"),
        run_id=run,
        cause=Cause.AGENT,
        principal=PRINCIPAL,
        client=CLIENT,
        tool=None,
        proposal=proposal,
        flaws=(),
        proposed_at_us=time.time_ns() // 1000,
        began_ns=time.monotonic_ns(),
    )
    return step.decided(DECISION).supported(Support())


async def one_step(store: SqliteStore, run: RunId, text: str, answer: Returned) -> tuple[float, float]:
    step = make_step(run, text)
    began = time.perf_counter()
    recorded = await store.record_intent(step, lambda _standing, _step: None, close)
    middle = time.perf_counter()
    assert isinstance(recorded, RecordedStep)
    await store.record_outcome(recorded.answered(answer).verified(()), close)
    return middle - began, time.perf_counter() - middle


async def measure(store: SqliteStore, in_flight: int, seconds: float, text: str) -> None:
    binding = RunBinding(principal=PRINCIPAL, workspace="/bench", client=CLIENT)
    run, _ = await store.bind_run(binding, POLICY)
    raw = f'{{"jsonrpc":"2.0","id":1,"result":{{"content":[{{"type":"text","text":"{text}"}}]}}}}'.encode()
    answer = Returned(raw=raw, result={"content": [{"type": "text", "text": text}]})
    for _ in range(50):
        await one_step(store, run, text, answer)
    intents: list[float] = []
    outcomes: list[float] = []
    until = time.perf_counter() + seconds

    async def caller() -> None:
        while time.perf_counter() < until:
            a, b = await one_step(store, run, text, answer)
            intents.append(a)
            outcomes.append(b)

    cpu, wall = time.process_time(), time.perf_counter()
    await asyncio.gather(*(caller() for _ in range(in_flight)))
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    print(
        f"  {in_flight:4d} in flight: {len(intents) / wall:8,.0f} steps/s"
        f"   A p50 {_ms(intents, 50):6.3f} p99 {_ms(intents, 99):7.3f} max {max(intents) * 1e3:7.3f} ms"
        f"   B p50 {_ms(outcomes, 50):6.3f} p99 {_ms(outcomes, 99):7.3f} ms"
        f"   cpu {cpu / len(intents) * 1e6:6.1f} us/step"
    )


def _ms(values: list[float], percent: int) -> float:
    return statistics.quantiles(values, n=100)[percent - 1] * 1e3


def sync_ms(folder: Path) -> float:
    took: list[float] = []
    with (folder / "sync").open("wb", buffering=0) as file:
        for _ in range(200):
            file.write(b"x" * 512)
            began = time.perf_counter()
            os.fdatasync(file.fileno())
            took.append(time.perf_counter() - began)
    return statistics.median(took) * 1e3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--durability", choices=[level.value for level in Durability], action="append")
    parser.add_argument("--payloads", choices=[mode.value for mode in PayloadMode], default="redacted")
    parser.add_argument("--flight", type=int, action="append")
    parser.add_argument("--bytes", type=int, default=100)
    options = parser.parse_args()
    base = Path(tempfile.mkdtemp(prefix="soothsayer-bench-"))
    try:
        print(f"{platform.platform()}, {os.cpu_count()} cpus, Python {platform.python_version()}, SQLite", end=" ")
        print(f"{sqlite3.sqlite_version}, fdatasync {sync_ms(base):.3f} ms, {options.bytes} B, {options.payloads}")
        for level in options.durability or [level.value for level in Durability]:
            began = time.perf_counter()
            store = SqliteStore.open(
                base / level, durability=Durability(level), payload_mode=lambda: PayloadMode(options.payloads)
            )
            print(f"{level}: opened in {(time.perf_counter() - began) * 1e3:.1f} ms")
            for in_flight in options.flight or [1, 8, 16, 64, 256]:
                asyncio.run(measure(store, in_flight, options.seconds, "x" * options.bytes))
            began = time.perf_counter()
            store.close()
            size = sum(path.stat().st_size for path in (base / level).glob("*.db*"))
            print(f"  closed in {(time.perf_counter() - began) * 1e3:.1f} ms, {size / 1e6:.1f} MB")
    finally:
        shutil.rmtree(base)
    sys.stdout.flush()


if __name__ == "__main__":
    main()
