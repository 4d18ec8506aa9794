"""YAML into values that know where they stand. What YAML versions read differently does not load.

The C reader's events are used and nothing above them: doubled keys, anchors, aliases and tags are gone once a document
is composed.
"""

import re
from collections.abc import Iterator
from dataclasses import field
from typing import NamedTuple, TypeAlias, cast

import yaml

from soothsayer_mcp.adapters.policy_files.problems import START, LoadErrors, Mark, Problem
from soothsayer_mcp.model.json import Json
from soothsayer_mcp.model.value import dataclass

MAX_BYTES = 1_048_576
MAX_DEPTH = 32

Path: TypeAlias = tuple[str | int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scalar:
    """A text, number, boolean or null."""

    value: str | int | float | bool | None
    mark: Mark
    plain: bool = False
    """Whether it stood there without quotes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Items:
    """A list."""

    items: list["Node"]
    mark: Mark


class Pair(NamedTuple):
    """One key and its value."""

    key: str
    mark: Mark
    """Where the key stands."""
    value: "Node"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pairs:
    """A mapping, in the file's order."""

    pairs: list[Pair]
    mark: Mark

    def get(self, key: str) -> "Node | None":
        """The value under a key."""
        return next((pair.value for pair in self.pairs if pair.key == key), None)


Node: TypeAlias = Scalar | Items | Pairs


def plain(node: Node) -> Json:
    """Drop the positions."""
    match node:
        case Scalar():
            return node.value
        case Items():
            return [plain(item) for item in node.items]
        case Pairs():
            return {pair.key: plain(pair.value) for pair in node.pairs}


def mark_of(node: Node, path: Path, *, key: bool = False) -> Mark:
    """Where a path leads: to the value, or with `key` to the last key; as far as the path can be followed."""
    mark = node.mark
    for number, step in enumerate(path):
        match node:
            case Pairs():
                pair = next((pair for pair in node.pairs if pair.key == step), None)
                if pair is None:
                    return node.mark
                last = number == len(path) - 1
                mark = pair.mark if key and last else pair.value.mark
                node = pair.value
            case Items():
                if not isinstance(step, int) or step >= len(node.items):
                    return node.mark
                node = node.items[step]
                mark = node.mark
            case Scalar():
                # One value stands where a list may stand.
                return mark
    return mark


def read(raw: bytes, file: str, *, prefix: str = "policy") -> Pairs:
    """Read one YAML document whose root is a mapping. Raises `LoadErrors` with all problems found."""
    tree, problems = examine(raw, file, prefix=prefix)
    if tree is None or problems:
        raise LoadErrors(problems, watch=[file])
    return tree


def examine(raw: bytes, file: str, *, prefix: str = "policy") -> tuple[Pairs | None, list[Problem]]:
    """Read as far as can be read, so that what is wrong further on is told too; `None` only with a problem."""
    reader = _Reader(file=file, prefix=prefix)
    node = reader.read(raw)
    if node is not None and not isinstance(node, Pairs):
        reader.add(node.mark, "type", "the file holds no mapping of keys to values")
        return None, reader.problems
    return node, reader.problems


_NULL = re.compile(r"null|Null|NULL|~|")
_BOOL = re.compile(r"true|True|TRUE|false|False|FALSE")
_INT_10 = re.compile(r"[-+]?(?:0|[1-9][0-9]*)")
_INT_16 = re.compile(r"0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(?:0|[1-9][0-9]*)\.[0-9]+")
_AMBIGUOUS = re.compile(
    r"""y|Y|n|N|yes|Yes|YES|no|No|NO|on|On|ON|off|Off|OFF          # booleans of YAML 1.1
    |[-+]?[0-9][0-9_]*(?::[0-5]?[0-9])+(?:\.[0-9_]*)?               # numbers to the base of 60
    |[-+]?0[0-9_]+|0o[0-7]+|[-+]?0b[01_]+|[-+]0x[0-9a-fA-F_]+       # other bases
    |[-+]?[0-9][0-9_]*_[0-9_]*|0x[0-9a-fA-F_]*_[0-9a-fA-F_]*        # digits with underscores
    |[-+]?(?:\.[0-9][0-9_]*|[0-9][0-9_]*(?:\.[0-9_]*)?)[eE][-+]?[0-9]+  # exponents
    |[-+]?[0-9][0-9_]*\.[0-9_]*|[-+]?\.[0-9][0-9_]*                 # points without digits on both sides
    |[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)
    |[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}(?:[Tt ].*)?                     # times
    |=|<<""",
    re.VERBOSE,
)


@dataclass(slots=True, kw_only=True)
class _Reader:
    file: str
    prefix: str
    problems: list[Problem] = field(default_factory=list[Problem])

    def add(self, mark: Mark, kind: str, text: str) -> None:
        self.problems.append(Problem(file=self.file, mark=mark, id=f"{self.prefix}-{kind}", text=text))

    def read(self, raw: bytes) -> Node | None:
        if len(raw) > MAX_BYTES:
            self.add(START, "yaml", f"the file has more than {MAX_BYTES:,} bytes")
            return None
        try:
            text = raw.decode("utf-8")
        except UnicodeDecodeError as error:
            before = raw[: error.start]
            mark = Mark(line=before.count(b"\n") + 1, column=error.start - before.rfind(b"\n"))
            self.add(mark, "yaml", "the file is no UTF-8")
            return None
        try:
            return self._document(iter(yaml.parse(text, Loader=yaml.CSafeLoader)))
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            where = START if mark is None else Mark(line=mark.line + 1, column=mark.column + 1)
            self.add(where, "yaml", self._explained(error, text, where))
        except yaml.YAMLError as error:
            self.add(START, "yaml", str(error).replace("\n", " "))
        except _TooDeepError as error:
            self.add(error.mark, "yaml", f"the file is nested more than {MAX_DEPTH} deep")
        return None

    @staticmethod
    def _explained(error: yaml.MarkedYAMLError, text: str, where: Mark) -> str:
        lines = text.splitlines()
        line = lines[where.line - 1] if where.line <= len(lines) else ""
        said = " ".join(part for part in (str(error.context or ""), str(error.problem or "")) if part)
        if "alias" in said or "anchor" in said:
            return f"{said}; a text that begins with * or & needs quotes"
        if "${" in line and "flow" in said:
            return f'{said}; inside braces or brackets write "${{name}}" with quotes'
        if "\t" in line and "token" in said:
            return f"{said}; indent with blanks, not with tabs"
        begun = error.context_mark
        if begun is not None and begun.line + 1 != where.line:
            return f"{said}; what is not closed here begins in line {begun.line + 1}"
        return said

    def _document(self, events: Iterator[yaml.Event]) -> Node | None:
        node: Node | None = None
        documents = 0
        for event in events:
            if isinstance(event, yaml.DocumentStartEvent):
                documents += 1
                if documents > 1:
                    self.add(_mark(event), "yaml", "the file holds more than one document")
                    return node
                node = self._node(next(events), events, 1)
        if node is None or (isinstance(node, Scalar) and node.value is None):
            self.add(START, "yaml", "the file is empty")
            return None
        return node

    def _node(self, event: yaml.Event, events: Iterator[yaml.Event], depth: int) -> Node:
        mark = _mark(event)
        if depth > MAX_DEPTH:
            raise _TooDeepError(mark)
        if isinstance(event, yaml.AliasEvent):
            self.add(mark, "yaml", "aliases are not used here; a text that begins with * needs quotes")
            return Scalar(value=None, mark=mark)
        if isinstance(event, yaml.NodeEvent) and event.anchor is not None:
            self.add(mark, "yaml", "anchors are not used here; a text that begins with & needs quotes")
        if isinstance(event, yaml.ScalarEvent | yaml.CollectionStartEvent) and cast("object", event.tag) is not None:
            self.add(mark, "yaml", "tags are not used here; a text that begins with ! needs quotes")
        if isinstance(event, yaml.SequenceStartEvent):
            items: list[Node] = []
            while not isinstance(event := next(events), yaml.SequenceEndEvent):
                items.append(self._node(event, events, depth + 1))
            return Items(items=items, mark=mark)
        if isinstance(event, yaml.MappingStartEvent):
            return self._pairs(events, mark, depth)
        assert isinstance(event, yaml.ScalarEvent)
        return self._scalar(event, mark)

    def _pairs(self, events: Iterator[yaml.Event], mark: Mark, depth: int) -> Pairs:
        pairs: list[Pair] = []
        first: dict[str, Mark] = {}
        while not isinstance(event := next(events), yaml.MappingEndEvent):
            key = self._node(event, events, depth + 1)
            value = self._node(next(events), events, depth + 1)
            if not isinstance(key, Scalar) or not isinstance(key.value, str):
                self.add(key.mark, "yaml", "a key has to be a text: quote it")
                continue
            if key.value in first:
                self.add(key.mark, "duplicate-key", f'"{key.value}" is already set in line {first[key.value].line}')
                continue
            first[key.value] = key.mark
            pairs.append(Pair(key.value, key.mark, value))
        return Pairs(pairs=pairs, mark=mark)

    def _scalar(self, event: yaml.ScalarEvent, mark: Mark) -> Scalar:
        text = str(event.value)
        # The C reader gives a plain scalar the style '' and the Python reader None; what both say is `implicit`.
        if not event.implicit[0]:
            return Scalar(value=text, mark=mark)
        if _NULL.fullmatch(text):
            return Scalar(value=None, mark=mark, plain=True)
        if _BOOL.fullmatch(text):
            return Scalar(value=text.lower() == "true", mark=mark, plain=True)
        if _INT_10.fullmatch(text) and len(text) < 400:  # noqa: PLR2004 - Python refuses to read far longer ones
            return Scalar(value=int(text), mark=mark, plain=True)
        if _INT_16.fullmatch(text):
            return Scalar(value=int(text, 16), mark=mark, plain=True)
        if _FLOAT.fullmatch(text):
            return Scalar(value=float(text), mark=mark, plain=True)
        if _AMBIGUOUS.fullmatch(text):
            self.add(mark, "ambiguous", f"{text} is read differently by different versions of YAML: quote it")
        return Scalar(value=text, mark=mark, plain=True)


class _TooDeepError(Exception):
    def __init__(self, mark: Mark) -> None:
        super().__init__()
        self.mark = mark


def _mark(event: yaml.Event) -> Mark:
    mark = event.start_mark
    return START if mark is None else Mark(line=mark.line + 1, column=mark.column + 1)
