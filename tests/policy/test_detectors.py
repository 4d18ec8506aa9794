"""What detectors find and what they leave alone; each secret has a look-alike that is none."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from soothsayer_mcp.adapters.lab import LAB
from soothsayer_mcp.policy.detectors import (
    DETECTORS,
    detectors_of,
    fires,
    names_a_secret,
    spans,
    spellings,
    turns_pages,
)


def found(words: Sequence[str], text: str) -> list[str]:
    """What detectors find in a text, in the order of the text."""
    detectors = detectors_of(words)
    scan = LAB.scan([detector.pattern for detector in detectors])
    return [text[start:end] for _, start, end in sorted(spans(scan, detectors, text), key=lambda span: span[1:])]


@pytest.mark.parametrize(
    ("word", "text", "expected"),
    [
        ("email", "write to ann.lee+x@mail.acme.test, please", ["ann.lee+x@mail.acme.test"]),
        ("email", "a <bob@acme.test>; jürgen@müller.test", ["bob@acme.test", "jürgen@müller.test"]),
        ("iban", "to DE02 1203 0000 0000 2020 51 today", ["DE02 1203 0000 0000 2020 51"]),
        ("iban", "DE02120300000000202051", ["DE02120300000000202051"]),
        ("card_number", "card 4111 1111 1111 1111.", ["4111 1111 1111 1111"]),
        ("card_number", "5500005555555559", ["5500005555555559"]),
        ("phone", "call +49 30 1234567 or (212) 555-0143", ["+49 30 1234567", "(212) 555-0143"]),
        ("phone", "0171/1234567, 030 1234567", ["0171/1234567", "030 1234567"]),
        ("secret", "key AKIAIOSFODNN7EXAMPLE", ["AKIAIOSFODNN7EXAMPLE"]),
        ("secret", "postgres://u:hunter2@db/x", ["hunter2"]),
    ],
)
def test_what_is_looked_for_is_found(word: str, text: str, expected: list[str]) -> None:
    assert found([word], text) == expected


@pytest.mark.parametrize(
    ("word", "text"),
    [
        ("email", "git@github at 10@ 3 @pytest.mark.parametrize user@host"),
        ("iban", "DE02120300000000202052"),
        ("iban", "XX00ABCDEF12345678"),
        ("card_number", "4111 1111 1111 1112"),
        ("card_number", "order 41111111111111111111111"),
        ("phone", "2026-11-24 10:22:45, version 1.20.3000, 192.168.100.200, 20261124102245"),
        ("phone", "id 3f2b0171234567ab, line 120000, 0.123456789, 12345678, /2020/0123-12345.html"),
        ("secret", "the token is a word, a secret: nothing; password please"),
    ],
)
def test_what_only_looks_alike_is_left_alone(word: str, text: str) -> None:
    assert found([word], text) == []


@pytest.mark.parametrize(
    "spelling",
    [
        "AKIAIOSFODNN7EXAMPLE",
        "%41KIAIOSFODNN7EXAMPL%45",
        "%2541KIAIOSFODNN7EXAMPLE",
        "x QUtJQUlPU0ZPRE5ON0VYQU1QTEU= y",
        "?q=QUtJQUlPU0ZPRE5ON0VYQU1QTEU",
        "414b4941494f53464f444e4e374558414d504c45",
    ],
)
def test_a_secret_is_found_however_it_is_encoded(spelling: str) -> None:
    detectors = DETECTORS["secret"]
    scan = LAB.scan([detector.pattern for detector in detectors])
    assert any(fires(scan, detectors, text) for text in spellings(spelling))


@given(st.text(max_size=200))
def test_every_text_has_spellings(text: str) -> None:
    assert next(spellings(text)) == text
    assert all(isinstance(one, str) for one in spellings(text))


@given(st.text(alphabet="%0123456789abcdefABCDEF/+=-_xyz", max_size=120))
def test_broken_encodings_are_texts_as_they_stand(text: str) -> None:
    assert text in list(spellings(text))


def test_keys_that_turn_pages_name_no_secret_to_be_masked() -> None:
    assert names_a_secret("nextPageToken")
    assert turns_pages("nextPageToken")
    assert turns_pages("continuation_token")
    assert not turns_pages("access_token")
