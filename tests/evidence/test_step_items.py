"""Items about earlier steps: which step on record satisfies one, and why another does not."""

from collections.abc import Mapping

import pytest

from soothsayer_mcp.evidence.completion import unmet
from soothsayer_mcp.evidence.gap import Gap, refusal
from soothsayer_mcp.evidence.steps import call_of, do_of, judge_step, keyed, title_of
from soothsayer_mcp.model.dues import Held, Item, LastWrite, Seen
from soothsayer_mcp.model.evidence import Evidence, Level
from soothsayer_mcp.model.failure import Reason
from soothsayer_mcp.model.json import Json
from soothsayer_mcp.testing.factories import make_step
from soothsayer_mcp.testing.world import RUN_ID, NothingHeld

NOW_US = 1_800_000_000_000_000
KEY = b"k" * 32
TITLE, DO = "a successful shell.test", "call shell.test"
STEP = f"{RUN_ID[:4]}.7"


def item(*, newer_than: tuple[str, ...] = (), root: str = "", **spec: Json) -> Item:
    named: dict[str, Json] = {"tools": ["shell.test"], **spec}
    return Item(kind="step", spec=named, rule="t/r", newer_than=newer_than, pattern="p", root=root)


PASSED = Seen(
    run=RUN_ID,
    no=7,
    began=40,
    sure=True,
    at_us=NOW_US - 5_000_000,
    ended=True,
    succeeded=True,
    level="E2",
    why="",
    results={"result.sha": keyed(KEY, "abc")},
    before={"src/*": "d1"},
    after={"src/*": "d1"},
    key=KEY,
)


def judged(
    what: Item,
    seen: Seen | None = PASSED,
    *,
    held: Held | None = None,
    values: Mapping[str, Json] | None = None,
    files: Mapping[str, str] | None = None,
) -> Evidence | Gap:
    return judge_step(
        what, seen, held or NothingHeld(), id_="e1", values=values or {}, files=files or {}, now_us=NOW_US
    )


def why(found: Evidence | Gap) -> tuple[Reason, str]:
    assert isinstance(found, Gap)
    assert (found.title, found.do) == (TITLE, DO)
    return found.reason, found.why


def test_a_step_that_succeeded_is_evidence_of_its_own_level_and_names_the_step() -> None:
    assert judged(item()) == Evidence(
        id="e1",
        kind="step",
        level=Level.E2,
        subject=f"step:{STEP}",
        source={"step": f"{RUN_ID}.7"},
        began=40,
        at_us=NOW_US - 5_000_000,
        made_by=(RUN_ID, 7),
        pattern="p",
        title=TITLE,
        do=DO,
    )


def test_evidence_is_about_what_it_has_to_be_newer_than_and_lasts_as_long_as_policy_says() -> None:
    found = judged(item(newer_than=("file:/w", "db"), root="/w", max_age=60_000, single_use=True))
    assert isinstance(found, Evidence)
    assert (found.subject, found.newer_than, found.root) == ("file:/w,db", ("file:/w", "db"), "/w")
    assert found.expires_us == PASSED.at_us + 60_000_000
    assert found.spend == f"step:{RUN_ID}.7"


@pytest.mark.parametrize("said", [False, "yes", 1])
def test_only_the_word_true_makes_evidence_serve_once(said: Json) -> None:
    found = judged(item(single_use=said))
    assert isinstance(found, Evidence)
    assert found.spend == ""


@pytest.mark.parametrize(
    ("seen", "reason", "told"),
    [
        (None, Reason.ABSENT, "no such step is on record"),
        (PASSED._replace(sure=False), Reason.ABSENT, f"it cannot be told whether {STEP} was one"),
        (PASSED._replace(ended=False), Reason.ABSENT, f"{STEP} has not ended, or its outcome is not known"),
        (
            PASSED._replace(succeeded=False, why="tool_error/tool_failed"),
            Reason.CONTRADICTED,
            f"the latest one, {STEP}, did not succeed (tool_error/tool_failed)",
        ),
    ],
)
def test_what_is_no_pass_is_a_gap_that_says_why(seen: Seen | None, reason: Reason, told: str) -> None:
    assert why(judged(item(), seen)) == (reason, told)


def test_a_step_of_a_lower_level_than_is_wanted_does_not_do() -> None:
    assert isinstance(judged(item(min_level="E1")), Evidence)
    assert isinstance(judged(item(min_level="E2")), Evidence)
    assert why(judged(item(min_level="E3"))) == (Reason.LEVEL_TOO_LOW, f"{STEP} is E2, E3 is needed")


MATCH: Json = {"result.sha": "args.sha"}


def test_a_result_has_to_be_what_the_call_says() -> None:
    wanted = item(match=MATCH)
    assert isinstance(judged(wanted, values={"args": {"sha": "abc"}}), Evidence)
    assert why(judged(wanted, values={"args": {"sha": "abd"}})) == (
        Reason.CONTRADICTED,
        f'result.sha of {STEP} is not args.sha, which is "abd"',
    )
    assert why(judged(wanted, values={"args": {}})) == (Reason.ABSENT, "there is no args.sha")
    assert why(judged(wanted, PASSED._replace(results={}), values={"args": {"sha": "abc"}})) == (
        Reason.ABSENT,
        f"{STEP} has no result.sha",
    )


def test_a_digest_of_a_value_says_nothing_under_another_key() -> None:
    assert keyed(KEY, "abc") != keyed(b"l" * 32, "abc")
    assert keyed(KEY, {"b": 1, "a": 2}) == keyed(KEY, {"a": 2, "b": 1})
    other = PASSED._replace(key=b"l" * 32)
    assert why(judged(item(match=MATCH), other, values={"args": {"sha": "abc"}}))[0] is Reason.CONTRADICTED


CHANGED = f'{STEP} passed, but "src/*" changed'


@pytest.mark.parametrize(
    ("seen", "files", "reason", "told"),
    [
        (PASSED, {}, Reason.UNREACHABLE, "its files cannot be read"),
        (PASSED, {"src/*": "d2"}, Reason.STALE, f"{CHANGED} after it"),
        (
            PASSED._replace(after={"src/*": "d2"}),
            {"src/*": "d2"},
            Reason.STALE,
            f"{CHANGED}, or was not seen whole, meanwhile",
        ),
        (PASSED._replace(before={}), {"src/*": "d1"}, Reason.STALE, f"{CHANGED}, or was not seen whole, meanwhile"),
        (PASSED._replace(after={}), {"src/*": "d1"}, Reason.STALE, f"{CHANGED}, or was not seen whole, meanwhile"),
        (
            PASSED._replace(before={}, after={}),
            {"src/*": "d1"},
            Reason.STALE,
            f"{CHANGED}, or was not seen whole, meanwhile",
        ),
    ],
)
def test_files_that_must_be_unchanged_are_the_same_before_after_and_now(
    seen: Seen, files: Mapping[str, str], reason: Reason, told: str
) -> None:
    assert why(judged(item(unchanged=["src/*"]), seen, files=files)) == (reason, told)
    assert isinstance(judged(item(unchanged=["src/*"]), files={"src/*": "d1"}), Evidence)


class Written(NothingHeld):
    """A record in which all that is asked about was written after the step began."""

    def last_write(self, subject: str, *, but: tuple[str, int] | None) -> LastWrite:
        del but
        return LastWrite(ended=41, subject=subject, step="4bf9.9")

    def seen(self, run: str, pattern: str, *, across: bool = False) -> Seen | None:
        return PASSED if (run, pattern, across) == (RUN_ID, "p", False) else None


def test_a_pass_that_a_later_write_made_old_is_a_gap() -> None:
    found = judged(item(newer_than=("file:/w/a",), root="/w"), held=Written())
    assert why(found) == (Reason.STALE, f"{STEP} passed, but 4bf9.9 wrote a after it began")


def test_a_pass_that_is_as_old_as_it_may_be_is_too_old() -> None:
    assert isinstance(judged(item(max_age=5_001)), Evidence)
    assert why(judged(item(max_age=5_000))) == (Reason.STALE, f"{STEP} passed, but it is too old")


@pytest.mark.parametrize(
    ("spec", "called"),
    [
        ({}, "any tool"),
        ({"tools": []}, "any tool"),
        ({"tools": "shell.test"}, "any tool"),
        ({"tools": ["a.b", 7, "c.d"]}, "a.b or c.d"),
        ({"tools": ["a.b"], "args": {"x": {"is": 1}, "y": {"under": "/w"}, "z": 3}}, 'a.b with {"x": 1}'),
        ({"tools": ["a.b"], "args": {"y": {"under": "/w"}}}, "a.b"),
        ({"tools": ["a.b"], "args": ["x"]}, "a.b"),
    ],
)
def test_an_item_names_its_call_with_the_arguments_that_it_spells_out(spec: dict[str, Json], called: str) -> None:
    assert call_of(spec) == called
    assert title_of(spec) == f"a successful {called}"
    assert do_of(spec) == f"call {called}"
    assert do_of({**spec, "do": "run the tests"}) == "run the tests"
    assert do_of({**spec, "do": 7}) == f"call {called}"


def test_what_a_run_lacks_is_told_with_what_would_show_it() -> None:
    owed = [item(), item(max_age=5_000), item(max_age=6_000)]
    assert unmet(owed, RUN_ID, NothingHeld(), NOW_US) == (f"{TITLE}: no such step is on record; {DO}",) * 3
    assert unmet(owed, RUN_ID, Written(), NOW_US) == (f"{TITLE}: {STEP} passed, but it is too old; {DO}",)


def test_a_refusal_lists_every_gap_and_is_named_after_the_first() -> None:
    absent = Gap(reason=Reason.ABSENT, title="a pass", why="there is none", do="run the tests")
    low = Gap(reason=Reason.LEVEL_TOO_LOW, title="a look", why="it is E1", do="")
    failure = refusal(make_step(), [absent, low])
    assert (failure.reason, failure.summary) == (Reason.ABSENT, "files.read")
    assert failure.lines == (
        "- a pass: there is none.",
        "  Do: run the tests",
        "- a look: it is E1.",
        "Then call files.read again with the same arguments.",
    )
    assert refusal(make_step(), [low, absent]).summary == "a look: it is E1"
