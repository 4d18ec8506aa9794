"""The card of a question to a person: what would be sent, exactly, and why policy asks."""

import json
import re
from collections.abc import Mapping, Sequence

from soothsayer_mcp.console.text import escape
from soothsayer_mcp.evidence.approvers import missing
from soothsayer_mcp.model.ask import Ask, AskState, Grant
from soothsayer_mcp.model.json import Json
from soothsayer_mcp.model.value import dataclass

_VERBS = {
    "read": "read",
    "write": "change something",
    "send": "SEND something to somebody",
    "share": "SHARE something beyond this machine",
    "delete": "DELETE something",
    "pay": "PAY",
    "exec": "run a command",
    "admin": "change who may do what",
}
_UNKNOWN = "do something that nobody has labelled"


def card(short_id: str, shown: Mapping[str, Json], left_s: int) -> str:
    """Write a card; one argument a line, its value exact."""
    server, tool = _text(shown.get("server")), _text(shown.get("tool"))
    lines = [f"ASK {short_id}  {server}.{tool}", f"{server} wants to {_does(shown.get('does'))}."]
    lines += [*_why_lines(shown), *_call_lines(shown)]
    lines.append(f"{_from(shown)}; the question stays open for {_minutes(left_s)}")
    return "\n".join(lines)


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One question on a card of several of one shape."""

    short_id: str
    shown: Mapping[str, Json]
    left_s: int
    beside: Sequence[str] = ()
    """Lines about its call that are no part of it."""


def card_of_several(parts: Sequence[Part]) -> list[str]:
    """Write one card of questions that differ in their arguments alone, and in the risk; every call is there whole."""
    first, many = parts[0].shown, len(parts)
    server, tool = _text(first.get("server")), _text(first.get("tool"))
    lines = [f"ASK {many:,} CALLS  {server}.{tool}", f"{server} wants to {_does(first.get('does'))}, {many:,} times."]
    lines += _why_lines(first)
    for number, part in enumerate(parts, start=1):
        lines.append(f"---   {part.short_id}, {number:,} of {many:,}; it stays open for {_minutes(part.left_s)}")
        lines += [*_call_lines(part.shown), *part.beside]
    lines += ["---", _from(first)]
    return lines


@dataclass(frozen=True, slots=True, kw_only=True)
class Pieces:
    """A card in pieces, for a face that is laid out otherwise; each text as the card spells it."""

    call: str
    wants: str
    why: Sequence[str]
    risk: str
    """Empty where there is none."""
    args: Sequence[tuple[str, str]] | None
    """Names and exact values; `None` where they are held back."""
    hidden: bool
    """Whether something that nobody would see is spelt out."""
    client: str
    run: str


def pieces(shown: Mapping[str, Json]) -> Pieces:
    """Take a card apart."""
    server = _text(shown.get("server"))
    risk, args = shown.get("risk"), shown.get("args")
    named: Mapping[str, Json] = args if isinstance(args, Mapping) else {}
    return Pieces(
        call=f"{server}.{_text(shown.get('tool'))}",
        wants=f"{server} wants to {_does(shown.get('does'))}.",
        why=[line.removeprefix("why   ") for line in _why_lines(shown)],
        risk=f"{_value(risk.get('sum'))} of 100 = {_terms(risk.get('terms'))}" if isinstance(risk, Mapping) else "",
        args=[(escape(name), _value(value)) for name, value in named.items()] if "args" in shown else None,
        hidden=any(_is_hidden(part) or _BLANKS.search(part) for part in _texts(named)),
        client=_text(shown.get("client")) or "a host without a name",
        run=_text(shown.get("run")),
    )


def _why_lines(shown: Mapping[str, Json]) -> list[str]:
    lines: list[str] = []
    for why in _maps(shown.get("why")):
        doubt = _text(why.get("unknown"))
        words = _text(why.get("text")) or "policy asks"
        lines.append(f"why   rule {_text(why.get('rule'))}: {words}" + (f" (it is in doubt: {doubt})" if doubt else ""))
    return lines


def _call_lines(shown: Mapping[str, Json]) -> list[str]:
    lines: list[str] = []
    risk = shown.get("risk")
    if isinstance(risk, Mapping):
        lines.append(f"risk  {_value(risk.get('sum'))} of 100 = {_terms(risk.get('terms'))}")
    args = shown.get("args")
    if isinstance(args, Mapping) and args:
        width = min(24, max(len(escape(name)) for name in args))
        for number, (name, value) in enumerate(args.items()):
            lines.append(f"{'args  ' if number == 0 else '      '}{escape(name):<{width}}  {_value(value)}")
        if any(_is_hidden(part) or _BLANKS.search(part) for part in _texts(args)):
            lines.append("      ! hidden characters are shown as escapes")
    elif "args" in shown:
        lines.append("args  none")
    else:
        lines.append("args  are shown to those who may answer (--as NAME)")
    return lines


def _from(shown: Mapping[str, Json]) -> str:
    client = _text(shown.get("client")) or "a host without a name"
    return f"from  {client}, run {_text(shown.get('run'))[:8]}"


def roles_of(ask: Ask) -> str:
    """The roles whose answers a question needs."""
    return " and ".join(dict.fromkeys(escape(need.role) for need in ask.needs))


def still_due(ask: Ask) -> str:
    """Whose yes is still to come."""
    left = missing(ask, {vote.key for vote in ask.votes if vote.answer is AskState.YES})
    parts = [f"{count} of {escape(role)}" for role, count in left]
    return f"a yes of {' and of '.join(parts)} is still due" if parts else "all have answered"


def vote_names(ask: Ask) -> str:
    """Who has answered so far."""
    return ", ".join(escape(vote.by) for vote in ask.votes)


def grant_lines(grant: Grant) -> list[str]:
    """A remembered answer, and all that it covers."""
    head = f"{grant.id[:6]}  {escape(grant.server)}.{escape(grant.tool)}  run {grant.run[:8]}, by {escape(grant.by)}"
    return [head, *shape_lines(grant.shape)]


def shape_lines(shape: Mapping[str, Json]) -> list[str]:
    """Which arguments a remembered answer covers, one a line."""
    lines: list[str] = []
    for name, part in shape.items():
        under = part.get("under") if isinstance(part, Mapping) else None
        value = part.get("is") if isinstance(part, Mapping) else None
        text = f"anything below {_value(under)}" if isinstance(under, str) else _value(value)
        lines.append(f"      {escape(name)}  {text}")
    return lines or ["      no argument at all"]


def _terms(value: Json) -> str:
    terms = [term for term in value if isinstance(term, Sequence)] if isinstance(value, Sequence) else []
    return " + ".join(f"{_text(term[0])} {_value(term[1])}" for term in terms)


def _does(value: Json) -> str:
    words = [word for word in value if isinstance(word, str)] if isinstance(value, Sequence) else []
    verbs = [_VERBS[word] for word in words if word in _VERBS]
    return ", ".join(verbs) if verbs else _UNKNOWN


def _minutes(left_s: int) -> str:
    return f"{left_s // 60}:{left_s % 60:02d}"


_BLANKS = re.compile(r" {4,}")


def _value(value: Json) -> str:
    """A value, exact; many blanks, which would push what follows out of sight, are spelt as one with their number."""
    spelt = escape(json.dumps(value, ensure_ascii=False))
    return _BLANKS.sub(lambda found: f"\\x20{{{len(found.group()):,}}}", spelt)


def _text(value: Json) -> str:
    return escape(value) if isinstance(value, str) else ""


def _texts(value: Json) -> list[str]:
    if isinstance(value, str):
        return [value]
    if isinstance(value, Mapping):
        return [text for name, held in value.items() for text in (name, *_texts(held))]
    return [text for held in value for text in _texts(held)] if isinstance(value, Sequence) else []


def _is_hidden(text: str) -> bool:
    return escape(text) != text


def _maps(value: Json) -> list[Mapping[str, Json]]:
    if not isinstance(value, Sequence) or isinstance(value, str):
        return []
    return [item for item in value if isinstance(item, Mapping)]
