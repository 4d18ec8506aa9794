"""What can be seen of rules alone: those that can never match, and those that another makes pointless."""

from collections.abc import Callable, Iterable, Mapping, Sequence

from soothsayer_mcp.model.ask import AskTerms
from soothsayer_mcp.model.decision import Effect
from soothsayer_mcp.model.json import Json
from soothsayer_mcp.model.value import dataclass
from soothsayer_mcp.policy.rules import ALSO, Rule, ToolPattern, Who
from soothsayer_mcp.policy.sight import RiskBounds


@dataclass(frozen=True, slots=True, kw_only=True)
class Flaw:
    """Why a rule should not load."""

    rule: str
    id: str
    text: str
    path: tuple[str, ...] = ()
    """Where in the rule; empty for the whole."""


def flaws(rules: Sequence[Rule]) -> tuple[Flaw, ...]:
    """All flaws of some rules of one scope."""
    found: list[Flaw] = []
    for rule in rules:
        found.extend(_heads(rule))
        if rule.effect is Effect.ALLOW and _rests_on_client(rule.who):
            text = "what a client says of itself allows nothing; name a sub or a group"
            found.append(Flaw(rule=rule.id, id="policy-client-trust", text=text, path=("who",)))
        for key, spec in rule.args.items():
            found.extend(Flaw(rule=rule.id, id="policy-never", text=text, path=("args", key)) for text in _never(spec))
            if key == "**" and rule.only_args:
                text = "`**` names no argument, so `only_args` would refuse every one"
                found.append(Flaw(rule=rule.id, id="policy-never", text=text, path=("only_args",)))
    found.extend(_dead(rules))
    return tuple(found)


def _heads(rule: Rule) -> Iterable[Flaw]:
    """Keys that do not go with the rule's effect or with each other."""
    messages = any(pattern.names_messages for pattern in rule.tools)
    limits, expires = rule.limit is not None, rule.expires_us is not None
    stores = rule.large is not None
    also = rule.effect is None
    counts_none = rule.history is not None and any(one.names_messages for one in rule.history.of.matches.tools)
    allows, asks, denies = (rule.effect is effect for effect in (Effect.ALLOW, Effect.ASK, Effect.DENY))
    checks: tuple[tuple[bool, str, str], ...] = (
        (rule.hard and not denies, "hard", "only a deny can be hard"),
        (rule.hard and rule.observe, "hard", "a rule that only observes cannot be hard"),
        (also and not rule.owes, ALSO, "an also decides nothing, so it needs an obligation: a limit or a redact"),
        (bool(rule.redact) and denies, "redact", "a deny lets nothing through that could be masked"),
        (limits and denies, "limit", "a deny lets nothing through that could have a limit"),
        (stores and denies, "large_results", "a deny lets nothing through that could have a result"),
        (stores and rule.observe, "large_results", "a rule that only observes changes no result"),
        (stores and messages, "large_results", "requests that are no tool calls have no results of this kind"),
        (limits and rule.observe, "limit", "a rule that only observes limits nothing"),
        (counts_none and messages, "history", "requests that are no tool calls are no steps: say the steps with `of`"),
        (limits and messages, "limit", "not supported yet for requests that are no tool calls"),
        (not _can_hold(rule.risk), "risk", "no sum lies there: at_least has to be lower than below"),
        (rule.asks is not None and not asks, _ask_key(rule.asks), "only an ask has an answer to say anything about"),
        (expires and not allows, "expires", "not supported yet on anything but an allow"),
        (expires and messages, "expires", "not supported yet for requests that are no tool calls"),
        (asks and messages, "tools", "nobody can be asked about requests that are no tool calls: allow or deny them"),
    )
    for holds, key, text in checks:
        if holds:
            yield Flaw(rule=rule.id, id="policy-value", text=text, path=(key,))


def _can_hold(bounds: RiskBounds | None) -> bool:
    if bounds is None or bounds.below is None:
        return True
    return (bounds.at_least or 0) < bounds.below


def _ask_key(terms: AskTerms | None) -> str:
    if terms is None or terms.strong:
        return "strong"
    if terms.needs:
        return "approvers"
    return "remember" if terms.expires_s is None else "expires"


def _rests_on_client(who: Who | None) -> bool:
    return who is not None and (bool(who.client) or _rests_on_client(who.but))


_BOUNDS: tuple[tuple[str, str, Callable[[float, float], bool]], ...] = (
    ("min", "max", lambda low, high: low > high),
    ("min", "below", lambda low, high: low >= high),
    ("above", "max", lambda low, high: low >= high),
    ("above", "below", lambda low, high: low >= high),
)


def _never(spec: Mapping[str, Json]) -> Iterable[str]:
    for low, high, empty in _BOUNDS:
        least, most = spec.get(low), spec.get(high)
        if isinstance(least, int | float) and isinstance(most, int | float) and empty(least, most):
            yield f"no number is {low} {least} and {high} {most}"
    others = [name for name in spec if name not in {"present", "absent"}]
    if spec.get("present") is False and others:
        yield f"what is not present cannot match `{others[0]}`"
    if "present" in spec and "absent" in spec:
        yield "`present` and `absent` contradict each other"
    if "absent" in spec and not others:
        yield "`absent: ok` alone says nothing; for an argument that must not be there write `present: false`"
    for name, held in spec.items():
        choices = held if name == "any_of" and isinstance(held, list) else [held] if name == "not" else []
        for choice in choices:
            if isinstance(choice, Mapping):
                inner = [word for word in ("present", "absent") if word in choice]
                if inner:
                    yield f"`{inner[0]}` says whether an argument is there and has no place inside `{name}`"
                yield from _never({key: value for key, value in choice.items() if key not in inner})


def _dead(rules: Sequence[Rule]) -> Iterable[Flaw]:
    """Rules that another one, equal or stronger and with fewer matchers, covers."""
    order = {id(rule): number for number, rule in enumerate(rules)}
    wide = [rule for rule in rules if not rule.tools]
    by_tool: dict[ToolPattern, list[Rule]] = {}
    for rule in rules:
        for pattern in rule.tools:
            by_tool.setdefault(pattern, []).append(rule)
    for rule in rules:
        # Whatever covers a rule names all of its tools, its first one too.
        for other in [*wide, *(by_tool[rule.tools[0]] if rule.tools else ())]:
            if other is rule or not _covers(other, rule):
                continue
            if order[id(rule)] < order[id(other)] and _covers(rule, other):
                # Two that say the same: the later one is reported.
                continue
            text = f"{other.id} covers it: equal or stronger, with no more matchers"
            yield Flaw(rule=rule.id, id="policy-dead-rule", text=text)
            break


def _covers(wide: Rule, narrow: Rule) -> bool:
    own = narrow.redact or narrow.large is not None or narrow.demands is not None
    own = own or narrow.asks not in {None, wide.asks}
    if wide.effect is None or narrow.effect is None or own:
        # Obligations add up, so nothing covers a rule that has its own.
        return False
    if wide.effect.strictness < narrow.effect.strictness or wide.expires_us is not None or narrow.limit is not None:
        return False
    if (narrow.hard and not wide.hard) or (wide.observe and not narrow.observe):
        return False
    same_side = (wide.effect is Effect.ALLOW) is (narrow.effect is Effect.ALLOW)
    return (
        (not wide.tools or (bool(narrow.tools) and set(narrow.tools) <= set(wide.tools)))
        and set(wide.excepts) <= set(narrow.excepts)
        and (not wide.does or (same_side and wide.does == narrow.does))
        and (wide.who is None or wide.who == narrow.who)
        and (not wide.causes or wide.causes == narrow.causes)
        and (not wide.pins or wide.pins == narrow.pins)
        and wide.hidden_text in {None, narrow.hidden_text}
        and wide.instructions in {None, narrow.instructions}
        and (not wide.when or wide.when == narrow.when)
        and (wide.tainted is None or wide.tainted is narrow.tainted)
        and wide.suspect in {None, narrow.suspect}
        and (wide.flow is None or wide.flow == narrow.flow)
        and (wide.risk is None or wide.risk == narrow.risk)
        and (not wide.only_args or (narrow.only_args and wide.args.keys() == narrow.args.keys()))
        and (not wide.after or wide.after == narrow.after)
        and (not wide.unless_after or wide.unless_after == narrow.unless_after)
        and (wide.history is None or wide.history == narrow.history)
        and all(key in narrow.args and narrow.args[key] == spec for key, spec in wide.args.items())
    )
