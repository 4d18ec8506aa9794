"""How pages are laid out: tables without lines, labelled lines, and the few styles there are. Pure."""

from collections.abc import Mapping, Sequence

from rich.cells import cell_len
from rich.text import Text

from soothsayer_mcp.console.text import escape
from soothsayer_mcp.model.value import dataclass

GAP = "  "

EFFECTS = {"allow": "green", "ask": "yellow", "deny": "red"}
DIM, BAD, ODD, BOLD = "dim", "red", "bold magenta", "bold"


def visible(text: str, style: str = "") -> Text:
    """Text from outside, escaped, and never read as markup."""
    return Text(escape(text), style=style)


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One column of a table."""

    title: str
    right: bool = False
    least: int = 0
    """How narrow it may become when the table does not fit; 0: never narrower than its content."""


def table(
    columns: Sequence[Column], rows: Sequence[Sequence[Text]], width: int, below: Mapping[int, tuple[int, Text]]
) -> list[Text]:
    """Lay out a table without lines; `below` gives for a row number an indent in columns and a line to stand under it.

    The last columns that may shrink shrink first; what does not fit is cut with an ellipsis.
    """
    header = [Text(column.title, style=BOLD) for column in columns]
    widths = [max(cell_len(cells[n].plain) for cells in [header, *rows]) for n in range(len(columns))]
    excess = sum(widths) + len(GAP) * (len(columns) - 1) - width
    for n in reversed(range(len(columns))):
        if excess > 0 and columns[n].least:
            give = min(excess, max(0, widths[n] - columns[n].least))
            widths[n] -= give
            excess -= give
    lines = [_line(columns, header, widths)]
    for n, cells in enumerate(rows):
        lines.append(_line(columns, cells, widths))
        if n in below:
            before, text = below[n]
            indent = sum(widths[:before]) + len(GAP) * before
            lines.append(Text(" " * indent) + _cut(text, max(20, width - indent)))
    return lines


def _cut(cell: Text, width: int) -> Text:
    made = cell.copy()
    made.truncate(max(width, 1), overflow="ellipsis")
    return made


def _line(columns: Sequence[Column], cells: Sequence[Text], widths: Sequence[int]) -> Text:
    line = Text()
    for n, (column, cell, width) in enumerate(zip(columns, cells, widths, strict=True)):
        shown = _cut(cell, width)
        blank = " " * (width - cell_len(shown.plain))
        last = n == len(columns) - 1
        if column.right:
            line.append(blank).append_text(shown)
        else:
            line.append_text(shown).append("" if last else blank)
        if not last:
            line.append(GAP)
    line.rstrip()
    return line


class Page:
    """A page of labelled lines: a word at the left, what it is about beside it."""

    def __init__(self, width: int) -> None:
        """Begin an empty page of this width."""
        self.lines: list[Text] = []
        self._width = width

    def add(self, label: str, *parts: Text | str) -> None:
        """Add a line under a label; plain strings are escaped, and what does not fit is wrapped."""
        line = Text(f"{label:<10}", style=BOLD)
        body = Text()
        for part in parts:
            body.append_text(part if isinstance(part, Text) else visible(part))
        for n, piece in enumerate(_wrapped(body, max(30, self._width - 10))):
            self.lines.append(line + piece if n == 0 else Text(" " * 10) + piece)


def _wrapped(text: Text, width: int) -> list[Text]:
    """Break a line at blanks, and a word that is too long anywhere."""
    plain = text.plain
    if cell_len(plain) <= width:
        return [text]
    breaks: list[int] = []
    begin = at = used = 0
    blank = -1
    while at < len(plain):
        step = cell_len(plain[at])
        if used + step > width:
            end = blank + 1 if blank >= begin else at
            breaks.append(end)
            used = cell_len(plain[end:at])
            begin, blank = end, -1
        if plain[at] == " ":
            blank = at
        used += step
        at += 1
    pieces = list(text.divide(breaks))
    for piece in pieces:
        piece.rstrip()
    return pieces
