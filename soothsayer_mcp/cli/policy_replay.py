"""`policy replay`: decides recorded steps again, under their own policy or under another."""

import json
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import cast

import click
from rich.text import Text

from soothsayer_mcp.adapters.store.reader import Reader
from soothsayer_mcp.cli.command import FilterCommand, command
from soothsayer_mcp.cli.exits import Exit
from soothsayer_mcp.cli.output import Output
from soothsayer_mcp.cli.policy import ground_of, recalled_step
from soothsayer_mcp.cli.problems import Problem
from soothsayer_mcp.cli.recorded import Recall, decided_fields, recall
from soothsayer_mcp.cli.state import open_reader
from soothsayer_mcp.console.layout import DIM, EFFECTS, Column, table, visible
from soothsayer_mcp.console.live import Bar
from soothsayer_mcp.model.decision import Decision, Effect
from soothsayer_mcp.model.json import Json, JsonObject
from soothsayer_mcp.model.value import dataclass
from soothsayer_mcp.policy.decide import decide
from soothsayer_mcp.policy.policy import Policy
from soothsayer_mcp.trace import entries
from soothsayer_mcp.trace.query import parse
from soothsayer_mcp.trace.rows import StepRow

NOT_ON_RECORD = "a fact that its policy did not need is not on record"


class Verdict(StrEnum):
    """How a decision made again stands to the recorded one; in the order in which they are shown."""

    LOOSER = "looser"
    TIGHTER = "tighter"
    DIFFERENT = "different"
    CANNOT_TELL = "cannot tell"
    SAME = "same"


@dataclass(frozen=True, slots=True, kw_only=True)
class Replayed:
    """One step, decided again."""

    step: StepRow
    verdict: Verdict
    before: str
    after: str
    """Effect and rules."""
    rule: str
    """What changed it: the first rule of the decision made now."""
    why: str = ""


@command(
    "policy replay",
    more=(
        "TRACE is a state folder, or a filter as log takes it (tool:write_file since:2d); without any, all steps."
        " Without --policy each step is decided by the policy it was decided by, and any difference is a fault:"
        " exits 1. With it, what would change is listed, the looser first; a step that would need a fact that is not"
        " on record cannot be told."
    ),
    kind=FilterCommand,
)
@click.argument("trace", nargs=-1, metavar="[TRACE]...")
@click.option("--policy", "policies", metavar="FILE|NAME", multiple=True, help="Decide by this policy instead.")
def policy_replay(output: Output, trace: tuple[str, ...], policies: tuple[str, ...]) -> int:  # noqa: D103 - see the table
    settings = output.settings
    folder = Path(trace[0]) if trace and Path(trace[0]).is_dir() else None
    words = trace[1:] if folder is not None else trace
    ground = ground_of(output, policies)
    chosen = ground.load() if policies else None
    shown = sys.stderr.isatty() and not (settings.no_progress or settings.quiet)
    done: list[Replayed] = []
    with open_reader(settings) if folder is None else Reader(folder) as reader:
        steps = list(reader.steps(parse(" ".join(words)), reader.now(), limit=None))
        if not steps:
            raise Problem("no step fits", id="not-found", exit=Exit.NO)
        again = _Again(reader=reader, state=ground.state, chosen=chosen, own={})
        with Bar("deciding again", shown=shown) as bar:
            for number, step in enumerate(steps, 1):
                done.append(again.decide(step))
                bar.step(number, len(steps))
    done.sort(key=lambda one: list(Verdict).index(one.verdict))
    counts = Counter(one.verdict for one in done)
    if output.as_json:
        output.document(
            {
                "policy": None if chosen is None else chosen.digest,
                "steps": len(done),
                "counts": {verdict.value: counts[verdict] for verdict in Verdict},
                "changed": [_document(one) for one in done if one.verdict is not Verdict.SAME],
                "by_rule": [
                    {"verdict": verdict, "rule": rule, "tool": tool, "steps": count}
                    for (verdict, rule, tool), count in _groups(done)
                ],
            }
        )
    else:
        output.page(_page(done, counts, output.width))
    faults = counts[Verdict.LOOSER] + counts[Verdict.TIGHTER] + counts[Verdict.DIFFERENT]
    return Exit.NO if chosen is None and faults else Exit.DONE


@dataclass(slots=True, kw_only=True)
class _Again:
    reader: Reader
    state: Path
    chosen: Policy | None
    own: dict[tuple[str, ...], Policy | None]

    def decide(self, step: StepRow) -> Replayed:
        try:
            recalled = recall(self.reader, step)
        except Problem as problem:
            return _untold(step, problem.text)
        if not recalled.rules and recalled.effect == Effect.DENY and step.reason != "tool_unknown":
            return _untold(step, "it was refused before a policy was asked")
        policy = self.chosen or self._own(recalled)
        if policy is None:
            return _untold(step, "its policy is not on record")
        proposed = recalled_step(self.reader, recalled)
        asked = policy.questions(proposed)
        facts = recalled.known(asked)
        decision = decide(policy, recalled.run, proposed, facts)
        missing = (
            not facts.links.keys() >= {*asked.links}
            or not facts.tallies.keys() >= {*asked.tallies}
            or not facts.values.keys() >= {*asked.values}
        )
        verdict = _verdict(recalled, decision, whole=self.chosen is None)
        why = ""
        if verdict is not Verdict.SAME and recalled.masked:
            verdict, why = Verdict.CANNOT_TELL, "arguments were masked in the record"
        elif verdict is not Verdict.SAME and missing and self.chosen and decision.effect is not Effect.ALLOW:
            # Its own policy needs nothing that it was not told then. An unknown fact never lets through, so an allow
            # is certain.
            verdict, why = Verdict.CANNOT_TELL, NOT_ON_RECORD
        elif self.chosen and not recalled.counted.issuperset(asked.counters):
            # What the run had counted is read as nothing, which may let through.
            verdict, why = Verdict.CANNOT_TELL, NOT_ON_RECORD
        names = [rule.id for rule in decision.rules]
        return Replayed(
            step=step,
            verdict=verdict,
            before=_effect(recalled.effect, recalled.rules),
            after=_effect(decision.effect, names),
            rule=names[0] if names else "default",
            why=why,
        )

    def _own(self, recalled: Recall) -> Policy | None:
        # Folders of the machine are part of what the policy's words stood for then.
        key = (recalled.policy_digest, recalled.ground.key, str(recalled.observing))
        if key not in self.own:
            self.own[key] = recalled.load_policy(self.state, mode=None)
        return self.own[key]


def _untold(step: StepRow, why: str) -> Replayed:
    return Replayed(
        step=step, verdict=Verdict.CANNOT_TELL, before=step.effect, after="?", rule=step.rule or "default", why=why
    )


def _effect(effect: str, rules: Sequence[str]) -> str:
    return f"{effect} by {', '.join(rules)}" if rules else effect


def _verdict(recalled: Recall, decision: Decision, *, whole: bool) -> Verdict:
    before, after = Effect(recalled.effect).strictness, decision.effect.strictness
    if after != before:
        return Verdict.TIGHTER if after > before else Verdict.LOOSER
    if whole and _said(decision) != recalled.decided:
        return Verdict.DIFFERENT
    return Verdict.SAME


def _said(decision: Decision) -> bytes:
    """What the entry would say of this decision, but for its context, which was read from there."""
    return decided_fields(cast("JsonObject", json.loads("{" + entries.decision(decision, "0")[1:] + "}")))


def _groups(done: Sequence[Replayed]) -> list[tuple[tuple[Verdict, str, str], int]]:
    changed = Counter(
        (one.verdict, one.rule, f"{one.step.server}.{one.step.tool}") for one in done if one.verdict is not Verdict.SAME
    )
    order = list(Verdict)
    return sorted(changed.items(), key=lambda item: (order.index(item[0][0]), -item[1], item[0]))


_STYLES = {Verdict.LOOSER: EFFECTS["deny"], Verdict.DIFFERENT: EFFECTS["deny"], Verdict.TIGHTER: EFFECTS["ask"]}


def _page(done: Sequence[Replayed], counts: Mapping[Verdict, int], width: int) -> list[Text]:
    said = [f"{counts[verdict]:,} {verdict}" for verdict in Verdict if counts.get(verdict)]
    lines = [Text(f"{len(done):,} steps: {', '.join(said)}", style="bold")]
    changed = [one for one in done if one.verdict is not Verdict.SAME]
    if not changed:
        return lines
    columns = [
        Column(title="STEP"),
        Column(title="CALL"),
        Column(title="NOW IS"),
        Column(title="WAS", least=16),
        Column(title="WOULD BE", least=16),
    ]
    cells = [
        [
            visible(f"{one.step.run[:6]}.{one.step.no}", DIM),
            visible(f"{one.step.server}.{one.step.tool}"),
            visible(one.verdict, _STYLES.get(one.verdict, DIM)),
            visible(one.before),
            visible(one.why or one.after),
        ]
        for one in changed
    ]
    return [*lines, Text(), *table(columns, cells, width, {})]


def _document(one: Replayed) -> Json:
    return {
        "step": one.step.step,
        "run": one.step.run,
        "no": one.step.no,
        "tool": f"{one.step.server}.{one.step.tool}",
        "verdict": one.verdict,
        "before": one.before,
        "after": one.after,
        "rule": one.rule,
        "why": one.why or None,
    }
