"""`run settle`: a person says whether a step took effect whose outcome nobody knows."""

import click

from soothsayer_mcp.adapters.store.sqlite import SqliteStore
from soothsayer_mcp.adapters.system import account
from soothsayer_mcp.cli.command import command
from soothsayer_mcp.cli.exits import Exit
from soothsayer_mcp.cli.output import Output
from soothsayer_mcp.cli.problems import Problem
from soothsayer_mcp.cli.state import open_reader, state_dir
from soothsayer_mcp.console import documents
from soothsayer_mcp.model.call import RunId
from soothsayer_mcp.model.failure import Acted, Reason
from soothsayer_mcp.model.settlement import How, Settlement
from soothsayer_mcp.ports import PortError


@command(
    "run settle",
    more=(
        "Look at the world first: where the server may still be working on the call, not there yet does not mean that"
        " it will not happen. What you say is on record under your name; checks that the step owes stay owed."
    ),
)
@click.argument("step")
@click.option("--happened", "acted", flag_value=Acted.YES.value, help="It took effect.")
@click.option("--did-not-happen", "acted", flag_value=Acted.NO.value, help="It did not, and cannot any more.")
def run_settle(output: Output, step: str, acted: str | None) -> int:  # noqa: D103 - the table says what it does
    if acted is None:
        raise Problem("say --happened or --did-not-happen", id="usage")
    with open_reader(output.settings) as reader:
        found = reader.find_step(step)
    told = Settlement(run=RunId(found.run), no=found.no, acted=Acted(acted), how=How.PERSON, by=account().id)
    store = SqliteStore.open(state_dir(output.settings), about="soothsayer run settle")
    try:
        done = store.settle_now(told)
    except PortError as error:
        if error.reason is not Reason.STATE_CHANGED:
            raise
        raise Problem(error.summary, id="run-state", exit=Exit.NO) from error
    finally:
        store.close()
    name = f"{found.run[:4]}.{found.no}"
    if not done:
        raise Problem(f"step {name} is in flight", id="run-state", exit=Exit.NO, fix="wait until it has ended")
    if output.as_json:
        with open_reader(output.settings) as reader:
            output.document({"step": documents.step(reader.find_step(f"{found.run}.{found.no}"))})
    else:
        output.remark(f"step {name} {'took effect' if acted == Acted.YES else 'did not happen'}, by your word")
    return Exit.DONE
