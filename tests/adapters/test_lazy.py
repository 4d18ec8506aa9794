import ast
from pathlib import Path

import pytest

import soothsayer_mcp
from soothsayer_mcp.adapters.lazy import ROWS, resolve

PACKAGE = Path(soothsayer_mcp.__file__).parent


@pytest.mark.parametrize("row", ROWS)
def test_every_row_names_something_that_is_there(row: str) -> None:
    assert callable(resolve(row))


def test_every_row_that_an_adapter_resolves_is_in_the_table() -> None:
    used = {
        node.args[0].value
        for path in (PACKAGE / "adapters").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
        and (node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")) == "resolve"
        and node.args
        and isinstance(node.args[0], ast.Constant)
        and isinstance(node.args[0].value, str)
    }
    assert used == set(ROWS)


def test_a_row_is_resolved_once() -> None:
    assert resolve("fractions:Fraction") is resolve("fractions:Fraction")


def test_a_row_that_names_nothing_raises() -> None:
    with pytest.raises(AttributeError):
        resolve("fractions:Nothing")
    with pytest.raises(ImportError):
        resolve("no_such_module_here:name")
