"""`run list` and `run show`: pieces of work and what became of them."""

import click

from soothsayer_mcp.adapters.store.reader import NoTraceError
from soothsayer_mcp.cli.command import Command, FilterCommand, command
from soothsayer_mcp.cli.exits import Exit
from soothsayer_mcp.cli.look import FILTER_HELP, filtered, read_filter, show_run
from soothsayer_mcp.cli.output import Output
from soothsayer_mcp.cli.state import complete_run, empty_state, open_reader
from soothsayer_mcp.console import documents, render


@command(
    "run list",
    more=f"{FILTER_HELP} A run is listed when one of its steps fits; those of self-tests by cause:selftest.",
    kind=FilterCommand,
)
@filtered
@click.option("-n", "--number", type=click.IntRange(min=0), default=50, help="How many at most; 0: all.")
@click.option("--jsonl", is_flag=True, help="One JSON object a line.")
def run_list(  # noqa: D103 - the table says what it does
    output: Output, words: tuple[str, ...], grep: str | None, number: int, *, jsonl: bool, **shorts: str | None
) -> int:
    wanted = read_filter(words, {**shorts, "grep": grep})
    try:
        reader = open_reader(output.settings)
    except NoTraceError as error:
        empty_state(output, error, {"runs": []})
        return Exit.DONE
    with reader:
        moment = reader.now()
        selftests = any(term.key == "cause" for term in wanted.terms)
        rows = reader.runs(wanted, moment, limit=number or None, selftests=selftests)
        if jsonl:
            for row in rows:
                output.object_line(documents.run(row))
        elif output.as_json:
            output.document({"runs": [documents.run(row) for row in rows]})
        elif rows:
            short = reader.short_runs(row.run for row in rows)
            full = output.settings.verbose > 0
            output.page(
                render.runs(rows, render.Look(width=output.width, now_us=moment.now_us, short=short, full=full))
            )
        else:
            output.remark("no run fits")
    return Exit.DONE


@command("run show", more="RUN is the id of a run, or the beginning of one.", kind=Command)
@click.argument("run", shell_complete=complete_run)
@click.option(
    "-n",
    "--number",
    type=click.IntRange(min=0),
    default=20,
    help="How many of its steps; 0: none for people, all for --json.",
)
def run_show(output: Output, run: str, number: int) -> int:  # noqa: D103 - see run_list
    with open_reader(output.settings) as reader:
        return show_run(output, reader, reader.find_run(run), number=number)
