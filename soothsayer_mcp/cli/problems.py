"""What a command reports when it cannot go on: one line, an id, an exit code.

Exceptions of the adapters become a `Problem` by the table `FOREIGN`; what is not in it is a bug of ours.
"""

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from traceback import print_exception
from typing import TextIO, cast

from soothsayer_mcp.cli.exits import Exit
from soothsayer_mcp.console.text import escape
from soothsayer_mcp.model.value import dataclass


class Problem(Exception):  # noqa: N818 - it is what people read; "Error" would say less
    """A command cannot go on, for a reason that a person can mend."""

    def __init__(
        self,
        text: str,
        *,
        id: str,  # noqa: A002 - the word of the JSON form
        where: str = "",
        near: str = "",
        fix: str = "",
        exit: Exit = Exit.USAGE,  # noqa: A002 - the word of the exit table
        source: str = "",
        column: int = 0,
    ) -> None:
        """Say what is wrong.

        `where` is `FILE:LINE:COLUMN` as far as known, `near` the word probably meant, `fix` what to do about it,
        `source` the line that is wrong and `column` (from 1) the place in it.
        """
        super().__init__(text)
        self.text = text
        self.id = id
        self.where = where
        self.near = near
        self.fix = fix
        self.exit = exit
        self.source = source
        self.column = column

    def lines(self, *, caret: bool) -> list[str]:
        """The report for people: one line, and the place in the source where that helps."""
        place = f"{escape(self.where)}: " if self.where else ""
        near = f'; did you mean "{escape(self.near)}"?' if self.near else ""
        fix = f"; {escape(self.fix)}" if self.fix else ""
        lines = [f"soothsayer: {place}{escape(self.text)}{near}{fix} [{self.id}]"]
        if caret and self.source and self.column:
            before = escape(self.source[: self.column - 1])
            lines += [f"  {escape(self.source)}", f"  {' ' * len(before)}^"]
        return lines

    def document(self) -> dict[str, object]:
        """The report for programs."""
        fix = self.fix or (f'did you mean "{self.near}"?' if self.near else "")
        return {"schema": 1, "id": self.id, "message": self.text, "where": self.where, "fix": fix}


class Problems(Exception):  # noqa: N818 - see Problem
    """Several problems found at once; the exit code is that of the first."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        """Report them in the order given."""
        self.problems = tuple(problems)
        super().__init__(f"{len(self.problems)} problems")


@dataclass(frozen=True, slots=True, kw_only=True)
class Foreign:
    """An exception from below, by name so that nothing is imported for it, and what it means here."""

    name: str
    """`module:class`."""
    id: str
    exit: Exit


def report(error: Problem | Problems, *, as_json: bool, stream: TextIO | None = None) -> int:
    """Write the report on standard error and tell the exit code."""
    to = sys.stderr if stream is None else stream
    problems = error.problems if isinstance(error, Problems) else (error,)
    for problem in problems:
        if as_json:
            print(json.dumps(problem.document()), file=to)
        else:
            print(*problem.lines(caret=to.isatty()), sep="\n", file=to)
    return int(problems[0].exit)


_READER = "soothsayer_mcp.adapters.store.reader"

LOAD_ERRORS = "soothsayer_mcp.adapters.policy_files.problems:LoadErrors"

FOREIGN: tuple[Foreign, ...] = (
    Foreign(name=LOAD_ERRORS, id="load", exit=Exit.USAGE),
    Foreign(name="soothsayer_mcp.trace.query:FilterError", id="query", exit=Exit.USAGE),
    Foreign(name=f"{_READER}:QueryError", id="query-sql", exit=Exit.USAGE),
    Foreign(name=f"{_READER}:AmbiguousError", id="ambiguous", exit=Exit.USAGE),
    Foreign(name=f"{_READER}:NotFoundError", id="not-found", exit=Exit.NO),
    Foreign(name=f"{_READER}:NoTraceError", id="state-empty", exit=Exit.NO),
    Foreign(name=f"{_READER}:UnreadableError", id="state-unreadable", exit=Exit.STATE),
    Foreign(name="soothsayer_mcp.adapters.store.folder:StoreError", id="state", exit=Exit.STATE),
    Foreign(name="soothsayer_mcp.adapters.hosts.tree:HostFileError", id="host", exit=Exit.USAGE),
    Foreign(name="soothsayer_mcp.ports:PortError", id="port", exit=Exit.UNREACHABLE),
)
"""What is raised below, and how it is reported here. Most know their own id, place and remedy."""


def as_problem(error: BaseException) -> Problem | Problems | None:
    """What an exception from below means to a person; `None` when it is a bug of ours."""
    names = {f"{cls.__module__}:{cls.__qualname__}" for cls in type(error).__mro__}
    for row in FOREIGN:
        if row.name in names:
            if row.name == LOAD_ERRORS:
                return Problems(_located(each) for each in _many(error))
            column: object = getattr(error, "column", 0)
            return Problem(
                _said(error, "text") or str(error),
                id=_said(error, "id") or row.id,
                where=_said(error, "where"),
                near=_said(error, "near"),
                fix=_said(error, "fix"),
                source=_said(error, "source"),
                column=column if isinstance(column, int) else 0,
                exit=row.exit,
            )
    return None


def _many(error: BaseException) -> tuple[object, ...]:
    problems: object = getattr(error, "problems", ())
    return cast("tuple[object, ...]", problems) if isinstance(problems, tuple) else ()


def _located(each: object) -> Problem:
    """One mistake in a file, with the line it stands in when that can still be read."""
    mark: object = getattr(each, "mark", None)
    file, line, column = _said(each, "file"), _count(mark, "line"), _count(mark, "column")
    return Problem(
        _said(each, "text"),
        id=_said(each, "id"),
        where=f"{file}:{line}:{column}",
        near=_said(each, "nearest"),
        source=_line(file, line),
        column=column,
    )


def _count(mark: object, name: str) -> int:
    value: object = getattr(mark, name, 0)
    return value if isinstance(value, int) else 0


def _line(file: str, number: int) -> str:
    try:
        return Path(file).read_text(encoding="utf-8").split("\n")[number - 1].rstrip("\r")
    except (OSError, ValueError, IndexError):
        return ""


def _said(error: object, name: str) -> str:
    value: object = getattr(error, name, "")
    return value if isinstance(value, str) else ""


def bug(error: BaseException, *, as_json: bool, traceback: bool, stream: TextIO | None = None) -> int:
    """Report a bug of ours: one line, and the traceback only when it was asked for."""
    if traceback:
        print_exception(error, file=stream)
    text = f"a bug in Soothsayer: {type(error).__name__}: {error}".split("\n", 1)[0]
    fix = "" if traceback else "run it again with --debug for the traceback, and report it"
    return report(Problem(text, id="bug", exit=Exit.BUG, fix=fix), as_json=as_json, stream=stream)
