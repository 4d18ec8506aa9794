"""What a rollback does, for every face that offers one: look around, plan, and carry out what a person confirmed."""

from collections.abc import Collection, Sequence

import anyio

from soothsayer_mcp.adapters import schemas
from soothsayer_mcp.adapters.lab import EVIDENCE_CONDITIONS
from soothsayer_mcp.adapters.probes.probes import LocalProbes
from soothsayer_mcp.adapters.probes.restoring import Restoring
from soothsayer_mcp.adapters.probes.settings import ProbeSettings
from soothsayer_mcp.adapters.store.reader import Reader
from soothsayer_mcp.adapters.store.sqlite import SqliteStore
from soothsayer_mcp.adapters.system import RandomIds, SystemClock, account, look
from soothsayer_mcp.cli.exits import Exit
from soothsayer_mcp.cli.options import Settings
from soothsayer_mcp.cli.problems import Problem
from soothsayer_mcp.cli.recorded import recall
from soothsayer_mcp.cli.state import open_reader, state_dir
from soothsayer_mcp.gathering import Inspection
from soothsayer_mcp.governor import Governor
from soothsayer_mcp.model.call import Cause, RunId
from soothsayer_mcp.model.run import RunState
from soothsayer_mcp.model.undo import Done
from soothsayer_mcp.model.value import dataclass
from soothsayer_mcp.policy.rules import Policy
from soothsayer_mcp.rollback import Restorer, Rollback, look_around
from soothsayer_mcp.trace.query import Filter, term
from soothsayer_mcp.undo.plan import Past, Plan, Present, plan


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """A plan, and the record and the policy that it was made from."""

    run: RunId
    pasts: Sequence[Past]
    plan: Plan


def planned(reader: Reader, run: RunId, *, to: int = 0, left: Collection[int] = ()) -> Planned:
    """Work out how a run comes back to the state after step `to`, as things stand now. Changes nothing."""
    pasts = reader.pasts(run)
    return Planned(run=run, pasts=pasts, plan=plan(pasts, anyio.run(_present, pasts, run), to=to, skip=left))


def held(reader: Reader, store: SqliteStore, run: RunId, *, by: str) -> bool:
    """Pause a run that is open, so that nothing comes to what is undone. Whether it was open."""
    was_open = reader.run(run).run.state == RunState.OPEN
    if was_open:
        store.change_run(run, RunState.PAUSED, by=by, reason="it is rolled back")
    return was_open


def carried_out(settings: Settings, store: SqliteStore, made: Planned, *, by: str) -> list[Done]:
    """Do what a plan says, a governed step for each. Raises `Problem` where the policy is not on record."""
    with open_reader(settings) as reader:
        policy, workspace = _policy(settings, reader, made.run)
    return anyio.run(_undo, store, made, policy, workspace, by)


async def _present(pasts: Sequence[Past], run: RunId) -> Present:
    return await look_around(pasts, Restoring(_roots(pasts)), run)


async def _undo(store: SqliteStore, made: Planned, policy: Policy, workspace: str, by: str) -> list[Done]:
    roots = _roots(made.pasts)
    files = Restoring(roots)
    clock, ids = SystemClock(), RandomIds()
    restorer = Restorer(files, None)
    inspection = Inspection(
        held=lambda: store.held,
        probes=LocalProbes(ProbeSettings(roots=tuple(roots))),
        conditions=EVIDENCE_CONDITIONS.compile,
        schema=schemas.compile_output,
        workspace=workspace,
        clock=clock,
        ids=ids,
    )
    governor = Governor(
        policy=lambda: policy, store=store, tools=restorer, look=look, inspector=inspection, call_timeout_s=60.0
    )
    undoing = Rollback(
        run=made.run,
        governor=governor,
        restorer=restorer,
        files=files,
        book=store.undo_log,
        principal=account(),
        workspace=workspace,
        clock=clock,
        ids=ids,
    )
    return await undoing.carry_out(made.plan, made.pasts, by=by)


def _roots(pasts: Sequence[Past]) -> list[str]:
    """The folders that files were found below when they were kept."""
    return sorted({one.root for past in pasts if past.kept is not None for one in past.kept.before.files if one.root})


def _policy(settings: Settings, reader: Reader, run: RunId) -> tuple[Policy, str]:
    """The policy of the run's newest step, from the record: what it denies is not done, by nobody."""
    for step in reader.steps(Filter(terms=(term("run", run),)), reader.now(), limit=200):
        if step.cause != Cause.AGENT:
            continue
        told = recall(reader, step)
        policy = told.load_policy(state_dir(settings), mode=None)
        if policy is None:
            break
        return policy, told.workspace
    raise Problem("the policy of the run cannot be loaded from the record", id="not-kept", exit=Exit.NO)
