"""Reads YAML: PyYAML composes, and its marks say where every value stands."""

import datetime as dt
from collections.abc import Hashable
from typing import cast

import yaml

from soothsayer_mcp.adapters.hosts.tree import DEPTH_MAX, Member, Node, SyntaxFault
from soothsayer_mcp.model.json import Json

ELSEWHERE = "it uses an anchor or a tag"


def read(text: str) -> Node:
    """Read the one document of a text. Raises `SyntaxFault`."""
    try:
        loader = yaml.SafeLoader(text)
        try:
            root = loader.get_single_node()
            if root is None:
                return Node(value=None, start=0, end=0, block=True)
            return _Reader(text, loader).node(root, 0)
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise SyntaxFault(error.problem or str(error.context), mark.index if mark else 0) from error
    except yaml.reader.ReaderError as error:
        raise SyntaxFault("a character that YAML does not allow", error.position) from error


class _Reader:
    def __init__(self, text: str, loader: yaml.SafeLoader) -> None:
        self._text = text
        self._loader = loader

    def node(self, node: yaml.Node, depth: int) -> Node:
        start, end = node.start_mark.index, node.end_mark.index
        if depth > DEPTH_MAX:
            raise SyntaxFault(f"nested deeper than {DEPTH_MAX}", start)
        match node:
            case yaml.MappingNode():
                return self._mapping(node, depth)
            case yaml.SequenceNode():
                return self._sequence(node, depth)
            case yaml.ScalarNode():
                block = node.style in {"|", ">"}
                fixed = "it is a block of text" if block else self._named(start)
                value = self._scalar(node)
                if block:
                    end = start + len(self._text[start:end].rstrip())
                return Node(value=value, start=start, end=end, fixed=fixed)
            case _:
                raise SyntaxFault("an unknown kind of value", start)

    def _named(self, start: int) -> str:
        return ELSEWHERE if self._text[start : start + 1] in {"&", "!"} else ""

    def _scalar(self, node: yaml.ScalarNode) -> Json:
        try:
            found: object = self._loader.construct_object(node, deep=True)  # pyright: ignore[reportUnknownMemberType] - its stubs say nothing
        except (yaml.YAMLError, ValueError):
            return node.value  # a tag of the host's own
        return _plain(found)

    def _mapping(self, node: yaml.MappingNode, depth: int) -> Node:
        members: list[Member] = []
        fixed = self._named(node.start_mark.index)
        last = node.start_mark.index
        for key, value in node.value:
            name = key.value if isinstance(key, yaml.ScalarNode) else None
            start = key.start_mark.index
            if name is None or key.tag == "tag:yaml.org,2002:merge" or start < last:
                fixed = ELSEWHERE
                name = name or ""
            inner = self.node(value, depth + 1)
            if not start <= inner.start <= node.end_mark.index or inner.end > node.end_mark.index:
                fixed = ELSEWHERE
            last = max(last, inner.end)
            members.append(Member(key=name, start=start, value=inner))
        said = {member.key: member.value.value for member in members}
        end = last if not node.flow_style else node.end_mark.index
        block = not node.flow_style
        if node.flow_style:
            members = [self._with_comma(member) for member in members]
        return Node(value=said, start=node.start_mark.index, end=end, members=tuple(members), block=block, fixed=fixed)

    def _sequence(self, node: yaml.SequenceNode, depth: int) -> Node:
        items = tuple(self.node(item, depth + 1) for item in node.value)
        start = node.start_mark.index
        fixed = self._named(start)
        last = start
        for item in items:
            if item.start < last or item.end > node.end_mark.index:
                fixed = ELSEWHERE
            last = max(last, item.end)
        end = node.end_mark.index if node.flow_style or not items else last
        return Node(
            value=[item.value for item in items],
            start=start,
            end=end,
            items=items,
            block=not node.flow_style,
            fixed=fixed,
        )

    def _with_comma(self, member: Member) -> Member:
        """A member between braces with the comma after it, where one follows directly."""
        at = member.end + len(self._text[member.end :]) - len(self._text[member.end :].lstrip())
        comma = at if self._text[at : at + 1] == "," else None
        return Member(key=member.key, start=member.start, value=member.value, comma=comma)


def _plain(value: object) -> Json:
    match value:
        case str() | bool() | int() | float() | None:
            return value
        case dt.date() | dt.time():
            return value.isoformat()
        case bytes():
            return value.hex()
        case _:
            return str(cast("Hashable", value))
