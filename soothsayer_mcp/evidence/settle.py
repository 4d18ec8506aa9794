"""Whether a call took effect, by what another tool says; and how what tells it is kept with the intent."""

import re
from collections.abc import Mapping, Sequence

from soothsayer_mcp.evidence.checks import Conditions, ReadFacts, judge_condition
from soothsayer_mcp.evidence.scope import AbsentError, Values, fill
from soothsayer_mcp.model.dues import Item
from soothsayer_mcp.model.failure import Acted
from soothsayer_mcp.model.finding import Answer
from soothsayer_mcp.model.json import Json, JsonObject, as_array, as_object, as_text, as_whole, compact
from soothsayer_mcp.model.settlement import SettleTerms
from soothsayer_mcp.model.settling import Settling

NOTHING: Mapping[str, Json] = {}
_ARGUMENT = re.compile(r"\bargs\b(?:\.([A-Za-z_][A-Za-z0-9_]*))?")


def judge_effect(settling: Settling, facts: ReadFacts, conditions: Conditions) -> Acted:
    """What an answer says: it took effect, it did not, or neither. What says both says nothing."""
    seen: dict[str, Json] = {**settling.values, "text": facts.text}
    if facts.result is not None:
        seen["result"] = facts.result
    terms = settling.terms
    there = judge_condition(terms.happened, conditions, seen)[0] is Answer.KEPT
    gone = bool(terms.not_happened) and judge_condition(terms.not_happened, conditions, seen)[0] is Answer.KEPT
    if there is gone:
        return Acted.MAYBE
    return Acted.YES if there else Acted.NO


def settling_of(
    terms: SettleTerms,
    values: Values,
    *,
    verify: Sequence[Item],
    before: Mapping[str, Json],
    reach: Mapping[str, Json],
) -> Settling | None:
    """What is kept of a call; `None` where it has not what is to be asked with.

    Of its arguments only those are kept that something names.
    """
    try:
        args = fill(dict(terms.args), values)
    except AbsentError:
        return None
    assert isinstance(args, Mapping)
    texts = [terms.happened, terms.not_happened, *(compact(_item(one)).decode() for one in verify)]
    named = {found.group(1) for text in texts for found in _ARGUMENT.finditer(text)}
    called = values.get("args")
    held: Mapping[str, Json] = called if isinstance(called, Mapping) else NOTHING
    kept: dict[str, Json] = {**values, "args": {key: held[key] for key in held if None in named or key in named}}
    asks = SettleTerms(
        rule=terms.rule,
        tool=terms.tool,
        args=args,
        happened=terms.happened,
        not_happened=terms.not_happened,
        every_s=terms.every_s,
        within_s=terms.within_s,
    )
    return Settling(terms=asks, values=kept, verify=tuple(verify), before=before, reach=reach)


def settling_form(settling: Settling) -> Json:
    """Spell what goes with the intent."""
    terms = settling.terms
    return {
        "rule": terms.rule,
        "tool": terms.tool,
        "args": dict(terms.args),
        "happened": terms.happened,
        "not_happened": terms.not_happened,
        "every_ms": round(terms.every_s * 1000),
        "within_ms": round(terms.within_s * 1000),
        "values": dict(settling.values),
        "verify": [_item(one) for one in settling.verify],
        "before": dict(settling.before),
        "reach": dict(settling.reach),
    }


def read_settling(form: Json) -> Settling:
    """Read what went with an intent. Raises `ValueError` for what is none."""
    try:
        return _read(as_object(form))
    except (KeyError, TypeError) as error:
        msg = "what tells whether a call took effect cannot be read"
        raise ValueError(msg) from error


def _read(form: Mapping[str, Json]) -> Settling:
    terms = SettleTerms(
        rule=as_text(form["rule"]),
        tool=as_text(form["tool"]),
        args=as_object(form["args"]),
        happened=as_text(form["happened"]),
        not_happened=as_text(form["not_happened"]),
        every_s=as_whole(form["every_ms"]) / 1000,
        within_s=as_whole(form["within_ms"]) / 1000,
    )
    return Settling(
        terms=terms,
        values=as_object(form["values"]),
        verify=tuple(map(_read_item, as_array(form["verify"]))),
        before=as_object(form["before"]),
        reach=as_object(form["reach"]),
    )


def _item(item: Item) -> JsonObject:
    return {
        "kind": item.kind,
        "spec": dict(item.spec),
        "rule": item.rule,
        "root": item.root,
        "within": list(item.within),
        "one_of": [_item(one) for one in item.one_of],
    }


def _read_item(form: Json) -> Item:
    said = as_object(form)
    return Item(
        kind=as_text(said["kind"]),
        spec=as_object(said["spec"]),
        rule=as_text(said["rule"]),
        root=as_text(said["root"]),
        within=tuple(map(as_text, as_array(said["within"]))),
        one_of=tuple(map(_read_item, as_array(said["one_of"]))),
    )
