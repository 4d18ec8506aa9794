"""When a person's yes lets a call through, and which further calls a remembered one covers."""

from dataclasses import replace

import pytest

from soothsayer_mcp.evidence.approval import (
    YES_COUNTS_US,
    call_digest,
    counts,
    decision_digest,
    has_expired,
    is_fresh,
    why_void,
)
from soothsayer_mcp.evidence.grants import (
    bound_to,
    fits,
    rule_of,
    shape_of,
    still_covers,
    why_no_rule,
    why_not_remembered,
)
from soothsayer_mcp.model.ask import Approval, Ask, AskState, Grant, Need, Remember
from soothsayer_mcp.model.decision import Decision, Effect, Mode, RuleMatch
from soothsayer_mcp.model.failure import Failure, Reason
from soothsayer_mcp.model.json import Digest, Json
from soothsayer_mcp.model.step import ProposedStep
from soothsayer_mcp.testing.factories import make_step, make_tool
from soothsayer_mcp.testing.world import RUN_ID

NOW_US = 1_800_000_000_000_000
STEP = make_step(arguments={"path": "/srv/a/x", "n": 1})
ASKING = Decision(
    effect=Effect.ASK,
    reason=Reason.NOBODY_TO_ASK,
    rules=(RuleMatch(id="p/look", effect=Effect.ASK, text=""), RuleMatch(id="p/ok", effect=Effect.ALLOW, text="")),
    mode=Mode.ENFORCE,
    policy_digest=Digest("sha256:00"),
)
ASK = Ask(
    id="1" * 16,
    run=RUN_ID,
    no=1,
    state=AskState.YES,
    rule="p/look",
    asked_at_us=NOW_US - 60,
    expires_at_us=NOW_US + 60,
    strong=False,
    remember=Remember.RUN,
    shown="",
    card={"server": "files", "tool": "read", "args": {"path": "/srv/a/x"}, "does": ["read"]},
    answered_at_us=NOW_US - 10,
)
APPROVAL = Approval(ask=ASK.id, digest=call_digest("srv", STEP, ASKING), identity="srv")
GRANT = Grant(
    id="g",
    run=RUN_ID,
    server="files",
    tool="read",
    shape=shape_of(STEP.proposal.arguments),
    bound=bound_to("srv", STEP, ASKING),
    by="ann",
    at_us=NOW_US,
)


def verdict(ask: Ask | None, step: ProposedStep = STEP, decision: Decision = ASKING) -> Failure | None:
    found = counts(APPROVAL, ask, step, decision, NOW_US)
    assert found == why_void(APPROVAL, ask, GRANT, step, decision, NOW_US)
    return found


def test_a_fresh_yes_to_this_very_call_lets_it_through() -> None:
    assert verdict(ASK) is None


@pytest.mark.parametrize(
    ("ask", "reason", "summary"),
    [
        (None, Reason.STATE_CHANGED, "the question is no longer open"),
        (replace(ASK, state=AskState.WITHDRAWN), Reason.STATE_CHANGED, "the question is no longer open"),
        (replace(ASK, state=AskState.NO), Reason.DECLINED, "no reason was given"),
        (replace(ASK, state=AskState.NO, comment="not today"), Reason.DECLINED, "not today"),
        (replace(ASK, state=AskState.OPEN), Reason.APPROVAL_PENDING, ""),
        (replace(ASK, state=AskState.EXPIRED), Reason.APPROVAL_PENDING, ""),
        (replace(ASK, spent=True), Reason.CONSUMED, "files.read"),
        (replace(ASK, answered_at_us=None), Reason.APPROVAL_EXPIRED, ""),
        (replace(ASK, answered_at_us=NOW_US + 1), Reason.APPROVAL_EXPIRED, ""),
        (replace(ASK, answered_at_us=NOW_US - YES_COUNTS_US - 1), Reason.APPROVAL_EXPIRED, ""),
    ],
)
def test_what_is_no_fresh_yes_is_refused_and_says_why(ask: Ask | None, reason: Reason, summary: str) -> None:
    assert verdict(ask) == Failure(reason=reason, summary=summary)


def test_a_yes_counts_for_a_quarter_of_an_hour() -> None:
    assert YES_COUNTS_US == 900_000_000
    for at, fresh in ((NOW_US, True), (NOW_US - YES_COUNTS_US, True), (NOW_US - YES_COUNTS_US - 1, False)):
        assert is_fresh(replace(ASK, answered_at_us=at), NOW_US) is fresh


OTHERS: list[tuple[ProposedStep, Decision]] = [
    (make_step(arguments={"path": "/srv/a/y", "n": 1}), ASKING),
    (make_step(make_tool("write"), arguments={"path": "/srv/a/x", "n": 1}), ASKING),
    (make_step(make_tool(properties=["path"]), arguments={"path": "/srv/a/x", "n": 1}), ASKING),
    (replace(STEP, tool=None), ASKING),
    (STEP, replace(ASKING, policy_digest=Digest("sha256:01"))),
    (STEP, replace(ASKING, effect=Effect.DENY)),
    (STEP, replace(ASKING, rules=(*ASKING.rules, RuleMatch(id="p/more", effect=Effect.ASK, text="")))),
]


@pytest.mark.parametrize(("step", "decision"), OTHERS)
def test_a_yes_is_to_one_call_under_one_decision(step: ProposedStep, decision: Decision) -> None:
    assert call_digest("srv", step, decision) != APPROVAL.digest
    for state in (AskState.YES, AskState.NO):
        assert verdict(replace(ASK, state=state), step, decision) == Failure(
            reason=Reason.STATE_CHANGED, summary="what the person was asked about"
        )


def test_a_call_is_the_same_in_another_order_of_keys_and_another_with_another_server() -> None:
    assert call_digest("srv", make_step(arguments={"n": 1, "path": "/srv/a/x"}), ASKING) == APPROVAL.digest
    assert call_digest("other", STEP, ASKING) != APPROVAL.digest


def test_the_decision_is_that_of_the_rules_that_ask_whatever_allows_beside() -> None:
    alone = replace(ASKING, rules=ASKING.rules[:1])
    assert decision_digest(alone) == decision_digest(ASKING) != decision_digest(replace(ASKING, rules=()))
    assert len(decision_digest(ASKING)) == 64


def test_an_open_question_expires_after_its_time_and_when_a_clock_was_set_back() -> None:
    waiting = replace(ASK, state=AskState.OPEN)
    assert [has_expired(waiting, NOW_US + late) for late in (-61, -60, 0, 60, 61)] == [True, False, False, False, True]
    assert not has_expired(ASK, NOW_US + 61)


# -- remembered answers


def covered(grant: Grant | None, step: ProposedStep = STEP, decision: Decision = ASKING) -> str:
    resting = replace(APPROVAL, grant="g")
    found = why_void(resting, None, grant, step, decision, NOW_US)
    assert found == still_covers(grant, "srv", step, decision)
    assert found is None or found.reason is Reason.STATE_CHANGED
    return "" if found is None else found.summary


def test_a_remembered_yes_covers_calls_of_its_shape_until_it_is_taken_back() -> None:
    near = make_step(arguments={"path": "/srv/a/other", "n": 1})
    assert covered(GRANT) == covered(GRANT, near) == ""
    assert covered(None) == covered(replace(GRANT, revoked=True)) == "the remembered answer was taken back"


@pytest.mark.parametrize(("step", "decision"), OTHERS[1:])
def test_a_remembered_yes_hangs_on_definition_policy_and_rules(step: ProposedStep, decision: Decision) -> None:
    assert covered(GRANT, step, decision) == "what the person was asked about"


def test_a_remembered_yes_is_bound_to_server_definition_policy_and_the_rules_that_ask() -> None:
    bound = {bound_to("srv", step, decision) for step, decision in OTHERS[1:]}
    assert GRANT.bound not in bound
    assert bound_to("other", STEP, ASKING) != GRANT.bound
    assert bound_to("srv", STEP, replace(ASKING, rules=ASKING.rules[:1])) == GRANT.bound


def test_a_remembered_yes_covers_no_call_of_another_shape() -> None:
    far = make_step(arguments={"path": "/srv/b/x", "n": 1})
    assert covered(GRANT, far) == "what the person was asked about"


@pytest.mark.parametrize(
    ("ask", "why"),
    [
        (ASK, ""),
        (replace(ASK, strong=True), "the rule that asks wants every call looked at"),
        (replace(ASK, needs=(Need(role="lead"),)), "the rule that asks wants every call looked at"),
        (replace(ASK, remember=Remember.ONCE), "the rule that asks wants every call looked at"),
        (replace(ASK, card={**ASK.card, "does": ["read", "pay"]}), "what it does cannot be taken back"),
        (replace(ASK, card={**ASK.card, "does": ["delete"]}), "what it does cannot be taken back"),
        (replace(ASK, card={**ASK.card, "does": "delete"}), ""),
        (replace(ASK, card={}), "the question is closed"),
    ],
)
def test_a_yes_is_remembered_only_where_nothing_wants_every_call_looked_at(ask: Ask, why: str) -> None:
    assert why_not_remembered(ask) == why


@pytest.mark.parametrize(
    ("ask", "why"),
    [
        (replace(ASK, rule="default"), ""),
        (ASK, "the rule p/look asks, and an ask is stronger than an allow: change that rule instead"),
        (replace(ASK, rule="default", card={}), "a call without arguments would allow the tool whatever it is"),
        (
            replace(ASK, rule="default", card={"args": {}}),
            "a call without arguments would allow the tool whatever it is",
        ),
        (
            replace(ASK, rule="default", card={"args": ["x"]}),
            "a call without arguments would allow the tool whatever it",
        ),
    ],
)
def test_a_yes_stands_as_a_rule_only_where_no_rule_asks_and_the_call_has_arguments(ask: Ask, why: str) -> None:
    assert why_no_rule(ask).startswith(why)
    assert bool(why_no_rule(ask)) is bool(why)


def test_a_rule_made_of_a_yes_allows_calls_of_its_shape_and_no_other() -> None:
    card: dict[str, Json] = {"server": "files", "tool": "read", "args": {"path": "/srv/a/x", "n": 1}}
    rule = rule_of(card, by="ann", day="2026-11-24", until="2026-12-24")
    name = rule.pop("id")
    assert isinstance(name, str)
    assert name.removeprefix("approved-") != name
    assert len(name) == len("approved-") + 8
    assert rule == {
        "allow": "Approved by ann on 2026-11-24.",
        "tools": "files.read",
        "args": {"path": {"under": "/srv/a"}, "n": {"is": 1}},
        "only_args": True,
        "expires": "2026-12-24",
    }
    assert rule_of({**card, "args": {"path": "/srv/a/y", "n": 1}}, by="bob", day="", until="")["id"] == name
    assert rule_of({**card, "tool": "write"}, by="ann", day="", until="")["id"] != name
    assert rule_of({**card, "args": 7}, by="ann", day="", until="")["args"] == {}


@pytest.mark.parametrize(
    ("name", "value", "part"),
    [
        ("path", "/srv/a/x", {"under": "/srv/a"}),
        ("file", "/srv/a/x", {"under": "/srv/a"}),
        ("path", "/srv/./a//x", {"under": "/srv/a"}),
        ("text", "/srv/a/x", {"is": "/srv/a/x"}),
        ("path", ["/srv/a/x"], {"is": ["/srv/a/x"]}),
        ("path", "/x", {"is": "/x"}),
        ("path", "//x", {"is": "//x"}),
        ("path", "srv/a/x", {"is": "srv/a/x"}),
        ("path", "/srv/a/../x", {"is": "/srv/a/../x"}),
        ("path", "/srv/a/$x", {"is": "/srv/a/$x"}),
        ("path", "/srv/a/x\n", {"is": "/srv/a/x\n"}),
    ],
)
def test_a_plain_path_below_a_folder_may_vary_in_it_and_all_else_stays_as_it_is(
    name: str, value: Json, part: Json
) -> None:
    assert shape_of({name: value}) == {name: part}


@pytest.mark.parametrize(
    ("value", "inside"),
    [
        ("/srv/a/y", True),
        ("/srv/a/b/c", True),
        ("/srv/a//y", True),
        ("/srv/a", False),
        ("/srv/ab", False),
        ("/srv/a/../b", False),
        ("/srv/a/b*", False),
        ("srv/a/y", False),
        ("/srv/a/\u202ey", False),
        (7, False),
        (["/srv/a/y"], False),
    ],
)
def test_only_a_plain_path_below_the_folder_fits(value: Json, inside: bool) -> None:
    assert fits({"path": {"under": "/srv/a"}}, {"path": value}) is inside


def test_a_shape_that_says_nothing_fits_nothing() -> None:
    assert not fits({"n": {}}, {"n": 1})
    assert not fits({"n": 1}, {"n": 1})
    assert not fits({"n": {"is": 1}}, {})
    assert not fits({}, {"n": 1})
    assert fits({}, {})
