"""`${name}` in a policy: the file's own `vars` are filled in as it is read, what the machine knows when it is built."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import field

from soothsayer_mcp.adapters.policy_files.build import MACHINE_WORDS
from soothsayer_mcp.adapters.policy_files.positions import Items, Node, Pair, Pairs, Scalar
from soothsayer_mcp.adapters.policy_files.problems import Mark, Problem, nearest
from soothsayer_mcp.model.value import dataclass

OF_THE_CALL = frozenset({"args", "returned", "before", "run", "who"})
"""What stands for values of the call below the keys of `OWING`, and nowhere else."""
OWING = frozenset({"require", "verify", "undo", "capture", "settle"})

_USE = re.compile(r"\$\{([^{}]*)\}")


@dataclass(slots=True, kw_only=True)
class Variables:
    """The variables of one file, and which of them were used."""

    file: str
    values: Mapping[str, Node]
    problems: list[Problem] = field(default_factory=list[Problem])
    used: set[str] = field(default_factory=set[str])
    owing: bool = False
    """Whether what is being filled says what a call owes."""

    def fill(self, node: Node) -> Node:
        """The same tree with every variable replaced; positions stay those of the use."""
        match node:
            case Scalar():
                return self._scalar(node)
            case Items():
                return Items(items=[one for item in node.items for one in self._spread(item)], mark=node.mark)
            case Pairs():
                return Pairs(pairs=[self._pair(pair) for pair in node.pairs], mark=node.mark)

    def _pair(self, pair: Pair) -> Pair:
        outside = self.owing
        self.owing = outside or pair.key in OWING
        filled = Pair(pair.key, pair.mark, self.fill(pair.value))
        self.owing = outside
        return filled

    def _spread(self, item: Node) -> Iterator[Node]:
        filled = self.fill(item)
        if isinstance(item, Scalar) and isinstance(filled, Items):
            yield from filled.items
        else:
            yield filled

    def _scalar(self, node: Scalar) -> Node:
        if not isinstance(node.value, str) or "${" not in node.value:
            return node
        alone = _USE.fullmatch(node.value)
        if alone is not None:
            value = self._value(alone.group(1), node.mark)
            if value is None:
                return node
            return _moved(value, node.mark)
        return Scalar(
            value=_USE.sub(lambda use: self._text(use.group(1), use.group(), node.mark), node.value), mark=node.mark
        )

    def _value(self, name: str, mark: Mark) -> Node | None:
        if name in MACHINE_WORDS or (self.owing and name.partition(".")[0] in OF_THE_CALL):
            return None
        if name not in self.values:
            near = nearest(name, [*self.values, *MACHINE_WORDS])
            self._add(mark, f'no variable is called "{name}"', near)
            return None
        self.used.add(name)
        return self.values[name]

    def _text(self, name: str, written: str, mark: Mark) -> str:
        value = self._value(name, mark)
        if value is None:
            return written
        if (
            isinstance(value, Scalar)
            and isinstance(value.value, str | int | float)
            and not isinstance(value.value, bool)
        ):
            return str(value.value)
        self._add(mark, f'the variable "{name}" is no text or number, so it has to stand alone')
        return written

    def _add(self, mark: Mark, text: str, near: str = "") -> None:
        self.problems.append(Problem(file=self.file, mark=mark, id="policy-var", text=text, nearest=near))


def _moved(node: Node, mark: Mark) -> Node:
    if isinstance(node, Scalar):
        return Scalar(value=node.value, mark=mark)
    if isinstance(node, Items):
        return Items(items=[_moved(item, mark) for item in node.items], mark=mark)
    return node
