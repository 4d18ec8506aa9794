"""Loops, judged by what came back: the same call with the same answer, and nothing new in between. Pure.

Times and durations are masked before answers are compared; nothing else is left out of the comparison.
"""

import re
from collections.abc import Mapping
from typing import NamedTuple

from soothsayer_mcp.model.facts import Charge
from soothsayer_mcp.model.failure import Failure, Reason
from soothsayer_mcp.model.json import Json, canonical
from soothsayer_mcp.model.outcome import Outcome, Returned
from soothsayer_mcp.model.run import Counters

MOST_MASKED_CHARS = 65_536
"""A longer text is compared as it is: looking for times in it would cost more than it is worth."""
MOST_REFUSED = 5
"""After so many refused repetitions a run is paused."""
KEPT_CHANGES = 1_000
"""How many changes ago an answer may have come and still be known."""

_TIME_WORDS = frozenset(
    {"at", "datetime", "duration", "elapsed", "latency", "millis", "milliseconds", "ms", "seconds", "secs", "time"}
    | {"timestamp", "took", "uptime"}
)
_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")
# Each begins with a digit that follows no word: what finds digits alone is quick, and most texts have few of them.
_TIMES = re.compile(
    r"[0-9](?<!\w.)(?:"
    r"\d{3}-\d\d-\d\d[T ]\d\d:\d\d(?::\d\d(?:[.,]\d{1,12})?)?(?: ?(?:Z|UTC|GMT|[+-]\d\d:?\d\d)\b)?"
    r"|\d?:\d\d:\d\d(?:[.,]\d{1,12})?\b"
    r"|\d{0,8}m ?\d{1,9}(?:\.\d{1,12})?s\b"
    r"|\d{0,14}(?:[.,]\d{1,12})? ?(?:ns|µs|us|ms|milliseconds?|s|secs?|seconds?|mins?|minutes?|h|hours?)\b)"
)
_DIGIT = re.compile(r"[0-9]")
_GIVEN = re.compile(r"[:=](?<=[deknpsty\"' ].) {0,4}[\"']?\d{1,20}(?:\.\d{1,12})?")
"""A number that a name may stand before, with the letters that those of times end in."""
_NAMES = ("uration", "lapsed", "atency", "imestamp", "ook", "_at", "At", "Ms", "_ms", "ime")
_NAME = re.compile(
    r"[\"' ]\w{0,40}(?:[dD]uration|[eE]lapsed|[lL]atency|[tT]imestamp|[tT]ook|_at|At|Ms|_ms|[tT]ime)[\"']? {0,4}\Z"
)
_LONGEST_NAME = 56
"""Characters that such a name has, with what stands around it."""
_ORDINALS = ("", "first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth")


class Repeat(NamedTuple):
    """How often a call got one answer."""

    n: int
    """In a row, but for other answers that were known too."""
    since: int
    """The number of the change after which that was counted."""
    at: int
    """When it came last, in microseconds since 1970."""


def comparable(outcome: Outcome) -> bytes | None:
    """The answer of a tool in the form in which answers are compared; `None` where none came."""
    if not isinstance(outcome, Returned):
        return None
    if outcome.error is not None:
        return canonical([_timeless(outcome.error)])
    if outcome.result is None:
        return None
    return canonical({key: _timeless(value, key) for key, value in outcome.result.items() if key != "_meta"})


def _timeless(value: Json, key: str = "") -> Json:
    """A value without its times: numbers under names that speak of time, and what reads like a time in texts."""
    if isinstance(value, str):
        return value if len(value) > MOST_MASKED_CHARS else _masked(value)
    if isinstance(value, Mapping):
        return {name: _timeless(held, name) for name, held in value.items()}
    if isinstance(value, list):
        return [_timeless(item, key) for item in value]
    if isinstance(value, int | float) and not isinstance(value, bool) and _names_a_time(key):
        return "\0"
    return value


def _masked(text: str) -> str:
    """A text with its times masked: by how they are written, or by the name before them."""
    if _DIGIT.search(text) is None:
        return text
    given = _GIVEN.sub(_unless_timed, text)
    return _TIMES.sub("\0", given)


def _unless_timed(given: re.Match[str]) -> str:
    start = given.start()
    before = given.string[max(0, start - _LONGEST_NAME) : start]
    timed = before.rstrip("\"' ").endswith(_NAMES) and _NAME.search(before) is not None
    return "\0" if timed else given[0]


def _names_a_time(key: str) -> bool:
    return not _TIME_WORDS.isdisjoint(word.lower() for word in _WORD.findall(key))


def count_answer(
    counters: Counters, earlier: Repeat | None, charge: Charge, at: int, *, changes: bool
) -> tuple[Counters, Repeat]:
    """Count one more answer of a call; `earlier` is how often it got the same one, `changes` whether it was a write.

    An answer that nobody has seen, and a write that succeeded, are changes: what was counted before begins anew.
    """
    n = 1
    if earlier is not None and earlier.since == counters.changes and not _is_due(earlier, charge, at):
        n = earlier.n + 1
    if earlier is None or changes:
        counters = counters._replace(changes=counters.changes + 1, most_same=n, repeats_refused=0)
    else:
        counters = counters._replace(most_same=max(counters.most_same, n))
    return counters, Repeat(n=n, since=counters.changes, at=at)


def _is_due(earlier: Repeat, charge: Charge, at: int) -> bool:
    """Whether a call that may be polled is; a poll that comes a little early is none too many."""
    return charge.polling_us > 0 and at - earlier.at >= charge.polling_us * 9 // 10


def refuse_repeated(earlier: Repeat | None, charge: Charge, now_us: int) -> Failure | None:
    """Refuse a call that got the same answer too often; `earlier` is counted since something last changed."""
    most = charge.repeats_most
    if earlier is None or most is None or earlier.n < most or _is_due(earlier, charge, now_us):
        return None
    summary = f"the same call got the same answer {earlier.n} times, and nothing has changed"
    return Failure(reason=Reason.REPEAT_LIMIT, summary=summary)


def why_note(n: int, most: int | None) -> str:
    """What the agent is told with an answer that it got too often; empty for most."""
    if most is None or n < most:
        return ""
    name = _ORDINALS[n] if n < len(_ORDINALS) else f"{n}th"
    return f"{name} identical answer; nothing has changed, and the next such call is refused"
