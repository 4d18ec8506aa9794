import pytest
from hypothesis import given
from hypothesis import strategies as st

from soothsayer_mcp.adapters.lines import KEPT, Lines
from soothsayer_mcp.ports import OversizedLine


def cut(*chunks: bytes, max_frame: int = 1 << 20) -> list[bytes]:
    lines = Lines(max_frame=max_frame)
    return [line for chunk in chunks for line in lines.feed(chunk)] + lines.finish()


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b"", []),
        (b"a\n", [b"a"]),
        (b"a\r\nb\r\n", [b"a", b"b"]),
        (b"\n\r\n\na\n\n", [b"a"]),
        (b"a\nb", [b"a", b"b"]),
        (b"a\nb\r", [b"a", b"b"]),
        (b"a\r\rb\n", [b"a\r\rb"]),
        ("a\u2028b\u2029c\x85d\x0be\x0cf\x1cg\n".encode(), ["a\u2028b\u2029c\x85d\x0be\x0cf\x1cg".encode()]),
    ],
)
def test_only_a_line_feed_ends_a_line(raw: bytes, expected: list[bytes]) -> None:
    assert cut(raw) == expected


@given(st.lists(st.binary(max_size=40)), st.integers(min_value=1, max_value=7))
def test_lines_do_not_depend_on_how_the_bytes_arrive(parts: list[bytes], size: int) -> None:
    raw = b"".join(parts)
    chunks = [raw[at : at + size] for at in range(0, len(raw), size)]
    assert cut(*chunks) == cut(raw) == [line for each in raw.split(b"\n") if (line := each.removesuffix(b"\r"))]


def test_a_line_of_the_limit_passes_and_a_longer_one_keeps_only_its_ends() -> None:
    at_limit, over = b"x" * 10_000, b"h" * 5_000 + b"t" * 5_001
    first, second, third = cut(at_limit + b"\r\n" + over + b"\nnext\n", max_frame=10_000)
    assert first == at_limit
    assert isinstance(second, OversizedLine)
    assert (bytes(second), second.tail, second.size_bytes) == (b"h" * KEPT, b"t" * KEPT, 10_001)
    assert third == b"next"


@given(st.integers(min_value=1, max_value=20_000), st.integers(min_value=1, max_value=30_000))
def test_the_ends_of_a_long_line_do_not_depend_on_how_the_bytes_arrive(size: int, length: int) -> None:
    raw = bytes(at % 240 + 11 for at in range(length)).replace(b"\r", b"r")
    whole = raw + b"\nnext\n"
    chunks = [whole[at : at + size] for at in range(0, len(whole), size)]
    line, after = cut(*chunks, max_frame=10_000)
    assert after == b"next"
    if length <= 10_000:
        assert line == raw
    else:
        assert isinstance(line, OversizedLine)
        assert (bytes(line), line.tail, line.size_bytes) == (raw[:KEPT], raw[-KEPT:], length)


def test_an_endless_line_does_not_gather_in_memory() -> None:
    lines = Lines(max_frame=10_000)
    for _ in range(10_000):
        assert lines.feed(b"x" * 1_000) == []
    (line,) = lines.feed(b"\n")
    assert isinstance(line, OversizedLine)
    assert line.size_bytes == 10_000_000
    assert len(line) + len(line.tail) == 2 * KEPT
