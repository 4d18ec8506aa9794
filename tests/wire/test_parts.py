"""A result as one text, and the parts that it is read in."""

from hypothesis import given
from hypothesis import strategies as st

from soothsayer_mcp.model.json import JsonObject
from soothsayer_mcp.wire.parts import JSON, TEXT, part, readable

texts = st.text(alphabet=st.sampled_from("ab\u00e9\u2028\U0001f30d\n"), max_size=200)


@given(texts, st.integers(min_value=1, max_value=50))
def test_parts_read_one_after_the_other_are_the_whole(text: str, size: int) -> None:
    at, found = 0, ""
    while True:
        piece = part(text, at, size)
        found += piece.text
        if piece.end == piece.of:
            break
        assert piece.end > at, "it always goes on"
        at = piece.end
    assert found == text
    assert piece.of == len(text.encode())


@given(texts, st.integers(min_value=0, max_value=900), st.integers(min_value=4, max_value=50))
def test_a_part_begins_where_it_was_wanted_cuts_no_character_and_is_not_larger(text: str, at: int, size: int) -> None:
    piece = part(text, at, size)
    raw = text.encode()
    assert raw[piece.offset : piece.end].decode() == piece.text
    assert len(piece.text.encode()) <= size
    assert min(at, len(raw)) - 3 <= piece.offset <= at


def test_blocks_of_text_alone_are_read_as_text_and_everything_else_as_json() -> None:
    words: JsonObject = {"content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}
    assert readable(words) == ("a\nb", TEXT)
    structured: JsonObject = {"structuredContent": {}}
    picture: JsonObject = {"content": [{"type": "image", "data": "AA==", "mimeType": "x/y"}]}
    for more in (structured, picture):
        text, mime = readable({**words, **more})
        assert mime == JSON
        assert text.startswith('{"content":[')
    assert readable({})[1] == JSON
