"""When evidence that was held a moment ago counts no longer, and when the state kept for an undo does not."""

from dataclasses import replace

import pytest

from soothsayer_mcp.evidence.admit import FUTURE_US, lapsed, outdated, overtaken, said
from soothsayer_mcp.evidence.weigh import weigh
from soothsayer_mcp.model.call import RunId
from soothsayer_mcp.model.decision import Decision, Effect, Mode
from soothsayer_mcp.model.dues import Dues, LastWrite, Seen
from soothsayer_mcp.model.evidence import Evidence, Level, Support
from soothsayer_mcp.model.failure import Failure, Reason
from soothsayer_mcp.model.json import digest
from soothsayer_mcp.model.step import SupportedStep
from soothsayer_mcp.model.undo import Captured, UndoClass, UndoTerms
from soothsayer_mcp.testing.factories import make_step
from soothsayer_mcp.testing.world import RUN_ID, NothingHeld

NOW_US = 1_800_000_000_000_000
OWN, OTHER = (RUN_ID, 7), (RUN_ID, 8)
TESTED = Evidence(
    id="e",
    kind="step",
    level=Level.E1,
    subject="run:all",
    began=40,
    at_us=NOW_US,
    newer_than=("file:/w/a", "file:/w/b"),
    made_by=OWN,
    pattern="tests",
    title="the tests passed",
    do="run the tests",
    root="/w",
)


class Record(NothingHeld):
    """A record that says what a test says."""

    def __init__(self) -> None:
        self.latest: Seen | None = None
        self.across = False
        self.writes: dict[str, LastWrite] = {}
        self.flying: dict[str, str] = {}
        self.used: set[str] = set()

    def seen(self, run: str, pattern: str, *, across: bool = False) -> Seen | None:
        assert (run, pattern) == (RUN_ID, "tests")
        self.across = across
        return self.latest

    def last_write(self, subject: str, *, but: tuple[str, int] | None) -> LastWrite:
        assert but in {None, OWN}
        return self.writes.get(subject, LastWrite())

    def in_flight(self, subject: str, *, but: tuple[str, int] | None = None) -> str:
        assert but is None
        return self.flying.get(subject, "")

    def spent(self, key: str) -> bool:
        return key in self.used


def latest(no: int) -> Seen:
    return Seen(
        run=RUN_ID,
        no=no,
        began=1,
        sure=True,
        at_us=NOW_US,
        ended=True,
        succeeded=True,
        level="E1",
        why="",
        results={},
        before={},
        after={},
        key=b"",
    )


def step(*evidence: Evidence, undo: UndoTerms | None = None, opens: tuple[str, ...] = ()) -> SupportedStep:
    proposed = make_step()
    decision = Decision(
        effect=Effect.ALLOW,
        reason=None,
        rules=(),
        mode=Mode.ENFORCE,
        policy_digest=digest(b""),
        dues=Dues(undo=undo, opens=opens),
    )
    decided = proposed.decided(decision)
    captured = None if undo is None else Captured(began=40)
    return decided.supported(replace(weigh(decided), evidence=evidence, captured=captured))


def test_what_nothing_came_after_counts() -> None:
    record = Record()
    assert lapsed(TESTED, record, NOW_US) is None
    record.latest = latest(OWN[1])
    record.writes["file:/w/a"] = LastWrite(ended=40, subject="file:/w/a", step="5555.3")
    assert lapsed(TESTED, record, NOW_US) is None
    assert lapsed(replace(TESTED, expires_us=NOW_US + 1, at_us=NOW_US + FUTURE_US, spend="k"), record, NOW_US) is None


def test_a_later_step_of_its_kind_takes_the_place_of_the_one_that_it_is_about() -> None:
    record = Record()
    record.latest = latest(OTHER[1])
    assert lapsed(TESTED, record, NOW_US) == (Reason.STALE, "5555.8 came after it")
    assert lapsed(replace(TESTED, pattern=""), record, NOW_US) is None
    assert lapsed(replace(TESTED, made_by=None), record, NOW_US) is None


def test_where_steps_of_all_runs_serve_the_latest_of_all_runs_is_asked_for() -> None:
    record = Record()
    across = replace(TESTED, across=True)
    record.latest = latest(OWN[1])
    assert lapsed(across, record, NOW_US) is None
    assert record.across
    # The same number in another run is another step.
    record.latest = latest(OWN[1])._replace(run=RunId("6" * 32))
    assert lapsed(across, record, NOW_US) == (Reason.STALE, f"6666.{OWN[1]} came after it")
    assert lapsed(TESTED, record, NOW_US) is not None
    assert not record.across


@pytest.mark.parametrize(
    ("write", "why"),
    [
        (LastWrite(ended=-1, open=True, subject="file:/w/b", step="5555.9"), "5555.9 may still be writing b"),
        (LastWrite(ended=41, subject="file:/w/b", step="5555.9"), "5555.9 wrote b after it began"),
        (LastWrite(ended=41, subject="*", step="5555.9"), "5555.9 wrote something that it did not name after it began"),
    ],
)
def test_a_write_that_ended_since_or_is_under_way_makes_it_too_old(write: LastWrite, why: str) -> None:
    record = Record()
    record.writes["file:/w/b"] = write
    assert lapsed(TESTED, record, NOW_US) == (Reason.STALE, why)


@pytest.mark.parametrize(
    ("evidence", "found"),
    [
        (replace(TESTED, expires_us=NOW_US), (Reason.STALE, "it is too old")),
        (replace(TESTED, at_us=NOW_US + 2_000_001), (Reason.STALE, "its time lies in the future")),
        (replace(TESTED, spend="used"), (Reason.CONSUMED, "it was used already")),
        (replace(TESTED, spend="fresh"), None),
    ],
)
def test_it_expires_comes_from_no_future_and_serves_once(evidence: Evidence, found: tuple[Reason, str] | None) -> None:
    record = Record()
    record.used = {"used", ""}
    assert lapsed(evidence, record, NOW_US) == found


def test_a_step_is_refused_with_every_piece_that_counts_no_longer() -> None:
    old, used = replace(TESTED, expires_us=1), replace(TESTED, spend="used", title="a yes", do="")
    record = Record()
    record.used = {"used"}
    assert outdated(step(TESTED), record, NOW_US) is None
    refused = outdated(step(TESTED, old, used), record, NOW_US)
    assert refused == Failure(
        reason=Reason.STALE,
        summary="files.read",
        lines=(
            "- the tests passed: it is too old.",
            "  Do: run the tests",
            "- a yes: it was used already.",
            "Then call files.read again with the same arguments.",
        ),
    )


KEPT = UndoTerms(kind=UndoClass.RESTORE, rule="p/r", files=("/w/a", "/w/c"), root="/w")


def test_what_was_kept_for_an_undo_is_worth_nothing_once_another_step_wrote() -> None:
    record = Record()
    assert overtaken(step(undo=KEPT), record) is None
    record.writes["file:/w/c"] = LastWrite(ended=40, subject="file:/w/c", step="5555.9")
    assert overtaken(step(undo=KEPT), record) is None
    record.writes["file:/w/c"] = LastWrite(ended=41, subject="file:/w/c", step="5555.9")
    refused = Failure(reason=Reason.STATE_CHANGED, summary="5555.9 wrote to c meanwhile")
    assert overtaken(step(undo=KEPT), record) == refused
    record.writes["file:/w/c"] = LastWrite(ended=41, subject="*", step="5555.9")
    assert overtaken(step(undo=KEPT), record) is None
    record.flying["file:/w/c"] = "5555.6"
    assert overtaken(step(undo=KEPT), record) == replace(refused, summary="5555.6 wrote to c meanwhile")


def test_only_a_step_that_keeps_something_can_be_overtaken() -> None:
    record = Record()
    record.flying["file:/w/a"] = "5555.6"
    kept = step(undo=KEPT)
    assert overtaken(kept, record) is not None
    without = replace(kept, support=Support())
    assert overtaken(without, record) is None
    unsaid = replace(kept, decision=replace(kept.decision, dues=Dues()))
    assert overtaken(unsaid, record) is None


@pytest.mark.parametrize(
    ("subject", "words"),
    [
        ("*", "something that it did not name"),
        ("file:/w/src/a", "src/a"),
        ("file:/etc/a", "/etc/a"),
        ("server", "server"),
        ("key:a\nb", "a\\nb"),
    ],
)
def test_a_subject_is_told_in_words_and_escaped(subject: str, words: str) -> None:
    assert said(subject, "/w") == words
