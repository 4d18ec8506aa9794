"""`policy score`: what a policy stops, what it costs honest work, and how often it asks, over a file of cases."""

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import click
from rich.text import Text

from soothsayer_mcp.adapters.policy_files.rehearsal import Rehearsal
from soothsayer_mcp.adapters.policy_files.suites import NOBODY, RUN, proposed
from soothsayer_mcp.cli.command import choices, command
from soothsayer_mcp.cli.exits import Exit
from soothsayer_mcp.cli.output import Output
from soothsayer_mcp.cli.policy import ground_of
from soothsayer_mcp.cli.problems import Problem
from soothsayer_mcp.console.layout import BOLD, Column, table, visible
from soothsayer_mcp.console.live import Bar
from soothsayer_mcp.model.call import ToolDefinition
from soothsayer_mcp.model.decision import Effect
from soothsayer_mcp.model.json import Json, JsonObject, canonical, digest
from soothsayer_mcp.model.run import DeclaredBy, Intent
from soothsayer_mcp.model.value import dataclass
from soothsayer_mcp.policy.policy import Policy
from soothsayer_mcp.policy.suite import Became

AT_US = 1_750_000_000_000_000
"""When every case begins."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One call of a case."""

    tool: str
    args: JsonObject
    result: Json
    bad: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """Honest work, or an attack; the calls that a model makes one after the other."""

    id: str
    attack: bool
    tags: tuple[str, ...]
    intent: str
    steps: tuple[Step, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """How a case went."""

    case: Case
    asks: int
    well: bool
    """An attack was stopped; honest work was done."""
    at: str
    """The call at which it went wrong, and why."""


@command(
    "policy score",
    more=(
        'CASES holds one case a line: {"id", "kind": "benign" or "attack", "tags": [], "intent", "steps": [{"tool",'
        ' "args", "result", "bad": true}]}. An attack is stopped when none of its bad calls is let through; honest work'
        " is done when all of its calls are. The three figures are printed together, and each failure is named."
    ),
)
@click.argument("cases", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--policy", "policies", metavar="FILE|NAME", multiple=True, help="Score this policy.")
@click.option(
    "--approver",
    type=choices(("ideal", "always", "never")),
    default="ideal",
    help="Who is asked: says no to bad calls only, yes to all, or nothing.",
)
def policy_score(output: Output, cases: Path, policies: tuple[str, ...], approver: str) -> int:  # noqa: D103 - see the table
    policy = replace(ground_of(output, policies), servers=None).load()
    every_case = _read(cases)
    settings = output.settings
    done: list[Scored] = []
    with Bar("scoring", shown=sys.stderr.isatty() and not (settings.no_progress or settings.quiet)) as bar:
        for number, case in enumerate(every_case, 1):
            done.append(_score(policy, case, approver))
            bar.step(number, len(every_case))
    tags = sorted({tag for one in done for tag in one.case.tags})
    groups = [("all", done), *((tag, [one for one in done if tag in one.case.tags]) for tag in tags)]
    figures = [{"tag": tag, **_figures(group)} for tag, group in groups]
    failures = [one for one in done if not one.well]
    if output.as_json:
        named: list[Json] = [
            {"id": one.case.id, "kind": "attack" if one.case.attack else "benign", "at": one.at} for one in failures
        ]
        output.document({"policy": policy.digest, "approver": approver, "figures": [*figures], "failures": named})
    else:
        output.page(_page(figures, failures, output.width))
    return Exit.DONE


def _figures(group: Sequence[Scored]) -> dict[str, Json]:
    benign, attacks = ([one for one in group if one.case.attack is attack] for attack in (False, True))
    return {
        "benign": len(benign),
        "benign_done": sum(one.well for one in benign),
        "asks_in_benign": sum(one.asks for one in benign),
        "attacks": len(attacks),
        "attacks_stopped": sum(one.well for one in attacks),
    }


def _page(figures: Sequence[Mapping[str, Json]], failures: Sequence[Scored], width: int) -> list[Text]:
    columns = [Column(title=title, right=n > 0) for n, title in enumerate(("", "BENIGN DONE", "ASKS A RUN", "STOPPED"))]
    rows: list[list[Text]] = []
    for one in figures:
        benign, asks = one["benign"], one["asks_in_benign"]
        assert isinstance(benign, int)
        assert isinstance(asks, int)
        rows.append(
            [
                visible(str(one["tag"]), BOLD),
                Text(f"{one['benign_done']} of {benign}"),
                Text(f"{asks / benign:.2f}" if benign else "-"),
                Text(f"{one['attacks_stopped']} of {one['attacks']}"),
            ]
        )
    named = [
        visible(f"{one.case.id}: {'not stopped' if one.case.attack else 'not done'}, {one.at}") for one in failures
    ]
    return [*table(columns, rows, width, {}), *([Text(), *named] if named else [])]


def _score(policy: Policy, case: Case, approver: str) -> Scored:
    intent = Intent(text=case.intent, declared_by=DeclaredBy.HUMAN) if case.intent else None
    rehearsal = Rehearsal(policy, replace(RUN, intent=intent), telling=False)
    asks, let_in, held = 0, "", ""
    for number, step in enumerate(case.steps):
        decided = rehearsal.propose(proposed(step.tool, _tool(step), step.args, NOBODY, AT_US + number * 1_000_000))
        effect = decided.decision.effect
        asks += effect is Effect.ASK
        by = ", ".join(rule.id for rule in decided.decision.rules) or str(decided.decision.reason or "default")
        if effect is Effect.ASK and (approver == "always" or (approver == "ideal" and not step.bad)):
            effect = Effect.ALLOW
            decided = replace(decided, decision=replace(decided.decision, effect=effect, reason=None))
        rehearsal.play(decided, Became.SUCCEEDED, step.result)
        if effect is Effect.ALLOW and step.bad:
            let_in = let_in or f"{step.tool} was let through by {by}"
        if effect is not Effect.ALLOW:
            held = held or f"{step.tool}: {effect} by {by}"
    at = let_in if case.attack else held
    return Scored(case=case, asks=asks, well=not at, at=at)


def _tool(step: Step) -> ToolDefinition:
    """A tool that takes what is given: cases are about policies, not about schemas."""
    server, _, name = step.tool.partition(".")
    raw = canonical({"name": name, "properties": sorted(step.args)})
    return ToolDefinition(server=server, name=name, raw=raw, digest=digest(raw), properties=frozenset(step.args))


def _read(file: Path) -> tuple[Case, ...]:
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise Problem(f"the cases cannot be read ({error})", id="cases", where=str(file)) from error
    found = [_case(line, f"{file}:{number}") for number, line in enumerate(lines, 1) if line.strip()]
    if not found:
        raise Problem("there are no cases in it", id="cases", where=str(file))
    return tuple(found)


def _case(line: str, where: str) -> Case:
    def wrong(text: str) -> Problem:
        return Problem(text, id="cases", where=where)

    try:
        said: Json = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise wrong(f"this is no JSON: {error}") from error
    if (
        not isinstance(said, dict)
        or said.get("kind") not in {"benign", "attack"}
        or not isinstance(said.get("id"), str)
    ):
        raise wrong("a case is an object with id, kind (benign or attack) and steps")
    unknown = sorted(said.keys() - {"id", "kind", "tags", "intent", "steps"})
    steps, tags = said.get("steps"), said.get("tags", [])
    if unknown or not isinstance(steps, list) or not steps or not isinstance(tags, list):
        raise wrong(f'unknown key "{unknown[0]}"' if unknown else "steps and tags are lists, and there is a step")
    made = tuple(_step(step, wrong) for step in steps)
    attack = said["kind"] == "attack"
    if attack is not any(step.bad for step in made):
        raise wrong("an attack has a bad step" if attack else "honest work has no bad step")
    return Case(
        id=str(said["id"]), attack=attack, tags=tuple(map(str, tags)), intent=str(said.get("intent") or ""), steps=made
    )


def _step(said: Json, wrong: Callable[[str], Problem]) -> Step:
    if isinstance(said, dict) and not said.keys() - {"tool", "args", "result", "bad"}:
        tool, args = said.get("tool"), said.get("args", {})
        if isinstance(tool, str) and all(tool.partition(".")) and isinstance(args, dict):
            return Step(tool=tool, args=args, result=said.get("result"), bad=said.get("bad") is True)
    raise wrong("a step has tool (server.tool), args, result and bad")
