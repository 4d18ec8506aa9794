"""The stretch of the record that is held in memory; it slides over any number of steps. Pure."""

from bisect import bisect_left
from collections.abc import Iterable, Sequence

from soothsayer_mcp.console.tui.desk import Key, StepName
from soothsayer_mcp.trace.rows import StepRow

MOST = 10_000
"""How many steps are held at once."""


def key_of(row: StepRow) -> Key:
    """Where a step stands among all."""
    return (row.at_us, row.n)


class Window:
    """Steps in the order in which they began, none of them twice, at most `most`."""

    def __init__(self, most: int = MOST) -> None:
        """Begin with nothing, as if the record were empty."""
        self._most = most
        self.rows: list[StepRow] = []
        self._keys: dict[StepName, Key] = {}
        self.at_start = True
        """Whether no step that fits lies before the first row."""
        self.at_end = True
        """Whether no step that fits lies behind the last row."""

    def replace(self, rows: Sequence[StepRow], *, at_start: bool, at_end: bool) -> None:
        """Hold these and nothing else."""
        self.rows = list(rows)
        self._keys = {(row.run, row.no): key_of(row) for row in rows}
        self.at_start, self.at_end = at_start, at_end

    def prepend(self, rows: Sequence[StepRow], *, at_start: bool) -> int:
        """Take earlier steps in, and let go of the last where there are too many; how many rows are new."""
        known = len(self.rows)
        fresh = [row for row in rows if (row.run, row.no) not in self._keys]
        self._take(fresh)
        added = len(self.rows) - known
        over = self.rows[self._most :]
        if over:
            del self.rows[self._most :]
            self._forget(over)
            self.at_end = False
        self.at_start = at_start
        return added

    def append(self, rows: Sequence[StepRow], *, at_end: bool) -> int:
        """Take later steps in, and let go of the first where there are too many; how many were let go."""
        self._take([row for row in rows if (row.run, row.no) not in self._keys])
        self.at_end = at_end
        return self._trim_front()

    def update(self, touched: Iterable[StepName], rows: Sequence[StepRow]) -> int:
        """Show touched steps as they are now; how many were let go at the front to make room.

        A touched step that no longer fits is dropped. A new one is taken in only where the record's end is held.
        """
        fitting = {(row.run, row.no) for row in rows}
        for name in touched:
            if name in self._keys and name not in fitting:
                del self.rows[self._place(self._keys.pop(name))]
        fresh: list[StepRow] = []
        for row in rows:
            key = self._keys.get((row.run, row.no))
            if key is not None:
                self.rows[self._place(key)] = row
            elif self.at_end and (self.at_start or not self.rows or key_of(row) > key_of(self.rows[0])):
                fresh.append(row)
        self._take(fresh)
        return self._trim_front()

    def find(self, name: StepName) -> int | None:
        """The number of the row of a step."""
        key = self._keys.get(name)
        return None if key is None else self._place(key)

    def _take(self, rows: Sequence[StepRow]) -> None:
        if rows and self.rows and key_of(rows[-1]) < key_of(self.rows[0]):
            self.rows[:0] = rows
            self._keys.update(((row.run, row.no), key_of(row)) for row in rows)
            return
        for row in rows:
            key = key_of(row)
            if not self.rows or key > key_of(self.rows[-1]):
                self.rows.append(row)
            else:
                self.rows.insert(self._place(key), row)
            self._keys[(row.run, row.no)] = key

    def _place(self, key: Key) -> int:
        return bisect_left(self.rows, key, key=key_of)

    def _trim_front(self) -> int:
        excess = max(0, len(self.rows) - self._most)
        if excess:
            self._forget(self.rows[:excess])
            del self.rows[:excess]
            self.at_start = False
        return excess

    def _forget(self, rows: Iterable[StepRow]) -> None:
        for row in rows:
            del self._keys[(row.run, row.no)]
