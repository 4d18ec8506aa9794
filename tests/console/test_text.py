from datetime import UTC

import pytest
from hypothesis import given
from hypothesis import strategies as st

from soothsayer_mcp.console.measures import ago, clock_time, count, duration, full_time, rfc3339, size
from soothsayer_mcp.console.text import cut, escape, escape_lines

AT_US = 1_795_514_400_123_456


@given(st.text())
def test_what_is_shown_is_one_line_of_printable_text_and_changes_no_more(text: str) -> None:
    shown = escape(text)
    assert shown.isprintable()
    assert escape(shown) == shown


@given(st.text(alphabet=st.characters(categories=["L", "N", "P", "S", "Zs"], max_codepoint=0x2FF)))
def test_common_text_is_shown_as_it_is_but_for_odd_spaces(text: str) -> None:
    assert escape(text) == text.replace("\xa0", r"\xa0")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[2J", r"\x1b[2J"),
        ("\x1b]8;;http://x\x07y", r"\x1b]8;;http://x\x07y"),
        ("\x9b31m", r"\x9b31m"),
        ("a\nb\r\tc", r"a\nb\r\tc"),
        ("\u202e\u2066\u200f\u061c", r"\u202e\u2066\u200f\u061c"),
        ("\u200b\u200d\u2060\ufeff\u00ad", r"\u200b\u200d\u2060\ufeff\xad"),
        ("\U000e0041\U000e0100\ufe0f", r"\U000e0041\U000e0100\ufe0f"),
        ("\u2028\u2029\u3164\u2800\u115f", r"\u2028\u2029\u3164\u2800\u115f"),
        ("\ud800", r"\ud800"),
        ("\u00a0\u2003\u3000", r"\xa0\u2003\u3000"),
        ("[red]é漢🙂", "[red]é漢🙂"),
    ],
)
def test_what_hides_moves_or_commands_is_shown_as_its_escape(text: str, shown: str) -> None:
    assert escape(text) == shown


def test_lines_of_text_stay_lines() -> None:
    assert escape_lines("a\r\nb\x1b\n") == ["a", r"b\x1b", ""]


@given(st.text(), st.integers(min_value=1, max_value=40))
def test_cut_text_is_no_longer_than_asked(text: str, most: int) -> None:
    shown = cut(text, most)
    assert len(shown) <= most
    assert shown == escape(text) or "…" in shown


@pytest.mark.parametrize(
    ("us", "text"),
    [
        (None, "-"),
        (0, "0.0 ms"),
        (310, "0.3 ms"),
        (2_480, "2.5 ms"),
        (9_960, "10 ms"),
        (999_000, "999 ms"),
        (1_000_000, "1.0 s"),
        (62_000_000, "62 s"),
        (180_000_000, "3 min"),
        (7_200_000_000, "2 h"),
        (432_000_000_000, "5 d"),
    ],
)
def test_durations_read_at_a_glance(us: int | None, text: str) -> None:
    assert duration(us) == text


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0 B"), (999, "999 B"), (1_290, "1.3 kB"), (12_345, "12 kB"), (999_999, "1.0 MB"), (8_400_000, "8.4 MB")],
)
def test_sizes_read_at_a_glance(number: int, text: str) -> None:
    assert size(number) == text


def test_counts_have_their_noun() -> None:
    assert (count(1, "step"), count(12_480, "step"), count(2, "entry", "entries")) == (
        "1 step",
        "12,480 steps",
        "2 entries",
    )


def test_moments_are_exact_for_programs_and_short_for_people() -> None:
    assert rfc3339(AT_US) == "2026-11-24T10:00:00.123456Z"
    assert rfc3339(None) is None
    assert clock_time(AT_US, AT_US + 3_600_000_000, UTC) == "10:00:00"
    assert clock_time(AT_US, AT_US + 24 * 3_600_000_000, UTC) == "11-24 10:00"
    assert clock_time(AT_US, AT_US + 100 * 24 * 3_600_000_000, UTC) == "2026-11-24"
    assert full_time(AT_US, UTC) == "2026-11-24 10:00:00 +00:00"
    assert (ago(AT_US, AT_US + 4_000_000), ago(AT_US, AT_US)) == ("4.0 s ago", "now")
