"""The normal form in which rules compare commands: words. What is not one plain command has none."""

import re

from soothsayer_mcp.policy.answers import Unsure

SYNTAX = frozenset(";&|<>()$`\\{}!#*?[]~\n\r\v\f\x85\u2028\u2029\0")
"""Characters by which a shell does more than run one command with the words as written."""

_OPERATORS = frozenset(";&|<>()$`\n\r\0")
_BLANKS = frozenset(" \t")
_ASSIGNMENT = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\+?=")
_PLAIN = re.compile(r"[A-Za-z0-9_./:=@,+ -]*")

_NOT_ONE = Unsure("the text is not one command: it holds an operator, a substitution or a line break")
_QUOTE = Unsure("a quote in the command is not closed")
_ASSIGNS = Unsure("the command begins with an assignment")
_NOT_PLAIN = Unsure("the command is not made of plain words, and its shell is not POSIX")


def words(text: str, *, windows: bool = False) -> tuple[str, ...] | Unsure:
    """Cut a command into words by POSIX rules. `Unsure` for what is not one simple command."""
    if windows:
        return tuple(text.split()) if _PLAIN.fullmatch(text) else _NOT_PLAIN
    cut = _cut(text)
    if isinstance(cut, Unsure):
        return cut
    return _ASSIGNS if cut and _ASSIGNMENT.match(cut[0]) else cut


def _cut(text: str) -> tuple[str, ...] | Unsure:
    found: list[str] = []
    word: list[str] | None = None
    at = 0
    while at < len(text):
        char = text[at]
        if char in _BLANKS:
            if word is not None:
                found.append("".join(word))
                word = None
            at += 1
            continue
        piece = _piece(text, at)
        if isinstance(piece, Unsure):
            return piece
        word = [] if word is None else word
        word.append(piece[0])
        at = piece[1]
    if word is not None:
        found.append("".join(word))
    return tuple(found)


def _piece(text: str, at: int) -> tuple[str, int] | Unsure:
    """Read the next piece of a word, and tell where it ends."""
    char = text[at]
    if char in _OPERATORS:
        return _NOT_ONE
    if char == "'":
        end = text.find("'", at + 1)
        return _QUOTE if end < 0 else (text[at + 1 : end], end + 1)
    if char == '"':
        return _double_quoted(text, at + 1)
    if char == "\\":
        after = text[at + 1 : at + 2]
        return _NOT_ONE if after in {"", "\n", "\r"} else (after, at + 2)
    return char, at + 1


def _double_quoted(text: str, at: int) -> tuple[str, int] | Unsure:
    kept: list[str] = []
    while at < len(text):
        char = text[at]
        at += 1
        if char == '"':
            return "".join(kept), at
        if char in "$`":
            return _NOT_ONE
        if char == "\\" and text[at : at + 1] in {'"', "\\", "$", "`"}:
            char = text[at]
            at += 1
        kept.append(char)
    return _QUOTE


def has_syntax(text: str) -> bool:
    """Whether a shell would do more with this text than run one command with its words as they stand."""
    return not SYNTAX.isdisjoint(text) or _ASSIGNMENT.match(text.lstrip(" \t")) is not None


def flag_answer(word: str, flag: str) -> bool | Unsure:
    """Whether a word is this flag: `-c` also as `-cX`, `--x` also as `--x=Y`.

    `Unsure` for what some programs take for it: `-xc`, and `--ou` for `--output`.
    """
    if word[:1] != "-":
        return False
    if flag.startswith("--"):
        name = word.partition("=")[0]
        if name == flag:
            return True
        if len(name) > len("--") and flag.startswith(name):
            return Unsure(f"{name} may be short for {flag}")
        return False
    if word.startswith(flag):
        return True
    if word[:2] != "--" and len(flag) == len("-c") and flag[1] in word[1:]:
        return Unsure(f"{word} may hold {flag}")
    return False
