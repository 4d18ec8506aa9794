"""One look at a piece of JSON that rules out expressions of a policy's own: text by text they cost far more."""

import json
import re
from collections.abc import Iterator, Sequence
from typing import cast

from soothsayer_mcp.policy.detectors import Compile

_LEVELS = 7
"""How deep JSON inside texts is looked into; what lies deeper is looked at as a text."""
_BLANKS = " \t\r\n"
_TOKEN = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"|-?[0-9][0-9.eE+-]*', re.DOTALL)
_NUMBER = re.compile(r"-?[0-9][0-9.eE+-]*")
_NESTED = re.compile(r'"[ \t\r\n]*[\[{]')
"""A text that may be JSON itself; behind the end of a text neither of these can stand."""
_UNSUITED = re.compile(r"\\[Az]|\(\?[a-zA-Z]*-[a-zA-Z]*m")
"""What holds at the ends of a whole text only, and would not at those of a line."""


class Screen:
    """Some expressions, to be ruled out together: where none fits a line of all texts, none fits a text."""

    __slots__ = ("_anchored", "_scan")

    def __init__(self, patterns: Sequence[str], compile_together: Compile) -> None:
        """Compile them, so that the end of a line stands for the end of a text. Raises `ValueError`."""
        suited = not any(map(_UNSUITED.search, patterns))
        self._anchored = any("^" in pattern or "$" in pattern for pattern in patterns)
        self._scan = compile_together([f"(?m){pattern}" for pattern in patterns]) if suited else None

    def rules_out(self, piece: str) -> bool:
        """Whether surely none of them fits any text, name or number in a piece of JSON."""
        if self._scan is None:
            return False
        if "\\" in piece or _NESTED.search(piece) is not None:
            try:
                text = "\n".join(_texts(piece, _LEVELS))
            except ValueError:
                return False
        elif self._anchored:
            # Without escapes a text ends where the quotes are.
            text = "\n".join((piece.replace('"', "\n"), *_NUMBER.findall(piece)))
        else:
            text = piece
        return not self._scan.hits(text.encode(errors="surrogatepass"))


def _texts(piece: str, levels: int) -> Iterator[str]:
    """Every text, name and number in a piece of JSON, and in texts that may be JSON. Raises `ValueError`."""
    for token in cast("list[str]", _TOKEN.findall(piece)):
        if token[0] != '"':
            yield token
            continue
        text = token[1:-1] if "\\" not in token else _decoded(token)
        yield text
        if levels and text.lstrip(_BLANKS)[:1] in {"{", "["}:
            yield from _texts(text, levels - 1)


def _decoded(token: str) -> str:
    return cast("str", json.loads(token, strict=False))
