"""Small changes of a checked policy, each of which a good suite notices. Pure, and over any key of a rule."""

import re
from collections.abc import Iterator, Mapping
from typing import Final

from soothsayer_mcp.model.json import Json, JsonObject
from soothsayer_mcp.model.value import dataclass

_NOT_SEEN: Final = frozenset(
    {"id", "text", "effect", "mode", "hard", "approvers", "strong", "remember", "on_failure", "on_broken", "on_unknown"}
)
"""Keys whose change no decision shows; the effect is weakened instead of dropped."""
_FIGURES: Final = frozenset({"min", "max", "above", "below", "max_chars", "max_items", "at_least", "calls"})
_OWED: Final = frozenset({"require", "verify", "touches", "redact"})
"""Obligations: a decision shows which there are, and so a test compares no more than that."""
_KEPT: Final = re.compile(
    r"flow\.into(\[\d+\]\.arg)?|history\.(count|sum|above|per|of\.tools)|(unless_)?after\[\d+\]\.tools"
    r"|limit\.(timeout|(args|result)_bytes|per)"
)
"""Keys that what holds them cannot be without, or whose change no test can show, which plays one run."""
_WEAKER: Final = {"deny": "ask", "ask": "allow"}
_WIDE: Final = {"glob": "**", "under": "/"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutant:
    """A policy with one change."""

    rule: str
    change: str
    form: JsonObject


def mutants(form: JsonObject, own: frozenset[str]) -> Iterator[Mutant]:
    """Every change of the rules of these ids, one at a time."""
    scopes = form["scopes"]
    for number, scope in enumerate(scopes if isinstance(scopes, list) else ()):
        rules = scope.get("rules") if isinstance(scope, Mapping) else None
        for place, rule in enumerate(rules if isinstance(rules, list) else ()):
            if not isinstance(rule, Mapping) or str(rule.get("id")) not in own:
                continue
            name = str(rule["id"])
            yield Mutant(rule=name, change="the rule is dropped", form=_put(form, number, place, None))
            for change, changed in _changes(rule):
                yield Mutant(rule=name, change=change, form=_put(form, number, place, changed))


def _put(form: JsonObject, scope: int, place: int, rule: JsonObject | None) -> JsonObject:
    scopes = form["scopes"]
    assert isinstance(scopes, list)
    chosen = scopes[scope]
    assert isinstance(chosen, Mapping)
    rules = chosen["rules"]
    assert isinstance(rules, list)
    changed: list[Json] = [*rules[:place], *([] if rule is None else [rule]), *rules[place + 1 :]]
    return {**form, "scopes": [*scopes[:scope], {**chosen, "rules": changed}, *scopes[scope + 1 :]]}


def _changes(rule: Mapping[str, Json]) -> Iterator[tuple[str, JsonObject]]:
    weaker = _WEAKER.get(str(rule.get("effect")))
    if weaker is not None:
        yield f"{rule['effect']} becomes {weaker}", {**rule, "effect": weaker}
    for key in rule:
        if key in _NOT_SEEN:
            continue
        yield f"`{key}` is dropped", {name: held for name, held in rule.items() if name != key}
        for change, changed in () if key in _OWED else _inside(key, rule[key], key):
            yield change, {**rule, key: changed}


def _inside(key: str, value: Json, way: str) -> Iterator[tuple[str, Json]]:
    """What can be changed within a value: matchers dropped, figures moved, globs widened."""
    if key == "tools" and isinstance(value, list):
        yield from _wider_tools(value, way)
    elif key in _WIDE and isinstance(value, list):
        if _WIDE[key] not in value:
            yield f"`{way}` becomes {_WIDE[key]}", [_WIDE[key]]
    elif key in _FIGURES and isinstance(value, int | float) and not isinstance(value, bool):
        yield from ((f"`{way}`: {value} becomes {value + by}", value + by) for by in (-1, 1) if value + by >= 0)
    elif isinstance(value, Mapping):
        yield from _fewer_keys(value, way)
    elif isinstance(value, list) and any(isinstance(item, Mapping) for item in value):
        yield from _fewer_items(value, way)


def _wider_tools(globs: list[Json], way: str) -> Iterator[tuple[str, Json]]:
    for place, glob in enumerate(globs):
        server, _, tool = str(glob).partition(".")
        if tool != "*":
            yield f"`{way}`: {glob} becomes {server}.*", [*globs[:place], f"{server}.*", *globs[place + 1 :]]


def _fewer_keys(held: Mapping[str, Json], way: str) -> Iterator[tuple[str, Json]]:
    for name, value in held.items():
        below = f"{way}.{name}"
        # The last one is dropped with what holds it.
        if len(held) > 1 and _KEPT.fullmatch(below) is None:
            yield f"`{below}` is dropped", {other: said for other, said in held.items() if other != name}
        for change, changed in _inside(name, value, below):
            yield change, {**held, name: changed}


def _fewer_items(items: list[Json], way: str) -> Iterator[tuple[str, Json]]:
    for place, item in enumerate(items):
        below = f"{way}[{place + 1}]"
        if len(items) > 1:
            yield f"`{below}` is dropped", [*items[:place], *items[place + 1 :]]
        for change, changed in _inside("", item, below):
            yield change, [*items[:place], changed, *items[place + 1 :]]
