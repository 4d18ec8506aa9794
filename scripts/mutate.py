"""Breaks the deciding code on purpose, one small change at a time, and lists the changes that no test notices.

pytest and the tests are imported once. Each mutant is a fork of that process in which one function has other code; it
runs the tests that reach the changed line, quickest first, until one fails. What is evaluated while a module is
imported is tried in a fork that imports all of it again. Results are kept under `.mutants/` and used again while the
module and the test that noticed are the same. It needs `fork`, so it runs on Linux and macOS.

Why a mutant is left stands in `scripts/mutants/MODULE.toml`; a note about a mutant that is gone, or that a test notices
after all, is an error. With `--note`, what a whole run measured is written beside it, for docs/reference/mutants.md.
"""

import argparse
import ast
import hashlib
import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import inspect
import json
import os
import random
import resource
import select
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from types import CodeType, FrameType, FunctionType, ModuleType
from typing import Any, NoReturn, cast

import pytest
from hypothesis import Phase, settings
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from mutant_notes import Figure, Note, StaleNoteError, Survivor, keep, notes_of

ROOT = Path(__file__).parent.parent
KEPT = ROOT / ".mutants"

POLICY = (
    "tests/policy",
    "tests/policies",
    "tests/policy_files/test_load.py",
    "tests/policy_files/test_scopes.py",
    "tests/adapters/test_conditions.py",
)
LOOP = ("tests/governor", "tests/run", "tests/evidence")
UNDO = ("tests/undo",)
WIRE = ("tests/wire",)

TARGETS: dict[str, tuple[str, ...]] = {
    "soothsayer_mcp.policy.decide": POLICY,
    "soothsayer_mcp.policy.policy": POLICY,
    "soothsayer_mcp.policy.candidates": POLICY,
    "soothsayer_mcp.policy.prepared": POLICY,
    "soothsayer_mcp.policy.rules": POLICY,
    "soothsayer_mcp.policy.scopes": POLICY,
    "soothsayer_mcp.policy.scene": POLICY,
    "soothsayer_mcp.policy.match": POLICY,
    "soothsayer_mcp.policy.answers": POLICY,
    "soothsayer_mcp.policy.within": POLICY,
    "soothsayer_mcp.policy.history": POLICY,
    "soothsayer_mcp.policy.flow": POLICY,
    "soothsayer_mcp.policy.sight": POLICY,
    "soothsayer_mcp.policy.paths": POLICY,
    "soothsayer_mcp.policy.addresses": POLICY,
    "soothsayer_mcp.policy.commands": POLICY,
    "soothsayer_mcp.policy.screen": POLICY,
    "soothsayer_mcp.policy.redact": POLICY,
    "soothsayer_mcp.adapters.conditions": POLICY,
    "soothsayer_mcp.adapters.patterns": POLICY,
    "soothsayer_mcp.wire.strict": WIRE,
    "soothsayer_mcp.run.reserve": LOOP,
    "soothsayer_mcp.run.gate": LOOP,
    "soothsayer_mcp.evidence.judge": LOOP,
    "soothsayer_mcp.evidence.admit": LOOP,
    "soothsayer_mcp.evidence.weigh": LOOP,
    "soothsayer_mcp.evidence.approval": LOOP,
    "soothsayer_mcp.evidence.approvers": LOOP,
    "soothsayer_mcp.evidence.attestation": LOOP,
    "soothsayer_mcp.evidence.checks": LOOP,
    "soothsayer_mcp.evidence.completion": LOOP,
    "soothsayer_mcp.evidence.gap": LOOP,
    "soothsayer_mcp.evidence.grants": LOOP,
    "soothsayer_mcp.evidence.scope": LOOP,
    "soothsayer_mcp.evidence.settle": LOOP,
    "soothsayer_mcp.evidence.steps": LOOP,
    "soothsayer_mcp.evidence.together": LOOP,
    "soothsayer_mcp.run.allowance": LOOP,
    "soothsayer_mcp.run.aside": LOOP,
    "soothsayer_mcp.run.budget": LOOP,
    "soothsayer_mcp.run.close": LOOP,
    "soothsayer_mcp.run.count": LOOP,
    "soothsayer_mcp.run.digest": LOOP,
    "soothsayer_mcp.run.duplicate": LOOP,
    "soothsayer_mcp.run.giving": LOOP,
    "soothsayer_mcp.run.repeat": LOOP,
    "soothsayer_mcp.run.used": LOOP,
    "soothsayer_mcp.undo.kept": UNDO,
    "soothsayer_mcp.undo.plan": UNDO,
    "soothsayer_mcp.governor": LOOP,
}
"""Module -> the tests that must notice a change in it; those that reach no line of it are not run."""

THIRD_PARTIES = ("anyio", "trio", "jsonschema_rs", "pydantic", "re2", "yaml")
"""Imported once, before any fork; what imports the code under test is not among them."""

MEMORY = 4 << 30
"""A mutant that takes more than this is stopped, and so noticed."""

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
    """One change that can be made to a module."""

    module: str
    number: int
    line: int
    change: str
    text: str
    """The line as it stands in the source."""
    inside: str
    """The outermost function it is in, as a dotted name in the module; empty for what an import evaluates."""
    head: tuple[int, int]
    """First and last line of what must run for the change to matter."""
    body: tuple[int, int]
    """First and last line of the innermost function around it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """What became of one mutant."""

    by: str
    """The test that noticed, or `time`, `crash`; empty when none did."""
    reached: int
    """How many tests were there to notice."""


@dataclass(slots=True, kw_only=True)
class Place:
    """One node of a module that can be changed, and where it is."""

    node: ast.AST
    inside: str
    head: tuple[int, int]
    body: tuple[int, int]


@dataclass(slots=True)
class Source:
    """A module's source, and every change that can be made to it, in the order of its lines."""

    module: str
    text: str
    tree: ast.Module = field(init=False)
    places: list[Place] = field(init=False)
    at_import: frozenset[str] = field(init=False)
    """Functions that an import calls: what they made is in use before their code can be changed."""

    def __post_init__(self) -> None:
        self.tree = ast.parse(self.text)
        self.at_import = _called_at_import(self.tree)
        silent = _annotations_and_docstrings(self.tree)
        self.places = [place for place in _places(self.tree) if place.node not in silent]

    def mutants(self) -> list[Mutant]:
        """Tell every mutant."""
        lines = self.text.splitlines()
        found: list[Mutant] = []
        for place in self.places:
            line = getattr(place.node, "lineno", 0)
            for change, _ in _changes(place.node):
                found.append(
                    Mutant(
                        module=self.module,
                        number=len(found),
                        line=line,
                        change=change,
                        text=lines[line - 1].strip(),
                        inside=place.inside,
                        head=place.head,
                        body=place.body,
                    )
                )
        return found

    def change(self, number: int) -> ast.Module:
        """Make one change, for good: the tree is then that of the mutant."""
        index = 0
        for place in self.places:
            for _, replacement in _changes(place.node):
                if index == number:
                    _Swap(place.node, replacement).visit(self.tree)
                    return ast.fix_missing_locations(self.tree)
                index += 1
        raise IndexError(number)


def mutants(module: str, source: str) -> list[Mutant]:
    """Tell every mutant of a module, in the order of its lines."""
    return Source(module, source).mutants()


def changed(module: str, source: str, number: int) -> str:
    """Write a mutant out as source."""
    return ast.unparse(Source(module, source).change(number))


def _places(tree: ast.Module) -> Iterator[Place]:
    whole = (1, 10**9)

    def walk(node: ast.AST, path: str, inside: str, head: tuple[int, int], body: tuple[int, int]) -> Iterator[Place]:
        if isinstance(node, ast.stmt):
            last = node.end_lineno or node.lineno
            inner = getattr(node, "body", None)
            if isinstance(inner, list) and inner and not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                last = max(node.lineno, cast("ast.stmt", inner[0]).lineno - 1)
            head = (node.lineno, last)
        if hasattr(node, "lineno"):
            yield Place(node=node, inside=inside, head=head, body=body)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            own = f"{path}.{node.name}" if path else node.name
            for part in (*node.decorator_list, node.args):
                yield from walk(part, path, inside, head, body)
            for part in node.body:
                yield from walk(part, own, inside or own, head, (node.body[0].lineno, node.end_lineno or node.lineno))
            return
        if isinstance(node, ast.ClassDef):
            path = f"{path}.{node.name}" if path else node.name
        for part in ast.iter_child_nodes(node):
            yield from walk(part, path, inside, head, body)

    yield from walk(tree, "", "", whole, whole)


def _called_at_import(tree: ast.Module) -> frozenset[str]:
    """The functions of a module that are called by name while it is imported, and those that they call."""
    bodies = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
    found: set[str] = set()
    waiting: list[ast.AST] = [node for node in tree.body if not isinstance(node, ast.FunctionDef)]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            called = bodies.get(node.func.id)
            if called is not None and called.name not in found:
                found.add(called.name)
                waiting.extend(called.body)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        waiting.extend(ast.iter_child_nodes(node))
    return frozenset(found)


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
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "zip":
            # That two lengths are one is an assertion.
            parts += [keyword.value for keyword in node.keywords if keyword.arg == "strict"]
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
        case ast.IfExp(body=body, orelse=orelse):
            yield "A if X else B -> A", body
            yield "A if X else B -> B", orelse
        case _:
            return


def _changed_flow(node: ast.AST) -> Iterator[tuple[str, ast.AST]]:
    match node:
        case ast.If(body=body, orelse=orelse):
            yield "if X -> if True", ast.If(ast.Constant(value=True), body, orelse)
            yield "if X -> if False", ast.If(ast.Constant(value=False), body, orelse)
        case ast.Return(value=ast.expr() as value) if not _is_none_or_bool(value):
            yield "return X -> return None", ast.Return(ast.Constant(value=None))
        case ast.Expr(value=ast.Call()):
            yield "f() -> pass", ast.Pass()
        case ast.Continue():
            yield "continue -> break", ast.Break()
        case ast.Break():
            yield "break -> continue", ast.Continue()
        case _:
            return


def _is_none_or_bool(value: ast.expr) -> bool:
    """Whether `return None` would be no change, or a weaker one than the other truth value, which is tried."""
    return isinstance(value, ast.Constant) and (value.value is None or isinstance(value.value, bool))


class _Swap(ast.NodeTransformer):
    """Puts one node in the place of another."""

    def __init__(self, old: ast.AST, new: ast.AST) -> None:
        self._old = old
        self._new = new

    def visit(self, node: ast.AST) -> ast.AST:
        if node is self._old:
            return ast.copy_location(self._new, node)
        return self.generic_visit(node)


# A mutant in a module that is imported already.


def function_at(module: ModuleType, path: str) -> FunctionType | None:
    """Find a function of a module by its dotted name, below what wraps it."""
    held: object = module
    for name in path.split("."):
        try:
            held = inspect.getattr_static(held, name)
        except AttributeError:
            return None
    if isinstance(held, staticmethod | classmethod):
        held = cast("Any", held).__func__
    if isinstance(held, property):
        held = held.fget
    while hasattr(held, "__wrapped__") or hasattr(held, "func"):
        held = getattr(held, "__wrapped__", None) or getattr(held, "func", None)
    return held if isinstance(held, FunctionType) else None


def _code_like(code: CodeType, wanted: CodeType) -> CodeType | None:
    for part in code.co_consts:
        if isinstance(part, CodeType):
            if (part.co_qualname, part.co_firstlineno) == (wanted.co_qualname, wanted.co_firstlineno):
                return part
            if (found := _code_like(part, wanted)) is not None:
                return found
    return None


def put_in_place(source: Source, mutant: Mutant) -> bool:
    """Give the function a mutant is in its changed code; false when only a fresh import could."""
    module = sys.modules.get(mutant.module)
    function = None if module is None or not mutant.inside else function_at(module, mutant.inside)
    if module is None or function is None or function.__module__ != mutant.module:
        return False
    if mutant.inside in source.at_import:
        return False
    changed_module = compile(source.change(mutant.number), module.__file__ or "", "exec")
    code = _code_like(changed_module, function.__code__)
    if code is None or code.co_freevars != function.__code__.co_freevars:
        return False
    function.__code__ = code
    return True


class _Instead(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Imports a mutant in the place of its module."""

    def __init__(self, name: str, path: str, tree: ast.Module) -> None:
        self._name, self._path, self._tree = name, path, tree

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        del path, target
        if fullname != self._name:
            return None
        return importlib.util.spec_from_file_location(fullname, self._path, loader=self)

    def exec_module(self, module: ModuleType) -> None:
        exec(compile(self._tree, self._path, "exec"), module.__dict__)  # noqa: S102 - the mutant is a module of ours


# Forks, and what they tell.


Tell = Callable[[object], None]
Work = Callable[[Tell], None]


@dataclass(slots=True)
class Fork:
    """A child process, the end of its pipe, and when it must have ended."""

    pid: int
    pipe: int
    by: float
    forks: bool
    """Whether it has children of its own, which it ends when it is asked to end."""
    told: bytes = b""


_RUNNING: dict[int, Fork] = {}
"""The children of this process that were not waited for yet."""


def fork(work: Work, *, bound_s: float = 7 * 86_400, forks: bool = False) -> Fork:
    """Do work in a child, which tells lines of JSON; it prints nothing."""
    reading, writing = os.pipe()
    pid = os.fork()
    if not pid:
        _RUNNING.clear()
        os.close(reading)
        os.setpgid(0, 0)
        _child(work, writing)
    os.close(writing)
    child = _RUNNING[pid] = Fork(pid, reading, time.monotonic() + bound_s, forks)
    return child


def _leave(number: int, _: FrameType | None) -> NoReturn:
    end_all()
    sys.exit(128 + number)


def end_all() -> None:
    """End every child and wait for it; one that forks itself is asked to, and ends its own."""
    for child in list(_RUNNING.values()):
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(child.pid, signal.SIGTERM if child.forks else signal.SIGKILL)
        with suppress(ChildProcessError):
            os.waitpid(child.pid, 0)
    _RUNNING.clear()


def _child(work: Work, writing: int) -> NoReturn:
    code = 70
    try:
        signal.signal(signal.SIGTERM, _leave)
        nowhere = os.open(os.devnull, os.O_RDWR)
        for number in (0, 1, 2):
            os.dup2(nowhere, number)

        def tell(what: object) -> None:
            os.write(writing, json.dumps(what).encode() + b"\n")

        work(tell)
        code = 0
    finally:
        end_all()
        os._exit(code)


def lines_of(child: Fork) -> Iterator[Any]:
    """What a child tells, as it tells it; a child that takes too long is stopped."""
    while True:
        left = child.by - time.monotonic()
        if left <= 0 or not select.select([child.pipe], [], [], left)[0]:
            stop(child)
            yield {"by": "time"}
            return
        part = os.read(child.pipe, 1 << 20)
        child.told += part
        *whole, child.told = child.told.split(b"\n")
        for line in whole:
            yield json.loads(line)
        if not part:
            break
    os.close(child.pipe)
    ended = os.waitpid(child.pid, 0)[1]
    del _RUNNING[child.pid]
    if ended:
        yield {"by": "crash"}


def told_by(children: Iterable[Fork]) -> Iterator[Any]:
    """What several children tell, as they tell it."""
    waiting = {child.pipe: lines_of(child) for child in children}
    while waiting:
        for pipe in select.select(list(waiting), [], [])[0]:
            told = next(waiting[pipe], None)
            if told is None:
                del waiting[pipe]
            else:
                yield told


def stop(child: Fork) -> None:
    """End a child and what it started."""
    try:
        os.killpg(child.pid, signal.SIGKILL)
    except ProcessLookupError:
        os.kill(child.pid, signal.SIGKILL)
    os.close(child.pipe)
    os.waitpid(child.pid, 0)
    del _RUNNING[child.pid]


def answer_of(child: Fork) -> str:
    """What noticed the mutant that a child is."""
    for told in lines_of(child):
        if child.pid in _RUNNING:
            stop(child)
        return str(told["by"])
    return ""


# The tests, in a process that has imported them.


@dataclass(slots=True)
class Reached:
    """One test of the unchanged code: how long it took, and which lines of which module it ran."""

    seconds: float = 0.0
    lines: dict[str, list[int]] = field(default_factory=dict[str, list[int]])


class Tests:
    """A plugin that runs no test itself: it forks one process per mutant, after one that watches the unchanged code."""

    def __init__(self, sources: dict[str, Source], serve: "Callable[[Tests], None]") -> None:
        self.sources = sources
        self.items: dict[str, pytest.Item] = {}
        self.reached: dict[str, Reached] = {}
        self.failed = ""
        self._serve = serve

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Serve instead of running what was collected."""
        self.items = {item.nodeid: item for item in session.items}
        self._serve(self)
        return True

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Remember the first test that failed."""
        if report.failed and not self.failed:
            self.failed = report.nodeid

    def run(self, nodes: Sequence[str]) -> str:
        """Run tests until one fails; tells which."""
        items = [self.items[node] for node in nodes]
        for item, after in zip(items, [*items[1:], None], strict=True):
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=after)
            if self.failed:
                return self.failed
        return ""

    def watch(self, tell: Tell, slowest_s: float) -> None:
        """Run every test over the unchanged code, and tell what each reached; one that takes too long is cut short."""
        by_file = {str(ROOT / _path_of(module)): module for module in self.sources}
        seen: dict[str, set[int]] = {}
        began = 0.0

        def trace(frame: FrameType, event: str, _: object) -> object:
            lines = seen.get(frame.f_code.co_filename)
            if lines is None:
                return None
            if event == "line":
                lines.add(frame.f_lineno)
            elif time.monotonic() - began > slowest_s:
                pytest.skip("too slow to be used")
            return trace

        for node, item in self.items.items():
            seen.update((path, set()) for path in by_file)
            began = time.monotonic()
            sys.settrace(cast("Any", trace))
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=None)
            sys.settrace(None)
            if self.failed:
                tell({"failed": self.failed})
                return
            took = time.monotonic() - began
            tell({"node": node, "seconds": took, "lines": {by_file[path]: sorted(seen[path]) for path in seen}})

    def nodes_for(self, mutant: Mutant) -> list[str]:
        """The tests that can notice a mutant: those that ran the changed line first, quickest first."""

        def within(node: str, span: tuple[int, int]) -> bool:
            lines = self.reached[node].lines.get(mutant.module, ())
            return any(span[0] <= line <= span[1] for line in lines)

        if not mutant.inside:
            return [node for node in self.items if self.reached[node].lines.get(mutant.module)]
        ranked = [(not within(node, mutant.head), self.reached[node].seconds, node) for node in self.items]
        return [node for elsewhere, _, node in sorted(ranked) if not elsewhere or within(node, mutant.body)]


def _path_of(module: str) -> str:
    return f"{module.replace('.', '/')}.py"


def _pytest(tests: Iterable[str], plugin: object) -> int:
    settings.register_profile("mutants", max_examples=20, phases=(Phase.explicit, Phase.generate), database=None)
    settings.load_profile("mutants")
    # Whole files in the order of their names; what a machine remembers of an earlier run plays no part.
    options = [
        "-q",
        "-s",
        "-o",
        "tmp_path_retention_policy=none",
        "-x",
        "-W",
        "ignore::pytest.PytestAssertRewriteWarning",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:randomly",
        "-p",
        "no:xdist",
    ]
    return int(pytest.main([*options, *tests], plugins=[plugin]))


def _limits(folder: str) -> None:
    os.environ["PYTEST_DEBUG_TEMPROOT"] = folder
    tempfile.tempdir = None
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """How much is done at once, and how long one mutant may take."""

    jobs: int
    slowest_s: float
    limit_s: float


def serve(tests: Sequence[str], sources: dict[str, Source], chosen: Sequence[Mutant], bounds: Bounds) -> Work:
    """Make the work of a process that has all tests imported and forks once per mutant."""

    def work(tell: Tell) -> None:
        def loop(held: Tests) -> None:
            for told in lines_of(fork(partial(held.watch, slowest_s=bounds.slowest_s), bound_s=1_800)):
                if "node" in told:
                    held.reached[told["node"]] = Reached(told["seconds"], told["lines"])
                    tell({"watched": len(held.reached), "of": len(held.items)})
                else:
                    tell({"broken": told.get("failed", f"the watched run ended by {told.get('by')}")})
                    return
            slow = [node for node, seen in held.reached.items() if seen.seconds > bounds.slowest_s]
            tell({"slow": slow})
            for node in slow:
                del held.items[node]
            with tempfile.TemporaryDirectory(prefix="mutants-", ignore_cleanup_errors=True) as folder:
                Mutants(held=held, sources=sources, bounds=bounds, folder=folder, tell=tell).try_all(chosen)

        plugin = Tests(sources, loop)
        code = _pytest(tests, plugin)
        if not plugin.items:
            tell({"broken": f"the tests could not be collected (pytest ended with {code})"})

    return work


@dataclass(slots=True, kw_only=True)
class Mutants:
    """The mutants that run now, each in a fork of its own."""

    held: Tests
    sources: dict[str, Source]
    bounds: Bounds
    folder: str
    tell: Tell
    running: dict[int, tuple[Mutant, Fork, int]] = field(default_factory=dict[int, tuple[Mutant, Fork, int]])

    def try_all(self, chosen: Sequence[Mutant]) -> None:
        """Try mutants, so many at once as the bounds say, and tell what became of each."""
        for mutant in chosen:
            nodes = self.held.nodes_for(mutant) if mutant.inside else []
            if not nodes:
                answer = {"by": "", "reached": 0} if mutant.inside else {"fresh": True}
                self.tell({"module": mutant.module, "number": mutant.number, **answer})
                continue
            while len(self.running) >= self.bounds.jobs:
                self._end_some()
            usual = sum(self.held.reached[node].seconds for node in nodes)
            child = fork(self._one(mutant, nodes), bound_s=self.bounds.limit_s + 5 * usual)
            self.running[child.pipe] = (mutant, child, len(nodes))
        while self.running:
            self._end_some()

    def _one(self, mutant: Mutant, nodes: list[str]) -> Work:
        def work(tell: Tell) -> None:
            _limits(tempfile.mkdtemp(dir=self.folder))
            if not put_in_place(self.sources[mutant.module], mutant):
                tell({"by": "fresh"})
            elif by := self.held.run(nodes):
                tell({"by": by})

        return work

    def _end_some(self) -> None:
        waited = min(child.by for _, child, _ in self.running.values()) - time.monotonic()
        ready, _, _ = select.select(list(self.running), [], [], max(0.0, waited))
        late = [pipe for pipe, (_, child, _) in self.running.items() if child.by <= time.monotonic()]
        for pipe in ready or late:
            mutant, child, reached = self.running.pop(pipe)
            by = answer_of(child)
            answer = {"fresh": True} if by == "fresh" else {"by": by, "reached": reached}
            self.tell({"module": mutant.module, "number": mutant.number, **answer})


def fresh(mutant: Mutant, source: Source, tests: Sequence[str], *, slow: frozenset[str], bound_s: float) -> Trial:
    """Try a mutant in a process that imports everything again."""

    def work(tell: Tell) -> None:
        _limits(folder)
        path = str(ROOT / _path_of(mutant.module))
        sys.meta_path.insert(0, _Instead(mutant.module, path, source.change(mutant.number)))

        def loop(held: Tests) -> None:
            tell({"ran": len(held.items)})
            if by := held.run([node for node in held.items if node not in slow]):
                tell({"by": by})

        plugin = Tests({}, loop)
        _pytest(tests, plugin)
        if not plugin.items:
            tell({"by": "import"})

    by, ran = "", 0
    with tempfile.TemporaryDirectory(prefix="mutants-", ignore_cleanup_errors=True) as folder:
        for told in lines_of(fork(work, bound_s=bound_s)):
            ran = told.get("ran", ran)
            by = by or told.get("by", "")
    return Trial(by=by, reached=ran)


def serve_afresh(
    share: Sequence[Mutant], sources: dict[str, Source], tests: Sequence[str], slow: frozenset[str], bound_s: float
) -> Work:
    """Make the work of a process that tries mutants one after another, each in a process that imports everything."""

    def work(tell: Tell) -> None:
        for mutant in share:
            source = Source(mutant.module, sources[mutant.module].text)
            trial = fresh(mutant, source, tests, slow=slow, bound_s=bound_s)
            tell({"module": mutant.module, "number": mutant.number, **asdict(trial)})

    return work


# What was found out before.


class Known:
    """The results of one module that still hold: same source, and the test that noticed is the same."""

    def __init__(self, module: str, source: str, tests: Sequence[str], folder: Path) -> None:
        self._path = folder / f"{module}.json"
        self._source = _digest(source.encode(), *(one.change.encode() for one in mutants(module, source)))
        self._tests = _digest(*[path.read_bytes() for path in _files(tests)])
        self._trials: dict[str, list[Any]] = {}
        try:
            held = json.loads(self._path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return
        if held.get("source") == self._source:
            self._trials = {key: kept for key, kept in held["trials"].items() if kept[2] == self._mark(kept[0])}

    def _mark(self, by: str) -> str:
        path = ROOT / by.split("::", 1)[0]
        return _digest(path.read_bytes()) if "::" in by and path.is_file() else self._tests

    def get(self, number: int) -> Trial | None:
        """Tell what became of a mutant, if it was tried."""
        kept = self._trials.get(str(number))
        return None if kept is None else Trial(by=kept[0], reached=kept[1])

    def put(self, number: int, trial: Trial) -> None:
        """Keep what became of a mutant."""
        self._trials[str(number)] = [trial.by, trial.reached, self._mark(trial.by)]

    def save(self) -> None:
        """Write all that is known to the disk."""
        self._path.parent.mkdir(exist_ok=True)
        text = json.dumps({"source": self._source, "trials": self._trials})
        new = self._path.with_suffix(".new")
        new.write_text(text, encoding="utf-8")
        new.replace(self._path)


def _digest(*parts: bytes) -> str:
    return hashlib.sha256(b"\0".join(hashlib.sha256(part).digest() for part in parts)).hexdigest()[:16]


def _files(tests: Sequence[str]) -> list[Path]:
    return [
        file
        for test in tests
        for file in sorted((ROOT / test).rglob("*.py") if (ROOT / test).is_dir() else [ROOT / test])
    ]


# The command.


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What became of the mutants of one module."""

    module: str
    possible: int
    tried: int
    noticed: int
    by_time: int
    changes_nothing: int
    survivors: tuple[dict[str, object], ...]
    stale: tuple[str, ...]
    """Notes about mutants that a test notices."""

    @property
    def rate(self) -> float:
        """The share of mutants that were noticed, of those that a test could notice."""
        counted = self.tried - self.changes_nothing
        return self.noticed / counted if counted else 1.0


def report(module: str, possible: int, tried: Iterable[tuple[Mutant, Trial]], notes: Mapping[int, Note]) -> Report:
    """Count what became of the mutants of a module."""
    pairs = list(tried)
    alive = [(mutant, trial) for mutant, trial in pairs if not trial.by]
    none = Note(why="", same=False)
    return Report(
        module=module,
        possible=possible,
        tried=len(pairs),
        noticed=len(pairs) - len(alive),
        by_time=sum(trial.by == "time" for _, trial in pairs),
        changes_nothing=sum(notes.get(mutant.number, none).same for mutant, _ in alive),
        survivors=tuple(
            {
                "inside": mutant.inside,
                "line": mutant.line,
                "change": mutant.change,
                "text": mutant.text,
                "reached": trial.reached,
                "why": notes.get(mutant.number, none).why,
                "changes_nothing": notes.get(mutant.number, none).same,
            }
            for mutant, trial in alive
        ),
        stale=tuple(
            f"{_path_of(module)}:{mutant.line}: {mutant.change}    {mutant.text}    by {trial.by}"
            for mutant, trial in pairs
            if mutant.number in notes and "::" in trial.by
        ),
    )


def figure(found: Report, command: str) -> Figure:
    """Put what a whole run found into the form in which it is kept."""
    return Figure(
        module=found.module,
        date=time.strftime("%Y-%m-%d"),
        command=command,
        mutants=found.tried,
        noticed=found.noticed,
        survivors=tuple(
            Survivor(
                inside=str(one["inside"]),
                line=str(one["text"]),
                change=str(one["change"]),
                why=str(one["why"]),
                same=bool(one["changes_nothing"]),
            )
            for one in found.survivors
        ),
    )


def options(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", help="parts of module names; all of them when none is given")
    parser.add_argument("--module", action="append", default=[], help="the same, as an option")
    parser.add_argument("--sample", type=int, default=0, help="so many mutants of each module, chosen by chance")
    parser.add_argument("--seed", type=int, default=0, help="which chance")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--limit", type=float, default=10, help="seconds a mutant may take beyond five times its tests")
    parser.add_argument("--slowest", type=float, default=4, help="seconds beyond which a test is not used, and named")
    parser.add_argument("--afresh", action="store_true", help="use no result of an earlier run")
    parser.add_argument("--least", type=float, default=0, help="fail when a module's share in percent is lower")
    parser.add_argument("--tests", nargs="+", help="other tests than those of the module's row")
    parser.add_argument("--kept", type=Path, default=KEPT, help="the folder of the results")
    parser.add_argument("--json", action="store_true", help="print the reports as JSON")
    parser.add_argument("--note", action="store_true", help="keep the figures for docs/reference/mutants.md")
    return parser.parse_args(arguments)


def main() -> int:
    """Print what each module's tests notice and what they do not; 1 when the unchanged code fails or is not covered."""
    asked = options()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _leave)
    parts: list[str] = [*asked.parts, *asked.module]
    modules = [module for module in TARGETS if not parts or any(part in module for part in parts)]
    for name in THIRD_PARTIES:
        importlib.import_module(name)
    console = Console(stderr=True)
    reports: list[Report] = []
    tests_of = {module: tuple(asked.tests or TARGETS[module]) for module in modules}
    for tests in dict.fromkeys(tests_of.values()):
        group = [module for module in modules if tests_of[module] == tests]
        found = _group(group, tests, asked, console)
        if found is None:
            return 1
        reports += found
    if asked.json:
        print(json.dumps([{**asdict(one), "rate": round(one.rate, 4)} for one in reports], indent=1))
    else:
        _print(reports)
    for one in reports:
        for told in one.stale:
            print(f"a note says that no test notices this, but one does: {told}", file=sys.stderr)
        if asked.note and one.tried == one.possible and not one.stale:
            keep(figure(one, f"make mutate ARGS='{' '.join(sys.argv[1:])}'"))
    return int(any(one.rate * 100 < asked.least or one.stale for one in reports))


def _group(
    modules: Sequence[str], tests: Sequence[str], asked: argparse.Namespace, console: Console
) -> list[Report] | None:
    sources = {module: Source(module, (ROOT / _path_of(module)).read_text(encoding="utf-8")) for module in modules}
    known = {module: Known(module, sources[module].text, tests, asked.kept) for module in modules}
    possible = {module: source.mutants() for module, source in sources.items()}
    try:
        notes = {module: notes_of(module, every) for module, every in possible.items()}
    except StaleNoteError as error:
        console.print(str(error), markup=False)
        return None
    chosen: dict[tuple[str, int], Mutant] = {}
    for module, every in possible.items():
        taken = random.Random(asked.seed).sample(every, min(asked.sample or len(every), len(every)))  # noqa: S311 - no secret
        chosen.update({(module, one.number): one for one in sorted(taken, key=lambda one: one.number)})
    trials = {} if asked.afresh else {key: held for key in chosen if (held := known[key[0]].get(key[1])) is not None}
    todo = [one for key, one in chosen.items() if key not in trials]
    if todo:
        bounds = Bounds(jobs=asked.jobs, slowest_s=asked.slowest, limit_s=asked.limit)
        try:
            broken = _try(todo, sources, tests, bounds, console, lambda one, trial: _keep(one, trial, known, trials))
        finally:
            for one in known.values():
                one.save()
        if broken:
            console.print(f"the unchanged code fails its own tests: {broken}", markup=False)
            return None
    return [
        report(
            module,
            len(possible[module]),
            [(one, trials[key]) for key, one in chosen.items() if key[0] == module],
            notes[module],
        )
        for module in modules
    ]


def _keep(mutant: Mutant, trial: Trial, known: dict[str, Known], trials: dict[tuple[str, int], Trial]) -> None:
    trials[mutant.module, mutant.number] = trial
    known[mutant.module].put(mutant.number, trial)
    if len(trials) % 50 == 0:
        known[mutant.module].save()


def _try(
    todo: Sequence[Mutant],
    sources: dict[str, Source],
    tests: Sequence[str],
    bounds: Bounds,
    console: Console,
    keep: Callable[[Mutant, Trial], None],
) -> str:
    """Try mutants; tells why the unchanged code is not fit for it, or nothing."""
    by_key = {(one.module, one.number): one for one in todo}
    again: list[Mutant] = []
    slow: frozenset[str] = frozenset()
    # Without a thread of its own: a process with threads must not fork.
    with _bar(console) as bar:
        task = bar.add_task("watching the unchanged code", total=None)
        for told in lines_of(fork(serve(tests, sources, todo, bounds), forks=True)):
            if "broken" in told:
                return str(told["broken"])
            if "by" in told and "module" not in told:
                return f"ended by {told['by']}"
            if "watched" in told:
                bar.update(task, completed=told["watched"], total=told["of"])
            elif "slow" in told:
                slow = frozenset(told["slow"])
                for node in told["slow"]:
                    console.print(f"too slow to be used: {node}", markup=False, highlight=False, soft_wrap=True)
                bar.reset(task, total=len(todo), description="mutants")
            else:
                mutant = by_key[told["module"], told["number"]]
                if told.get("fresh"):
                    again.append(mutant)
                    continue
                keep(mutant, Trial(by=told["by"], reached=told["reached"]))
                bar.advance(task)
            bar.refresh()
        shares = [again[start :: bounds.jobs] for start in range(min(bounds.jobs, len(again)))]
        limit_s = bounds.limit_s + 180
        for told in told_by([fork(serve_afresh(share, sources, tests, slow, limit_s), forks=True) for share in shares]):
            if "by" in told and "module" not in told:
                return f"ended by {told['by']}"
            keep(by_key[told["module"], told["number"]], Trial(by=told["by"], reached=told["reached"]))
            bar.advance(task)
            bar.refresh()
    return ""


def _bar(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
        auto_refresh=False,
    )


def _print(reports: Sequence[Report]) -> None:
    for one in reports:
        late = f", {one.by_time} by taking too long" if one.by_time else ""
        sampled = "" if one.tried == one.possible else f" (of {one.possible} possible)"
        print(f"{one.module}: {_share(one.noticed, one.tried, one.changes_nothing)}{late}{sampled}")
        for held in one.survivors:
            kind = "excused" if held["changes_nothing"] else "left"
            why = f"    {kind}: {held['why']}" if held["why"] else ""
            unreached = "    no test reaches it" if not held["reached"] else ""
            print(f"  {_path_of(one.module)}:{held['line']}: {held['change']}    {held['text']}{unreached}{why}")
    if reports:
        tried, excused = sum(one.tried for one in reports), sum(one.changes_nothing for one in reports)
        print(f"in all: {_share(sum(one.noticed for one in reports), tried, excused)}")


def _share(noticed: int, tried: int, excused: int) -> str:
    counted = tried - excused
    share = f"{100 * noticed / counted:.1f} %: {noticed} of {counted} noticed" if counted else "nothing to notice"
    return f"{share}, {excused} of all {tried} are excused" if excused else share


if __name__ == "__main__":
    sys.exit(main())
