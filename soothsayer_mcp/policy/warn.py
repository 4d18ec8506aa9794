"""What loads and a person should look at again: guards that can be walked around, allows past their day, labels."""

import re
from collections.abc import Iterable, Mapping, Sequence

from soothsayer_mcp.model.decision import Effect
from soothsayer_mcp.model.json import Json
from soothsayer_mcp.policy.callers import MEND, NOBODY, about_groups
from soothsayer_mcp.policy.lint import Flaw
from soothsayer_mcp.policy.policy import Policy
from soothsayer_mcp.policy.rules import Rule

_AROUND = {
    "argv": ("policy-argv-deny", "options before its words walk around it: allow short lists instead"),
    "cidr": ("policy-cidr-deny", "no name is looked up, so a name that leads there passes: allow hosts instead"),
}

_SEARCH = re.compile(r"""\.matches\(\s*r?(['"])(.*?)\1\s*\)""")
"""A regular expression in a condition."""


def warnings(rules: Sequence[Rule], now_us: int) -> tuple[Flaw, ...]:
    """What should be looked at in some rules."""
    found: list[Flaw] = []
    for rule in rules:
        if rule.expires_us is not None and rule.expires_us <= now_us:
            found.append(Flaw(rule=rule.id, id="policy-expired", text="its day is past, so it allows nothing any more"))
        if rule.effect is Effect.ALLOW and any(not _is_whole(one.group(2)) for one in _SEARCH.finditer(rule.when)):
            text = "in a condition `matches` looks for a part: begin it with ^ and end it with $, or use `args`"
            found.append(Flaw(rule=rule.id, id="policy-search", text=text, path=("when",)))
        if rule.effect is Effect.DENY:
            for key, spec in rule.args.items():
                found += [
                    Flaw(rule=rule.id, id=_AROUND[word][0], text=_AROUND[word][1], path=("args", key, word))
                    for word in _AROUND
                    if word in set(_positive(spec))
                ]
    return (*found, *grouped(rules), *_thin_asks(rules))


def grouped(rules: Iterable[Rule]) -> Iterable[Flaw]:
    """Rules, or what risk terms and tiers match by, that look at groups."""
    for rule in rules:
        found = about_groups(rule)
        if found:
            path = ("who",) if rule.who is not None else ("when",)
            yield Flaw(rule=rule.id, id="policy-groups", text=f"{found}: {NOBODY}; {MEND}", path=path)


def _is_whole(expression: str) -> bool:
    return expression.startswith("^") and expression.endswith("$")


def _thin_asks(rules: Sequence[Rule]) -> Iterable[Flaw]:
    """Asks of tools that an allow binds to a check: a person's yes lets through what the allow would not."""
    for rule in rules:
        if rule.effect is not Effect.ASK or rule.demands is not None:
            continue
        for other in rules:
            if other.effect is Effect.ALLOW and other.demands is not None and set(rule.tools) & set(other.tools):
                text = f"a yes to it passes without the checks of {other.id}: put those into an `also`"
                yield Flaw(rule=rule.id, id="policy-thin-ask", text=text)
                break


def about_tools(policy: Policy, tools: Iterable[tuple[str, str, Mapping[str, Json]]]) -> tuple[Flaw, ...]:
    """What should be looked at in the labels of tools, each with its server, name and annotations."""
    found: list[Flaw] = []
    labels = [label for scope in policy.scopes for label in scope.labels]
    for server, name, hints in tools:
        does = frozenset[str]().union(*(label.does for label in labels if label.fits(server, name)))
        tool = f"{server}.{name}"
        if not does:
            text = "it has no label, so rules cannot know what it does: say `does` in a label"
            found.append(Flaw(rule=tool, id="policy-unlabelled", text=text))
            continue
        for hint, said, word in (("readOnlyHint", False, "write"), ("destructiveHint", True, "delete")):
            if hints.get(hint) is said and word not in does and not (word == "write" and does - {"read"}):
                text = f"its server says `{hint}: {str(said).lower()}`, and no label says {word}; {word} is added to it"
                found.append(Flaw(rule=tool, id="policy-hint", text=text))
        if hints.get("readOnlyHint") is True and does - {"read"}:
            text = f"its server says that it only reads, and its label says {', '.join(sorted(does))}"
            found.append(Flaw(rule=tool, id="policy-hint", text=text))
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
