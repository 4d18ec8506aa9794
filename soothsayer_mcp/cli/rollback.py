"""`soothsayer rollback`: put back what a run did, one governed step at a time, after a person has seen the plan."""

import sys
from collections.abc import Sequence

import anyio
import click
from rich.text import Text

from soothsayer_mcp.adapters import schemas
from soothsayer_mcp.adapters.lab import EVIDENCE_CONDITIONS
from soothsayer_mcp.adapters.probes.probes import LocalProbes
from soothsayer_mcp.adapters.probes.restoring import Restoring
from soothsayer_mcp.adapters.probes.settings import ProbeSettings
from soothsayer_mcp.adapters.store.reader import Reader
from soothsayer_mcp.adapters.store.sqlite import SqliteStore
from soothsayer_mcp.adapters.system import RandomIds, SystemClock, account, look
from soothsayer_mcp.cli.command import command
from soothsayer_mcp.cli.exits import Exit
from soothsayer_mcp.cli.output import Output
from soothsayer_mcp.cli.problems import Problem
from soothsayer_mcp.cli.recorded import recall
from soothsayer_mcp.cli.state import complete_run, open_reader, state_dir
from soothsayer_mcp.console.text import escape
from soothsayer_mcp.gathering import Inspection
from soothsayer_mcp.governor import Governor
from soothsayer_mcp.model.call import Cause, RunId
from soothsayer_mcp.model.json import Json, JsonObject
from soothsayer_mcp.model.run import RunState
from soothsayer_mcp.model.undo import ABSENT, Done, UndoState
from soothsayer_mcp.policy.rules import Policy
from soothsayer_mcp.rollback import Restorer, Rollback, look_around
from soothsayer_mcp.trace.query import Filter, term
from soothsayer_mcp.undo.plan import ACTS, BLOCKS, Move, MoveKind, Past, Plan, Present, plan

ABOUT = "soothsayer rollback"
DIGEST_CHARS = 8
_SHOWN = 10


@command(
    "rollback",
    more=(
        "Steps are undone last one first, back to the one that --to names, which stays; by what the policy keeps for"
        " it (undo: in rules and labels). Nothing is overwritten that the run did not leave: a conflict, or a step of"
        " which it is not known whether it happened, stops the whole until it is left by --skip. An open run is paused"
        " first. A person confirms the plan; --yes confirms one without irreversible steps."
    ),
)
@click.argument("run", shell_complete=complete_run)
@click.option("--to", metavar="STEP", default="", help="The step that stays as the last one; all without it.")
@click.option("--skip", metavar="STEP", multiple=True, help="Leave a step, and what lies under it; may be repeated.")
@click.option("--dry-run", is_flag=True, help="Show the plan and change nothing.")
@click.option("--yes", is_flag=True, help="Do it without asking.")
def rollback(  # noqa: D103 - the table says what it does
    output: Output, run: str, to: str, skip: tuple[str, ...], *, dry_run: bool, yes: bool
) -> int:
    with open_reader(output.settings) as reader:
        run_id = RunId(reader.find_run(run))
        last = _number(run_id, to) if to else 0
        left = frozenset(_number(run_id, one) for one in skip)
        if dry_run:
            pasts = reader.pasts(run_id)
            made = plan(pasts, anyio.run(_present, pasts, run_id), to=last, skip=left)
            _tell(output, run_id, made, ())
            return Exit.NO if made.of(BLOCKS | {MoveKind.IRREVERSIBLE}) else Exit.DONE
    store = SqliteStore.open(state_dir(output.settings), about=ABOUT)
    try:
        return _carried_out(output, store, run_id, last=last, left=left, yes=yes)
    finally:
        store.close()


def _carried_out(output: Output, store: SqliteStore, run: RunId, *, last: int, left: frozenset[int], yes: bool) -> int:
    by = account().id
    with open_reader(output.settings) as reader:
        if reader.run(run).run.state == RunState.OPEN:
            store.change_run(run, RunState.PAUSED, by=by, reason="it is rolled back")
            output.remark(f"run {run[:4]} is paused")
        pasts = reader.pasts(run)
        made = plan(pasts, anyio.run(_present, pasts, run), to=last, skip=left)
        if made.of(BLOCKS):
            _tell(output, run, made, ())
            named = " ".join(f"--skip {run[:4]}.{no}" for no in made.of(BLOCKS))
            raise Problem(
                "nothing was undone", id="rollback-blocked", exit=Exit.NO, fix=f"look at it, or leave it: {named}"
            )
        if not made.of(ACTS | {MoveKind.NOT_NEEDED, MoveKind.IRREVERSIBLE}):
            _tell(output, run, made, ())
            output.remark("there is nothing to undo")
            return Exit.DONE
        if made.of(ACTS):
            _confirm(output, run, made, yes=yes)
        policy, workspace = _policy(output, reader, run)
    done = anyio.run(_undo, store, run, policy, workspace, made, pasts, by)
    _tell(output, run, made, done)
    over = {UndoState.UNDONE, UndoState.NOT_NEEDED}
    return Exit.DONE if all(one.state in over for one in done) and not made.of({MoveKind.LEFT}) else Exit.NO


async def _present(pasts: Sequence[Past], run: RunId) -> Present:
    return await look_around(pasts, Restoring(_roots(pasts)), run)


async def _undo(
    store: SqliteStore,
    run: RunId,
    policy: Policy,
    workspace: str,
    made: Plan,
    pasts: Sequence[Past],
    by: str,
) -> list[Done]:
    files = Restoring(_roots(pasts))
    clock, ids = SystemClock(), RandomIds()
    restorer = Restorer(files, None)
    inspection = Inspection(
        held=lambda: store.held,
        probes=LocalProbes(ProbeSettings(roots=tuple(_roots(pasts)))),
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
        run=run,
        governor=governor,
        restorer=restorer,
        files=files,
        book=store.undo_log,
        principal=account(),
        workspace=workspace,
        clock=clock,
        ids=ids,
    )
    return await undoing.carry_out(made, pasts, by=by)


def _roots(pasts: Sequence[Past]) -> list[str]:
    """The folders that files were found below when they were kept."""
    return sorted({one.root for past in pasts if past.kept is not None for one in past.kept.before.files if one.root})


def _policy(output: Output, reader: Reader, run: RunId) -> tuple[Policy, str]:
    """The policy of the run's newest step, from the record: what it denies is not done, by nobody."""
    for step in reader.steps(Filter(terms=(term("run", run),)), reader.now(), limit=200):
        if step.cause != Cause.AGENT:
            continue
        told = recall(reader, step)
        policy = told.load_policy(state_dir(output.settings), mode=None)
        if policy is None:
            break
        return policy, told.workspace
    raise Problem("the policy of the run cannot be loaded from the record", id="not-kept", exit=Exit.NO)


def _number(run: RunId, step: str) -> int:
    """The number of a step of this run, as `RUN.NO` or `NO`."""
    name, _, no = step.rpartition(".")
    if not no.isascii() or not no.isdigit() or (name and not run.startswith(name.lower())):
        raise Problem(f"{escape(step)} is no step of run {run[:4]}", id="usage", fix=f"write {run[:4]}.NO")
    return int(no)


def _confirm(output: Output, run: RunId, made: Plan, *, yes: bool) -> None:
    irreversible = made.of({MoveKind.IRREVERSIBLE})
    if yes and not irreversible:
        return
    named = " ".join(f"--skip {run[:4]}.{no}" for no in irreversible)
    if output.settings.no_input or not (sys.stdin.isatty() and sys.stderr.isatty()):
        _tell(output, run, made, ())
        fix = (
            f"leave what cannot be taken back: {named}" if irreversible else "read the plan with --dry-run, then --yes"
        )
        raise Problem("a rollback needs a person", id="needs-person", exit=Exit.NO, fix=fix)
    _tell(output, run, made, ())
    short = made.digest[:DIGEST_CHARS]
    if click.prompt(f"Type {short} to do this", default="", show_default=False, err=True) != short:
        raise Problem("nothing was undone", id="not-confirmed", exit=Exit.NO)


def _tell(output: Output, run: RunId, made: Plan, done: Sequence[Done]) -> None:
    if output.as_json:
        output.document(
            {
                "run": run,
                "plan": made.digest,
                "moves": [_move(run, one) for one in made.shown],
                "done": [_done(run, one) for one in done],
            }
        )
        return
    if done:
        lines = [(one.state.value, f"{run[:4]}.{one.no}", one.why or _by(one)) for one in done]
    else:
        lines = [(one.kind.value, f"{run[:4]}.{one.no}", _told(one)) for one in made.shown]
    width = max((len(first) for first, _, _ in lines), default=0)
    wide = max((len(second) for _, second, _ in lines), default=0)
    output.page([Text(f"{first:<{width}}  {second:<{wide}}  {escape(third)}") for first, second, third in lines])
    if not done:
        output.remark(f"plan {made.digest[:DIGEST_CHARS]} of run {run[:4]}")


def _told(move: Move) -> str:
    match move.kind:
        case MoveKind.RESTORE:
            return f"{move.about} to {_short(move.before)}, now {_short(move.now)}"
        case MoveKind.DELETE:
            return f"{move.about} is {_short(move.now)}, was absent"
        case MoveKind.CONFLICT | MoveKind.UNSETTLED if move.now:
            left = f", left as {_short(move.after)}" if move.after else ""
            return f"{move.about} is {_short(move.now)}{left}, was {_short(move.before)}: {move.why}"
        case _:
            return f"{move.about}: {move.why}" if move.why else move.about


def _short(state: str) -> str:
    return state if state == ABSENT or not state else f"#{state[:_SHOWN]}"


def _by(done: Done) -> str:
    run, _, no = done.by_step.partition(".")
    return f"by {run[:4]}.{no}" if no else ""


def _move(run: RunId, move: Move) -> JsonObject:
    told: JsonObject = {"step": f"{run}.{move.no}", "what": move.kind.value, "about": move.about}
    for name, value in (("why", move.why), ("now", move.now), ("after", move.after), ("before", move.before)):
        if value:
            told[name] = value
    return told


def _done(run: RunId, done: Done) -> Json:
    told: JsonObject = {"step": f"{run}.{done.no}", "state": done.state.value}
    for name, value in (("by_step", done.by_step), ("before", done.before), ("after", done.after), ("why", done.why)):
        if value:
            told[name] = value
    return told
