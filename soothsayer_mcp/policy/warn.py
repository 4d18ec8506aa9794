"""Rules that load and that a person should look at again: guards that can be walked around, allows past their day."""

from collections.abc import Iterable, Mapping, Sequence

from soothsayer_mcp.model.decision import Effect
from soothsayer_mcp.model.json import Json
from soothsayer_mcp.policy.lint import Flaw
from soothsayer_mcp.policy.rules import Rule

_AROUND = {
    "argv": ("policy-argv-deny", "options before its words walk around it: allow short lists instead"),
    "cidr": ("policy-cidr-deny", "no name is looked up, so a name that leads there passes: allow hosts instead"),
}


def warnings(rules: Sequence[Rule], now_us: int) -> tuple[Flaw, ...]:
    """What should be looked at in some rules."""
    found: list[Flaw] = []
    for rule in rules:
        if rule.expires_us is not None and rule.expires_us <= now_us:
            found.append(Flaw(rule=rule.id, id="policy-expired", text="its day is past, so it allows nothing any more"))
        if rule.effect is Effect.DENY:
            for key, spec in rule.args.items():
                found += [
                    Flaw(rule=rule.id, id=_AROUND[word][0], text=_AROUND[word][1], path=("args", key, word))
                    for word in _AROUND
                    if word in set(_positive(spec))
                ]
    return tuple(found)


def _positive(spec: Mapping[str, Json]) -> Iterable[str]:
    """The matchers that have to hold; what stands under `not` says what is let through."""
    for word, held in spec.items():
        if word == "any_of" and isinstance(held, list):
            for choice in held:
                if isinstance(choice, Mapping):
                    yield from _positive(choice)
        elif word != "not":
            yield word
