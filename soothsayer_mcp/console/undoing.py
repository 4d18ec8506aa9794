"""The words for undoing: what a plan would do with each thing, and what became of each step. Pure."""

from soothsayer_mcp.model.undo import ABSENT, Done
from soothsayer_mcp.undo.plan import Move, MoveKind

DIGEST_CHARS = 8
"""How much of a plan's digest a person types."""
_SHOWN = 10
"""How much of a file's digest is shown."""


def told_move(move: Move) -> str:
    """One line of a plan, in words."""
    match move.kind:
        case MoveKind.RESTORE:
            return f"{move.about} to {_short(move.before)}, now {_short(move.now)}"
        case MoveKind.DELETE:
            return f"{move.about} is {_short(move.now)}, was absent"
        case MoveKind.CALL:
            return f"{move.about} is called" + (f", to {_short(move.before)}" if move.before else "")
        case MoveKind.CONFLICT | MoveKind.UNSETTLED if move.now:
            left = f", left as {_short(move.after)}" if move.after else ""
            return f"{move.about} is {_short(move.now)}{left}, was {_short(move.before)}: {move.why}"
        case _:
            return f"{move.about}: {move.why}" if move.why else move.about


def told_done(done: Done) -> str:
    """What became of one step, in words."""
    run, _, no = done.by_step.partition(".")
    return done.why or (f"by {run[:4]}.{no}" if no else "")


def _short(state: str) -> str:
    return state if state == ABSENT or not state else f"#{state[:_SHOWN]}"
