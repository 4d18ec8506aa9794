"""`trace verify` and `trace query`: whether the record holds, and questions to it."""

import sys
from pathlib import Path

import click
from rich.text import Text

from soothsayer_mcp.adapters.store.reader import NoTraceError
from soothsayer_mcp.adapters.verifier import NOT_COVERED, Report, verify
from soothsayer_mcp.cli.command import command
from soothsayer_mcp.cli.exits import Exit
from soothsayer_mcp.cli.look import look_of
from soothsayer_mcp.cli.output import Output
from soothsayer_mcp.cli.state import open_reader, state_dir
from soothsayer_mcp.console import documents, render
from soothsayer_mcp.console.live import Bar
from soothsayer_mcp.console.text import escape
from soothsayer_mcp.model.json import Json
from soothsayer_mcp.trace.query import parse


@command(
    "trace verify",
    more="PATHs are state folders or segment files; without any, the state folder. Exits 1 when something is broken.",
)
@click.argument("paths", nargs=-1, metavar="[PATH]...", type=click.Path(path_type=Path))
def trace_verify(output: Output, paths: tuple[Path, ...]) -> int:  # noqa: D103 - the table says what it does
    settings = output.settings
    shown = sys.stderr.isatty() and not (settings.no_progress or settings.quiet)
    try:
        with Bar("verifying", shown=shown) as bar:
            report = verify(paths or (state_dir(settings),), progress=bar.step)
    except FileNotFoundError as error:
        text = f"nothing is recorded in {error.filename} yet"
        raise NoTraceError(text) from error
    if output.as_json:
        output.document({"verified": _report(report)})
    else:
        style = "bold green" if report.holds else "bold red"
        *details, verdict = report.lines() if report.holds else _broken_last(report)
        output.page([*(Text(escape(line)) for line in details), Text(escape(verdict), style=style)])
    return Exit.DONE if report.holds else Exit.NO


def _broken_last(report: Report) -> list[str]:
    """The verdict at the end, where it is seen: every problem first, then how many there are."""
    problems = [str(problem) for problem in report.problems]
    others = [line for line in report.lines() if line not in problems and not line.startswith("BROKEN")]
    return [*others, *problems, f"BROKEN: {len(problems)} found; the first: {problems[0]}"]


def _report(report: Report) -> dict[str, Json]:
    return {
        "holds": report.holds,
        "paths": [str(path) for path in report.paths],
        "entries": report.entries,
        "writers": report.writers,
        "steps": report.steps,
        "payloads": report.payloads,
        "erased": report.erased,
        "uncovered": report.uncovered,
        "unknown": [*report.unknown],
        "open": [*report.open],
        "problems": [{"what": problem.what, "pos": problem.pos, "where": problem.where} for problem in report.problems],
        "not_shown": NOT_COVERED,
        "took_s": report.took_s,
    }


@command(
    "trace query",
    more=(
        "TEXT is a filter, or, when it begins with SELECT or WITH, SQL on the views v_steps, v_runs, v_findings and"
        " v_approvals. Nothing can be changed by it."
    ),
)
@click.argument("text")
@click.option("--limit", type=click.IntRange(min=1), default=10_000, help="How many rows at most.")
@click.option("--payloads", is_flag=True, help="Let the question read what was said, as far as it is kept.")
def trace_query(output: Output, text: str, limit: int, *, payloads: bool) -> int:  # noqa: D103 - the table says it
    with open_reader(output.settings) as reader:
        if _is_sql(text):
            answer = reader.sql(text, limit=limit, payloads=payloads)
            if output.as_json:
                output.document(documents.table(answer))
            elif answer.columns:
                output.page(render.cells(answer, output.width))
            if answer.more:
                output.remark(f"only the first {limit:,} rows; --limit takes more")
            return Exit.DONE
        steps = list(reader.steps(parse(text), reader.now(), limit=limit, payloads=payloads))
        if output.as_json:
            output.document({"steps": [documents.step(row) for row in steps]})
        elif steps:
            output.page(render.steps(steps, look_of(output, reader, steps)))
        else:
            output.remark("no step fits")
    return Exit.DONE


def _is_sql(text: str) -> bool:
    return text.lstrip().lower().startswith(("select", "with"))
