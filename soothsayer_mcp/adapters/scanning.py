"""RE2 sets: one pass over a text says which of many expressions may fit it, and only those are searched for."""

from collections.abc import Callable, Iterable, Sequence
from typing import Protocol, cast

from soothsayer_mcp.adapters import lazy
from soothsayer_mcp.policy.detectors import Found, Scan


class _Pattern(Protocol):
    def finditer(self, text: str) -> Iterable[Found]: ...


class _Set(Protocol):
    def Add(self, pattern: str) -> int: ...  # noqa: N802 - RE2's own name
    def Compile(self) -> None: ...  # noqa: N802 - the same
    def Match(self, text: bytes) -> list[int] | None: ...  # noqa: N802 - the same


class _Sets(Protocol):
    def SearchSet(self) -> _Set: ...  # noqa: N802 - the same


class Scanner:
    """Some expressions, compiled together at once and each for itself when it first fits."""

    __slots__ = ("_patterns", "_set", "_singles")

    def __init__(self, patterns: Sequence[str]) -> None:
        """Compile the set. Raises `re2.error` for what is no expression."""
        self._patterns = tuple(patterns)
        self._set = cast("_Sets", lazy.resolve("re2:Set")).SearchSet()
        for pattern in self._patterns:
            self._set.Add(pattern)
        self._set.Compile()
        self._singles: dict[int, _Pattern] = {}

    def hits(self, raw: bytes) -> frozenset[int]:
        """Which of them may fit somewhere in this text."""
        found = self._set.Match(raw)
        return frozenset(found) if found else _NONE

    def search(self, index: int, text: str) -> Iterable[Found]:
        """Where one of them fits."""
        pattern = self._singles.get(index)
        if pattern is None:
            compile_one = cast("Callable[[str], _Pattern]", lazy.resolve("re2:compile"))
            pattern = self._singles[index] = compile_one(self._patterns[index])
        return pattern.finditer(text)


_NONE: frozenset[int] = frozenset()


def compile_together(patterns: Sequence[str]) -> Scan:
    """Compile expressions to be searched for together."""
    return Scanner(patterns)
