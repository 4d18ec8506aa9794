"""The plan of a rollback by inverse calls: what is compared, with what, and when."""

from dataclasses import replace

from soothsayer_mcp.model.json import Json
from soothsayer_mcp.model.settlement import SettleTerms
from soothsayer_mcp.model.settling import Settling
from soothsayer_mcp.model.undo import Captured, Look, UndoClass, UndoState, UndoTerms
from soothsayer_mcp.undo.kept import after_form, before_form, read_kept, with_after
from soothsayer_mcp.undo.plan import MoveKind, Past, Present, plan


def past(
    no: int,
    before: Json,
    after: Json,
    *,
    kind: UndoClass = UndoClass.RESTORE,
    look: str = "s.get",
    outcome: str = "succeeded",
    tries: tuple[tuple[int, str], ...] = (),
    reach: Json = None,
    seen: bool = True,
    acted: str = "",
    opens: tuple[str, ...] = ("thing:a",),
) -> Past:
    terms = UndoTerms(kind=kind, rule="r", tool="s.put", args={"x": "${before.x}"}, look=Look(tool=look, args={}))
    captured = Captured(seen=before, has_seen=True, reach={"s": reach or {}})
    kept = with_after(
        read_kept(before_form(terms, captured, {}, {}, opens)), after_form(Captured(seen=after, has_seen=seen))
    )
    return Past(
        no=no,
        server="s",
        tool="set",
        reads=False,
        outcome=outcome,
        acted=acted or ("maybe" if outcome == "unknown" else "yes"),
        kind=kind,
        state=UndoState.OPEN,
        ended=no,
        gone=not kept.outlives,
        kept=kept,
        tries=tries,
    )


def kinds(*pasts: Past, **seen: Json) -> list[MoveKind]:
    looks = {one.no: one.kept.terms.look.tool for one in pasts if one.kept and one.kept.terms.look}
    named = {f"s.{name}": value for name, value in seen.items()}
    present = Present(looks=looks, seen=named, calls={one.no: {} for one in pasts})
    return [move.kind for move in plan(pasts, present).moves]


def test_what_a_step_left_is_undone_what_was_there_before_needs_nothing_and_all_else_is_a_conflict() -> None:
    assert kinds(past(1, "old", "new"), get="new") == [MoveKind.CALL]
    assert kinds(past(1, "old", "new"), get="old") == [MoveKind.NOT_NEEDED]
    assert kinds(past(1, "old", "new"), get="other") == [MoveKind.CONFLICT]
    # Making good compares nothing, before it was tried.
    assert kinds(past(1, "old", "new", kind=UndoClass.COMPENSATE), get="other") == [MoveKind.CALL]


def test_steps_on_one_thing_are_compared_with_what_the_undo_before_them_leaves() -> None:
    assert kinds(past(1, "a", "b"), past(2, "b", "c"), get="c") == [MoveKind.CALL, MoveKind.CALL]
    assert kinds(past(1, "a", "b"), past(2, "x", "c"), get="c") == [MoveKind.CALL, MoveKind.CONFLICT]


def test_a_look_that_an_earlier_undo_changes_is_compared_when_its_turn_comes() -> None:
    whole = past(1, {"all": 1}, {"all": 2}, look="s.list")
    one = past(2, "b", "c")
    assert kinds(whole, one, get="c", list={"all": 3}) == [MoveKind.CALL, MoveKind.CALL]
    # Where what is undone before does not reach it, it is compared at once.
    apart = past(2, "b", "c", opens=("other:a",))
    assert kinds(whole, apart, get="c", list={"all": 3}) == [MoveKind.CALL, MoveKind.CONFLICT]


def test_an_undo_of_which_nobody_knows_is_settled_by_the_look_before_it_is_tried_again() -> None:
    tried = ((7, "unknown"),)
    for kind in (UndoClass.RESTORE, UndoClass.COMPENSATE):
        assert kinds(past(1, "old", "new", kind=kind, tries=tried), get="old") == [MoveKind.NOT_NEEDED]
        assert kinds(past(1, "old", "new", kind=kind, tries=tried), get="new") == [MoveKind.CALL]
    # A remote server may still carry it out.
    far: Json = {"url": "https://far.example.test/mcp"}
    assert kinds(past(1, "old", "new", tries=tried, reach=far), get="new") == [MoveKind.UNSETTLED]
    assert kinds(past(1, "old", "new", tries=((7, "succeeded"),)), get="new") == [MoveKind.NOT_NEEDED]


def test_after_three_tries_an_inverse_call_is_left_to_people() -> None:
    tried = tuple((no, "failed") for no in (7, 8, 9))
    assert kinds(past(1, "old", "new", tries=tried), get="new") == [MoveKind.CONFLICT]


def test_a_step_that_nobody_looked_at_is_no_call() -> None:
    assert [move.kind for move in plan([past(1, "old", "new")], Present()).moves] == [MoveKind.CONFLICT]


def test_a_remote_step_of_unknown_outcome_may_still_happen() -> None:
    far: Json = {"url": "https://far.example.test/mcp"}
    assert kinds(past(1, "old", "new", outcome="unknown", reach=far), get="old") == [MoveKind.UNSETTLED]
    assert kinds(past(1, "old", "new", outcome="unknown"), get="old") == [MoveKind.NOT_NEEDED]


def test_a_call_that_took_effect_unseen_is_for_a_person_with_all_that_lies_under_it() -> None:
    unseen = past(2, "b", None, outcome="unknown", acted="yes", seen=False)
    assert kinds(unseen, get="c") == [MoveKind.IRREVERSIBLE]
    assert kinds(past(1, "a", "b"), unseen, get="c") == [MoveKind.IRREVERSIBLE, MoveKind.LEFT]
    assert kinds(unseen, get="b") == [MoveKind.NOT_NEEDED]
    early = past(1, "a", "a", outcome="unknown", acted="yes")
    assert kinds(early, get="b") == [MoveKind.IRREVERSIBLE]
    # What makes good compares nothing: the call is all that is known to be due.
    made_good = past(1, "a", None, kind=UndoClass.COMPENSATE, outcome="unknown", acted="yes", seen=False)
    assert kinds(made_good, get="c") == [MoveKind.CALL]


def test_a_call_without_an_inverse_leaves_what_lies_under_it() -> None:
    looks, seen = {1: "s.get", 2: "s.get"}, {"s.get": "c"}
    present = Present(looks=looks, seen=seen, calls={1: {}}, barred={2: "not offered"})
    found = plan([past(1, "a", "b"), past(2, "b", "c")], present)
    assert [(move.no, move.kind) for move in found.moves] == [(2, MoveKind.IRREVERSIBLE), (1, MoveKind.LEFT)]


def test_a_call_is_over_where_its_server_ended_with_its_process() -> None:
    def sent(reach: Json, *, gone: bool = True) -> Past:
        terms = SettleTerms(rule="r", tool="t.get", args={}, happened="true")
        settling = Settling(terms=terms, values={}, reach={"s": reach, "t": {"url": "https://t.test"}})
        return replace(past(1, "a", None, outcome="unknown"), gone=gone, settling=settling)

    assert sent({"argv": ["s"]}).is_over
    assert not sent({"argv": ["s"]}, gone=False).is_over
    assert not sent({"url": "https://s.test"}).is_over
    assert not sent(None).is_over
    assert not past(1, "a", None, outcome="unknown").is_over


def test_an_earlier_call_about_the_same_thing_is_not_taken_back_from_under_one_that_stays() -> None:
    made = past(1, "a", "b", kind=UndoClass.COMPENSATE, opens=("order:a",))
    other = past(2, "a", "b", kind=UndoClass.COMPENSATE, opens=("order:b",))
    anything = past(3, "a", "b", kind=UndoClass.COMPENSATE, opens=("*",))
    skipped = past(4, "a", "b", kind=UndoClass.COMPENSATE, opens=("order:a", "*"))
    steps = [
        replace(one, kept=one.kept and replace(one.kept, terms=replace(one.kept.terms, look=None)))
        for one in (made, other, anything, skipped)
    ]
    found = plan(steps, Present(calls={one.no: {} for one in steps}), skip=[4])
    assert [move.kind for move in found.moves] == [MoveKind.LEFT, MoveKind.CALL, MoveKind.CALL, MoveKind.LEFT]
