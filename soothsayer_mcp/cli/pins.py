"""`pins`: tool definitions as they were accepted, what differs since, and accepting it."""

from collections.abc import Sequence

import click

from soothsayer_mcp.adapters.store.definitions import SELECT_PINS, Pin, changed_paths, read_pins
from soothsayer_mcp.adapters.store.reader import NoTraceError
from soothsayer_mcp.adapters.store.sqlite import SqliteStore
from soothsayer_mcp.adapters.system import account
from soothsayer_mcp.cli.command import command
from soothsayer_mcp.cli.exits import Exit
from soothsayer_mcp.cli.options import nearest
from soothsayer_mcp.cli.output import Output
from soothsayer_mcp.cli.pinning import Difference, Standing, ask_person, of_pin, show, signs_of, twins
from soothsayer_mcp.cli.problems import Problem
from soothsayer_mcp.cli.state import empty_state, open_reader, state_dir
from soothsayer_mcp.console import render
from soothsayer_mcp.console.measures import rfc3339
from soothsayer_mcp.model.call import PinState
from soothsayer_mcp.model.json import Json

SELECTION = (
    "SERVER is a server's name, or SERVER/prompts or SERVER/instructions for these alone; TOOLs are some of its tools,"
    " or names of prompts; without them, all."
)


@command("pins list")
def pins_list(output: Output) -> int:  # noqa: D103 - the table says what it does
    try:
        pins = _read(output)
    except NoTraceError as error:
        empty_state(output, error, {"pins": []})
        return Exit.DONE
    if output.as_json:
        output.document({"pins": [_document(pin) for pin in pins]})
    elif pins:
        with open_reader(output.settings) as reader:
            look = render.Look(
                width=output.width, now_us=reader.now().now_us, short={}, full=output.settings.verbose > 0
            )
        rows = [
            render.PinRow(
                server=pin.server,
                tool=pin.tool,
                state=str(pin.state),
                digest=str(pin.seen or pin.digest),
                at_us=pin.at_us,
                signs=signs_of(pin.seen_raw or pin.raw),
            )
            for pin in pins
        ]
        output.page(render.pins(rows, look))
    else:
        output.remark("no server has listed a tool yet")
    return Exit.DONE


@command("pins diff", more=SELECTION)
@click.argument("server", required=False)
@click.argument("tools", nargs=-1, metavar="[TOOL]...")
@click.option("-e", "--exit-code", is_flag=True, help="Exit 1 when something differs.")
def pins_diff(  # noqa: D103 - see pins_list
    output: Output, server: str | None, tools: tuple[str, ...], *, exit_code: bool
) -> int:
    try:
        pins = _read(output)
        differing = [pin for pin in _chosen(pins, server, tools) if pin.state is not PinState.PINNED]
    except NoTraceError as error:
        empty_state(output, error, {"pins": []})
        return Exit.DONE
    if output.as_json:
        output.document({"pins": [_document(pin) for pin in differing]})
    elif differing:
        show(output, _differences(differing, pins))
    else:
        output.remark("every definition is as it was pinned")
    return Exit.NO if exit_code and differing else Exit.DONE


@command(
    "pins accept",
    more=(
        f"{SELECTION} The differences are shown first; elsewhere than on a terminal, --yes says that they were read."
        " Where a soothsayer.lock stands beside the configuration, what is accepted is written into it."
    ),
)
@click.argument("server")
@click.argument("tools", nargs=-1, metavar="[TOOL]...")
@click.option("--yes", is_flag=True, help="Do not ask: the differences were read.")
def pins_accept(output: Output, server: str, tools: tuple[str, ...], *, yes: bool) -> int:  # noqa: D103 - see pins_list
    pins = _read(output)
    differing = [pin for pin in _chosen(pins, server, tools) if pin.state is not PinState.PINNED]
    if not differing:
        output.remark("every definition is as it was pinned; nothing to accept")
        return Exit.DONE
    if not ask_person(output, _differences(differing, pins), yes=yes, what="accepting definitions needs a person"):
        output.remark("nothing was pinned")
        return Exit.NO
    standing = Standing.find(output)
    if standing is not None and standing.lock is not None:
        _write_lock(standing, differing, pins)
    seen = {(pin.server, pin.tool): pin.seen or pin.digest for pin in differing}
    accepted: list[Json] = []
    store = SqliteStore.open(state_dir(output.settings), about="pins accept")
    try:
        for name in dict.fromkeys(pin.server for pin in differing):
            now = {(pin.server, pin.tool): pin.seen or pin.digest for pin in store.list_pins()}
            shown = [pin.tool for pin in differing if pin.server == name]
            moved = [tool for tool in shown if now.get((name, tool)) != seen[name, tool]]
            if moved:
                text = f"{name}.{moved[0]} changed again while it was read; nothing of {name} was pinned"
                raise Problem(text, id="changed-meanwhile", exit=Exit.NO, fix="look at pins diff once more")
            pinned = store.accept_definitions(name, shown, by=account().id)
            accepted += [f"{name}.{tool}" for tool in pinned]
    finally:
        store.close()
    if output.as_json:
        output.document({"accepted": accepted})
    else:
        output.remark(f"pinned {', '.join(map(str, accepted))}")
    return Exit.DONE


def _read(output: Output) -> list[Pin]:
    with open_reader(output.settings) as reader:
        return read_pins([tuple(row) for row in reader.sql(SELECT_PINS, limit=100_000).rows])


def _chosen(pins: Sequence[Pin], server: str | None, tools: Sequence[str]) -> list[Pin]:
    """The pins of a server and its tools. Raises `Problem` for a name that none has."""
    if server is None:
        return list(pins)
    of_server = [pin for pin in pins if server in _names_of(pin)]
    if not of_server:
        near = nearest(server, sorted({pin.server for pin in pins}))
        raise Problem(f'no server "{server}" has listed tools', id="not-found", near=near, exit=Exit.NO)
    names = {pin.tool for pin in of_server}
    for tool in tools:
        if tool not in names:
            text = f'server "{server}" has no tool "{tool}"'
            raise Problem(text, id="not-found", near=nearest(tool, sorted(names)), exit=Exit.NO)
    return [pin for pin in of_server if not tools or pin.tool in tools]


def _names_of(pin: Pin) -> set[str]:
    """By which names a pin is chosen: those of its server, too, of what a server says beside its tools."""
    declared = pin.server.partition("@")[0]
    return {pin.server, declared, declared.partition("/")[0]}


def _differences(differing: Sequence[Pin], pins: Sequence[Pin]) -> list[Difference]:
    """What differs, and which of it is known under another name."""
    renamed = twins(pins)
    return [of_pin(pin, renamed.get((pin.server, pin.tool), "")) for pin in differing]


def _write_lock(standing: Standing, differing: Sequence[Pin], pins: Sequence[Pin]) -> None:
    """Put what is accepted into the lock that rules over it. Raises `Problem` for a server that is another by now."""
    present = standing.on_record(pins)
    wanted = {(pin.server, pin.tool) for pin in differing if pin.server in present}
    stale = [server for server, tool in sorted(wanted) if tool not in present[server].tools]
    if stale:
        text = f"the configuration starts {stale[0]} in another way than when it was listed"
        raise Problem(text, id="server-changed", exit=Exit.NO, fix="policy check --pin --live lists it as it is now")
    chosen = [each for each in standing.differences(present) if (each.server, each.tool) in wanted]
    if chosen:
        standing.agree(present, chosen)


def _document(pin: Pin) -> dict[str, Json]:
    changed = changed_paths(pin.raw, pin.seen_raw) if pin.seen_raw is not None else []
    return {
        "server": pin.server,
        "tool": pin.tool,
        "state": pin.state,
        "digest": pin.digest,
        "at": rfc3339(pin.at_us),
        "seen": pin.seen,
        "changed": [*changed],
        "signs": [*signs_of(pin.seen_raw or pin.raw)],
        "server_changed": pin.seen_identity is not None and pin.seen_identity != pin.identity,
        "definition": _text(pin.raw),
        "seen_definition": None if pin.seen_raw is None else _text(pin.seen_raw),
    }


def _text(raw: bytes) -> str:
    return raw.decode(errors="replace")
