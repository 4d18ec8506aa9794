"""`demo`: the tour, shown as it happens."""

import click

from soothsayer_mcp.cli.command import command
from soothsayer_mcp.cli.exits import Exit
from soothsayer_mcp.cli.output import Output
from soothsayer_mcp.demo.tour import play


@command("demo", more="It opens no connection, changes no file of yours, and ends by itself.")
@click.option("--keep", is_flag=True, help="Leave the folder with everything it made.")
def demo(output: Output, *, keep: bool) -> int:  # noqa: D103 - the table says what it does
    tour = play((lambda _line: None) if output.as_json else output.line, keep=keep)
    if output.as_json:
        output.document({"steps": [*tour.steps], "faults": [*tour.faults], "folder": tour.folder or None})
    elif tour.folder:
        output.remark(f"kept in {tour.folder}")
    return Exit.NO if tour.faults else Exit.DONE
