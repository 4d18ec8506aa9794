"""`soothsayer rollback`: put back what a run did, one governed step at a time, after a person has seen the plan."""

import sys
from collections.abc import Sequence
from pathlib import Path

import anyio
import click
from rich.text import Text

from soothsayer_mcp.adapters.store.sqlite import SqliteStore
from soothsayer_mcp.adapters.system import account
from soothsayer_mcp.cli import undoing
from soothsayer_mcp.cli.command import command
from soothsayer_mcp.cli.exits import Exit
from soothsayer_mcp.cli.output import Output
from soothsayer_mcp.cli.problems import Problem
from soothsayer_mcp.cli.state import complete_run, open_reader, state_dir
from soothsayer_mcp.console.text import escape
from soothsayer_mcp.console.undoing import DIGEST_CHARS, told_done, told_move
from soothsayer_mcp.model.call import RunId
from soothsayer_mcp.model.json import Json, JsonObject
from soothsayer_mcp.model.undo import Done, UndoState
from soothsayer_mcp.undo.plan import ACTS, BLOCKS, Move, MoveKind, Plan

ABOUT = "soothsayer rollback"


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
        pasts = reader.pasts(run_id)
        if dry_run and not undoing.calls(pasts):
            made = undoing.planned(reader, run_id, to=last, left=left)
            _tell(output, run_id, made, ())
            return _of_plan(made)
    store = SqliteStore.open(state_dir(output.settings), about=ABOUT)
    try:
        config = output.settings.config
        wish = undoing.Wish(run=run_id, to=last, left=left, config=Path(config) if config else None)
        return _looked_at(output, store, wish) if dry_run else _carried_out(output, store, wish, yes=yes)
    finally:
        store.close()


def _of_plan(made: Plan) -> int:
    return Exit.NO if made.of(BLOCKS | {MoveKind.IRREVERSIBLE}) else Exit.DONE


def _looked_at(output: Output, store: SqliteStore, wish: undoing.Wish) -> int:
    """The plan, where servers are read for it: what is read is on record, and nothing is undone."""
    with open_reader(output.settings) as reader:
        session = undoing.Session.of(output.settings, store, reader, wish, output.remark)
    made, _ = anyio.run(session.go, _never, account().id)
    _tell(output, wish.run, made, ())
    return _of_plan(made)


def _never(made: Plan) -> bool:
    del made
    return False


def _carried_out(output: Output, store: SqliteStore, wish: undoing.Wish, *, yes: bool) -> int:
    run, by = wish.run, account().id
    with open_reader(output.settings) as reader:
        if undoing.held(reader, store, run, by=by):
            output.remark(f"run {run[:4]} is paused")
        session = undoing.Session.of(output.settings, store, reader, wish, output.remark)

    def needs_nobody(made: Plan) -> bool:
        sure = not made.of(ACTS) or (yes and not made.of({MoveKind.IRREVERSIBLE}))
        return sure and not made.of(BLOCKS) and bool(made.of(_DUE))

    made, done = anyio.run(session.go, needs_nobody, by)
    if made.of(BLOCKS):
        _tell(output, run, made, ())
        named = " ".join(f"--skip {run[:4]}.{no}" for no in made.of(BLOCKS))
        raise Problem(
            "nothing was undone", id="rollback-blocked", exit=Exit.NO, fix=f"look at it, or leave it: {named}"
        )
    if not made.of(_DUE):
        _tell(output, run, made, ())
        output.remark("there is nothing to undo")
        return Exit.DONE
    if done is None:
        _confirm(output, run, made)
        confirmed = made.digest

        def is_same(again: Plan) -> bool:
            return again.digest == confirmed

        made, done = anyio.run(session.go, is_same, by)
        if done is None:
            raise Problem("nothing was undone: things changed meanwhile", id="not-confirmed", exit=Exit.NO)
    _tell(output, run, made, done)
    over = {UndoState.UNDONE, UndoState.NOT_NEEDED}
    return Exit.DONE if all(one.state in over for one in done) and not made.of({MoveKind.LEFT}) else Exit.NO


_DUE = ACTS | {MoveKind.NOT_NEEDED, MoveKind.IRREVERSIBLE}


def _number(run: RunId, step: str) -> int:
    """The number of a step of this run, as `RUN.NO` or `NO`."""
    name, _, no = step.rpartition(".")
    if not no.isascii() or not no.isdigit() or (name and not run.startswith(name.lower())):
        raise Problem(f"{escape(step)} is no step of run {run[:4]}", id="usage", fix=f"write {run[:4]}.NO")
    return int(no)


def _confirm(output: Output, run: RunId, made: Plan) -> None:
    irreversible = made.of({MoveKind.IRREVERSIBLE})
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
        lines = [(one.state.value, f"{run[:4]}.{one.no}", told_done(one)) for one in done]
    else:
        lines = [(one.kind.value, f"{run[:4]}.{one.no}", told_move(one)) for one in made.shown]
    width = max((len(first) for first, _, _ in lines), default=0)
    wide = max((len(second) for _, second, _ in lines), default=0)
    output.page([Text(f"{first:<{width}}  {second:<{wide}}  {escape(third)}") for first, second, third in lines])
    if not done:
        output.remark(f"plan {made.digest[:DIGEST_CHARS]} of run {run[:4]}")


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
