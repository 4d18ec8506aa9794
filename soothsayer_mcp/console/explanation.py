"""Why a call is decided as it is, for people. Apart from `render.py`, so that reading the trace loads no policy."""

from collections.abc import Mapping, Sequence
from pathlib import PurePath

from rich.text import Text

from soothsayer_mcp.console import views
from soothsayer_mcp.console.layout import BOLD, DIM, EFFECTS, ODD, Column, Page, table, visible
from soothsayer_mcp.console.measures import count, duration
from soothsayer_mcp.model.decision import Risk
from soothsayer_mcp.model.json import Json, JsonObject
from soothsayer_mcp.model.value import dataclass
from soothsayer_mcp.policy.explain import Explanation, RuleStory


@dataclass(frozen=True, slots=True, kw_only=True)
class Explained:
    """A call, and what a policy says of it."""

    call: str
    arguments: JsonObject
    policy: str
    """Name and the beginning of the digest."""
    policy_digest: str
    explanation: Explanation
    lines: Mapping[str, tuple[str, int]]
    """Rule id -> file and line, for rules that are written down somewhere."""
    notes: tuple[str, ...]
    """What has to be known about how it was explained."""


_ANSWERS = {True: ("matched", BOLD), None: ("cannot tell", ODD), False: ("no", DIM)}


def explanation(told: Explained, width: int) -> list[Text]:
    """Why a call is decided as it is: the decision, the tool, each scope, and every rule that could concern it."""
    page = Page(width)
    decision = told.explanation.decision
    page.add("call", visible(told.call, BOLD), f" {views.arguments_line(told.arguments)}")
    by = views.decided_by([rule.id for rule in decision.rules], "", decision.reason or "")
    reason = f" ({decision.reason})" if decision.rules and decision.reason is not None else ""
    effect = Text(decision.effect, style=EFFECTS[decision.effect])
    page.add("decided", effect, f" {by}{reason}; policy {told.policy}")
    for rule in decision.rules:
        if rule.text:
            page.add("", rule.text, *_at(told.lines.get(rule.id)))
    _risk(page, decision.risk)
    if decision.tier:
        page.add("tier", f"{decision.tier}, for what follows")
    if decision.would is not None:
        page.add("", f"observed only: enforcing would say {decision.would}")
    if decision.timeout_s is not None:
        page.add("", f"it may take {duration(decision.timeout_s * 1_000_000)}")
    pin = told.explanation.pin
    if pin is not None:
        listed = "tools/list shows it" if told.explanation.listed else "tools/list hides it"
        page.add(
            "tool", f"{views.what_it_does(' '.join(decision.does) or 'unlabelled')}; its definition is {pin}; {listed}"
        )
    for scope in told.explanation.scopes:
        default = "leaves the rest to others" if scope.default is None else f"{scope.default} where no rule decides"
        page.add(
            "scope", f"{scope.kind} {scope.name}: {scope.mode}, {default} ({scope.cell}), {count(scope.rules, 'rule')}"
        )
    for note in told.notes:
        page.add("note", note)
    lines = page.lines
    if told.explanation.rules:
        columns = [
            Column(title="RULE"),
            Column(title="STANDS IN"),
            Column(title="EFFECT"),
            Column(title="ANSWER"),
            Column(title="BECAUSE", least=24),
        ]
        cells = [
            [
                visible(rule.id),
                visible(_line(told.lines.get(rule.id)), DIM),
                visible(rule.head, EFFECTS.get(rule.head, "")),
                Text(*_ANSWERS[rule.matched]),
                visible(_because(rule)),
            ]
            for rule in told.explanation.rules
        ]
        lines += [Text(), *table(columns, cells, width, {})]
    return lines


def _line(stands: tuple[str, int] | None) -> str:
    return "" if stands is None else f"{PurePath(stands[0]).name}:{stands[1]}"


def _at(stands: tuple[str, int] | None) -> list[Text]:
    return [] if stands is None else [visible(f" ({stands[0]}:{stands[1]})", DIM)]


def _risk(page: Page, risk: Risk | None) -> None:
    if risk is None:
        return
    page.add("risk", str(risk.high) if risk.low == risk.high else f"between {risk.low} and {risk.high}")
    for term in risk.terms:
        page.add("", views.risk_term(term.because, term.add, term.unknown))


def _because(rule: RuleStory) -> str:
    if rule.matched:
        return rule.text
    read = f", read as {', '.join(rule.readings)}" if rule.readings else ""
    looked = f" looked at {rule.value}{read}" if rule.value else ""
    first, *others = rule.at.split(" | ")
    at = f"{first} | … {others[-1]}" if len(others) > 1 else rule.at
    return f"{at}{looked}{f': {rule.why}' if rule.why else ''}"


def policies(loaded: Sequence[Mapping[str, Json]], width: int) -> list[Text]:
    """Policies that load: name, digest, mode, rules and what they are for."""
    columns = [
        Column(title="POLICY"),
        Column(title="DIGEST"),
        Column(title="MODE"),
        Column(title="RULES", right=True),
        Column(title="ABOUT", least=20),
    ]
    cells = [
        [
            visible(str(policy["name"]), BOLD),
            visible(str(policy["digest"]).removeprefix("sha256:")[:6], DIM),
            visible(str(policy["mode"])),
            Text(str(policy["rules"])),
            visible(str(policy["about"] or "")),
        ]
        for policy in loaded
    ]
    return [*table(columns, cells, width, {}), *(line for policy in loaded for line in _scopes(policy))]


def _scopes(policy: Mapping[str, Json]) -> list[Text]:
    """What each scope of a policy says where no rule does."""
    held = policy["scopes"]
    scopes = [scope for scope in held if isinstance(scope, Mapping)] if isinstance(held, list) else []
    found: list[Text] = []
    for scope in scopes:
        default = scope["default"]
        cells = default.items() if isinstance(default, Mapping) else ()
        usual = ", ".join(f"{cell} {effect or 'left to others'}" for cell, effect in cells)
        mode = "" if scope["mode"] == "enforce" else f", {scope['mode']}s only"
        line = f"{scope['kind']} scope {scope['name']}: {scope['rules']} rules{mode}; where none applies: {usual}"
        found.append(visible(line, DIM))
    return found
