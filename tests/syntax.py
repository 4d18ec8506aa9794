"""The package as syntax trees: what the code says, without running it."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import soothsayer_mcp

PACKAGE = Path(soothsayer_mcp.__file__).parent


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """One module of the package."""

    name: str
    """Dotted, without the package: `policy.decide`."""
    path: Path

    @property
    def tree(self) -> ast.Module:
        """Read when a test first asks: every process of a run collects all tests, and few of them run these."""
        return _tree(self.path)

    @property
    def layer(self) -> str:
        return self.name.split(".", 1)[0]

    def at(self, node: ast.AST) -> str:
        return f"{self.path.relative_to(PACKAGE.parent)}:{getattr(node, 'lineno', 0)}"

    def imports(self) -> Iterator[tuple[ast.AST, str]]:
        """Every imported module with its place; for `from a import b` both `a` and `a.b`."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    yield node, alias.name
            elif isinstance(node, ast.ImportFrom):
                yield node, node.module or ""
                for alias in node.names:
                    yield node, f"{node.module}.{alias.name}"

    def calls(self) -> Iterator[tuple[ast.Call, str]]:
        """Every call with the dotted name that is called; names that are no plain names are left out."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Call):
                name = dotted(node.func)
                if name:
                    yield node, name


def dotted(node: ast.AST) -> str:
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    if not isinstance(node, ast.Name):
        return ""
    return ".".join([node.id, *reversed(parts)])


def read(path: Path) -> Source:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    if parts[-1] == "__init__":
        parts = parts[:-1]
    return Source(name=".".join(parts), path=path)


@cache
def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


SOURCES = tuple(read(path) for path in sorted(PACKAGE.rglob("*.py")))
"""Every module of the package."""
