"""Entries say what steps learned, in a fixed order, in words that nothing can break out of."""

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recording import make_answer, make_step
from soothsayer_mcp.model.call import RunId
from soothsayer_mcp.model.decision import Effect, Obligation, ObligationKind
from soothsayer_mcp.model.entry import Kind, Receipt
from soothsayer_mcp.model.failure import REASONS, Acted, Failure, Reason
from soothsayer_mcp.model.json import Json
from soothsayer_mcp.model.outcome import Refused, Returned, Unknown
from soothsayer_mcp.model.step import VerifiedStep
from soothsayer_mcp.trace import entries
from soothsayer_mcp.trace.chain import START, Stored, find_break, leaf_hash

RUN = RunId("4b" * 16)


def verified(outcome: Returned | Unknown | Refused) -> VerifiedStep:
    receipt = Receipt(writer="a" * 16, seq=1, leaf=b"x" * 32, run=RUN, no=1)
    return make_step(RUN).recorded(receipt).answered(outcome).verified(())


@given(st.text(st.characters(codec=None)))
def test_any_string_is_spelled_as_json_that_utf8_can_hold(value: str) -> None:
    spelled = entries.quoted(value)
    assert json.loads(spelled) == value
    assert json.loads(spelled.encode()) == value


@given(st.text(st.characters(codec=None)))
def test_any_string_is_storable_and_ordinary_ones_stay(value: str) -> None:
    entries.storable(value).encode()
    if not any("\ud800" <= char <= "\udfff" for char in value):
        assert entries.storable(value) == value


def test_notes_are_written_in_the_order_of_the_format_and_say_nothing_that_is_absent() -> None:
    fields: dict[str, Json] = {"bytes": 4, "from": "host", "answered": False, "method": None, "reason": "duplicate_key"}
    assert entries.note(Kind.MESSAGE_DROPPED, fields, {}) == (
        ',"from":"host","reason":"duplicate_key","bytes":4,"answered":false'
    )


@pytest.mark.parametrize("fields", [{"nonsense": 1}, {"bytes": 1.5}, {"rules": [{"deep": 0.1}]}])
def test_a_note_with_a_field_of_no_kind_or_a_float_is_a_mistake_of_ours(fields: dict[str, Json]) -> None:
    with pytest.raises(ValueError, match="no"):
        entries.note(Kind.MESSAGE_CHECKED, fields, {})


def test_only_kinds_that_are_no_steps_are_notes() -> None:
    with pytest.raises(ValueError, match="no such field"):
        entries.note(Kind.STEP_INTENT, {"tool": "x"}, {})


@pytest.mark.parametrize(
    ("given_parent", "wanted"),
    [
        ("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "0af7651916cd43dd8448eb211c80319c"),
        ("00-00000000000000000000000000000000-b7ad6b7169203331-01", RUN),
        ("00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01", RUN),
        ("00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01", RUN),
        ("01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", RUN),
        ("00-0af7651916cd43dd8448eb211c80319-cb7ad6b7169203331-01", RUN),
        ('00-0af7651916cd43dd8448eb211c80319c-b7ad6b716920333"-01', RUN),
        ("", RUN),
        (7, RUN),
    ],
)
def test_the_trace_is_the_hosts_only_where_it_is_valid(given_parent: Json, wanted: str) -> None:
    """W3C Trace Context, section 3.2."""
    step = make_step(RUN, meta={"traceparent": given_parent})
    said = json.loads("{" + entries.trace_context(step, RUN)[1:] + "}")
    assert said["trace"] == wanted
    assert said["span"] == step.id
    assert ("parent" in said) is (wanted != RUN)


def test_obligations_are_named_by_kind_and_subject() -> None:
    owed = (
        Obligation(kind=ObligationKind.LIMIT, spec={"timeout": 30}, rule="a"),
        Obligation(kind=ObligationKind.VERIFY, spec={}, rule="a"),
    )
    decision = replace(make_step(RUN).decision, obligations=owed)
    said = json.loads("{" + entries.decision(decision, "{}")[1:] + "}")
    assert said["obligations"] == ["limit:timeout", "verify"]


@pytest.mark.parametrize("reason", list(Reason))
def test_every_reason_ends_a_step_in_one_way(reason: Reason) -> None:
    """An end that may have been an effect is unknown; one that surely was none has failed."""
    sent = entries.ending(verified(Unknown(failure=Failure(reason=reason, summary=""))))
    assert sent.failure is not None
    assert sent.failure.failure is REASONS[reason].failure
    assert (sent.outcome == "unknown") is (REASONS[reason].acted is Acted.MAYBE)
    unsent = entries.ending(verified(Unknown(failure=Failure(reason=reason, summary="", certainly_not_acted=True))))
    assert (unsent.outcome, unsent.acted) == ("failed", Acted.NO)


def test_a_tools_own_error_is_a_failure_whose_text_is_the_tools() -> None:
    step = verified(make_answer("no such file", is_error=True))
    assert entries.ending(step).outcome == "failed"
    assert not entries.answer_is_ours(step)
    assert entries.answer_is_ours(verified(Returned(raw=b"x", result=None)))
    assert entries.ending(verified(Returned(raw=b"x", result=None))).outcome == "unknown"


@pytest.mark.parametrize(
    ("does", "reads"), [((), False), (("read",), True), (("read", "write"), False), (("unlabelled",), False)]
)
def test_only_what_is_labelled_read_and_nothing_else_only_reads(does: tuple[str, ...], reads: bool) -> None:
    assert entries.only_reads(does) is reads


def test_the_context_says_who_asked_and_what_the_decision_read() -> None:
    step = make_step(RUN, effect=Effect.DENY, flaws=(Failure(reason=Reason.ARGUMENTS_INVALID, summary="x"),))
    said = entries.context(step)
    assert said["principal"] == {"id": "os:ada", "how": "os_account", "groups": ["staff"]}
    assert said["flaws"] == [["arguments_invalid", "x"]]


def _chain(count: int) -> list[Stored]:
    prev, found = START, list[Stored]()
    for seq in range(count):
        body = entries.head("a" * 16, seq, prev, "2026-11-24T10:00:00.000000Z", "message.dropped") + "}"
        leaf = leaf_hash(body.encode())
        found.append(Stored(pos=seq, writer="a" * 16, seq=seq, leaf=leaf, body=body))
        prev = leaf.hex()
    return found


def test_the_hash_of_a_leaf_is_that_of_rfc_9162() -> None:
    """Section 2.1.1; the value is that of the empty leaf, from the published vectors of certificate transparency."""
    assert leaf_hash(b"").hex() == "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"


@pytest.mark.parametrize("start", range(4))
def test_any_piece_of_a_chain_holds(start: int) -> None:
    assert find_break(_chain(4)[start:]) == ""


def test_a_piece_without_one_entry_or_with_another_does_not_hold() -> None:
    chain = _chain(4)
    assert find_break([chain[0], *chain[2:]]) == "entry 1 is missing"
    other = Stored(pos=2, writer="a" * 16, seq=2, leaf=leaf_hash(b"{}"), body="{}")
    assert find_break([*chain[:2], other, chain[3]]) == "entry 2 does not follow entry 1 of its writer"
    torn = Stored(pos=2, writer="a" * 16, seq=2, leaf=chain[2].leaf, body=chain[2].body + " ")
    assert find_break([*chain[:2], torn]) == "entry 2 does not match its hash"
