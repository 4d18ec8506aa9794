"""Reads JSON, strict or with comments and trailing commas, and keeps where every value stands."""

import json
import re
from typing import Final, cast

from soothsayer_mcp.adapters.hosts.tree import DEPTH_MAX, Member, Node, SyntaxFault
from soothsayer_mcp.model.json import Json

_SPACE: Final = re.compile(r"[ \t\r\n]*")
_COMMENT: Final = re.compile(r"//[^\n]*|/\*.*?\*/", re.DOTALL)
_TEXT: Final = re.compile(r'"(?:[^"\\\x00-\x1f]|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*"')
_WORD: Final = re.compile(
    r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?(?![0-9A-Za-z_.])|(?:true|false|null)\b"
)


def read(text: str, *, comments: bool, commas: bool) -> Node:
    """Read the one value of a text, with comments and trailing commas where they are allowed. Raises `SyntaxFault`."""
    reader = _Reader(text, comments=comments, commas=commas)
    node = reader.value(reader.skip(0), 0)
    rest = reader.skip(node.end)
    if rest < len(text):
        raise SyntaxFault("something stands after the end of the value", rest)
    return node


class _Reader:
    def __init__(self, text: str, *, comments: bool, commas: bool) -> None:
        self._text = text
        self._comments = comments
        self._commas = commas

    def skip(self, at: int) -> int:
        """Where the next token begins."""
        while True:
            at = cast("re.Match[str]", _SPACE.match(self._text, at)).end()
            if self._text[at : at + 1] != "/":
                return at
            comment = _COMMENT.match(self._text, at)
            if comment is None or not self._comments:
                raise SyntaxFault("a comment that does not end" if self._comments else "comments are not read here", at)
            at = comment.end()

    def value(self, at: int, depth: int) -> Node:
        if depth > DEPTH_MAX:
            raise SyntaxFault(f"nested deeper than {DEPTH_MAX}", at)
        match self._text[at : at + 1]:
            case "{":
                return self._object(at, depth)
            case "[":
                return self._array(at, depth)
            case '"':
                return self._string(at)
            case "":
                raise SyntaxFault("the file ends where a value has to stand", at)
            case _:
                word = _WORD.match(self._text, at)
                if word is None:
                    raise SyntaxFault("a value has to stand here", at)
                return Node(value=cast("Json", json.loads(word.group())), start=at, end=word.end())

    def _string(self, at: int) -> Node:
        found = _TEXT.match(self._text, at)
        if found is None:
            raise SyntaxFault("a text that does not end, or holds what has to be escaped", at)
        return Node(value=cast("str", json.loads(found.group())), start=at, end=found.end())

    def _object(self, at: int, depth: int) -> Node:
        members: list[Member] = []
        here = self.skip(at + 1)
        while self._text[here : here + 1] != "}":
            if self._text[here : here + 1] != '"':
                raise SyntaxFault(self._unexpected(here, "a name in double quotes has to stand here"), here)
            key = self._string(here)
            colon = self.skip(key.end)
            if self._text[colon : colon + 1] != ":":
                raise SyntaxFault("a colon has to stand here", colon)
            value = self.value(self.skip(colon + 1), depth + 1)
            after, comma = self._after(value.end, "}")
            members.append(Member(key=cast("str", key.value), start=here, value=value, comma=comma))
            here = after
        # Of a doubled name the last counts, as for the hosts; those that matter are refused by whoever looks.
        said = {member.key: member.value.value for member in members}
        return Node(value=said, start=at, end=here + 1, members=tuple(members))

    def _array(self, at: int, depth: int) -> Node:
        items: list[Node] = []
        here = self.skip(at + 1)
        while self._text[here : here + 1] != "]":
            item = self.value(here, depth + 1)
            items.append(item)
            here, _comma = self._after(item.end, "]")
        return Node(value=[item.value for item in items], start=at, end=here + 1, items=tuple(items))

    def _after(self, end: int, close: str) -> tuple[int, int | None]:
        """What follows a part: where the next begins or the end stands, and the comma between."""
        comma = self.skip(end)
        if self._text[comma : comma + 1] == close:
            return comma, None
        if self._text[comma : comma + 1] != ",":
            raise SyntaxFault(self._unexpected(comma, f'a comma or "{close}" has to stand here'), comma)
        here = self.skip(comma + 1)
        if self._text[here : here + 1] == close and not self._commas:
            raise SyntaxFault("a trailing comma, which this host does not read", comma)
        return here, comma

    def _unexpected(self, at: int, text: str) -> str:
        return text if at < len(self._text) else "the file ends in the middle"
