"""Subjects overlap as writes and evidence need it, whatever they are called."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from soothsayer_mcp.model.subject import EVERYTHING, covers, overlap, subject
from soothsayer_mcp.policy.subjects import last_write, template

parts = st.lists(st.sampled_from(["a", "b", "ab"]), min_size=1, max_size=3)
files = parts.map(lambda names: subject("file", ("/" + "/".join(names),)))
subjects = st.one_of(
    files, st.just(EVERYTHING), st.sampled_from(["file", "git"]), parts.map(lambda keys: subject("remote", keys))
)


@given(subjects, subjects)
def test_overlap_goes_both_ways_and_what_covers_overlaps(one: str, other: str) -> None:
    assert overlap(one, other) is overlap(other, one)
    if covers(one, other):
        assert overlap(one, other)


@given(subjects)
def test_everything_overlaps_with_all(one: str) -> None:
    assert overlap(EVERYTHING, one)
    assert covers(EVERYTHING, one)


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ("file:/ws", "file:/ws/src/a.py", True),
        ("file:/ws", "file:/wsx/a.py", False),
        ("file", "file:/ws", True),
        ("remote:main", "remote:dev", False),
        ("remote:main", "file:/main", False),
    ],
)
def test_a_folder_covers_what_lies_below_and_others_match_exactly(one: str, other: str, expected: bool) -> None:
    assert overlap(one, other) is expected


def test_keys_with_commas_stay_apart() -> None:
    assert subject("x", ("a,b",)) != subject("x", ("a", "b"))


@pytest.mark.parametrize("text", ["", "File(args.path)", "file()", "file(args.a, args.b)", "file(open('x'))", "a b"])
def test_what_is_no_subject_does_not_load(text: str) -> None:
    with pytest.raises(ValueError, match=r"subject|key"):
        template(text)


def test_last_write_names_a_subject() -> None:
    assert last_write("last_write(file(workspace))").keys == ("workspace",)
    with pytest.raises(ValueError, match="last_write"):
        last_write("file(workspace)")
