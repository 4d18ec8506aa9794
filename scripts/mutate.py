"""Breaks the deciding code on purpose, one small change at a time, and lists the changes that no test notices.

Each mutant is a whole copy of one module, put in the place of the original for one run of that module's own tests.
`ARGS` narrows it: module names first, then `--limit N` for a sample spread evenly over the module.
"""

import argparse
import ast
import copy
import importlib.util
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent

TARGETS: dict[str, tuple[str, ...]] = {
    "soothsayer_mcp.policy.decide": (
        "tests/policy/test_decide.py",
        "tests/policy/test_within.py",
        "tests/policy/test_history.py",
        "tests/policy/test_conditions_and_risk.py",
        "tests/policy/test_redact.py",
        "tests/policies/test_suite.py",
        "tests/policy_files/test_scopes.py",
        "tests/policy/test_explain.py",
    ),
    "soothsayer_mcp.policy.match": ("tests/policy/test_matchers.py", "tests/policy/test_decide.py"),
    "soothsayer_mcp.policy.history": ("tests/policy/test_history.py",),
    "soothsayer_mcp.policy.within": ("tests/policy/test_within.py", "tests/policy/test_decide.py"),
    "soothsayer_mcp.policy.sight": ("tests/policy/test_conditions_and_risk.py", "tests/policy/test_flow.py"),
    "soothsayer_mcp.adapters.conditions": (
        "tests/adapters/test_conditions.py",
        "tests/policy/test_conditions_and_risk.py",
    ),
    "soothsayer_mcp.adapters.patterns": ("tests/policy/test_matchers.py",),
    "soothsayer_mcp.wire.strict": ("tests/wire",),
    "soothsayer_mcp.run.reserve": ("tests/governor", "tests/run"),
    "soothsayer_mcp.evidence.judge": ("tests/governor", "tests/evidence"),
    "soothsayer_mcp.governor": ("tests/governor",),
}
"""Module -> the tests that must notice a change in it, those first that notice most."""

_ONLY_SLOWER = "the decision is only made again, with the same answer"

CHANGES_NOTHING: dict[tuple[str, str], str] = {
    ("soothsayer_mcp.governor", "same = now.same_as(basis)"): _ONLY_SLOWER,
    ("soothsayer_mcp.governor", "return ("): _ONLY_SLOWER,
    (
        "soothsayer_mcp.governor",
        "(self.policy is other.policy or self.policy.digest == other.policy.digest)",
    ): _ONLY_SLOWER,
    ("soothsayer_mcp.governor", "and self.counted == other.counted"): _ONLY_SLOWER,
}
"""Module and line -> why a change there that survives is no missing test."""

SHIM = "SOOTHSAYER_MUTANT"

_COMPARE: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}

_WORDS: dict[type[ast.cmpop], str] = {
    ast.Lt: "<",
    ast.LtE: "<=",
    ast.Gt: ">",
    ast.GtE: ">=",
    ast.Eq: "==",
    ast.NotEq: "!=",
    ast.Is: "is",
    ast.IsNot: "is not",
    ast.In: "in",
    ast.NotIn: "not in",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutant:
    """One changed copy of a module."""

    module: str
    line: int
    change: str
    source: str


def mutants(module: str, source: str) -> Iterator[Mutant]:
    """Make every mutant of a module, in the order of its lines."""
    tree = ast.parse(source)
    silent = _annotations_and_docstrings(tree)
    places = [node for node in ast.walk(tree) if node not in silent and hasattr(node, "lineno")]
    for index, node in enumerate(places):
        for number, (change, _) in enumerate(_changes(node)):
            changed = copy.deepcopy(tree)
            skip = _annotations_and_docstrings(changed)
            twin = [other for other in ast.walk(changed) if other not in skip and hasattr(other, "lineno")][index]
            _, replacement = list(_changes(twin))[number]
            _Swap(twin, replacement).visit(changed)
            yield Mutant(
                module=module,
                line=getattr(node, "lineno", 0),
                change=change,
                source=ast.unparse(ast.fix_missing_locations(changed)),
            )


def _annotations_and_docstrings(tree: ast.Module) -> set[ast.AST]:
    """What has no behaviour that a test could notice."""
    quiet: set[ast.AST] = set()
    for node in ast.walk(tree):
        parts: list[ast.AST | None] = []
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            parts += [node.returns, *node.decorator_list]
        elif isinstance(node, ast.ClassDef):
            parts += node.decorator_list
        elif isinstance(node, ast.arg | ast.AnnAssign):
            parts.append(node.annotation)
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            parts.append(node)
        for part in parts:
            if part is not None:
                quiet.update(ast.walk(part))
    return quiet


def _changes(node: ast.AST) -> Iterator[tuple[str, ast.AST]]:
    """Tell what can be changed at one place, each with its replacement."""
    yield from _changed_conditions(node)
    yield from _changed_values(node)
    yield from _changed_flow(node)


def _changed_conditions(node: ast.AST) -> Iterator[tuple[str, ast.AST]]:
    match node:
        case ast.Compare(left=left, ops=[operator], comparators=[right]) if type(operator) in _COMPARE:
            other = _COMPARE[type(operator)]()
            yield f"{_WORDS[type(operator)]} -> {_WORDS[type(other)]}", ast.Compare(left, [other], [right])
        case ast.BoolOp(op=ast.And(), values=values):
            yield "and -> or", ast.BoolOp(ast.Or(), values)
        case ast.BoolOp(op=ast.Or(), values=values):
            yield "or -> and", ast.BoolOp(ast.And(), values)
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            yield "not X -> X", operand
        case _:
            return


def _changed_values(node: ast.AST) -> Iterator[tuple[str, ast.AST]]:
    match node:
        case ast.Constant(value=bool() as value):
            yield f"{value} -> {not value}", ast.Constant(not value)
        case ast.Constant(value=int() as value):
            yield f"{value} -> {value + 1}", ast.Constant(value + 1)
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            yield "+ -> -", ast.BinOp(left, ast.Sub(), right)
        case ast.BinOp(left=left, op=ast.Sub(), right=right):
            yield "- -> +", ast.BinOp(left, ast.Add(), right)
        case _:
            return


def _changed_flow(node: ast.AST) -> Iterator[tuple[str, ast.AST]]:
    match node:
        case ast.If(body=body, orelse=orelse):
            yield "if X -> if True", ast.If(ast.Constant(value=True), body, orelse)
            yield "if X -> if False", ast.If(ast.Constant(value=False), body, orelse)
        case ast.Return(value=ast.expr() as value) if not (isinstance(value, ast.Constant) and value.value is None):
            yield "return X -> return None", ast.Return(ast.Constant(value=None))
        case ast.Continue():
            yield "continue -> break", ast.Break()
        case ast.Break():
            yield "break -> continue", ast.Continue()
        case _:
            return


class _Swap(ast.NodeTransformer):
    """Puts one node in the place of another."""

    def __init__(self, old: ast.AST, new: ast.AST) -> None:
        self._old = old
        self._new = new

    def visit(self, node: ast.AST) -> ast.AST:
        if node is self._old:
            return ast.copy_location(self._new, node)
        return self.generic_visit(node)


PLUGIN = f'''
"""Loads a mutant in the place of its module, before anything imports that."""
import importlib.abc, importlib.machinery, importlib.util, os, sys

NAME, PATH = os.environ["{SHIM}"].split("=", 1)

class Finder(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name != NAME:
            return None
        return importlib.util.spec_from_file_location(name, PATH)

sys.meta_path.insert(0, Finder())
'''


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One run of the tests against one mutant."""

    killed: bool
    took_s: float


def trial(mutant: Mutant, tests: tuple[str, ...], *, bound_s: float) -> Trial:
    """Run the tests of a mutant's module; a failure or a run without end kills it."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        (place / "mutant.py").write_text(mutant.source, encoding="utf-8")
        (place / "soothsayer_mutant.py").write_text(PLUGIN, encoding="utf-8")
        environment = {
            **os.environ,
            SHIM: f"{mutant.module}={place / 'mutant.py'}",
            "PYTHONPATH": folder,
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "soothsayer_mutant", "-p", "no:randomly"]
        try:
            done = subprocess.run(
                [*command, "-p", "no:cacheprovider", *tests],
                cwd=ROOT,
                env=environment,
                capture_output=True,
                check=False,
                timeout=bound_s,
            )
        except subprocess.TimeoutExpired:
            return Trial(killed=True, took_s=bound_s)
        return Trial(killed=done.returncode != 0, took_s=time.monotonic() - began)


def main() -> int:
    """Print the kill rate of each module and its survivors; 1 when the unchanged code fails its own tests."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("module", nargs="*", help="a part of a module's name; all of them when none is given")
    parser.add_argument("--limit", type=int, default=0, help="at most so many mutants of each module")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    asked = parser.parse_args()
    code = 0
    for module, tests in TARGETS.items():
        if asked.module and not any(part in module for part in asked.module):
            continue
        code |= _try_module(module, tuple(test for test in tests if (ROOT / test).exists()), asked.limit, asked.jobs)
    return code


def _try_module(module: str, tests: tuple[str, ...], limit: int, jobs: int) -> int:
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        print(f"{module}: not there")
        return 1
    source = Path(spec.origin).read_text(encoding="utf-8")
    unchanged = Mutant(module=module, line=0, change="", source=ast.unparse(ast.parse(source)))
    first = trial(unchanged, tests, bound_s=600)
    if first.killed:
        print(f"{module}: its own tests fail on the unchanged code")
        return 1
    made = list(mutants(module, source))
    chosen = made[:: max(1, len(made) // limit)][:limit] if limit else made
    bound_s = 5 + 5 * first.took_s

    def survives(mutant: Mutant) -> bool:
        return not trial(mutant, tests, bound_s=bound_s).killed

    with ThreadPoolExecutor(jobs) as pool:
        survivors = [mutant for mutant, alive in zip(chosen, pool.map(survives, chosen), strict=True) if alive]
    lines = source.splitlines()
    path = Path(spec.origin).relative_to(ROOT)
    print(f"{module}: {len(chosen) - len(survivors)} of {len(chosen)} mutants noticed ({len(made)} possible)")
    for mutant in survivors:
        line = lines[mutant.line - 1].strip()
        why = CHANGES_NOTHING.get((module, line), "")
        print(f"  {path}:{mutant.line}: {mutant.change}    {line}{f'    changes nothing: {why}' if why else ''}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
