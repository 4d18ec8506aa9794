"""What is typed after `/`: read as the one filter, and completed while it is typed."""

from collections.abc import Iterable

from textual.suggester import Suggester

from soothsayer_mcp.console.text import escape
from soothsayer_mcp.console.tui.desk import DeskError
from soothsayer_mcp.trace.query import KEYS, Filter, FilterError, Shape, parse


class Completion(Suggester):
    """Completes the term that is being typed: keys, the words of those that have a list, and names that were seen."""

    def __init__(self, seen: dict[str, set[str]]) -> None:
        """`seen` gives further words by key: servers, tools, runs."""
        super().__init__(use_cache=False, case_sensitive=True)
        self._seen = seen

    async def get_suggestion(self, value: str) -> str | None:
        """The whole line with its last term completed."""
        before, blank, begun = value.rpartition(" ")
        bare = begun.removeprefix("-")
        sign = begun[: len(begun) - len(bare)]
        if not bare:
            return None
        key, colon, word = bare.partition(":")
        if not colon:
            found = _first(key, (f"{name}:" for name in KEYS))
            return None if found is None else f"{before}{blank}{sign}{found}"
        row = KEYS.get(key)
        if row is None:
            return None
        done, comma, last = word.rpartition(",")
        words = (*(row.words if row.shape is Shape.CLOSED else ()), *sorted(self._seen.get(key, ())))
        found = _first(last, words)
        return None if found is None else f"{before}{blank}{sign}{key}:{done}{comma}{found}"


def _first(begun: str, words: Iterable[str]) -> str | None:
    return next((word for word in words if word.startswith(begun) and word != begun), None)


def read_filter(typed: str) -> Filter:
    """Read what was typed. Raises `DeskError`, which says where it is wrong."""
    try:
        return parse(typed)
    except FilterError as error:
        near = f'; did you mean "{escape(error.near)}"?' if error.near else ""
        text = f"{escape(error.text)} at {error.column}{near}"
        raise DeskError(text) from error
