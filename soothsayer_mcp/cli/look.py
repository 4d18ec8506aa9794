"""`log`, `show` and `stats`: the trace as people and programs read it."""

import csv
import io
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Literal, TypeVar

import click

from soothsayer_mcp.adapters.store.reader import NotFoundError, NoTraceError, Reader
from soothsayer_mcp.cli.command import FilterCommand, choices, command
from soothsayer_mcp.cli.exits import Exit
from soothsayer_mcp.cli.options import nearest
from soothsayer_mcp.cli.output import Output
from soothsayer_mcp.cli.problems import Problem
from soothsayer_mcp.cli.state import complete_filter, complete_target, empty_state, open_reader, wait_for_reader
from soothsayer_mcp.console import documents, render
from soothsayer_mcp.console.text import escape
from soothsayer_mcp.model.call import Cause
from soothsayer_mcp.model.failure import Reason
from soothsayer_mcp.model.json import Json
from soothsayer_mcp.trace.query import Filter, parse, term
from soothsayer_mcp.trace.rows import EntryRow, Figures, StepRow, Tally

F = TypeVar("F", bound=Callable[..., object])

FILTER_HELP = (
    "FILTER is any of KEY:VALUE[,VALUE], -KEY:VALUE, WORD; all must hold. For example"
    " server:files effect:deny since:1h -principal:ci. `soothsayer show filter` lists the keys."
)

SHORT = ("run", "tool", "effect", "failure", "since", "until")
"""Keys that are options too: `--tool X` is `tool:X`."""


def filtered(function: F) -> F:
    """Give a command its FILTER words, and the options that are short for the commonest of them."""
    for name in reversed(SHORT):
        function = click.option(f"--{name}", metavar="VALUE", help=f"Short for {name}:VALUE.")(function)
    function = click.option("--grep", metavar="TEXT", help="Steps in whose record TEXT stands.")(function)
    return click.argument("words", metavar="[FILTER]...", nargs=-1, shell_complete=complete_filter)(function)


def read_filter(words: Sequence[str], shorts: dict[str, str | None]) -> Filter:
    """Read FILTER words and their short options. Raises `FilterError`."""
    wanted = parse(" ".join(words))
    for name, value in shorts.items():
        if value is not None:
            wanted = wanted.and_(Filter(terms=(term("word" if name == "grep" else name, value),)))
    return wanted


def without_selftests(wanted: Filter) -> Filter:
    """The steps of a filter but for the proxies' own self-tests, unless it asks for a cause or for one step."""
    if any(each.key in {"cause", "step", "span"} for each in wanted.terms):
        return wanted
    return wanted.and_(parse(f"-cause:{Cause.SELFTEST}"))


@command("log", more=f"{FILTER_HELP} Self-tests are shown by cause:selftest.", kind=FilterCommand)
@filtered
@click.option("-n", "--number", type=click.IntRange(min=0), help="How many at most; 0: all. Else 50, or 10 with -f.")
@click.option("--reverse", is_flag=True, help="Oldest first.")
@click.option("--entries", is_flag=True, help="Raw entries instead of steps.")
@click.option("-f", "--follow", is_flag=True, help="Go on with what is being recorded.")
@click.option("--oneline", is_flag=True, help="Only name, call, effect and end.")
@click.option("--jsonl", is_flag=True, help="One JSON object a line.")
@click.option("--csv", "as_csv", is_flag=True, help="Comma-separated values with a header.")
@click.option("--payloads", is_flag=True, help="Words are looked for in kept payloads too.")
@click.option("-e", "--exit-code", is_flag=True, help="Exit 1 when nothing is found.")
def log(  # noqa: D103 - the table says what it does
    output: Output,
    words: tuple[str, ...],
    grep: str | None,
    number: int | None,
    *,
    reverse: bool,
    entries: bool,
    follow: bool,
    oneline: bool,
    jsonl: bool,
    as_csv: bool,
    payloads: bool,
    exit_code: bool,
    **shorts: str | None,
) -> int:
    wanted = read_filter(words, {**shorts, "grep": grep})
    wanted = wanted if entries else without_selftests(wanted)
    form = _form(output, jsonl=jsonl, as_csv=as_csv, oneline=oneline)
    if follow:
        if form not in {"page", "oneline", "jsonl"} or reverse:
            text = "--follow never ends, so it goes with neither --json, --csv nor --reverse"
            raise Problem(text, id="usage", fix="use --jsonl")
        return _follow(output, wanted, number=10 if number is None else number, entries=entries, form=form)
    limit = 50 if number is None else number or None
    try:
        reader = open_reader(output.settings)
    except NoTraceError as error:
        empty_state(output, error, {"entries" if entries else "steps": []})
        return Exit.NO if exit_code else Exit.DONE
    with reader:
        moment = reader.now()
        if entries:
            found = reader.entries(wanted, moment, limit=limit, payloads=payloads)
            shown = _print_entries(output, reader, _ordered(found, reverse=reverse), form=form)
        else:
            steps = reader.steps(wanted, moment, limit=limit, payloads=payloads)
            shown = _print_steps(output, reader, _ordered(steps, reverse=reverse), form=form)
    if not shown:
        output.remark(f"no {'entry' if entries else 'step'} fits")
    return Exit.NO if exit_code and not shown else Exit.DONE


Form = Literal["page", "oneline", "json", "jsonl", "csv"]
Row = TypeVar("Row")


def _form(output: Output, *, jsonl: bool, as_csv: bool, oneline: bool) -> Form:
    chosen: list[Form] = []
    if jsonl:
        chosen.append("jsonl")
    if as_csv:
        chosen.append("csv")
    if output.as_json and not jsonl:
        chosen.append("json")
    if oneline:
        chosen.append("oneline")
    if len(chosen) > 1:
        raise Problem("choose one of --json, --jsonl, --csv and --oneline", id="usage")
    return chosen[0] if chosen else "page"


def _ordered(rows: Iterator[Row], *, reverse: bool) -> Iterator[Row]:
    return reversed(list(rows)) if reverse else rows


def _print_steps(output: Output, reader: Reader, rows: Iterator[StepRow], *, form: Form) -> int:
    """Print steps in one of the forms, and tell how many there were. Lines go out as they are read."""
    count = 0
    match form:
        case "jsonl":
            for row in rows:
                output.object_line(documents.step(row))
                count += 1
            return count
        case "csv":
            output.text(csv_line(documents.STEP_FIELDS))
            for row in rows:
                output.text(csv_line(documents.step(row).values()))
                count += 1
            return count
        case "json":
            steps = [documents.step(row) for row in rows]
            output.document({"steps": steps})
            return len(steps)
        case "page" | "oneline":
            found = list(rows)
            if found:
                look = look_of(output, reader, found)
                lines = (
                    [render.one_line(row, look) for row in found] if form == "oneline" else render.steps(found, look)
                )
                output.page(lines)
            return len(found)


def _print_entries(output: Output, reader: Reader, rows: Iterator[EntryRow], *, form: Form) -> int:
    count = 0
    match form:
        case "jsonl":
            for row in rows:
                output.object_line(documents.entry(row))
                count += 1
            return count
        case "json":
            entries = [documents.entry(row) for row in rows]
            output.document({"entries": entries})
            return len(entries)
        case "page":
            found = list(rows)
            if found:
                output.page(render.entries(found, look_of(output, reader, found)))
            return len(found)
        case "csv" | "oneline":
            raise Problem(f"--entries goes with --json and --jsonl, not with --{form}", id="usage")


def csv_line(cells: Iterable[Json]) -> str:
    """One line of comma-separated values; a cell that a spreadsheet would take for a formula begins with `'`."""
    made = io.StringIO()
    csv.writer(made, lineterminator="\n").writerow([_csv_cell(cell) for cell in cells])
    return made.getvalue()


def _csv_cell(value: Json) -> str:
    match value:
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case int() | float():
            return str(value)
        case str():
            text = escape(value)
            return f"'{text}" if text[:1] in {"=", "+", "-", "@"} else text
        case Sequence():
            return " ".join(_csv_cell(item) for item in value)
        case Mapping():
            return _csv_cell(json.dumps(value))


def look_of(output: Output, reader: Reader, rows: Iterable[StepRow | EntryRow]) -> render.Look:
    """How pages about these rows are laid out."""
    short = reader.short_runs({row.run for row in rows if row.run})
    return render.Look(width=output.width, now_us=reader.now().now_us, short=short, full=output.settings.verbose > 0)


def _follow(output: Output, wanted: Filter, *, number: int, entries: bool, form: Form) -> int:
    """Print what fits as it is recorded, until interrupted."""
    with wait_for_reader(output) as reader:
        pos = reader.last_pos()
        first: list[StepRow] | list[EntryRow]
        if entries:
            first = list(reader.entries(wanted, reader.now(), limit=number))
        else:
            first = list(reader.steps(wanted, reader.now(), limit=number))
        _print_following(output, reader, first[::-1], form=form)
        while True:
            if not reader.wait_for_change(60.0):
                continue
            rows, pos = (reader.entries_after if entries else reader.ended_after)(pos, wanted, reader.now())
            _print_following(output, reader, rows, form=form)


def _print_following(
    output: Output, reader: Reader, rows: Sequence[StepRow] | Sequence[EntryRow], *, form: Form
) -> None:
    look = look_of(output, reader, rows) if rows else None
    for row in rows:
        assert look is not None
        if isinstance(row, EntryRow):
            if form == "jsonl":
                output.object_line(documents.entry(row))
            else:
                output.line(render.entry_line(row, look))
        elif form == "jsonl":
            output.object_line(documents.step(row))
        else:
            output.line(render.one_line(row, look) if form == "oneline" else render.following(row, look))


@command("show", more="TARGET is a step (4bf92f.7 or span:HEX), a run, the name of a reason, or the word filter.")
@click.argument("target", shell_complete=complete_target)
@click.option("--payloads", is_flag=True, help="What was said, as far as it is kept.")
@click.option("--entries", is_flag=True, help="The raw entries.")
def show(output: Output, target: str, *, payloads: bool, entries: bool) -> int:  # noqa: D103 - see log
    if target in _REASONS:
        if output.as_json:
            output.document({"guidance": documents.guidance(target)})
        else:
            output.page(render.reason(Reason(target), output.width))
        return Exit.DONE
    if target == "filter":
        output.page(render.keys(output.width))
        return Exit.DONE
    with open_reader(output.settings) as reader:
        if "." in target or target.startswith("span:"):
            step = reader.find_step(target.removeprefix("span:"))
        else:
            try:
                return show_run(output, reader, reader.find_run(target), number=20)
            except NotFoundError as error:
                near = nearest(target, tuple(_REASONS))
                raise Problem(
                    error.text, id=error.id, exit=Exit.NO, near=near, fix="" if near else error.fix
                ) from error
        told = reader.story(step)
        if output.as_json:
            output.document(documents.story(told, payloads=payloads))
        else:
            look = look_of(output, reader, [step])
            output.page(render.story(told, look, with_payloads=payloads, with_entries=entries))
    return Exit.DONE


_REASONS = frozenset(Reason)


def show_run(output: Output, reader: Reader, run: str, *, number: int) -> int:
    """Show one run, given its full id, and its newest steps."""
    moment = reader.now()
    told = reader.run(run)
    limit = None if output.as_json and number == 0 else number
    steps = list(reader.steps(Filter(terms=(term("run", run),)), moment, limit=limit))
    if output.as_json:
        output.document(documents.run_story(told, steps))
        return Exit.DONE
    short = reader.short_runs([run])
    look = render.Look(width=output.width, now_us=moment.now_us, short=short, full=output.settings.verbose > 0)
    output.page(render.run_story(told, steps, look, more=told.run.steps - len(steps)))
    return Exit.DONE


@command("stats", more=f"{FILTER_HELP} Self-tests count by cause:selftest.", kind=FilterCommand)
@filtered
@click.option("--by", type=choices(("tool", "rule", "run", "policy", "day")), help="Also in groups by KEY.")
def stats(  # noqa: D103 - see log
    output: Output, words: tuple[str, ...], grep: str | None, by: str | None, **shorts: str | None
) -> int:
    wanted = without_selftests(read_filter(words, {**shorts, "grep": grep}))
    try:
        reader = open_reader(output.settings)
    except NoTraceError as error:
        empty_state(output, error, {"figures": documents.figures(_NO_FIGURES)})
        return Exit.DONE
    with reader:
        moment = reader.now()
        told = reader.figures(wanted, moment, by=by or "")
        if output.as_json:
            output.document({"figures": documents.figures(told)})
            return Exit.DONE
        short = reader.short_runs([group.key for group in told.groups]) if by == "run" else {}
        look = render.Look(width=output.width, now_us=moment.now_us, short=short, full=output.settings.verbose > 0)
        output.page(render.figures(told, look, by=by or ""))
    return Exit.DONE


_NOTHING = Tally(key="", steps=0, allowed=0, asked=0, denied=0, failed=0, unknown=0, open=0, took=None)
_NO_FIGURES = Figures(all=_NOTHING, runs=0, tool=None, own=None)
