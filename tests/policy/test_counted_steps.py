"""How steps are counted together: under which mark, what is asked of the store, and what the answer says."""

from collections.abc import Callable, Mapping

import pytest

from policy_kit import ADA, HOST, NOW_US, RUN_ID
from soothsayer_mcp.model.call import Cause
from soothsayer_mcp.model.facts import Mark, Tally, TallyQuestion
from soothsayer_mcp.model.json import Json
from soothsayer_mcp.policy.answers import Answer, Unsure
from soothsayer_mcp.policy.history import (
    MICRO,
    Counted,
    Counting,
    HistoryTest,
    PastTest,
    Per,
    amount_micro,
    mark_id,
    tally_of,
)
from soothsayer_mcp.policy.match import ArgumentTest, parse_key
from soothsayer_mcp.policy.scene import Scene

NOTHING_YET = Unsure("arguments are not known yet")
UNTIED = Unsure("an argument that ties the call to earlier steps is absent")
UNTOLD = Unsure("it is not known what the run did before")
DEPENDS = Unsure("the value depends on steps in flight or on amounts that are no numbers")
MAYBE = Unsure("whether this call counts is not known")


def argument(key: str) -> ArgumentTest:
    return ArgumentTest(
        key=key,
        spec={},
        ways=parse_key(key),
        every=True,
        wholes=(),
        elements=(),
        alone=lambda _, __: True,
        absent_ok=False,
        present=None,
        paths=False,
        cost=(False, 0),
    )


TIED = ((argument("id"), argument("of")),)


def a_scene(
    arguments: Mapping[str, Json] | None = None,
    *,
    now_us: int | None = NOW_US,
    tallies: Mapping[TallyQuestion, Tally] | None = None,
) -> Scene:
    return Scene(
        arguments=arguments,
        principal=ADA,
        client=HOST,
        cause=Cause.AGENT,
        now_us=now_us,
        links={},
        run_id=RUN_ID,
        server="mail",
        tool="send",
        tallies=tallies or {},
    )


def asked(counted: Counted, scene: Scene) -> TallyQuestion:
    question = counted.question(scene)
    assert isinstance(question, TallyQuestion)
    return question


@pytest.mark.parametrize(
    ("per", "holder"),
    [
        (Per.RUN, f"run:{RUN_ID}"),
        (Per.PRINCIPAL, "who:os:ada"),
        (Per.SERVER, "server:mail"),
        (Per.TOOL, "tool:mail.send"),
    ],
)
def test_steps_are_counted_for_whom_the_policy_says(per: Per, holder: str) -> None:
    counted = Counted(mark="m", per=per)
    assert counted.question(a_scene()) == TallyQuestion("m", holder, "", 0)
    assert counted.bearing(a_scene({})) == Mark(
        mark="m", holder=holder, key="", window_us=0, sure=True, amount_micro=0, denials=False
    )


@pytest.mark.parametrize(
    ("now_us", "window_us", "since_us"),
    [(NOW_US, 60, NOW_US - 60), (NOW_US, 0, 0), (50, 60, 0), (None, 60, 0), (None, 0, 0)],
)
def test_a_window_ends_now_and_begins_no_earlier_than_time_does(
    now_us: int | None, window_us: int, since_us: int
) -> None:
    assert asked(Counted(mark="m", window_us=window_us), a_scene(now_us=now_us)).since_us == since_us


def test_a_step_and_the_call_that_it_is_tied_to_have_one_key_of_32_characters() -> None:
    counted = Counted(mark="m", ties=TIED)
    mark = counted.bearing(a_scene({"id": {"n": [1.0, True], "o": None}}))
    assert mark is not None
    assert mark.key == asked(counted, a_scene({"of": {"n": [1, True], "o": None}})).key
    assert mark.key != asked(counted, a_scene({"of": {"n": [1, 1], "o": None}})).key
    assert len(mark.key) == 32


def test_without_the_argument_that_ties_nothing_is_counted_and_nothing_is_certain() -> None:
    counted = Counted(mark="m", ties=TIED)
    assert counted.bearing(a_scene({"of": 1})) is None
    assert counted.bearing(a_scene(None)) is None
    assert counted.question(a_scene({"id": 1})) == UNTIED
    assert counted.question(a_scene(None)) == NOTHING_YET


def test_a_call_that_does_not_fit_is_not_counted_and_one_in_doubt_is_marked_so() -> None:
    counted = Counted(mark="m", denials=True, window_us=7)
    assert counted.bearing(a_scene({}), answer=False) is None
    mark = counted.bearing(a_scene({}), MAYBE)
    assert mark is not None
    assert (mark.sure, mark.denials, mark.window_us) == (False, True, 7)


@pytest.mark.parametrize(("arguments", "amount"), [({"eur": 1.5}, 1_500_000), ({"eur": "1.5"}, None), ({}, None)])
def test_a_call_is_counted_with_its_amount(arguments: Mapping[str, Json], amount: int | None) -> None:
    mark = Counted(mark="m", amount=argument("eur")).bearing(a_scene(arguments))
    assert mark is not None
    assert mark.amount_micro == amount


@pytest.mark.parametrize(
    ("values", "amount"),
    [
        ([], None),
        ([1, 2], None),
        ([True], None),
        (["1"], None),
        ([-1], None),
        ([0], 0),
        ([1e-7], 1),
        ([10**9], 10**15),
        ([10**9 + 1], None),
        ([float("nan")], None),
        ([float("inf")], None),
    ],
)
def test_an_amount_is_one_number_that_can_be_added_up(values: list[Json], amount: int | None) -> None:
    assert amount_micro(values) == amount


def test_a_name_of_what_is_counted_has_24_characters() -> None:
    assert len(mark_id("calls", ["a"])) == 24
    assert mark_id("calls", ["a"]) != mark_id("calls", ["b"])


def test_what_the_store_was_not_asked_is_not_known_and_says_why() -> None:
    tied = Counted(mark="m", ties=TIED)
    assert tally_of(tied, a_scene({})) == UNTIED
    assert tally_of(tied, a_scene({"of": 1})) == UNTOLD
    assert PastTest(counted=tied, ok=True).answer(a_scene({})) == UNTIED
    counts = HistoryTest(counted=tied, counting=Counting.CALLS, above_micro=0, fits=None)
    assert counts.answer(a_scene({})) == UNTIED
    assert counts.range(a_scene({})) == UNTIED


TALLY = Tally(succeeded=2, failed=3, open=5, doubtful=7, denied=11, sum_micro=13 * MICRO)
SURE = TALLY._replace(doubtful=0)


def _always(answer: Answer) -> Callable[[Scene], Answer]:
    return lambda _: answer


def ranged(
    counting: Counting,
    tally: Tally,
    *,
    own: Answer | None,
    arguments: Mapping[str, Json] | None = None,
    above_micro: int = 0,
    amount: bool = True,
) -> tuple[tuple[int, int | None] | Unsure, Answer]:
    counted = Counted(mark="m", amount=argument("eur") if amount else None)
    scene = a_scene(arguments, tallies={asked(counted, a_scene()): tally})
    test = HistoryTest(
        counted=counted, counting=counting, above_micro=above_micro, fits=None if own is None else _always(own)
    )
    return test.range(scene), test.answer(scene)


@pytest.mark.parametrize(
    ("counting", "own", "low", "high"),
    [
        (Counting.CALLS, True, 11, 18),
        (Counting.CALLS, MAYBE, 10, 18),
        (Counting.CALLS, False, 10, 17),
        (Counting.CALLS, None, 10, 17),
        (Counting.FAILURES, True, 3, 15),
        (Counting.DENIALS, True, 11, 18),
    ],
)
def test_a_count_lies_between_what_is_certain_and_what_is_possible(
    counting: Counting, own: Answer | None, low: int, high: int
) -> None:
    found, _ = ranged(counting, TALLY, own=own)
    assert found == (low * MICRO, high * MICRO)


@pytest.mark.parametrize(
    ("tally", "own", "eur", "expected"),
    [
        (SURE, True, 4, (17, 17)),
        (SURE, MAYBE, 4, (13, 17)),
        (SURE, False, 4, (13, 13)),
        (SURE, None, 4, (13, 13)),
        (SURE, True, "4", (13, None)),
        (SURE, MAYBE, "4", (13, None)),
        (SURE, False, "4", (13, 13)),
        (TALLY, True, 4, (17, None)),
        (SURE._replace(odd=1), True, 4, (17, None)),
    ],
)
def test_a_sum_has_no_known_most_where_an_amount_is_no_number(
    tally: Tally, own: Answer | None, eur: Json, expected: tuple[int, int | None]
) -> None:
    low, high = expected
    found, _ = ranged(Counting.SUM, tally, own=own, arguments={"eur": eur})
    assert found == (low * MICRO, None if high is None else high * MICRO)


def test_a_sum_of_no_argument_is_what_it_was_and_waits_for_the_arguments_of_a_call() -> None:
    assert ranged(Counting.SUM, SURE, own=True, arguments={"eur": 4}, amount=False)[0] == (13 * MICRO, 13 * MICRO)
    assert ranged(Counting.SUM, SURE, own=True, arguments=None) == (NOTHING_YET, NOTHING_YET)


@pytest.mark.parametrize(
    ("above_micro", "tally", "expected"),
    [
        (10 * MICRO - 1, TALLY, True),
        (10 * MICRO, TALLY, DEPENDS),
        (17 * MICRO - 1, TALLY, DEPENDS),
        (17 * MICRO, TALLY, False),
        (10 * MICRO, SURE, False),
    ],
)
def test_a_count_is_above_a_figure_only_where_all_of_its_range_is(
    above_micro: int, tally: Tally, expected: Answer
) -> None:
    _, answer = ranged(Counting.CALLS, tally, own=None, above_micro=above_micro)
    assert answer == expected


def test_a_sum_without_a_known_most_is_above_or_depends_and_never_below() -> None:
    odd = SURE._replace(odd=1)
    assert ranged(Counting.SUM, odd, own=None, arguments={}, above_micro=13 * MICRO - 1)[1] is True
    assert ranged(Counting.SUM, odd, own=None, arguments={}, above_micro=10**15)[1] == DEPENDS


@pytest.mark.parametrize(
    ("tally", "answer"),
    [
        (Tally(succeeded=1, open=1, doubtful=1), True),
        (
            Tally(failed=1, open=1, doubtful=1),
            Unsure("a step that would decide it is in flight, or its outcome is not known"),
        ),
        (Tally(failed=1, doubtful=1), Unsure("it is not known whether an earlier step fits")),
        (Tally(failed=1), False),
    ],
)
def test_whether_a_step_was_done_is_told_with_what_keeps_it_in_doubt(tally: Tally, answer: Answer) -> None:
    counted = Counted(mark="m")
    scene = a_scene(tallies={asked(counted, a_scene()): tally})
    assert PastTest(counted=counted, ok=True).answer(scene) == answer
