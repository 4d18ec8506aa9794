"""Masking a message: what is meant is gone, every other byte stays, and doing it twice is doing it once."""

import json
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from soothsayer_mcp.adapters.lab import LAB
from soothsayer_mcp.model.json import Json, compact
from soothsayer_mcp.policy.redact import Part, Redact, Redactor, read_place, read_redact
from soothsayer_mcp.wire.texts import changed

IBAN = "DE02120300000000202051"
CARD = "4111111111111111"
MAIL = "ann@acme.test"
KEY = "AKIAIOSFODNN7EXAMPLE"
EVERYTHING = ("secret", "email", "iban", "card_number", "phone")


def masks(*redacts: Redact) -> Redactor:
    return Redactor(redacts, LAB.scan)


def mask(redactor: Redactor, text: str, root: tuple[str, ...] = ("result",)) -> tuple[str, Mapping[str, int]]:
    redaction = redactor.begin()
    return changed(text, redaction, {root: None}), redaction.counts


def in_result(value: Json, *redacts: Redact) -> Any:
    """What a result becomes."""
    text = compact({"id": 1, "result": value}).decode()
    return json.loads(plainly(mask(masks(*redacts), text)[0]))["result"]


def plainly(text: str) -> str:
    """Markers in a form that is easier to read here."""
    return text.replace("\u2039masked:", "<").replace("\u203a", ">")


ALL = Redact(part=Part.RESULT, find=EVERYTHING)


def test_every_place_of_a_result_is_masked() -> None:
    value: Json = {
        "content": [
            {"type": "text", "text": f"pay {IBAN} now"},
            {"type": "resource", "resource": {"uri": f"x://{MAIL}", "text": KEY}},
            {"type": "resource_link", "uri": "x://y", "name": MAIL, "description": f"of {MAIL}"},
        ],
        "structuredContent": {"a": {MAIL: [CARD, 4111111111111111]}, "ok": True},
        "_meta": {"note": KEY},
    }
    said = json.dumps(in_result(value, ALL), ensure_ascii=False)
    assert not any(secret in said for secret in (IBAN, CARD, MAIL, KEY))
    assert said.count("<card>") == 2
    assert said.count("<email>") == 4


def test_bytes_beside_a_match_stay_as_they_were_spelt() -> None:
    text = '{ "id":1 , "result" : {"a":"\\u00e9 ' + MAIL + '" ,"n":1.50, "b" :"\\u00e9"}}'
    assert plainly(mask(masks(ALL), text)[0]) == text.replace(f"\\u00e9 {MAIL}", "é <email>")


def test_what_escapes_hide_is_found() -> None:
    text = '{"result":{"a":"\\u0041KIAIOSFODNN7EXAMPLE","b":"{\\"k\\":\\"\\\\u0041KIAIOSFODNN7EXAMPLE\\"}"}}'
    masked, counts = mask(masks(ALL), text)
    assert json.loads(plainly(masked))["result"] == {"a": "<cloud_key>", "b": '{"k":"<cloud_key>"}'}
    assert counts == {"cloud_key": 2}


def test_json_in_texts_is_masked_as_json() -> None:
    inner = json.dumps({"password": "correcthorse", "nextPageToken": "abcdefgh12345678", "n": 4111111111111111})
    masked = in_result({"content": [{"type": "text", "text": inner}]}, ALL)
    assert json.loads(masked["content"][0]["text"]) == {
        "password": "<key>",
        "nextPageToken": "abcdefgh12345678",
        "n": "<card>",
    }


def test_a_path_masks_that_value_in_structured_content_and_in_text_that_is_json() -> None:
    data: Json = {"user": {"name": "Ann", "tags": ["a", "b"]}, "name": "kept"}
    value: Json = {"content": [{"type": "text", "text": json.dumps(data)}], "structuredContent": data, "name": "kept"}
    masked = in_result(value, Redact(part=Part.RESULT, at=("user.name", "user.tags[*]"), mark="-"))
    expected = {"user": {"name": "-", "tags": ["-", "-"]}, "name": "kept"}
    assert masked["structuredContent"] == expected
    assert json.loads(masked["content"][0]["text"]) == expected
    assert masked["name"] == "kept"


def test_a_detector_at_a_path_looks_there_only() -> None:
    masked = in_result(
        {"structuredContent": {"from": MAIL, "to": {"all": [MAIL]}}},
        Redact(part=Part.RESULT, at=("to",), find=("email",)),
    )
    assert masked["structuredContent"] == {"from": MAIL, "to": {"all": ["<email>"]}}


def test_an_expression_of_the_policys_own_is_searched_for_and_replaced() -> None:
    masked = in_result({"a": "ACC-12 and ACC-345"}, Redact(part=Part.RESULT, matches=(r"ACC-\d+",), mark="[account]"))
    assert masked == {"a": "[account] and [account]"}


def test_two_keys_that_become_the_same_stay_two() -> None:
    assert in_result({"a@x.test": 1, "b@x.test": 2}, ALL) == {"<email>": 1, "<email> 2": 2}


def test_what_overlaps_is_masked_as_a_whole() -> None:
    masked, counts = mask(masks(ALL), '{"result":"password=ghp_abcdefghijklmnopqrstuvwxyz012345"}')
    assert json.loads(plainly(masked))["result"] == "password=<token>"
    assert sum(counts.values()) == 1


def test_deep_results_are_masked_too() -> None:
    deep = '{"a":' * 60 + f'["{MAIL}",{{"{MAIL}":4111111111111111}}]' + "}" * 60
    masked, counts = mask(masks(ALL), f'{{"result":{deep}}}')
    assert MAIL not in masked
    assert counts == {"email": 2, "card": 1}
    json.loads(masked)


def test_a_secret_argument_is_kept_as_a_salted_digest() -> None:
    redactor = masks(read_redact({"in": "trace", "at": ["args.pin"], "digest": True}))

    def kept(salt: bytes) -> str:
        return changed('{"pin":1234,"to":"x"}', redactor.begin(salt), {(): ("args",)})

    assert "1234" not in kept(b"a")
    assert kept(b"a") == kept(b"a") != kept(b"b")
    assert json.loads(kept(b"a"))["to"] == "x"


@pytest.mark.parametrize("place", ["", "a..b", "a b", "[*]", "a[0]"])
def test_what_is_no_place_is_refused(place: str) -> None:
    with pytest.raises(ValueError, match="names no place"):
        read_place(place, Part.RESULT)


SECRETS = st.sampled_from(
    [IBAN, CARD, MAIL, KEY, "password=hunter22", "Bearer abc123def456", "+49 30 1234567", "plain"]
)
TEXTS = st.lists(st.one_of(SECRETS, st.text(max_size=12)), max_size=4).map(" ".join)
LEAVES = st.one_of(
    TEXTS, st.integers(), st.booleans(), st.none(), st.just(int(CARD)), TEXTS.map(lambda t: json.dumps([t]))
)
VALUES: st.SearchStrategy[Json] = st.recursive(
    LEAVES,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(TEXTS, inner, max_size=4)),
    max_leaves=12,
)
REDACTORS = {
    "markers": masks(ALL),
    "own mark": masks(Redact(part=Part.RESULT, find=EVERYTHING, mark="[masked]")),
    "own expression": masks(Redact(part=Part.RESULT, matches=("[aeiou]{2}",), mark="-"), ALL),
}


@pytest.mark.parametrize("name", REDACTORS)
@settings(max_examples=150, deadline=None)
@given(value=VALUES, ascii_only=st.booleans(), indent=st.sampled_from([None, 1]))
def test_masking_twice_is_masking_once_and_leaves_what_is_not_meant(
    name: str, value: Json, *, ascii_only: bool, indent: int | None
) -> None:
    text = json.dumps({"id": MAIL, "result": value}, ensure_ascii=ascii_only, indent=indent)
    once, counts = mask(REDACTORS[name], text)
    twice, _ = mask(REDACTORS[name], once)
    assert twice == once
    assert json.loads(once)["id"] == MAIL
    assert (once == text) is (not counts)
    if name == "markers":
        assert not any(secret in json.dumps(json.loads(once)["result"]) for secret in (IBAN, MAIL, KEY))
    if not counts:
        return
    _same_beside_masks(json.loads(text)["result"], json.loads(once)["result"])


def _same_beside_masks(before: Json, after: Json) -> None:
    """Whatever is not masked is what it was."""
    if isinstance(before, dict) and isinstance(after, dict):
        assert len(before) == len(after)
        for (old, was), (new, now) in zip(before.items(), after.items(), strict=True):
            assert old == new or "masked" in new or "-" in new
            _same_beside_masks(was, now)
    elif isinstance(before, list) and isinstance(after, list):
        for was, now in zip(before, after, strict=True):
            _same_beside_masks(was, now)
    elif before != after:
        assert isinstance(after, str)
        assert "masked" in after or "-" in after
