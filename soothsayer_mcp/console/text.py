"""What came from servers and models, made harmless to show: no control, hidden or direction-changing character is left.

Imports nothing, since whatever reports an error needs it.
"""

_ONE_BYTE, _TWO_BYTES = 0xFF, 0xFFFF
_SHORT = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}

_BLANK = frozenset(
    "\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0"
    + "".join(map(chr, range(0xFE00, 0xFE10)))
    + "".join(map(chr, range(0xE0100, 0xE01F0)))
)
"""Characters that show as nothing although their category says letter, mark or symbol."""


def escape(text: str) -> str:
    r"""Spell text so that it can only be read: one line, no control, no hidden and no direction-changing character.

    What is not shown as itself becomes `\x1b`, `\u202e` or `\U000e0041`.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(map(_escape_one, text))


def escape_lines(text: str) -> list[str]:
    """The same for text of several lines: real line ends stay line ends."""
    return [escape(line) for line in text.replace("\r\n", "\n").split("\n")]


def _escape_one(char: str) -> str:
    if char in _SHORT:
        return _SHORT[char]
    if char.isprintable() and char not in _BLANK:
        return char
    code = ord(char)
    if code <= _ONE_BYTE:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code <= _TWO_BYTES else f"\\U{code:08x}"


def cut(text: str, most: int) -> str:
    """Escape text and shorten it in the middle to at most `most` characters."""
    whole = escape(text)
    if len(whole) <= most:
        return whole
    head = (most - 1) * 2 // 3
    tail = most - 1 - head
    return f"{whole[:head]}…{whole[len(whole) - tail :]}" if tail else f"{whole[:head]}…"
