"""`trace verify` and `trace query`: whether the record holds, and questions to it."""

import click

from soothsayer_mcp.cli.command import command
from soothsayer_mcp.cli.exits import Exit
from soothsayer_mcp.cli.look import look_of
from soothsayer_mcp.cli.output import Output
from soothsayer_mcp.cli.state import open_reader
from soothsayer_mcp.console import documents, render
from soothsayer_mcp.trace.query import parse


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
