"""What the trace keeps holds no secret, wherever it stands; and what is none is kept byte for byte."""

import json
import re
from base64 import urlsafe_b64encode

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from soothsayer_mcp.adapters.store import masking
from soothsayer_mcp.adapters.store.masking import MaskingError, mask
from soothsayer_mcp.policy.detectors import marker, names_a_secret


def jwt(algorithm: str) -> str:
    parts = ({"alg": algorithm, "typ": "JWT"}, {"sub": "ada", "exp": 1}, {"signature": "x" * 40})
    return ".".join(urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts)


PEM = "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\nMIIEow+IBAAKCAQ==\n-----END RSA PRIVATE KEY-----"

SECRETS = {
    "jwt-hs256": (jwt("HS256"), "jwt"),
    "jwt-rs256": (jwt("RS256"), "jwt"),
    "pem": (PEM, "private_key"),
    "bearer": ("Bearer abc.DEF-123", "bearer"),
    "github": ("ghp_" + "a1B2" * 9, "token"),
    "github-fine": ("github_pat_" + "a1B2" * 9, "token"),
    "gitlab": ("glpat-" + "a1B2" * 5, "token"),
    "slack": ("xoxb-1234567890-abcdef", "token"),
    "npm": ("npm_" + "a1B2" * 9, "token"),
    "stripe": ("sk_live_" + "a1B2" * 6, "token"),
    "model-provider": ("sk-" + "a1B2" * 8, "token"),
    "aws": ("AKIA" + "ABCD1234" * 2, "cloud_key"),
    "google": ("AIza" + "a1B2-" * 7, "cloud_key"),
    "url": ("postgres://ada:hunter2@db.example/app", "password"),
    "environment": ("DB_PASSWORD=hunter2", "assigned"),
    "config": ("api_key: abcdef123456", "assigned"),
    "card": ("4111 1111 1111 1111", "card"),
    "iban": ("DE89 3704 0044 0532 0130 00", "iban"),
}

PLACES = {
    "text": '{"content":[{"type":"text","text":"see @ there"}]}',
    "structured": '{"structuredContent":{"deep":[{"value":"@"}]}}',
    "resource": '{"content":[{"type":"resource","resource":{"uri":"a:b","text":"@"}}]}',
    "resource-link": '{"content":[{"type":"resource_link","uri":"@","name":"x"}]}',
    "error-message": '{"error":{"code":1,"message":"@"}}',
    "error-data": '{"error":{"code":1,"message":"x","data":{"trace":["@"]}}}',
    "progress": '{"method":"notifications/progress","params":{"progressToken":1,"message":"@"}}',
    "log-notice": '{"method":"notifications/message","params":{"level":"info","data":"@"}}',
    "prompt": '{"messages":[{"role":"user","content":{"type":"text","text":"@"}}]}',
    "task-result": '{"task":{"result":{"content":[{"type":"text","text":"@"}]}}}',
    "description": '{"tools":[{"name":"x","description":"@"}]}',
    "a-key": '{"map":{"@":1}}',
}
"""Where the secret stands in the message."""

NESTED, ESCAPED = "json-in-a-string", "escaped"


def spell(place: str, secret: str) -> bytes:
    if place == ESCAPED:
        return b'{"text":"%s"}' % b"".join(b"\\u%04x" % ord(char) for char in secret)
    if place == NESTED:
        return json.dumps({"text": json.dumps({"inner": json.dumps({"value": secret})})}).encode()
    return PLACES[place].replace("@", json.dumps(secret)[1:-1]).encode()


def essence(secret: str) -> str:
    """The part that must not be kept."""
    return {"url": "hunter2", "environment": "hunter2", "config": "abcdef123456", "bearer": "abc.DEF-123"}.get(
        next(name for name, (spelled, _) in SECRETS.items() if spelled == secret), secret
    )


@pytest.mark.pitfall("P-SECRET-05")
@pytest.mark.parametrize("place", [*PLACES, NESTED, ESCAPED])
@pytest.mark.parametrize("name", SECRETS)
def test_a_secret_is_masked_wherever_it_stands(name: str, place: str) -> None:
    """The recording side: nothing in a message is exempt, and no detector needs a telling key."""
    secret, kind = SECRETS[name]
    kept, count = mask(spell(place, secret))
    text = json.dumps(json.loads(kept), ensure_ascii=False)
    assert count > 0
    assert essence(secret).replace("\n", "\\n") not in text
    assert marker(kind) in text


@pytest.mark.parametrize("name", SECRETS)
def test_a_secret_is_masked_in_plain_text_and_the_rest_stays(name: str) -> None:
    secret, _kind = SECRETS[name]
    kept, count = mask(f"before {secret} after".encode())
    assert count == 1
    assert kept.startswith(b"before ")
    assert kept.endswith(b" after")
    assert essence(secret).encode() not in kept


@pytest.mark.parametrize("name", SECRETS)
def test_what_a_small_payload_is_looked_through_for_misses_no_secret(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before the patterns are loaded, small payloads are judged by hints alone."""
    monkeypatch.setattr(masking, "_looks", iter([0]))
    assert masking._has_hint(json.dumps({"text": SECRETS[name][0]}).encode())


@pytest.mark.parametrize(
    "key",
    [
        *("password", "dbPassword", "DB-PASSWORD", "Passphrase", "client_secret", "accessToken", "X-Api-Key", "apiKey"),
        *("aws_secret_access_key", "privateKey", "Authorization", "Set-Cookie", "credentials", "otp", "userPin", "PIN"),
    ],
)
def test_the_name_of_a_key_is_enough(key: str) -> None:
    assert names_a_secret(key)
    kept, count = mask(json.dumps({"a": {key: "s3", "n": 1}}).encode())
    assert count == 1
    assert json.loads(kept) == {"a": {key: marker("key"), "n": 1}}


@pytest.mark.parametrize(
    "key", ["max_tokens", "tokens", "passwordless", "spin", "mapping", "keyword", "author", "", "é"]
)
def test_a_key_that_only_looks_like_one_is_kept(key: str) -> None:
    assert not names_a_secret(key)


@pytest.mark.parametrize("value", [None, True, "", [1, {"a": 2}], {"b": 1}, 12.50])
def test_under_a_telling_key_every_value_that_says_something_is_masked(value: object) -> None:
    kept, _ = mask(json.dumps({"password": value}).encode())
    says_nothing = value is None or value is True or value == ""
    assert json.loads(kept) == {"password": value if says_nothing else marker("key")}


BENIGN = [
    b'{"content":[{"type":"text","text":"Ada wrote 3 tests; commit 5c1e44f0b2d9 at 2026-11-24T10:00:00.123456Z"}]}',
    b'{"id":"4bf92f3577b34da6a3ce929d0e0e4736","n":12345678901234567890,"size":1290,"ratio":0.30000000000000004}',
    b'{"order":"4111-1111-1111-1112","phone":"+49 30 901820","isbn":"978-3-16-148410-0"}',
    b"ping typing mapping opinion; the pin is in the pinboard; tokens: 12; a token of thanks",
    b'{"url":"https://example.com/a?b=c#d","mail":"ada@example.com","path":"C:\\\\Users\\\\ada"}',
    b"bearer of good news; basic authentication",
    b'{"max_tokens":4096,"stop":["token"]}',
    '{"text":"gr\u00fc\u00dfe \u2603 \U0001f600"}'.encode(),
]


@pytest.mark.parametrize("raw", BENIGN)
def test_what_is_no_secret_is_kept_byte_for_byte(raw: bytes) -> None:
    assert mask(raw) == (raw, 0)


def test_beside_a_masked_value_numbers_order_and_doubled_keys_stay_as_spelled() -> None:
    raw = b'{"z":1.50,"a":1e400,"a":9007199254740993,"password":"x","n":-0.0}'
    kept, count = mask(raw)
    assert count == 1
    assert kept == raw.replace(b'"x"', f'"{marker("key")}"'.encode())


@pytest.mark.parametrize("around", ["%s", " %s\n", "[%s]", '{"n":%s}'])
@pytest.mark.parametrize("number", ["4111111111111111", "4111111111111111.0", "378282246310005"])
def test_a_number_that_is_masked_leaves_json(number: str, around: str) -> None:
    """A bare number used to become a bare marker, which is no JSON."""
    kept, count = mask((around % number).encode())
    assert count == 1
    assert marker("card") in json.dumps(json.loads(kept), ensure_ascii=False)
    assert mask(kept) == (kept, 0)


def test_a_text_that_is_nothing_but_a_number_stays_a_plain_text() -> None:
    assert mask(b'"4111111111111111"')[0] == f'"{marker("card")}"'.encode()


def test_a_lone_surrogate_beside_a_secret_reveals_nothing() -> None:
    kept, _ = mask(b'{"text":"\\ud800 password=hunter2"}')
    assert b"hunter2" not in kept


def test_what_cannot_be_read_is_not_kept() -> None:
    with pytest.raises(MaskingError):
        mask(b'\xff\xfe password="hunter2"')


def test_what_takes_too_long_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(masking, "LIMIT_S", -1.0)
    with pytest.raises(MaskingError):
        mask(b'{"password":"hunter2"}')


def test_nesting_beyond_every_limit_is_not_kept() -> None:
    with pytest.raises(MaskingError):
        mask(b'{"password":' + b"[" * 100_000 + b"]" * 100_000 + b"}")


def test_a_large_payload_is_searched_in_one_pass() -> None:
    """A secret far into it is found, and a payload without one comes back as the same object."""
    plain = json.dumps({"text": "lorem ipsum " * 50_000}).encode()
    assert mask(plain)[0] is plain
    kept, count = mask(plain[:-2] + b' ghp_%s"}' % (b"a1B2" * 9))
    assert count == 1
    assert b"ghp_" not in kept


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@settings(deadline=None)  # the first one loads the patterns
@given(VALUES)
def test_masking_what_is_masked_changes_nothing_more(value: object) -> None:
    once, _ = mask(json.dumps(value).encode())
    twice, _ = mask(once)
    assert json.loads(twice) == json.loads(once)


def test_every_kind_has_a_name_that_a_reader_can_type() -> None:
    assert all(re.fullmatch(r"[a-z_]+", row.kind) for row in masking._VALUES)


def test_what_was_masked_already_is_left_as_it_is() -> None:
    raw = json.dumps({"text": f"TOKEN={marker('token')} and password: {marker('iban')}"}, ensure_ascii=False).encode()
    assert mask(raw) == (raw, 0)
