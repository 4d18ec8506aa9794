"""Writes the pages of docs/reference/ from the tables in the code; with `--check`, tells which ones are out of date."""

import argparse
import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

import click
import yaml
from pydantic import BaseModel

from mutant_notes import Figure, figures
from soothsayer_mcp.adapters.hosts.table import HOSTS
from soothsayer_mcp.adapters.lazy import resolve
from soothsayer_mcp.adapters.policy_files.documents.following import NextDocument, TierDocument
from soothsayer_mcp.adapters.policy_files.documents.labels import LabelDocument
from soothsayer_mcp.adapters.policy_files.documents.masks import MaskDocument, RedactDocument
from soothsayer_mcp.adapters.policy_files.documents.matchers import (
    FlowDocument,
    Matchers,
    RiskDocument,
    SinkDocument,
    WhoMatcher,
)
from soothsayer_mcp.adapters.policy_files.documents.policy import (
    ArgumentsDocument,
    DefaultDocument,
    MethodsDocument,
    PinsDocument,
    PolicyDocument,
    ServerDocument,
    TraceDocument,
    UseDocument,
)
from soothsayer_mcp.adapters.policy_files.documents.rules import LimitDocument, RuleDocument, TermDocument
from soothsayer_mcp.adapters.policy_files.editor_schema import schema_of
from soothsayer_mcp.adapters.policy_files.key_texts import key_text
from soothsayer_mcp.cli.exits import Exit
from soothsayer_mcp.cli.options import GLOBAL, Option
from soothsayer_mcp.cli.table import COMMANDS
from soothsayer_mcp.model.condition import Sort
from soothsayer_mcp.model.failure import REASONS, FailureClass
from soothsayer_mcp.policy.sight import NAMES
from soothsayer_mcp.proxy.routes import ROUTES, Act, Way
from soothsayer_mcp.wire.eras import Era

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "docs" / "reference"

NOTE = "<!-- Made by scripts/generate.py (make docs). Change the code, not this page. -->"


def table(heads: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Render a table; `|` in a cell is escaped."""
    heads = list(heads)
    lines = [f"| {' | '.join(heads)} |", f"| {' | '.join('---' for _ in heads)} |"]
    lines += [f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in rows]
    return "\n".join(lines)


def _paragraph(*lines: str) -> str:
    return " ".join(lines)


def reasons() -> str:
    """Every reason for which a step fails, by class."""
    parts = [
        "# Why a step failed",
        _paragraph(
            "A failed step has exactly one class and one reason; a step that succeeded has none. *Acted* says whether",
            "the tool had its effect, unless the facts of a step are better than this table.",
            "`soothsayer show REASON` prints a row.",
        ),
    ]
    for failure in FailureClass:
        rows = [(reason, guidance) for reason, guidance in REASONS.items() if guidance.failure is failure]
        parts.append(f"## `{failure}`")
        parts.append(
            table(
                ("reason", "what it means", "acted", "who can mend it", "how"),
                (
                    (f"`{reason}`", guidance.meaning, guidance.acted, guidance.fix_by, guidance.remedy)
                    for reason, guidance in rows
                ),
            )
        )
        parts.append("What the agent reads first, and what it is told to do:")
        parts.append(
            table(
                ("reason", "first line", "do"),
                ((f"`{reason}`", guidance.first_line, guidance.do) for reason, guidance in rows),
            )
        )
    return "\n\n".join(parts)


def exits() -> str:
    """Exit codes."""
    rows = ((str(int(exit_)), exit_.meaning) for exit_ in Exit)
    return "\n\n".join(
        ["# Exit codes", "One table for every command; meanings never change.", table(("code", "meaning"), rows)]
    )


def commands() -> str:
    """Commands with their options."""
    parts = ["# Commands", "`soothsayer` and `soothsayer-mcp` are the same program."]
    parts.append(table(("command", "does"), ((f"`soothsayer {row.words}`", row.help) for row in COMMANDS)))
    parts.append("## Options that every command takes, before or after its name")
    parts.append(table(("option", "variable", "means"), (_option(option) for option in GLOBAL)))
    everywhere = {name for option in GLOBAL for name in option.names} | {"--help"}
    for row in COMMANDS:
        command = resolve(row.runs)
        if not isinstance(command, click.Command):
            raise TypeError(f"{row.runs} is no command")
        parts.append(f"## `soothsayer {row.words}`")
        context = click.Context(command, **command.context_settings)
        arguments = [param.make_metavar(context) for param in command.params if isinstance(param, click.Argument)]
        if arguments:
            parts.append(f"`soothsayer {row.words} {' '.join(arguments)}`")
        parts.append(" ".join((command.help or row.help).split("\n\n")))
        own = [
            _parameter(param)
            for param in command.params
            if isinstance(param, click.Option) and everywhere.isdisjoint(param.opts)
        ]
        if own:
            parts.append(table(("option", "means"), own))
    return "\n\n".join(parts)


def _option(option: Option) -> tuple[str, str, str]:
    names = ", ".join(option.names)
    return f"`{names} {option.metavar}`".replace(" `", "`"), f"`{option.variable}`", option.help


def _parameter(option: click.Option) -> tuple[str, str]:
    record = option.get_help_record(click.Context(click.Command("soothsayer")))
    return (f"`{record[0]}`", record[1]) if record else (f"`{', '.join(option.opts)}`", "")


_ACTS: dict[Act, str] = {
    Act.GOVERNED: "a step: decided, recorded, forwarded, verified, recorded",
    Act.CHECKED: "decided and recorded",
    Act.ROUTED: "read to find its owner, or merged over servers",
    Act.PASSED: "the same bytes, sent on",
    Act.ANSWERED: "answered by the proxy",
    Act.REFUSED: "answered by the proxy with an error",
    Act.DROPPED: "recorded, not sent on",
}


def methods() -> str:
    """What happens to every MCP message."""
    parts = [
        "# What happens to every MCP message",
        _paragraph(
            "The handshake era is 2024-11-05 to 2025-11-25, the stateless era 2026-07-28. A request without a row is",
            "refused, a notification without one is dropped, unless the policy's `methods` lets it pass.",
        ),
        table(("word", "what is done"), ((act.value, _ACTS[act]) for act in Act)),
    ]
    for way, title in ((Way.TO_SERVER, "From the host"), (Way.TO_HOST, "From a server")):
        names = list(dict.fromkeys(method for towards, _, method in ROUTES if towards is way))
        parts.append(f"## {title}")
        parts.append(
            table(
                ("method", "handshake", "stateless"),
                ((f"`{name}`", _act(way, Era.HANDSHAKE, name), _act(way, Era.STATELESS, name)) for name in names),
            )
        )
    return "\n\n".join(parts)


def _act(way: Way, era: Era, method: str) -> str:
    row = ROUTES.get((way, era, method))
    return "no row" if row is None else row.act.value


_DOCUMENTS: dict[type[BaseModel], str] = {
    PolicyDocument: "The file",
    DefaultDocument: "`default`",
    UseDocument: "`use`, an item",
    ServerDocument: "`servers`, a server",
    LabelDocument: "`labels`, an item",
    RuleDocument: "`rules`, an item",
    RiskDocument: "`risk`, in a rule",
    FlowDocument: "`flow`",
    SinkDocument: "`sinks` and `into`, an item",
    NextDocument: "`next`",
    TierDocument: "`tiers`, an item",
    TermDocument: "`risk` of the file, an item",
    WhoMatcher: "`who`",
    Matchers: "`args`, the matchers of one argument",
    LimitDocument: "`limit`",
    RedactDocument: "`redact`, an item",
    PinsDocument: "`pins`",
    ArgumentsDocument: "`arguments`",
    MethodsDocument: "`methods`",
    TraceDocument: "`trace`",
    MaskDocument: "`mask`, an item",
}

_READ_BY = {
    "milliseconds": "a duration: `30s`, `15m`, `2h`",
    "size": "a size: `500`, `64kB`, `20MB`",
    "end_of_day": 'a day, quoted: `"2027-01-31"`',
    "tools": "`server.tool` globs, one or a list",
    "number": "a number",
    "scalar": "a text, a number, true, false or null",
    "condition": "a condition in CEL; its names are below",
    "points": "points: 1 to 100, or -1 to -100",
    "reason": "one line of 1 to 200 characters",
}

_TYPES: dict[Any, str] = {str: "a text", int: "a whole number", bool: "true or false", object: "any value"}


_SORTS: dict[Sort, str] = {
    Sort.TEXT: "a text",
    Sort.TEXTS: "a list of texts",
    Sort.WHOLE: "a whole number",
    Sort.TRUTH: "true or false",
    Sort.TIME: "a time",
    Sort.OBJECT: "an object, its members of any kind",
    Sort.ANY: "any value",
}


def policy() -> str:
    """The keys of a policy file."""
    parts = [
        "# Keys of a policy file",
        _paragraph(
            "YAML, read strictly: unknown and doubled keys, and plain words that versions of YAML read differently,",
            "are errors with a line and a column. `soothsayer policy check FILE` says what it would load. Editors",
            "complete and check by [this schema](policy.schema.json), tests of a policy by",
            "[this one](policy-test.schema.json); `soothsayer policy schema` prints them.",
        ),
    ]
    for model, title in _DOCUMENTS.items():
        parts.append(f"## {title}")
        parts.append((model.__doc__ or "").strip())
        parts.append(table(("key", "value", "", "means"), _keys(model)))
        later = sorted(getattr(model, "later", ()))
        if later:
            words = ", ".join(f"`{word}`" for word in later)
            parts.append(f"Part of the language, and not in this version (an error when used): {words}.")
    parts.append("## Names in a condition")
    parts.append(
        _paragraph(
            "What `when:` reads, in [CEL](https://cel.dev). A name without a value and any error leave a condition",
            "unknown: it then counts as met by what denies or asks, and as not met by what allows. `risk` has no",
            "value while a term of it is unknown, and is no name in a risk term.",
        )
    )
    parts.append(table(("name", "value"), ((f"`{name}`", _SORTS[sort]) for name, sort in NAMES.items())))
    return "\n\n".join(parts)


def _keys(model: type[BaseModel]) -> Iterable[tuple[str, str, str, str]]:
    for name, field in model.model_fields.items():
        yield (
            f"`{field.alias or name}`",
            _value(field.annotation, field.metadata),
            "required" if field.is_required() else "",
            key_text(model.__name__, field.alias or name),
        )


def _value(annotation: Any, metadata: Sequence[object]) -> str:
    """Say in words what a key takes, from its type and the validators that read it."""
    if get_origin(annotation) is Annotated:
        inner, *more = get_args(annotation)
        return _value(inner, [*metadata, *more])
    read_by = [getattr(getattr(part, "func", None), "__name__", "").removeprefix("_") for part in metadata]
    for name in read_by:
        if name in _READ_BY:
            return _READ_BY[name]
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is list:
        item = _value(arguments[0], ())
        return f"{item}; or a list" if "listed" in read_by else f"a list of: {item}"
    if origin is dict:
        return f"name → {_value(arguments[1], ())}"
    if origin is Literal:
        return ", ".join(f"`{str(value).lower() if isinstance(value, bool) else value}`" for value in arguments)
    if annotation in _DOCUMENTS:
        return f"see {_DOCUMENTS[annotation]}"
    return _TYPES.get(annotation, "a text")


def policies() -> str:
    """The policies that are shipped."""
    parts = [
        "# Ready-made policies",
        _paragraph(
            "`--policy NAME` takes one as it is; `use: [NAME]` in a policy of yours builds on it. Each file begins",
            "with what it is for.",
        ),
    ]
    rows: list[tuple[str, str]] = []
    for path in sorted((ROOT / "policies").glob("*.yaml")):
        if "." not in path.stem:  # what tests need of a policy lies beside it
            said = yaml.safe_load(path.read_text(encoding="utf-8"))
            rows.append((f"[`{said['name']}`](../../policies/{path.name})", said["about"]))
    return "\n\n".join([*parts, table(("name", "what it does"), rows)])


_FORMAT_WORDS = {
    "json": "JSON",
    "commented": "JSON with comments",
    "jsonc": "JSON with comments and trailing commas",
    "toml": "TOML",
    "yaml": "YAML",
}


def hosts() -> str:
    """Every host that is known."""
    parts = [
        "# Hosts",
        _paragraph(
            "Where each host keeps its servers. `soothsayer hosts` shows which are here; `soothsayer connect HOST`",
            "stands in front of their servers, and `soothsayer hosts restore HOST` puts the file back. `?` is what is",
            "not established. `~` is the home folder, `{config}` is `XDG_CONFIG_HOME` or `~/.config`.",
        ),
        "## Files",
    ]
    rows = [
        (
            f"`{host.id}`",
            host.title,
            "<br>".join(
                f"`{path}`" for path in dict.fromkeys(path for each in host.personal.values() for path in each)
            ),
            "<br>".join(f"`{path}`" for path in host.project) or "-",
            f"{_FORMAT_WORDS[host.format]}, `{'.'.join(host.key)}`",
        )
        for host in HOSTS
    ]
    parts.append(table(("host", "", "personal file", "project file", "format and key"), rows))
    parts.append("## Calls")
    parts.append(
        table(
            ("host", "asks its person", "gives up a call after", "raised by", "reaches besides this file"),
            (
                (
                    f"`{host.id}`",
                    host.asks,
                    "never" if host.endless else "?" if host.limit_s is None else f"{host.limit_s:g} s",
                    f"`{host.limit_key}`" if host.limit_key else "-",
                    host.beside or "-",
                )
                for host in HOSTS
            ),
        )
    )
    parts.append(
        _paragraph(
            "The personal file of Claude Code is changed through `claude mcp` only: entries come back as they were,",
            "and the order of that file is the application's. Every other file comes back byte for byte. Any other",
            "application: `soothsayer connect --file PATH --shape KEY`.",
        )
    )
    return "\n\n".join(parts)


def mutants() -> str:
    """What was measured of the tests of the deciding code, and what they do not notice."""
    measured = figures()
    rows = [
        (
            f"`{one.module.removeprefix('soothsayer_mcp.')}`",
            f"{100 * one.rate:.1f} %",
            str(one.noticed),
            str(one.mutants),
            str(one.excused),
            str(len(one.survivors) - one.excused),
            one.date,
        )
        for one in measured
    ]
    parts = [
        "# What the tests notice",
        _paragraph(
            "`make mutate` breaks the deciding code on purpose, one small change at a time, and lists the changes that",
            "no test notices. *Excused* are changes after which nothing is different that a test could see: a result",
            "is only computed again, or a short way is not taken. They are not counted: the share is noticed / (all -",
            "excused). *Left* are the others that no test notices. Both kinds are listed below with their reasons.",
        ),
        _paragraph(
            "One module again: `make mutate ARGS='policy.decide --note'`, then `make docs`. A reason stands in",
            "`scripts/mutants/MODULE.toml`; one about a change that is gone, or that a test notices, is an error.",
        ),
        table(("module", "share", "noticed", "all", "excused", "left", "measured"), rows),
    ]
    for one in measured:
        if one.survivors:
            parts.append(f"## `{one.module.removeprefix('soothsayer_mcp.')}`")
            parts.append(f"Measured on {one.date} with `{one.command}`.")
            parts.append(_survivors(one))
    return "\n\n".join(parts)


def _survivors(measured: Figure) -> str:
    rows = [
        (
            f"`{one.inside}`" if one.inside else "",
            f"`{one.line}`",
            f"`{one.change}`",
            "excused" if one.same else "left",
            one.why or "not explained yet",
        )
        for one in sorted(measured.survivors, key=lambda one: one.same)
    ]
    return table(("in", "line", "change", "", "why"), rows)


def _schema(kind: str) -> str:
    return json.dumps(schema_of(kind), indent=2)


PAGES: Mapping[str, Callable[[], str]] = {
    "reasons.md": reasons,
    "exit-codes.md": exits,
    "commands.md": commands,
    "methods.md": methods,
    "policy.md": policy,
    "policies.md": policies,
    "hosts.md": hosts,
    "mutants.md": mutants,
    "policy.schema.json": lambda: _schema("policy"),
    "policy-test.schema.json": lambda: _schema("test"),
}


def render(page: str) -> str:
    """Make a page."""
    note = f"{NOTE}\n\n" if page.endswith(".md") else ""
    return f"{note}{PAGES[page]()}\n"


def stale() -> list[str]:
    """Tell which pages are missing, out of date, or made by nothing."""
    wrong = [
        page
        for page in PAGES
        if not (FOLDER / page).is_file() or (FOLDER / page).read_text(encoding="utf-8") != render(page)
    ]
    return wrong + sorted(path.name for path in FOLDER.iterdir() if path.name not in PAGES)


def main() -> int:
    """Write every page, or check them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; 1 when a page is out of date")
    if parser.parse_args().check:
        wrong = stale()
        for page in wrong:
            print(f"docs/reference/{page} is out of date: run `make docs`", file=sys.stderr)
        return 1 if wrong else 0
    FOLDER.mkdir(parents=True, exist_ok=True)
    for page in PAGES:
        (FOLDER / page).write_text(render(page), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
