"""The one filter: `server:files effect:deny since:1h -principal:ci "free text"`, read into terms and made into SQL.

The SQL has bound parameters only; nothing that was typed is ever pasted into it. Pure: the present moment is an
argument.

    filter = { term }     term = ["-"] ( key ":" value { "," value } | word | '"' text '"' )
    value  = [ ">" | ">=" | "<" | "<=" ] ( glob | number [unit] | time )     time = 15m | 2h | 7d | today | RFC 3339
"""
# ruff: noqa: S608 - the text of each query is ours; what was typed only ever becomes a parameter

import difflib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from enum import Enum, StrEnum

from soothsayer_mcp.model.call import Cause, Does
from soothsayer_mcp.model.decision import Effect
from soothsayer_mcp.model.entry import Kind
from soothsayer_mcp.model.failure import Acted, FailureClass, Reason
from soothsayer_mcp.model.finding import Answer
from soothsayer_mcp.model.value import dataclass


class FilterError(ValueError):
    """A filter that cannot be read, and where."""

    def __init__(self, text: str, *, id: str, source: str, column: int, near: str = "", fix: str = "") -> None:  # noqa: A002 - the word of the JSON form of errors
        """Say what is wrong with `source` at `column` (from 1), and the word probably meant or what else to do."""
        super().__init__(text)
        self.text = text
        self.id = id
        self.source = source
        self.column = column
        self.near = near
        self.fix = fix


class Scope(Enum):
    """What is being filtered, and by which name its view stands in the query."""

    STEPS = "s"
    RUNS = "r"
    ENTRIES = "e"


@dataclass(frozen=True, slots=True, kw_only=True)
class Value:
    """One alternative of a term."""

    text: str
    column: int
    op: str = ""
    """`>`, `>=`, `<`, `<=`, or empty."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Term:
    """One condition: any of its values, or, negated, none of them."""

    key: str
    """A key of the table; `word` for a bare word or quoted text."""
    values: tuple[Value, ...]
    negated: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """All terms must hold. No terms: everything."""

    terms: tuple[Term, ...] = ()
    source: str = ""

    def and_(self, other: "Filter") -> "Filter":
        """Both filters at once."""
        return Filter(terms=(*self.terms, *other.terms), source=f"{self.source} {other.source}".strip())


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """Now, and how the clock on the wall differs from UTC: what `1h` and `today` are reckoned from."""

    now_us: int
    offset_s: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Where:
    """A condition in SQL; `sql` is empty when there is none."""

    sql: str = ""
    params: tuple[str | int | float, ...] = ()

    @property
    def clause(self) -> str:
        """The whole WHERE clause, or nothing."""
        return f" WHERE {self.sql}" if self.sql else ""


class Shape(StrEnum):
    """What a key's values look like."""

    GLOB = "glob"
    CLOSED = "closed"
    NUMBER = "number"
    DURATION = "duration"
    TIME = "time"
    RUN = "run"
    STEP = "step"
    HEX = "hex"


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """One key of the filter."""

    shape: Shape
    help: str
    words: tuple[str, ...] = ()
    """The closed list of a `CLOSED` key."""
    steps: str = ""
    """The condition on a step (view `s`), with `{}` for the comparison's right side; empty: no step has it."""
    runs: str = ""
    """The same on a run (view `r`); empty: a run is chosen when one of its steps is."""
    entries: str = ""
    """The same on an entry (table `e`); empty: an entry is chosen when its step is."""


_FINDING = (
    "EXISTS (SELECT 1 FROM entries f WHERE f.run = s.run AND f.no = s.no AND f.kind = 'step.finding'"
    " AND json_extract(f.body, '$.{}') {{}})"
)
_APPROVAL = "EXISTS (SELECT 1 FROM approvals a WHERE a.run = s.run AND a.no = s.no AND a.{} {{}})"
_KIND = "EXISTS (SELECT 1 FROM entries k WHERE k.run = s.run AND k.no = s.no AND k.kind {})"

KEYS: Mapping[str, Key] = {
    "run": Key(shape=Shape.RUN, help="run id or its beginning", steps="s.run {}", runs="r.run {}", entries="e.run {}"),
    "step": Key(shape=Shape.STEP, help="step, such as 4bf92f.7"),
    "span": Key(shape=Shape.HEX, help="span id or its beginning", steps="s.span {}"),
    "server": Key(shape=Shape.GLOB, help="server", steps="s.server {}"),
    "tool": Key(shape=Shape.GLOB, help="tool, server.tool or mcp__server__tool", steps="s.tool {}"),
    "does": Key(
        shape=Shape.CLOSED,
        help="what the tool does to the world",
        words=(*Does, "unlabelled"),
        steps="s.does {}",
    ),
    "cause": Key(shape=Shape.CLOSED, help="why it was proposed", words=tuple(Cause), steps="s.cause {}"),
    "effect": Key(shape=Shape.CLOSED, help="what policy said", words=tuple(Effect), steps="s.effect {}"),
    "would": Key(shape=Shape.CLOSED, help="what enforcing would have said", words=tuple(Effect), steps="s.would {}"),
    "rule": Key(shape=Shape.GLOB, help="rule that decided", steps="s.rule {}"),
    "outcome": Key(
        shape=Shape.CLOSED,
        help="how it ended; open: not yet",
        words=("succeeded", "failed", "unknown", "open"),
        steps="coalesce(s.outcome, 'open') {}",
    ),
    "acted": Key(shape=Shape.CLOSED, help="whether the tool acted", words=tuple(Acted), steps="s.acted {}"),
    "failure": Key(shape=Shape.CLOSED, help="failure class", words=tuple(FailureClass), steps="s.failure {}"),
    "reason": Key(shape=Shape.CLOSED, help="reason of the failure", words=tuple(Reason), steps="s.reason {}"),
    "finding": Key(
        shape=Shape.CLOSED, help="what a check answered", words=tuple(Answer), steps=_FINDING.format("finding")
    ),
    "check": Key(shape=Shape.GLOB, help="name of a check", steps=_FINDING.format("check")),
    "principal": Key(shape=Shape.GLOB, help="on whose authority", steps="s.principal {}", runs="r.principal {}"),
    "host": Key(shape=Shape.GLOB, help="host application", steps="s.host {}", runs="r.host {}"),
    "policy": Key(
        shape=Shape.GLOB, help="policy digest, name, or name@digest", steps="s.policy {}", runs="r.policy {}"
    ),
    "risk": Key(shape=Shape.NUMBER, help="risk score", steps="s.risk {}"),
    "dur": Key(shape=Shape.DURATION, help="how long it took: dur:>1s", steps="s.dur_ms {}"),
    "asked": Key(
        shape=Shape.CLOSED,
        help="whether a person was asked",
        words=("yes", "no"),
        steps="CASE WHEN s.asked > 0 THEN 'yes' ELSE 'no' END {}",
    ),
    "answer": Key(
        shape=Shape.CLOSED,
        help="what a person answered",
        words=("open", "yes", "no", "expired", "withdrawn"),
        steps=_APPROVAL.format("state"),
    ),
    "by": Key(shape=Shape.GLOB, help="who answered", steps=_APPROVAL.format("answered_by")),
    "kind": Key(shape=Shape.CLOSED, help="kind of entry", words=tuple(Kind), steps=_KIND, entries="e.kind {}"),
    "since": Key(shape=Shape.TIME, help="from then on", steps="s.at_us {}", runs="r.last_us {}", entries="e.at {}"),
    "until": Key(shape=Shape.TIME, help="before then", steps="s.at_us {}", runs="r.opened_us {}", entries="e.at {}"),
}
"""Every key there is."""

_WORD = "word"
_KEY = re.compile(r"[A-Za-z_]+(?=:)")
_NUMBER = re.compile(r"(\d{1,15}(?:\.\d{1,6})?)(us|ms|s|m|min|h|d|w)?", re.ASCII)
_UNIT_US = {
    "us": 1,
    "ms": 1_000,
    "s": 1_000_000,
    "m": 60_000_000,
    "min": 60_000_000,
    "h": 3_600_000_000,
    "d": 86_400_000_000,
    "w": 604_800_000_000,
}
_DATE = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
_OPS = (">=", "<=", ">", "<")


def parse(source: str) -> Filter:
    """Read a filter. Raises `FilterError` at the first mistake: an unknown key or a value that no step can have."""
    terms: list[Term] = []
    at = 0
    while at < len(source):
        if source[at].isspace():
            at += 1
            continue
        term, at = _term(source, at)
        terms.append(term)
    return Filter(terms=tuple(terms), source=source)


def term(key: str, text: str) -> Term:
    """The term of a short option: `--tool X` is `tool:X`, `--grep X` is `X` as quoted text. Raises `FilterError`."""
    if key == _WORD:
        return Term(key=_WORD, values=(Value(text=text, column=1),))
    whole = f"{key}:{text}"
    values = tuple(_value(part, len(key) + 2, whole) for part in text.split(","))
    made = Term(key=key, values=values)
    _check(made, whole)
    return made


def _term(source: str, at: int) -> tuple[Term, int]:
    negated = source[at] == "-" and at + 1 < len(source) and not source[at + 1].isspace()
    if negated:
        at += 1
    found = _KEY.match(source, at)
    if found is None:
        text, end = _text(source, at, stops="")
        return Term(key=_WORD, values=(Value(text=text, column=at + 1),), negated=negated), end
    key = found[0]
    if key not in KEYS:
        near = _near(key, tuple(KEYS))
        fix = "" if near else "put it in quotation marks to look for the text itself"
        raise FilterError(f'unknown key "{key}"', id="query-key", source=source, column=at + 1, near=near, fix=fix)
    at = found.end() + 1
    values: list[Value] = []
    while True:
        begin = at
        text, at = _text(source, at, stops=",")
        quoted = source[begin : begin + 1] == '"'
        values.append(Value(text=text, column=begin + 1) if quoted else _value(text, begin + 1, source))
        if at >= len(source) or source[at] != ",":
            break
        at += 1
    made = Term(key=key, values=tuple(values), negated=negated)
    _check(made, source)
    return made, at


def _text(source: str, at: int, *, stops: str) -> tuple[str, int]:
    """A word up to a blank or one of `stops`, or quoted text; and where it ends."""
    if source[at : at + 1] != '"':
        end = at
        while end < len(source) and not source[end].isspace() and source[end] not in stops:
            end += 1
        return source[at:end], end
    end = at + 1
    taken: list[str] = []
    while end < len(source) and source[end] != '"':
        if source[end] == "\\" and source[end + 1 : end + 2] in {'"', "\\"}:
            end += 1
        taken.append(source[end])
        end += 1
    if end >= len(source):
        raise FilterError("a quotation mark is not closed", id="query-quote", source=source, column=at + 1)
    if not taken:
        raise FilterError("empty text finds nothing", id="query-value", source=source, column=at + 1)
    return "".join(taken), end + 1


def _value(text: str, column: int, source: str) -> Value:
    for op in _OPS:
        if text.startswith(op):
            return Value(text=text.removeprefix(op), column=column, op=op)
    if not text:
        raise FilterError("a value is missing here", id="query-value", source=source, column=column)
    return Value(text=text, column=column)


def _near(word: str, known: Sequence[str]) -> str:
    found = difflib.get_close_matches(word.lower(), known, n=1, cutoff=0.6)
    return found[0] if found else ""


def _check(made: Term, source: str) -> None:
    """Refuse what no step can match, so that an empty answer is never a typing mistake."""
    key = KEYS[made.key]
    for value in made.values:
        if value.op and key.shape not in {Shape.NUMBER, Shape.DURATION}:
            text = f'"{value.op}" compares numbers; {made.key} is none'
            raise FilterError(text, id="query-value", source=source, column=value.column)
        problem, near = _fault(key, value)
        if problem:
            text = f'{made.key} is never "{value.text}": {problem}'
            raise FilterError(text, id="query-value", source=source, column=value.column, near=near)


def _fault(key: Key, value: Value) -> tuple[str, str]:
    """Why no step can have a value, and the word probably meant; empty when one can."""
    if key.shape is Shape.CLOSED:
        if any(_glob(value.text).fullmatch(word) for word in key.words):
            return "", ""
        few = len(key.words) <= _FEW
        return f"it is one of {', '.join(key.words)}" if few else "there is no such word", _near(value.text, key.words)
    if key.shape is Shape.TIME:
        fits = _time_us(value.text, Moment(now_us=0)) is not None
    else:
        pattern = _SPELLINGS.get(key.shape)
        fits = pattern is None or pattern.fullmatch(value.text.lower()) is not None
    return ("", "") if fits else (_SPELLED[key.shape], "")


_FEW = 8
"""How many words of a closed list fit a line."""

_SPELLINGS: Mapping[Shape, re.Pattern[str]] = {
    Shape.NUMBER: re.compile(r"\d{1,15}(\.\d{1,6})?", re.ASCII),
    Shape.DURATION: _NUMBER,
    Shape.RUN: re.compile(r"[0-9a-f]{1,32}"),
    Shape.STEP: re.compile(r"[0-9a-f]{1,32}\.\d{1,15}", re.ASCII),
}
_SPELLED: Mapping[Shape, str] = {
    Shape.NUMBER: "it is a number",
    Shape.DURATION: "it is a number with a unit: 250ms, 2s",
    Shape.TIME: "it is 15m, 2h, 7d, today, a date or an RFC 3339 time",
    Shape.RUN: "it is hex digits",
    Shape.STEP: "it is a run and a number: 4bf92f.7",
}


def _glob(text: str) -> re.Pattern[str]:
    parts = (".*" if char == "*" else "." if char == "?" else re.escape(char) for char in text)
    return re.compile("".join(parts), re.DOTALL)


def _time_us(text: str, moment: Moment) -> int | None:
    """The moment that a time names; `None` when it names none."""
    found = _NUMBER.fullmatch(text)
    if found is not None:
        unit = found[2]
        return None if unit is None else moment.now_us - int(float(found[1]) * _UNIT_US[unit])
    zone = timezone(timedelta(seconds=moment.offset_s))
    if text == "today":
        now = (_EPOCH + timedelta(microseconds=moment.now_us)).astimezone(zone)
        return _us(now.replace(hour=0, minute=0, second=0, microsecond=0))
    try:
        named = datetime.fromisoformat(text)
    except ValueError:
        return None
    if named.tzinfo is None:
        if not _DATE.fullmatch(text):
            return None
        named = named.replace(tzinfo=zone)
    return _us(named)


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def _us(at: datetime) -> int:
    return (at - _EPOCH) // timedelta(microseconds=1)


def where(wanted: Filter, scope: Scope, moment: Moment, *, payloads: bool = False) -> Where:
    """Make a filter into SQL on `v_steps s`, `v_runs r` or `entries e`.

    With `payloads`, words are looked for in kept payloads too. A run or an entry that a key does not describe itself is
    chosen through its steps: all such terms must hold for one and the same step.
    """
    own: list[Where] = []
    by_step: list[Where] = []
    for each in wanted.terms:
        condition = _condition(each, scope, moment, payloads=payloads)
        if condition is not None:
            own.append(condition)
        else:
            by_step.append(_of_step(each, moment, payloads=payloads))
    if by_step:
        inner = _all(by_step)
        link = "s.run = r.run" if scope is Scope.RUNS else "s.run = e.run AND s.no = e.no"
        own.append(replace(inner, sql=f"EXISTS (SELECT 1 FROM v_steps s WHERE {link} AND {inner.sql})"))
    return _all(own) if own else Where()


def _all(conditions: Sequence[Where]) -> Where:
    return Where(
        sql=" AND ".join(each.sql for each in conditions),
        params=tuple(param for each in conditions for param in each.params),
    )


def _of_step(each: Term, moment: Moment, *, payloads: bool) -> Where:
    made = _condition(each, Scope.STEPS, moment, payloads=payloads)
    assert made is not None, each.key
    return made


def _condition(each: Term, scope: Scope, moment: Moment, *, payloads: bool) -> Where | None:
    """The condition of one term; `None` when it can only be put through a step."""
    parts: list[Where] = []
    for value in each.values:
        part = _alternative(each.key, value, scope, moment, payloads=payloads)
        if part is None:
            return None
        parts.append(part)
    sql = " OR ".join(part.sql for part in parts)
    params = tuple(param for part in parts for param in part.params)
    # IS NOT TRUE, not NOT: a step without the fact is one that the negated term leaves in.
    return Where(sql=f"({sql}) IS NOT TRUE" if each.negated else f"({sql})", params=params)


def _alternative(key: str, value: Value, scope: Scope, moment: Moment, *, payloads: bool) -> Where | None:
    if key == _WORD:
        return _word(value.text, scope, payloads=payloads)
    row = KEYS[key]
    if row.shape is Shape.STEP:
        return None if scope is Scope.RUNS else _step(value.text.lower(), scope)
    template = {Scope.STEPS: row.steps, Scope.RUNS: row.runs, Scope.ENTRIES: row.entries}[scope]
    if not template:
        return None
    return _COMPARISONS.get(key, _COMPARISONS_BY_SHAPE[row.shape])(template, key, value, moment)


def _step(text: str, scope: Scope) -> Where:
    run, _, no = text.partition(".")
    low, high = _range(run)
    alias = scope.value
    return Where(sql=f"{alias}.run >= ? AND {alias}.run < ? AND {alias}.no = ?", params=(low, high, int(no)))


def _word(text: str, scope: Scope, *, payloads: bool) -> Where | None:
    if scope is Scope.RUNS:
        return None
    # A body is JSON: what was typed has to be spelled as JSON spells it, whether or not it escapes beyond ASCII.
    spelled = {f"%{_like(json.dumps(text, ensure_ascii=ascii_only)[1:-1])}%" for ascii_only in (False, True)}
    likes = sorted(spelled)
    alias = "e" if scope is Scope.ENTRIES else "g"
    body = " OR ".join(rf"{alias}.body LIKE ? ESCAPE '\'" for _like_text in likes)
    params: tuple[str, ...] = tuple(likes)
    if payloads:
        body += (
            f" OR EXISTS (SELECT 1 FROM payloads p WHERE p.writer = {alias}.writer AND p.seq = {alias}.seq"
            r" AND p.part NOT IN ('capture', 'settle') AND p.text LIKE ? ESCAPE '\')"
        )
        params = (*params, f"%{_like(text)}%")
    if scope is Scope.ENTRIES:
        return Where(sql=body, params=params)
    return Where(
        sql=f"EXISTS (SELECT 1 FROM entries g WHERE g.run = s.run AND g.no = s.no AND ({body}))", params=params
    )


def _like(text: str) -> str:
    return text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")


def _range(prefix: str) -> tuple[str, str]:
    """All hex ids that begin with `prefix`, as a half-open range that an index can serve."""
    return prefix, f"{prefix}g"


def _by_glob(template: str, _key: str, value: Value, _moment: Moment) -> Where:
    if _is_plain(value.text):
        return Where(sql=template.format("= ?"), params=(value.text,))
    return Where(sql=template.format("GLOB ?"), params=(_safe_glob(value.text),))


def _is_plain(text: str) -> bool:
    return "*" not in text and "?" not in text


def _by_word(template: str, key: str, value: Value, _moment: Moment) -> Where:
    wanted = _glob(value.text)
    words = tuple(word for word in KEYS[key].words if wanted.fullmatch(word))
    if len(words) == 1:
        return Where(sql=template.format("= ?"), params=words)
    return Where(sql=template.format(f"IN ({', '.join('?' for _word_ in words)})"), params=words)


def _by_number(template: str, key: str, value: Value, _moment: Moment) -> Where:
    found = _NUMBER.fullmatch(value.text)
    assert found is not None, key
    unit = _UNIT_US[found[2] or "ms"] / 1000 if KEYS[key].shape is Shape.DURATION else 1
    return Where(sql=template.format(f"{value.op or '='} ?"), params=(float(found[1]) * unit,))


def _by_time(template: str, key: str, value: Value, moment: Moment) -> Where:
    at_us = _time_us(value.text, moment)
    assert at_us is not None, key
    return Where(sql=template.format(">= ?" if key == "since" else "< ?"), params=(at_us,))


def _by_run(template: str, _key: str, value: Value, _moment: Moment) -> Where:
    low, high = _range(value.text.lower())
    if low and len(low) == _RUN_LENGTH:
        return Where(sql=template.format("= ?"), params=(low,))
    return Where(sql=f"{template.format('>= ?')} AND {template.format('< ?')}", params=(low, high))


_RUN_LENGTH = 32


def _by_hex(template: str, _key: str, value: Value, _moment: Moment) -> Where:
    return Where(sql=template.format("GLOB ?"), params=(f"{_safe_glob(value.text.lower())}*",))


def _safe_glob(text: str) -> str:
    """A glob of ours as SQLite's GLOB, where a bracket would begin a set."""
    return text.replace("[", "[[]")


def _by_policy(template: str, key: str, value: Value, moment: Moment) -> Where:
    """`5c1e`, `sha256:5c1e`, `solo-coding`, or both as they are shown: `solo-coding@5c1e`."""
    name, at, digest = value.text.rpartition("@")
    by_digest = Where(
        sql=template.format("GLOB ?"), params=(f"sha256:{_safe_glob(digest.lower().removeprefix('sha256:'))}*",)
    )
    named = _by_glob("name {}", key, replace(value, text=name or value.text), moment)
    by_name = Where(sql=template.format(f"IN (SELECT digest FROM policies WHERE {named.sql})"), params=named.params)
    joint = "AND" if at and name else "OR"
    return Where(sql=f"({by_digest.sql} {joint} {by_name.sql})", params=(*by_digest.params, *by_name.params))


def _by_tool(template: str, key: str, value: Value, moment: Moment) -> Where:
    """`tool`, `server.tool` cut at each of its dots, or the alias that hosts make of both."""
    text = value.text
    plain = _by_glob(template, key, value, moment)
    parts, params = [plain.sql], list(plain.params)
    cuts = [(text[:n], text[n + 1 :]) for n, char in enumerate(text) if char == "."]
    if text.startswith("mcp__"):
        rest = text.removeprefix("mcp__")
        cuts += [(rest[: m.start()], rest[m.end() :]) for m in re.finditer("__", rest)]
    for server, tool in cuts:
        if server and tool:
            one = _by_glob("s.server {}", key, replace(value, text=server), moment)
            two = _by_glob("s.tool {}", key, replace(value, text=tool), moment)
            parts.append(f"({one.sql} AND {two.sql})")
            params += [*one.params, *two.params]
    return Where(sql=" OR ".join(parts), params=tuple(params))


def _by_does(_template: str, key: str, value: Value, _moment: Moment) -> Where:
    """A step has several labels, stored in one text."""
    wanted = _glob(value.text)
    words = tuple(word for word in KEYS[key].words if wanted.fullmatch(word))
    one = "instr(' ' || replace(s.does, ',', ' ') || ' ', ' ' || ? || ' ') > 0"
    return Where(sql=" OR ".join(one for _each in words), params=words)


_Comparison = Callable[[str, str, Value, Moment], Where]

_COMPARISONS_BY_SHAPE: Mapping[Shape, _Comparison] = {
    Shape.GLOB: _by_glob,
    Shape.CLOSED: _by_word,
    Shape.NUMBER: _by_number,
    Shape.DURATION: _by_number,
    Shape.TIME: _by_time,
    Shape.RUN: _by_run,
    Shape.HEX: _by_hex,
    Shape.STEP: _by_glob,
}
_COMPARISONS: Mapping[str, _Comparison] = {"tool": _by_tool, "does": _by_does, "policy": _by_policy}
