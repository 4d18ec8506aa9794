"""Two widgets: a page of lines, and a list of any length with a cursor. Only what is seen is laid out."""

from collections.abc import Callable, Sequence
from functools import cache
from typing import ClassVar

from rich.cells import cell_len, set_cell_size
from rich.segment import Segment
from rich.style import Style
from rich.text import Text
from textual import events
from textual.binding import Binding, BindingType
from textual.geometry import Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip

from soothsayer_mcp.console.text import escape

BAR = 1
"""Columns of the scroll bar."""

CURSOR = "> "


Piece = tuple[str, str]
"""A part of a row, escaped, and its style: rows are laid out by the thousand, and rich's texts are dear."""


def fit(text: str, width: int, *, right: bool = False) -> str:
    """Escape text and make it exactly so many columns wide; what is cut ends with an ellipsis."""
    shown = escape(text)
    if not shown.isascii() or len(shown) > width:
        if cell_len(shown) > width:
            shown = f"{set_cell_size(shown, width - 1)}…"
        blank = " " * (width - cell_len(shown))
        return blank + shown if right else shown + blank
    return shown.rjust(width) if right else shown.ljust(width)


@cache
def _style(name: str) -> Style:
    return Style.parse(name)


def folded(line: Text, width: int) -> list[Text]:
    """Break a line wherever it is full: no blank of it is lost, as it would be at the end of a wrapped line."""
    if cell_len(line.plain) <= width:
        return [line]
    breaks: list[int] = []
    used = 0
    for at, char in enumerate(line.plain):
        step = cell_len(char)
        if used + step > width:
            breaks.append(at)
            used = 0
        used += step
    return list(line.divide(breaks))


class Scrolled(ScrollView, can_focus=True, inherit_bindings=False):
    """What can be scrolled by keys, by whole lines and without animation."""

    DEFAULT_CSS = """
    Scrolled { scrollbar-size-vertical: 1; scrollbar-size-horizontal: 0; overflow-x: hidden; overflow-y: scroll; }
    """

    class Turned(Message):
        """Another part is seen now."""

    @property
    def room(self) -> int:
        """How many columns a line has."""
        return max(20, self.size.width - BAR)

    @property
    def page(self) -> int:
        """How many lines are seen at once."""
        return max(1, self.size.height)

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        """Tell that another part is seen."""
        super().watch_scroll_y(old_value, new_value)
        self.post_message(self.Turned())

    def _strip(self, line: Text) -> Strip:
        # Without colours each segment is looked at for its style, so each has one.
        rendered = line.render(self.app.console)  # pyright: ignore[reportUnknownMemberType] - as in view.py
        segments = [Segment(text, style or Style(), control) for text, style, control in rendered]
        return Strip(segments, cell_len(line.plain)).adjust_cell_length(self.size.width, Style())


class Sheet(Scrolled):
    """A page of lines, folded to the width it has."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "by(-1)", "up", show=False),
        Binding("down,j", "by(1)", "down", show=False),
        Binding("pageup,b", "pages(-1)", "page up", show=False),
        Binding("pagedown,space", "pages(1)", "page down", show=False),
        Binding("home,g", "edge(0)", "beginning", show=False),
        Binding("end,G", "edge(1)", "end", show=False),
    ]

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002 - textual's word
        """Begin with an empty page."""
        super().__init__(id=id)
        self._made: Callable[[int], Sequence[Text]] = lambda _width: ()
        self._lines: list[Text] = []
        self._laid_for = 0
        self._seen = 0

    def show(self, made: Callable[[int], Sequence[Text]], *, from_top: bool) -> None:
        """Show what `made` gives for a width, now and whenever the width changes."""
        self._made = made
        self._lay()
        if from_top:
            self._seen = 0
            self.scroll_to(y=0, animate=False)
        self.refresh()

    def is_seen_whole(self) -> bool:
        """Whether every line has been in sight since the page was shown; what was jumped over was not."""
        if self.size.height and self.scroll_offset.y <= self._seen:
            self._seen = max(self._seen, self.scroll_offset.y + self.size.height)
        return self._seen >= len(self._lines)

    def on_resize(self, _event: events.Resize) -> None:
        """Fold to the width there is now."""
        if self.room != self._laid_for:
            self._seen = 0
            self._lay()

    def render_line(self, y: int) -> Strip:
        """One line of what is seen."""
        number = y + self.scroll_offset.y
        return self._strip(self._lines[number]) if number < len(self._lines) else Strip.blank(self.size.width, Style())

    def action_by(self, lines: int) -> None:
        """Scroll by lines."""
        self.scroll_to(y=self.scroll_offset.y + lines, animate=False)

    def action_pages(self, pages: int) -> None:
        """Scroll by pages; one line stays in sight."""
        self.scroll_to(y=self.scroll_offset.y + pages * max(1, self.page - 1), animate=False)

    def action_edge(self, end: int) -> None:
        """Scroll to an end."""
        self.scroll_to(y=self.max_scroll_y if end else 0, animate=False)

    def _lay(self) -> None:
        self._laid_for = self.room
        self._lines = [piece for line in self._made(self.room) for piece in folded(line, self.room)]
        self.virtual_size = Size(self.room, len(self._lines))


class Lines(Scrolled):
    """A list with a cursor; a row is laid out when it is seen."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "by(-1)", "up", show=False),
        Binding("down,j", "by(1)", "down", show=False),
        Binding("pageup,b", "pages(-1)", "page up", show=False),
        Binding("pagedown,space", "pages(1)", "page down", show=False),
        Binding("home,g", "edge(0)", "first", show=False),
        Binding("end,G", "edge(1)", "last", show=False),
    ]

    class Moved(Message):
        """The cursor stands elsewhere, because a person moved it."""

        def __init__(self, lines: "Lines", *, to_edge: int | None = None) -> None:
            """`to_edge`: 0 or 1 where an end of the list was asked for."""
            super().__init__()
            self.lines = lines
            self.to_edge = to_edge

    def __init__(
        self,
        lay_out: Callable[[int, int], Sequence[Piece]],
        *,
        empty: str,
        id: str | None = None,  # noqa: A002 - textual's word
    ) -> None:
        """`lay_out` gives the pieces of a row by its number and the columns it has; `empty` stands where no row is."""
        super().__init__(id=id)
        self._empty = empty
        self._lay_out = lay_out
        self.count = 0
        self.cursor = 0

    def show(self, count: int, cursor: int) -> None:
        """There are so many rows now, and the cursor stands there."""
        offset = self.cursor - self.scroll_offset.y
        shifted = count != self.count
        self.count = count
        self.cursor = max(0, min(cursor, count - 1))
        if shifted:
            self.virtual_size = Size(self.room, count)
        # The row under the cursor stays where it was on the screen.
        self._keep_in_sight(self.cursor - offset)
        self.refresh()

    def render_line(self, y: int) -> Strip:
        """One row of what is seen."""
        number = y + self.scroll_offset.y
        if number == 0 and self.count == 0:
            return self._strip(Text(f"  {self._empty}", style="dim"))
        if number >= self.count:
            return Strip.blank(self.size.width, Style())
        chosen = number == self.cursor
        more = " reverse" if chosen else ""
        pieces = [(CURSOR if chosen else " " * len(CURSOR), ""), *self._lay_out(number, self.room - len(CURSOR))]
        strip = Strip(Segment(text, _style(f"{style}{more}".strip())) for text, style in pieces)
        return strip.crop_extend(0, self.size.width, _style(more.strip()))

    def on_resize(self, _event: events.Resize) -> None:
        """Keep the cursor in sight."""
        self.virtual_size = Size(self.room, self.count)
        self._keep_in_sight(self.scroll_offset.y)

    def on_click(self, event: events.Click) -> None:
        """A click puts the cursor there."""
        self._move(event.y + self.scroll_offset.y)

    def action_by(self, rows: int) -> None:
        """Move by rows."""
        self._move(self.cursor + rows)

    def action_pages(self, pages: int) -> None:
        """Move by pages."""
        self._move(self.cursor + pages * max(1, self.page - 1))

    def action_edge(self, end: int) -> None:
        """Move to an end."""
        self._move(self.count - 1 if end else 0, to_edge=end)

    def _move(self, row: int, *, to_edge: int | None = None) -> None:
        self.cursor = max(0, min(row, self.count - 1))
        self._keep_in_sight(self.scroll_offset.y)
        self.refresh()
        self.post_message(self.Moved(self, to_edge=to_edge))

    def _keep_in_sight(self, top: int) -> None:
        """Scroll so that `top` is the first row seen, or as near to that as the cursor lets."""
        top = min(max(top, self.cursor - self.page + 1), self.cursor)
        self.scroll_to(y=max(0, min(top, self.count - self.page)), animate=False)
