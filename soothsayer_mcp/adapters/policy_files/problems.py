"""What is wrong with a file that people write: where, what, and the nearest word. Light: no YAML here."""

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Mark:
    """A place in a file; both count from 1."""

    line: int
    column: int


START = Mark(line=1, column=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One thing that keeps a file from being loaded."""

    file: str
    mark: Mark
    id: str
    """`policy-key`, `config-type` and so on; never renamed."""
    text: str
    nearest: str = ""
    """The valid word that was probably meant; empty when none is near."""

    def __str__(self) -> str:
        meant = f'; did you mean "{self.nearest}"?' if self.nearest else ""
        return f"{self.file}:{self.mark.line}:{self.mark.column}: {self.text}{meant} [{self.id}]"


class LoadErrors(Exception):  # noqa: N818 - the name says that it is all of them at once
    """A file, or a set of them, does not load. Holds every problem, by file, line and column."""

    def __init__(self, problems: Iterable[Problem], *, watch: Iterable[str] = ()) -> None:
        """Gather problems; `watch` are the files whose change could mend them."""
        unique = dict.fromkeys(problems)
        self.problems = tuple(sorted(unique, key=lambda one: (one.file, one.mark, one.id, one.text)))
        self.watch = tuple(dict.fromkeys(watch))
        super().__init__("\n".join(map(str, self.problems)))


def nearest(word: str, known: Iterable[str]) -> str:
    """The known word with the fewest slips from this one; empty when even that has too many."""
    most = max(1, len(word) // 3)
    best = min(((_slips(word, other), other) for other in known), default=(most + 1, ""))
    return best[1] if best[0] <= most else ""


def _slips(left: str, right: str) -> int:
    """Count insertions, deletions, replacements and swaps of neighbours."""
    before: list[int] = []
    last = list(range(len(right) + 1))
    for i, a in enumerate(left, 1):
        row = [i]
        for j, b in enumerate(right, 1):
            cost = min(last[j] + 1, row[j - 1] + 1, last[j - 1] + (a != b))
            if before and j > 1 and a == right[j - 2] and left[i - 2] == b:
                cost = min(cost, before[j - 2] + 1)
            row.append(cost)
        before, last = last, row
    return last[-1]
