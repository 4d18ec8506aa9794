"""What is ruled out in one look is what a look at each text would not have found."""

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from soothsayer_mcp.adapters.lab import LAB
from soothsayer_mcp.policy.redact import Part, Redact, Redaction, Redactor
from soothsayer_mcp.policy.screen import Screen
from soothsayer_mcp.wire.texts import changed

PATTERNS = (
    r"EMP-\d{2}",
    r"^EMP",
    r"12$",
    r"^12$",
    r"^$",
    r"\bE\b",
    r"\Ba\B",
    r"\AEMP",
    r"12\z",
    r"(?-m)^a",
    r"a|^1",
    r"(?i)emp",
    r"a\nb",
    r"(?s)a.b",
    r"[^a-z]E",
    r"\"",
    r"^\{",
    r"^-?1\.5$",
    "\u00e9$",
)
PIECES = st.sampled_from(
    [
        "EMP-12",
        "EMP",
        "12",
        "E",
        "a",
        "b",
        "\n",
        '"',
        "\\",
        " ",
        "{",
        "[",
        "]",
        "}",
        "\u00e9",
        "\ud800",
        "1.5",
        ":",
        ",",
    ]
)
TEXTS = st.lists(PIECES, max_size=5).map("".join)
NUMBERS = st.sampled_from([12, -1.5, 1.5, 1, 0, 1e30])
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXTS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(TEXTS, inner, max_size=3)
        | inner.map(json.dumps)
        | inner.map(lambda value: f" {json.dumps(value, ensure_ascii=False)}")
    ),
    max_leaves=6,
)


class Thorough(Redaction):
    """Looks at each text."""

    def concerns(self, piece: str) -> bool:
        return True


@settings(deadline=None, max_examples=400, suppress_health_check=[HealthCheck.too_slow])
@given(VALUES, st.sampled_from(PATTERNS), st.booleans())
def test_looking_once_finds_what_looking_at_each_text_finds(value: object, pattern: str, ascii_only: bool) -> None:
    text = json.dumps({"result": value}, ensure_ascii=ascii_only)
    redactor = Redactor([Redact(part=Part.RESULT, matches=(pattern,), mark="~")], LAB.scan)
    thorough = changed(text, Thorough(redactor, b""), {("result",): None})
    assert changed(text, redactor.begin(), {("result",): None}) == thorough
    assert thorough == text or redactor.concerns(text)


@pytest.mark.parametrize(
    ("pattern", "piece"),
    [
        (r"EMP-\d{6}", '{"rows":[{"id":1,"name":"Ada"},{"id":2,"name":"a EMP-12345 b"}]}'),
        (r"^EMP", '{"rows":[{"id":1,"name":"an EMP"}]}'),
        (r"^12$", '{"id":123,"of":"12 of 13","deep":"[112]"}'),
        (r"secret", '{"text":"a \\u0073ecre\\u0054"}'),
    ],
)
def test_what_fits_no_text_is_ruled_out(pattern: str, piece: str) -> None:
    assert Screen([pattern], LAB.scan).rules_out(piece)


@pytest.mark.parametrize(
    ("pattern", "piece"),
    [
        (r"EMP-\d{6}", '{"rows":[{"id":1,"name":"EMP-123456"}]}'),
        (r"^EMP$", '{"EMP":1}'),
        (r"^12$", '{"id":12}'),
        (r"^12$", '{"deep":"[12]"}'),
        (r"secret", '{"text":"a \\u0073ecret"}'),
        (r"\Anever", '{"text":"x"}'),
    ],
)
def test_what_fits_or_cannot_be_told_is_not(pattern: str, piece: str) -> None:
    assert not Screen([pattern], LAB.scan).rules_out(piece)
