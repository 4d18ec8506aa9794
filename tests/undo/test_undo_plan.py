"""The plan of a rollback, over generated histories of files."""

import hashlib
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from soothsayer_mcp.model.undo import ABSENT, Captured, FileBefore, UndoClass, UndoState, UndoTerms
from soothsayer_mcp.undo.kept import Kept
from soothsayer_mcp.undo.plan import ACTS, BLOCKS, MoveKind, Past, Plan, Present, plan

World = dict[str, str]
PATHS = ("/w/a", "/w/b", "/w/c")
edits = st.lists(st.tuples(st.sampled_from(PATHS), st.sampled_from(["", "x", "y", "z"])), max_size=12)


def state(content: str) -> str:
    return hashlib.sha256(content.encode()).hexdigest() if content else ABSENT


def past(no: int, path: str, before: str, after: str | None, **said: object) -> Past:
    kept = Kept(
        terms=UndoTerms(kind=UndoClass.RESTORE, rule="r", files=(path,), root="/w"),
        before=Captured(files=(FileBefore(path=path, root="/w", state=before),)),
        args={},
        expected={},
        after=None if after is None else Captured(files=(FileBefore(path=path, root="/w", state=after),)),
    )
    fields: dict[str, object] = {
        "server": "fs",
        "tool": "write",
        "reads": False,
        "outcome": "succeeded",
        "acted": "yes",
        "kind": UndoClass.RESTORE,
        "state": UndoState.OPEN,
        "ended": no * 10,
        "gone": False,
        "kept": kept,
    }
    return Past(no=no, **{**fields, **said})  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def history(made: list[tuple[str, str]], world: World) -> list[Past]:
    """What steps did to a world, which is changed."""
    found: list[Past] = []
    for no, (path, content) in enumerate(made, 1):
        before = world.get(path, ABSENT)
        world[path] = state(content)
        found.append(past(no, path, before, world[path]))
    return found


def undone(made: Plan, world: World) -> World:
    """The world after a plan is carried out as planned: each act finds what the step had left."""
    after = dict(world)
    for move in made.moves:
        if move.kind in ACTS:
            assert after.get(move.about, ABSENT) == move.after
            after[move.about] = move.before
    return after


def present(world: World) -> Present:
    return Present(files={path: world.get(path, ABSENT) for path in PATHS})


@given(edits, edits, st.integers(0, 12))
def test_without_foreign_writes_the_state_after_the_named_step_comes_back(
    earlier: list[tuple[str, str]], made: list[tuple[str, str]], to: int
) -> None:
    world: World = {}
    history(earlier, world)
    start = dict(world)
    steps = history(made, world)
    wanted = dict(start)
    for step, (path, content) in zip(steps, made, strict=True):
        if step.no <= to:
            wanted[path] = state(content)
    found = plan(steps, present(world), to=to)
    assert not found.of(BLOCKS)
    after = undone(found, world)
    assert {path: after.get(path, ABSENT) for path in PATHS} == {path: wanted.get(path, ABSENT) for path in PATHS}


@given(edits, st.sampled_from(PATHS), st.sampled_from(["", "x", "foreign"]))
def test_a_foreign_write_is_a_conflict_or_changes_nothing_that_the_plan_touches(
    made: list[tuple[str, str]], path: str, content: str
) -> None:
    world: World = {}
    steps = history(made, world)
    expected = dict(world)
    world[path] = state(content)
    found = plan(steps, present(world))
    if world.get(path, ABSENT) != expected.get(path, ABSENT):
        # Nothing that is there and that no step had left, or found, is ever replaced.
        known = {one.kept.before.files[0].state for one in steps if one.kept} | {
            one.kept.after.files[0].state for one in steps if one.kept and one.kept.after
        }
        if world[path] not in known:
            assert all(move.kind not in ACTS or move.about != path for move in found.moves)
    first = {move.about: move for move in reversed(found.moves) if move.kind in ACTS}
    assert all(move.now == world.get(about, ABSENT) for about, move in first.items())


@given(edits, st.integers(1, 12))
def test_what_is_left_leaves_all_that_lies_under_it(made: list[tuple[str, str]], skip: int) -> None:
    world: World = {}
    steps = history(made, world)
    found = plan(steps, present(world), skip=[skip])
    if skip > len(made):
        return
    path = made[skip - 1][0]
    for move in found.moves:
        if move.about == path:
            assert (move.kind is MoveKind.LEFT) == (move.no <= skip) or move.kind is MoveKind.NOT_NEEDED


def kinds(*steps: Past, world: World) -> list[MoveKind]:
    return [move.kind for move in plan(steps, present(world)).moves]


def test_an_unknown_step_is_settled_by_what_is_there() -> None:
    old, new, other = state("old"), state("new"), state("other")
    unknown = {"outcome": "unknown", "acted": "maybe"}
    assert kinds(past(1, "/w/a", old, None, **unknown, gone=True), world={"/w/a": old}) == [MoveKind.NOT_NEEDED]
    # It may still land: its process lives.
    assert kinds(past(1, "/w/a", old, None, **unknown), world={"/w/a": old}) == [MoveKind.UNSETTLED]
    assert kinds(past(1, "/w/a", old, new, **unknown), world={"/w/a": new}) == [MoveKind.RESTORE]
    assert kinds(past(1, "/w/a", old, new, **unknown), world={"/w/a": other}) == [MoveKind.UNSETTLED]
    assert kinds(past(1, "/w/a", old, None, **unknown, gone=True), world={"/w/a": new}) == [MoveKind.UNSETTLED]
    assert kinds(past(1, "/w/a", old, None, outcome="", acted=""), world={"/w/a": old}) == [MoveKind.UNSETTLED]


def test_what_took_effect_unseen_is_for_a_person_and_keeps_no_other_step_from_coming_back() -> None:
    old, new, newer = state("old"), state("new"), state("newer")
    settled = {"outcome": "unknown", "acted": "yes"}
    unseen = past(2, "/w/a", new, None, **settled)
    steps = [past(1, "/w/a", old, new), unseen, past(3, "/w/b", old, new)]
    found = plan(steps, present({"/w/a": newer, "/w/b": new}))
    assert [(move.no, move.kind) for move in found.moves] == [
        (3, MoveKind.RESTORE),
        (2, MoveKind.IRREVERSIBLE),
        (1, MoveKind.LEFT),
    ]
    assert "by hand" in found.moves[1].why
    # A look that still found the state before came too early to tell what it left.
    early = past(2, "/w/a", old, old, **settled)
    assert kinds(early, world={"/w/a": new}) == [MoveKind.IRREVERSIBLE]
    assert kinds(early, world={"/w/a": old}) == [MoveKind.NOT_NEEDED]
    assert kinds(past(2, "/w/a", old, new, **settled), world={"/w/a": new}) == [MoveKind.RESTORE]
    assert kinds(past(2, "/w/a", old, new, **settled), world={"/w/a": newer}) == [MoveKind.CONFLICT]


def test_what_policy_says_a_step_writes_tells_what_it_left_where_nobody_saw_it() -> None:
    old, new = state("old"), state("new")
    for after in (None, old):
        step = past(1, "/w/a", old, after, outcome="unknown", acted="yes")
        assert step.kept is not None
        known = replace(step, kept=replace(step.kept, expected={"/w/a": new}))
        assert kinds(known, world={"/w/a": new}) == [MoveKind.RESTORE]
        assert kinds(known, world={"/w/a": state("foreign")}) == [MoveKind.CONFLICT]


def test_what_cannot_be_taken_back_is_read_first_and_what_had_no_effect_not_at_all() -> None:
    old, new = state("old"), state("new")
    steps = [
        past(1, "/w/a", old, new),
        past(2, "/w/b", old, new, kind=None, kept=None),
        past(3, "/w/c", old, new, kind=UndoClass.NEVER, kept=None),
        past(4, "/w/c", old, new, acted="no"),
        past(5, "/w/c", old, new, reads=True),
        past(6, "/w/c", old, new, state=UndoState.UNDONE),
        past(7, "/w/c", old, new, kind=UndoClass.NONE, kept=None),
    ]
    found = plan(steps, present({"/w/a": new}))
    assert [(move.no, move.kind) for move in found.shown] == [
        (3, MoveKind.IRREVERSIBLE),
        (2, MoveKind.IRREVERSIBLE),
        (1, MoveKind.RESTORE),
    ]


def test_the_order_is_that_of_the_ends_and_not_of_the_beginnings() -> None:
    a, b, c = state("a"), state("b"), state("c")
    steps = [past(1, "/w/a", b, c, ended=90), past(2, "/w/a", a, b, ended=30)]
    assert [move.no for move in plan(steps, present({"/w/a": c})).moves] == [1, 2]
    assert not plan(steps, present({"/w/a": c})).of(BLOCKS)


def test_another_state_makes_another_digest() -> None:
    steps = [past(1, "/w/a", state("old"), state("new"))]
    one, other = plan(steps, present({"/w/a": state("new")})), plan(steps, present({"/w/a": state("old")}))
    assert one.digest != other.digest


def test_after_three_tries_it_is_left_to_people() -> None:
    tried = tuple((no, "failed") for no in (2, 3, 4))
    step = past(1, "/w/a", state("old"), state("new"), tries=tried)
    assert kinds(step, world={"/w/a": state("new")}) == [MoveKind.CONFLICT]
