"""Where commands put their answers: standard output for data, standard error for talk, a pager for long pages."""

import io
import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.text import Text

from soothsayer_mcp.cli.options import Settings
from soothsayer_mcp.console.documents import SCHEMA
from soothsayer_mcp.console.text import escape
from soothsayer_mcp.model.json import Json

UNLIMITED = 10_000
"""The width of a page that goes to a file or another program: nothing is cut."""

PAGER = "less"
LESS = "FRX"
"""Leave at once when it fits, keep colours, leave the page on the screen."""


class Output:
    """The output of one command."""

    def __init__(self, settings: Settings) -> None:
        """Write by these settings, and by what the terminal is."""
        self.settings = settings
        self.is_terminal = sys.stdout.isatty()
        self.width, self.height = self._size()
        self.colored = self._colored()
        self._console = Console(
            file=io.StringIO(),
            force_terminal=True,
            color_system="standard",
            width=UNLIMITED,
            markup=False,
            highlight=False,
            emoji=False,
            legacy_windows=False,
            _environ={},
        )

    @property
    def as_json(self) -> bool:
        """Whether a program reads the answer."""
        return self.settings.json

    def page(self, lines: Sequence[Text]) -> None:
        """Show lines to a person, through a pager when there are more than the terminal has."""
        text = "".join(f"{self._spell(line)}\n" for line in lines)
        pager = self._pager() if len(lines) >= self.height else None
        if pager is None:
            sys.stdout.write(text)
        else:
            _through(pager, text)

    def line(self, line: Text) -> None:
        """Show one line at once."""
        sys.stdout.write(f"{self._spell(line)}\n")
        sys.stdout.flush()

    def document(self, fields: Mapping[str, Json]) -> None:
        """Give a program the one document of this command."""
        json.dump({"schema": SCHEMA, **fields}, sys.stdout, indent=2)
        sys.stdout.write("\n")

    def object_line(self, fields: Mapping[str, Json]) -> None:
        """Give a program one object of several, a line each."""
        sys.stdout.write(f"{json.dumps({'schema': SCHEMA, **fields})}\n")
        sys.stdout.flush()

    def text(self, text: str) -> None:
        """Write text that is ours, as it is."""
        sys.stdout.write(text)

    def remark(self, text: str) -> None:
        """Tell a person something beside the answer; quiet commands do not."""
        if not self.settings.quiet:
            sys.stderr.write(f"{escape(text)}\n")

    def _spell(self, line: Text) -> str:
        if not self.colored:
            return line.plain
        with self._console.capture() as captured:
            self._console.print(line, end="", soft_wrap=True)
        return captured.get()

    def _size(self) -> tuple[int, int]:
        columns = os.environ.get("COLUMNS", "")
        asked = int(columns) if columns.isascii() and columns.isdigit() and int(columns) > 0 else None
        if not self.is_terminal:
            return asked or UNLIMITED, UNLIMITED
        size = shutil.get_terminal_size((80, 24))
        return asked or size.columns, size.lines

    def _colored(self) -> bool:
        match self.settings.color:
            case "always":
                return True
            case "never":
                return False
            case "auto":
                if os.environ.get("NO_COLOR"):
                    return False
                if os.environ.get("FORCE_COLOR"):
                    return True
                return self.is_terminal and os.environ.get("TERM") != "dumb"

    def _pager(self) -> list[str] | None:
        if not self.is_terminal or self.settings.no_pager or self.settings.no_input:
            return None
        words = shlex.split(os.environ.get("PAGER", PAGER))
        if not words or words == ["cat"] or shutil.which(words[0]) is None:
            return None
        return words


def _through(pager: Sequence[str], text: str) -> None:
    environment = {**os.environ, "LESS": os.environ.get("LESS", LESS)}
    with subprocess.Popen(pager, stdin=subprocess.PIPE, env=environment, text=True) as shown:  # noqa: S603 - the person's own pager
        try:
            shown.communicate(text)
        except KeyboardInterrupt:
            # The pager answers to Ctrl-C itself; leaving it first would spoil the terminal.
            shown.wait()
