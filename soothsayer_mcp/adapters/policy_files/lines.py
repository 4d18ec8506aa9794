"""Where the rules of a policy stand in its files: what an explanation points at."""

from collections.abc import Mapping

from soothsayer_mcp.adapters.policy_files.names import HEADS, rule_id
from soothsayer_mcp.adapters.policy_files.positions import Items, Node, Pairs, Scalar, examine
from soothsayer_mcp.adapters.policy_files.problems import Mark
from soothsayer_mcp.model.value import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Stands:
    """Where a rule begins."""

    file: str
    line: int

    def __str__(self) -> str:
        """As people write it."""
        return f"{self.file}:{self.line}"


def rule_lines(sources: Mapping[str, str]) -> Mapping[str, Stands]:
    """Rule id -> where it stands, for every rule that these files write down."""
    found: dict[str, Stands] = {}
    for file, text in sources.items():
        tree, _ = examine(text.encode(errors="replace"), file)
        if tree is None:
            continue
        rules = tree.get("rules")
        for item in rules.items if isinstance(rules, Items) else ():
            named = _named(_text(tree.get("name")), item)
            if named is not None:
                found[named[0]] = Stands(file=file, line=named[1].line)
    return found


def _named(policy: str, item: Node) -> tuple[str, Mark] | None:
    if not isinstance(item, Pairs):
        return None
    head = next((pair for pair in item.pairs if pair.key in HEADS), None)
    return None if head is None else (rule_id(policy, _text(item.get("id")), _text(head.value)), item.mark)


def _text(node: Node | None) -> str:
    return node.value if isinstance(node, Scalar) and isinstance(node.value, str) else ""
