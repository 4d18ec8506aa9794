"""The steps in memory are always a stretch of the record; a call is compared with the last that was allowed."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from soothsayer_mcp.console.against import against_last
from soothsayer_mcp.console.tui.window import Window, key_of
from soothsayer_mcp.trace.rows import LastYes, StepRow

MOST, PAGE = 12, 5
BLANK = StepRow(
    **{name: "" for name in StepRow.__dataclass_fields__ if name not in {"levels", "checks"}}  # pyright: ignore[reportArgumentType] - texts are set; numbers follow
    | {"n": 0, "no": 0, "at_us": 0, "risk": None, "asked": False, "dur_us": None, "tool_us": None}
)


def row(n: int) -> StepRow:
    return replace(BLANK, n=n, no=n, run="aa", at_us=n // 3)  # Some began in the same microsecond.


@given(st.lists(st.sampled_from(["earlier", "later", "new", "ended", "gone"]), max_size=60))
def test_whatever_is_scrolled_and_happens_a_window_is_a_stretch_of_the_record(moves: list[str]) -> None:
    record = [row(n) for n in range(30)]
    window = Window(MOST)
    window.replace(record[-PAGE:], at_start=False, at_end=True)
    for move in moves:
        keys = list(map(key_of, record))
        first, last = keys.index(key_of(window.rows[0])), keys.index(key_of(window.rows[-1]))
        if move == "earlier" and not window.at_start:
            page = record[max(0, first - PAGE) : first]
            window.prepend(page, at_start=len(page) < PAGE)
        elif move == "later" and not window.at_end:
            page = record[last + 1 : last + 1 + PAGE]
            window.append(page, at_end=len(page) < PAGE)
        elif move == "new":
            record.append(row(record[-1].n + 1))
            window.update({("aa", record[-1].no)}, [record[-1]])
        elif move == "ended":
            changed = replace(record[first], outcome="succeeded")
            record[first] = changed
            window.update({("aa", changed.no)}, [changed])
        elif move == "gone" and len(window.rows) > 1:
            gone = record.pop(last)
            window.update({("aa", gone.no)}, [])
        begin = list(map(key_of, record)).index(key_of(window.rows[0]))
        assert window.rows == record[begin : begin + len(window.rows)]
        assert len(window.rows) <= MOST
        if window.at_end:
            assert window.rows[-1] == record[-1]
        assert [window.find((each.run, each.no)) for each in window.rows] == list(range(len(window.rows)))


def test_what_differs_from_the_last_allowed_call_is_told_argument_by_argument() -> None:
    last = LastYes(run="aa", no=9, at_us=0, args={"version": "1.4.0", "force": True, "path": "/a"})
    told = against_last({"version": "1.5.0", "path": "/a", "note": "\u202e"}, last, name="5c1e.9", now_us=7_200_000_000)
    assert told == [
        "last  allowed 2 h ago (5c1e.9), where",
        '      version  was "1.4.0"',
        "      note  was not there",
        "      force  was true, and is not there now",
    ]
    same = against_last({**last.args}, last, name="5c1e.9", now_us=0)
    assert same == ["last  the same was allowed now (5c1e.9)"]


def test_long_texts_are_compared_line_by_line_and_escaped() -> None:
    lines = [f"line {n} of a long text" for n in range(20)]
    last = LastYes(run="aa", no=9, at_us=0, args={"content": "\n".join(lines)})
    now = "\n".join([*lines[:3], "\x1b[2Jnew", *lines[4:]])
    told = against_last({"content": now}, last, name="5c1e.9", now_us=0)
    assert told[1] == "      content  differs in lines"
    assert "        -line 3 of a long text" in told
    assert r"        +\x1b[2Jnew" in told
    assert len(told) == 7


def test_masked_values_of_the_record_are_said_to_be_beyond_comparison() -> None:
    last = LastYes(run="aa", no=9, at_us=0, args={"token": "\u2039masked:token\u203a"})
    told = against_last({"token": "s3cret"}, last, name="5c1e.9", now_us=0)
    assert told[-1] == "      (what is masked in the record cannot be compared)"
