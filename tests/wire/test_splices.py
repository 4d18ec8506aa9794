"""Edits: what they name changes, every other byte stays."""

import json
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from soothsayer_mcp.model.json import Json, JsonObject
from soothsayer_mcp.wire.frame import Edit, Frame, Insert, Items, Remove, Replace
from soothsayer_mcp.wire.places import Key, Path
from soothsayer_mcp.wire.strict import read_host, read_server

BLANKS = st.text(alphabet=" \t\r\n", max_size=2)
KEYS = st.text(max_size=3)
SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.text(max_size=5)
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(KEYS, inner, max_size=4)),
    max_leaves=12,
)


def frame(raw: bytes) -> Frame:
    found = read_server(raw)
    assert isinstance(found, Frame)
    return found


@st.composite
def spelled(draw: st.DrawFn, value: object) -> str:
    """Spell a value with blanks wherever JSON allows them, and escapes or not."""
    if isinstance(value, dict):
        members: list[str] = []
        for key, item in cast("dict[str, object]", value).items():
            blanks = [draw(BLANKS) for _ in range(4)]
            name = json.dumps(key, ensure_ascii=draw(st.booleans()))
            members.append(f"{blanks[0]}{name}{blanks[1]}:{blanks[2]}{draw(spelled(item))}{blanks[3]}")
        return "{" + (",".join(members) or draw(BLANKS)) + "}"
    if isinstance(value, list):
        elements = [f"{draw(BLANKS)}{draw(spelled(item))}{draw(BLANKS)}" for item in cast("list[object]", value)]
        return "[" + (",".join(elements) or draw(BLANKS)) + "]"
    return json.dumps(value, ensure_ascii=draw(st.booleans()))


@st.composite
def messages(draw: st.DrawFn) -> tuple[bytes, JsonObject]:
    value = draw(st.dictionaries(KEYS, VALUES, min_size=1, max_size=4))
    text = draw(BLANKS) + draw(spelled(value)) + draw(BLANKS)
    return text.encode("utf-8"), cast("JsonObject", value)


def containers(value: Json, path: Path = ()) -> list[tuple[Path, Json]]:
    found: list[tuple[Path, Json]] = []
    if isinstance(value, dict | list):
        found.append((path, value))
        members = value.items() if isinstance(value, dict) else enumerate(value)
        for key, item in members:
            found += containers(item, (*path, key))
    return found


def at(value: Json, path: Path) -> Json:
    for key in path:
        value = cast("dict[Key, Json]", value)[key]
    return value


@st.composite
def edits(draw: st.DrawFn, value: JsonObject) -> tuple[Edit, JsonObject]:
    """Draw an edit, and what it makes of the value."""
    changed = cast("JsonObject", json.loads(json.dumps(value)))
    path, _ = draw(st.sampled_from(containers(changed)))
    target = at(changed, path)
    new: Json = draw(VALUES)
    spelling = json.dumps(new).encode()
    if isinstance(target, dict):
        kind = draw(st.sampled_from(["insert", "remove", "replace"]))
        if kind == "insert" or not target:
            key = draw(KEYS)
            target[key] = new
            return Insert(path, key, spelling), changed
        key = draw(st.sampled_from(sorted(target)))
        if kind == "remove":
            del target[key]
            return Remove((*path, key)), changed
        target[key] = new
        return Replace((*path, key), spelling), changed
    elements = cast("list[Json]", target)
    kind = draw(st.sampled_from(["items", "remove", "replace"]))
    if kind == "items" or not elements:
        keep = draw(st.sets(st.integers(0, len(elements))))
        extra = draw(st.lists(VALUES, max_size=2))
        elements[:] = [item for n, item in enumerate(elements) if n in keep] + extra
        return Items(path, keep, [json.dumps(item).encode() for item in extra]), changed
    index = draw(st.integers(0, len(elements) - 1))
    if kind == "remove":
        del elements[index]
        return Remove((*path, index)), changed
    elements[index] = new
    return Replace((*path, index), spelling), changed


@given(st.data())
def test_an_edit_of_the_text_is_the_edit_of_the_value(data: st.DataObject) -> None:
    raw, value = data.draw(messages())
    edit, changed = data.draw(edits(value))
    assert json.loads(frame(raw).edited(edit)) == changed


@given(st.data())
def test_what_an_edit_does_not_name_keeps_its_bytes(data: st.DataObject) -> None:
    raw, value = data.draw(messages())
    edit, changed = data.draw(edits(value))
    before, after = frame(raw), frame(frame(raw).edited(edit))
    for key in value.keys() & changed.keys():
        if not edit.path or edit.path[0] != key:
            if isinstance(edit, Insert) and not edit.path and edit.key == key:
                continue
            assert after.slice((key,)) == before.slice((key,))


@given(st.data())
def test_a_slice_is_the_value_at_its_path(data: st.DataObject) -> None:
    raw, value = data.draw(messages())
    path, target = data.draw(st.sampled_from(containers(value)))
    taken = frame(raw).slice(path)
    assert taken is not None
    assert taken in raw
    assert json.loads(taken) == target


@given(st.data())
def test_replacing_every_value_by_its_own_bytes_changes_nothing(data: st.DataObject) -> None:
    raw, value = data.draw(messages())
    found = frame(raw)
    same = [Replace((key,), found.slice((key,)) or b"") for key in value]
    assert found.edited(*same) == raw


@given(st.data())
def test_the_items_of_an_array_are_its_elements(data: st.DataObject) -> None:
    raw, value = data.draw(messages())
    arrays = [(path, target) for path, target in containers(value) if isinstance(target, list)]
    for path, target in arrays:
        assert [json.loads(item) for item in frame(raw).items(path)] == target


LIST = b'{ "id" : 1 , "result" : { "tools" : [ {"name":"a"} , {"name":"b"} , {"name":"c"} ] , "nextCursor" : "" } }'


@pytest.mark.parametrize(
    ("keep", "extra", "tools"),
    [
        ({1, 2}, (), b'[ {"name":"b"} , {"name":"c"} ]'),
        ({0, 2}, (), b'[ {"name":"a"} , {"name":"c"} ]'),
        ({0, 1}, (), b'[ {"name":"a"} , {"name":"b"} ]'),
        ({1}, (), b'[ {"name":"b"} ]'),
        ((), (), b"[  ]"),
        ({0, 1, 2}, (), b'[ {"name":"a"} , {"name":"b"} , {"name":"c"} ]'),
        ({2}, (b"1", b"2"), b'[ {"name":"c"},1,2 ]'),
        ((), (b"1", b"2"), b"[ 1,2 ]"),
    ],
)
def test_hiding_and_adding_items_changes_nothing_else(keep: set[int], extra: tuple[bytes, ...], tools: bytes) -> None:
    old = b'[ {"name":"a"} , {"name":"b"} , {"name":"c"} ]'
    assert frame(LIST).edited(Items(("result", "tools"), keep, extra)) == LIST.replace(old, tools)


def test_several_edits_in_one_object_and_below_it_are_done_together() -> None:
    raw = b'{"id":1,"method":"m","params":{"a":1,"b":{"x":1,"y":2},"c":3,"d":4}}'
    edited = frame(raw).edited(
        Remove(("params", "a")),
        Remove(("params", "b", "y")),
        Insert(("params", "b"), "z", b"[]"),
        Replace(("params", "c"), b'"C"'),
        Remove(("params", "d")),
        Insert(("params",), "e", b"5"),
        Replace(("id",), b'"sth-1"'),
    )
    assert edited == b'{"id":"sth-1","method":"m","params":{"b":{"x":1,"z":[]},"c":"C","e":5}}'


def test_names_can_be_changed_in_items_that_are_kept() -> None:
    edited = frame(b'{"result":{"tools":[{"name":"a","x":null},{"name":"b"}]}}').edited(
        Items(("result", "tools"), {0}),
        Replace(("result", "tools", 0, "name"), b'"fs__a"'),
        Replace(("result", "tools", 1, "name"), b'"fs__b"'),
    )
    assert edited == b'{"result":{"tools":[{"name":"fs__a","x":null}]}}'


def test_removing_every_member_leaves_an_empty_object() -> None:
    assert frame(b'{"a":{"x":1,"y":2}}').edited(Remove(("a", "x")), Remove(("a", "y"))) == b'{"a":{}}'


def test_removing_what_is_absent_changes_nothing() -> None:
    raw = b'{"params":{"a":1,"n":null}}'
    assert frame(raw).edited(Remove(("params", "b")), Remove(("x", "y")), Remove(("params", "n", "deep"))) == raw


def test_a_doubled_member_is_removed_or_replaced_wherever_it_stands() -> None:
    found = frame(b'{"a":1,"b":2,"a":3}')
    assert found.edited(Remove(("a",))) == b'{"b":2}'
    assert found.edited(Replace(("a",), b"0")) == b'{"a":0,"b":2,"a":0}'


def test_a_path_through_a_doubled_member_leads_into_the_last_as_parsers_read_it() -> None:
    found = frame(b'{"a":{"x":1},"a":{"x":2}}')
    assert found.slice(("a", "x")) == b"2"
    assert found.edited(Replace(("a", "x"), b"0")) == b'{"a":{"x":1},"a":{"x":0}}'


def test_bytes_that_are_no_utf8_survive_an_edit_beside_them() -> None:
    raw = b'{"id":1,"result":{"text":"\xff\xfe caf\xc3\xa9","content":[]}}'
    edited = frame(raw).edited(Items(("result", "content"), (), (b'"\xc3\xa9"',)))
    assert edited == b'{"id":1,"result":{"text":"\xff\xfe caf\xc3\xa9","content":["\xc3\xa9"]}}'


def test_spelling_of_numbers_and_strings_survives_an_edit_beside_them() -> None:
    kept = b'"n":1e400,"m":-0.0,"i":1180591620717411303424,"f":0.10000000000000001,"s":"\\u00e9\\ud800\\/"'
    raw = b'{"id":1,"result":{' + kept + b',"x":1}}'
    assert frame(raw).edited(Remove(("result", "x"))) == b'{"id":1,"result":{' + kept + b"}}"


def test_integers_of_any_length_can_be_stepped_over() -> None:
    raw = b'{"a":' + b"9" * 10_000 + b',"b":1}'
    assert frame(raw).edited(Replace(("b",), b"2")) == b'{"a":' + b"9" * 10_000 + b',"b":2}'


def test_a_byte_order_mark_of_a_server_stays_where_it_is() -> None:
    raw = b'\xef\xbb\xbf{"a":1,"b":2}'
    assert frame(raw).edited(Remove(("a",))) == b'\xef\xbb\xbf{"b":2}'
    assert frame(raw).slice(("b",)) == b"2"


def test_no_edit_gives_the_same_bytes_object() -> None:
    found = frame(b'{"a":1}')
    assert found.edited() is found.raw


@pytest.mark.parametrize(
    "edit",
    [
        Replace(("b",), b"1"),
        Replace(("a", "x"), b"1"),
        Replace(("list", 2), b"1"),
        Insert(("b",), "k", b"1"),
        Insert(("list",), "k", b"1"),
        Insert(("a",), "k", b"1"),
        Items(("object",), ()),
        Items(("b",), ()),
        Items((), ()),
    ],
)
def test_an_edit_of_what_is_not_there_is_refused(edit: Edit) -> None:
    with pytest.raises(LookupError):
        frame(b'{"a":1,"list":[0,1],"object":{}}').edited(edit)


@pytest.mark.parametrize(
    "pair",
    [
        (Remove(("a",)), Replace(("a",), b"1")),
        (Remove(("a",)), Remove(("a", "x"))),
        (Replace(("a", "x"), b"1"), Replace(("a",), b"1")),
        (Insert(("a",), "k", b"1"), Insert(("a",), "k", b"2")),
        (Insert(("a",), "x", b"1"), Remove(("a", "x"))),
        (Insert(("a",), "k", b"1"), Remove(("a",))),
        (Items(("l",), ()), Items(("l",), {0})),
    ],
)
def test_edits_within_each_other_are_refused_in_either_order(pair: tuple[Edit, Edit]) -> None:
    found = frame(b'{"a":{"x":1},"l":[0]}')
    for chosen in (pair, pair[::-1]):
        with pytest.raises(ValueError):
            found.edited(*chosen)


@pytest.mark.parametrize("edit", [Replace((), b"1"), Remove(())])
def test_the_whole_message_is_nothing_to_edit(edit: Edit) -> None:
    with pytest.raises(LookupError):
        frame(b'{"a":1}').edited(edit)


def test_a_slice_of_what_is_not_there_is_none() -> None:
    found = frame(b'{"a":{"x":1},"l":[0]}')
    for path in (("b",), ("a", "y"), ("a", "x", "z"), ("l", 1), ("a", "x", "y", "z"), ("b", "c", "d")):
        assert found.slice(path) is None


def test_a_number_is_no_key_of_an_object_and_no_place_before_the_first_or_after_the_last() -> None:
    found = frame(b'{"o":{"0":1},"l":[[0]]}')
    for path in (("o", 0), ("l", -1), ("l", 1), (0,), ("l", 0, "x"), ("l", "0")):
        assert found.slice(path) is None
    assert found.slice(("l", 0)) == b"[0]"
    assert found.slice(("l", 0, 0)) == b"0"


def test_items_of_what_is_no_array_are_refused() -> None:
    found = frame(b'{"a":{"x":1},"n":1}')
    for path in (("a",), ("n",), ("b",)):
        with pytest.raises(LookupError):
            found.items(path)


def test_arguments_of_a_hosts_call_are_sliced_as_they_were_spelled() -> None:
    raw = b' {"id":1,"method":"tools/call","params":{"name":"t","arguments": { "p" : "\\u0061" , "q":1.0 } }} '
    found = read_host(raw)
    assert isinstance(found, Frame)
    assert found.slice(("params", "arguments")) == b'{ "p" : "\\u0061" , "q":1.0 }'
    assert found.slice(("params", "arguments", "p")) == b'"\\u0061"'
    assert found.slice(("params", "arguments", "p", "x")) is None
    assert found.slice(("params", "nothing")) is None
    assert found.slice(("params",)) == raw[raw.index(b'{"name"') : -2]
    assert found.slice(()) == raw.strip()
    assert found.edited(Replace(("params", "name"), b'"u"')) == raw.replace(b'"t"', b'"u"')
