"""What import contracts cannot say of the core: who makes steps, who touches the world, what stays unwired."""

import ast
import sys
from enum import StrEnum
from functools import cache

import pytest

from soothsayer_mcp.adapters.policy_files.documents.labels import LabelDocument
from soothsayer_mcp.model.call import Cause, Does, PinState
from soothsayer_mcp.model.decision import Effect, Mode, ObligationKind
from soothsayer_mcp.model.entry import Durability, Kind, PayloadMode
from soothsayer_mcp.model.evidence import Level
from soothsayer_mcp.model.failure import REASONS, Acted, FailureClass, FixBy, Reason
from soothsayer_mcp.model.finding import Answer
from soothsayer_mcp.model.run import DeclaredBy, NextStep, RunState
from syntax import SOURCES, Source, dotted

LATER_STEPS = {
    "DecidedStep",
    "SupportedStep",
    "RecordedStep",
    "WithheldStep",
    "AnsweredStep",
    "VerifiedStep",
    "ClosedStep",
}

STEP_NAMES = {"step", "decided", "supported", "recorded", "withheld", "answered", "verified", "closed"}

VERBS = ("policy", "evidence", "run", "undo", "trace", "wire")

# The layers in which the world may be touched by name. Everything above them asks a port.
WORLDLY = {"adapters", "testing", "demo", "cli", "console", "web", "__main__"}

FACES = {"console", "demo"}
"""They read what others produced."""

WORLD_CALLS = {
    "open",
    "input",
    "print",
    "os.urandom",
    "os.getenv",
    "time.time",
    "time.time_ns",
    "time.monotonic",
    "time.monotonic_ns",
    "time.perf_counter",
    "time.perf_counter_ns",
    "datetime.now",
    "datetime.utcnow",
    "datetime.today",
    "date.today",
    "random.random",
    "secrets.token_hex",
    "uuid.uuid4",
}

# The modules of the core that catch whatever comes, and what they make of it.
CATCH_ALL = {
    "governor": "a call that was sent is unknown, one that was not is refused",
    "policy.decide": "a denial, and a tool that is not listed",
    "policy.dues": "a doubt, under which an earlier step passes for nothing",
    "policy.prepared": "a doubt, which matches where the rule denies or asks",
    "policy.explain": "the same doubt, told to a person",
    "proxy.calls": "the end of one call, refused or unknown",
    "proxy.connection": "the end of one request with an error",
    "proxy.relay": "the end of one message; those that came with it are still read",
    "selftest": "a part that is not live, so that nothing is forwarded",
}

IMPORTERS = {"__import__", "importlib.import_module", "import_module"}

# Members that no code produces yet, by the part of the product that will. They are in the lists already because the
# lists are in records for ever.
LATER: dict[str, tuple[StrEnum, ...]] = {
    "evidence": (Kind.STEP_PROPOSED, Level.E4),
    "checks of outcomes": (Kind.FINDING_WAIVED,),
    "undo": (ObligationKind.CAPTURE,),
    "runs with scope, budgets and completion": (Reason.HELD,),
    "segments, erasure and keys of the trace": (
        Kind.SEGMENT_OPENED,
        Kind.SEGMENT_CLOSED,
        Kind.TRACE_ERASED,
        Kind.KEY_CHANGED,
    ),
}
NOT_YET = frozenset((type(member), member.name) for members in LATER.values() for member in members)

CLOSED_LISTS = (
    Acted,
    Reason,
    Kind,
    PayloadMode,
    Durability,
    Effect,
    Mode,
    ObligationKind,
    Level,
    Answer,
    Cause,
    PinState,
    RunState,
    NextStep,
    DeclaredBy,
)


def test_only_the_step_module_makes_steps_that_have_come_further() -> None:
    made = [
        source.at(call)
        for source in SOURCES
        if source.name != "model.step"
        for call, name in source.calls()
        if name.split(".")[-1] in LATER_STEPS
    ]
    assert made == []


def test_no_step_is_changed_after_it_was_made() -> None:
    """`dataclasses.replace` on a recorded step would forward something else than what is on record."""
    suspects = [
        source.at(call)
        for source in SOURCES
        if source.name != "model.step" and any(name == "soothsayer_mcp.model.step" for _, name in source.imports())
        for call, name in source.calls()
        if name == "object.__setattr__"
        or (name.split(".")[-1] == "replace" and call.args and dotted(call.args[0]).split(".")[-1] in STEP_NAMES)
    ]
    assert suspects == []


def test_verbs_and_nouns_import_the_standard_library_and_what_lies_below() -> None:
    foreign = [
        f"{source.at(node)} imports {name}"
        for source in SOURCES
        if source.layer in {*VERBS, "model"}
        for node, name in source.imports()
        if not _is_below(source, name)
    ]
    assert foreign == []


def _is_below(source: Source, name: str) -> bool:
    parts = name.split(".")
    if parts[0] != "soothsayer_mcp":
        return parts[0] in sys.stdlib_module_names
    return len(parts) == 1 or parts[1] in {"model", source.layer}


def test_time_chance_and_files_are_touched_in_adapters_and_faces_only() -> None:
    touched = [
        f"{source.at(call)} calls {name}"
        for source in SOURCES
        if source.layer not in WORLDLY
        for call, name in source.calls()
        if name in WORLD_CALLS
    ]
    assert touched == []


def test_nothing_is_imported_inside_a_function() -> None:
    inside = [
        source.at(node)
        for source in SOURCES
        for function in ast.walk(source.tree)
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
        for node in ast.walk(function)
        if isinstance(node, ast.Import | ast.ImportFrom)
    ]
    assert inside == []


def test_late_imports_go_through_one_module() -> None:
    elsewhere = [
        source.at(call)
        for source in SOURCES
        if source.name != "adapters.lazy"
        for call, name in source.calls()
        if name in IMPORTERS
    ]
    assert elsewhere == []


def test_whatever_comes_is_caught_only_where_it_ends_in_a_refusal() -> None:
    """A fault that is swallowed anywhere else could end in an allow."""
    broad = {
        source.name
        for source in SOURCES
        if source.layer in {*VERBS, "model", "ports", "governor", "selftest", "recovery", "proxy"}
        for node in ast.walk(source.tree)
        if isinstance(node, ast.ExceptHandler) and _is_broad(node)
    }
    assert broad == set(CATCH_ALL)


def _is_broad(handler: ast.ExceptHandler) -> bool:
    """Whether a handler catches whatever comes and keeps it: one that raises it again keeps nothing."""
    last = handler.body[-1]
    if isinstance(last, ast.Raise) and last.exc is None:
        return False
    return handler.type is None or dotted(handler.type) in {"Exception", "BaseException"}


def test_every_failure_class_has_a_reason_that_is_produced() -> None:
    produced = {REASONS[reason].failure for reason in Reason if (Reason, reason.name) not in NOT_YET}
    assert produced == set(FailureClass)


def test_every_word_for_what_a_tool_does_can_be_written_in_a_policy() -> None:
    does = LabelDocument.model_validate({"tools": ["a.b"], "does": list(Does)}).does
    assert set(does) == set(Does)


def test_every_reason_is_explained() -> None:
    assert set(REASONS) == set(Reason)
    assert {guidance.fix_by for guidance in REASONS.values()} == set(FixBy)
    for guidance in REASONS.values():
        assert guidance.meaning.endswith(".")
        assert guidance.remedy.endswith((".", "`", "..."))
        assert guidance.first_line.strip()


@pytest.mark.parametrize(
    "member",
    [member for enum in CLOSED_LISTS for member in enum],
    ids=lambda member: f"{type(member).__name__}.{member.name}",
)
def test_every_member_of_a_closed_list_is_produced_or_stands_among_the_later_ones(member: StrEnum) -> None:
    produced = any(_names(source, member) for source in SOURCES if source.layer not in FACES)
    later = (type(member), member.name) in NOT_YET
    assert produced != later, f"produced: {produced}; in the list of later ones: {later}"


def _names(source: Source, member: StrEnum) -> bool:
    """Whether the module names the member outside its own definition and its table of words."""
    if source.name == type(member).__module__.removeprefix("soothsayer_mcp."):
        return False
    return (type(member).__name__, member.name) in _attributes(source)


@cache
def _attributes(source: Source) -> frozenset[tuple[str, str]]:
    """Every `Name.attribute` in a module."""
    return frozenset(
        (node.value.id, node.attr)
        for node in ast.walk(source.tree)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)
    )
