"""Loops are judged by what came back; times are masked, and nothing else is left out of the comparison."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from soothsayer_mcp.model.facts import Charge
from soothsayer_mcp.model.failure import Reason
from soothsayer_mcp.model.json import Json, JsonObject
from soothsayer_mcp.model.outcome import Returned
from soothsayer_mcp.model.run import Counters
from soothsayer_mcp.run.repeat import Repeat, comparable, count_answer, refuse_repeated, why_note

CHARGE = Charge(repeats_most=3)
SECOND_US = 1_000_000


class Answers:
    """A run's answers, as the store keeps them."""

    def __init__(self, charge: Charge = CHARGE) -> None:
        self.charge = charge
        self.counters = Counters()
        self.kept: dict[tuple[str, str], Repeat] = {}

    def came(self, call: str, answer: str, *, at: int = 0, changes: bool = False) -> int:
        key = (call, answer)
        earlier = self.kept.get(key)
        self.counters, self.kept[key] = count_answer(self.counters, earlier, self.charge, at, changes=changes)
        return self.kept[key].n

    def refused(self, call: str, *, at: int = 0) -> bool:
        counted = [one for (name, _), one in self.kept.items() if name == call and one.since == self.counters.changes]
        return refuse_repeated(max(counted, default=None), self.charge, at) is not None


@pytest.mark.pitfall("P-RUN-05")
def test_two_calls_in_turn_with_equal_answers_are_noted_and_then_refused() -> None:
    run, seen = Answers(), list[str]()
    for _ in range(6):
        for call in "AB":
            if run.refused(call):
                seen.append(f"{call} refused")
            elif why_note(run.came(call, "same"), 3):
                seen.append(f"{call} noted")
    assert seen[:2] == ["B noted", "A noted"]
    assert set(seen[2:]) == {"A refused", "B refused"}
    assert len(seen) == 12 - 5


@pytest.mark.pitfall("P-RUN-05")
@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"durationMs": 12}, {"durationMs": 31}),
        ({"at": 1_700_000_000, "ok": True}, {"at": 1_700_000_009, "ok": True}),
        ({"createdAt": 5}, {"createdAt": 6}),
        ("done in 12.5 ms", "done in 8 ms"),
        ("took 1m 3s", "took 2m 41s"),
        ("at 2026-01-02T03:04:05.678Z: nothing", "at 2026-01-02T03:04:07.1+02:00: nothing"),
        ("[12:30:01] idle", "[12:30:06] idle"),
        ('{"n": 1, "durationMs": 12}', '{"n": 1, "durationMs": 7}'),
    ],
)
def test_answers_that_differ_in_a_time_alone_are_the_same(one: Json, other: Json) -> None:
    assert answer(one) == answer(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"n": 1}, {"n": 2}),
        ("foo.py:12:34 unused", "foo.py:13:34 unused"),
        ("3 items", "4 items"),
        ("2026-01-02", "2026-01-03"),
        ({"count": 12}, {"count": 13}),
        ({"a": {"b": [1, {"c": "x"}]}}, {"a": {"b": [1, {"c": "y"}]}}),
        ({"durationMs": 12, "ok": True}, {"durationMs": 12, "ok": False}),
        (True, 1),
    ],
)
def test_any_other_difference_makes_another_answer(one: Json, other: Json) -> None:
    assert answer(one) != answer(other)


def answer(value: Json) -> bytes | None:
    result: JsonObject = {"content": [], "structuredContent": value, "_meta": {"trace": repr(value)}}
    return comparable(Returned(raw=b"", result=result))


def test_errors_are_answers_too() -> None:
    failed = Returned(raw=b"", result=None, error={"code": -1, "message": "no, after 3 ms"})
    again = Returned(raw=b"", result=None, error={"code": -1, "message": "no, after 9 ms"})
    assert comparable(failed) == comparable(again) != comparable(Returned(raw=b"", result={"code": -1}))


@pytest.mark.pitfall("P-RUN-06")
def test_honest_work_is_not_stopped() -> None:
    run = Answers()
    assert all(run.came("snapshot {}", f"page {number}") == 1 for number in range(30))
    assert all(run.came(f"find {number}", "nothing") == 1 for number in range(10))
    poll = Answers(replace(CHARGE, polling_us=5 * SECOND_US))
    for number in range(120):
        at = number * 5 * SECOND_US + (-1) ** number * 100_000
        assert not poll.refused("status", at=at)
        assert poll.came("status", "running", at=at) == 1


def test_a_call_that_may_be_polled_is_still_refused_when_it_comes_too_soon() -> None:
    poll = Answers(replace(CHARGE, polling_us=5 * SECOND_US))
    for at in (0, 10_000, 20_000):
        poll.came("status", "running", at=at)
    assert poll.refused("status", at=30_000)
    assert not poll.refused("status", at=6 * SECOND_US)


def test_a_write_that_succeeded_lets_others_begin_anew_and_not_itself() -> None:
    run = Answers()
    run.came("tests", "2 fail")
    run.came("tests", "2 fail")
    assert run.came("edit", "ok", changes=True) == 1
    assert run.came("tests", "2 fail") == 1
    assert run.came("edit", "ok", changes=True) == 2
    assert run.came("edit", "ok", changes=True) == 3
    assert run.refused("edit")
    assert not run.refused("tests")


CALLS = st.lists(st.tuples(st.sampled_from("ABC"), st.sampled_from("xyz"), st.booleans()), max_size=40)


@given(CALLS)
def test_a_refusal_needs_as_many_equal_answers_with_nothing_new_in_between(calls: list[tuple[str, str, bool]]) -> None:
    run = Answers()
    told: list[tuple[str, str]] = []
    since: list[tuple[str, str]] = []
    for call, said, changes in calls:
        if run.refused(call):
            assert max(since.count((call, other)) for other in "xyz") >= 3
            continue
        new = (call, said) not in told
        told.append((call, said))
        own = [one for one in since if one == (call, said)] if changes and not new else []
        since = [*own, (call, said)] if new or changes else [*since, (call, said)]
        assert run.came(call, said, changes=changes) == since.count((call, said))


def test_the_refusal_says_why() -> None:
    failure = refuse_repeated(Repeat(n=3, since=1, at=0), CHARGE, 5)
    assert failure is not None
    assert failure.reason is Reason.REPEAT_LIMIT
    assert failure.agent_text("r.4").startswith(
        "Not done: the same call got the same answer 3 times, and nothing has changed. Nothing was sent."
    )
