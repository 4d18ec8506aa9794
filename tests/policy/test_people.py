"""A person's yes as evidence: a rule that needs one permits nothing by itself, and lets nothing go without."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policy_kit import judge, policy_from, rule_ids
from soothsayer_mcp.adapters.policy_files.problems import LoadErrors
from soothsayer_mcp.model.ask import Remember
from soothsayer_mcp.model.call import Cause
from soothsayer_mcp.model.decision import Effect

ALSO = "  - also: prod is looked at\n    id: looked\n    tools: fs.write_file\n    require: [{human: {HOW}}]\n"
DENYING = "default: {read: allow, other: deny}\nrules:\n"
ALLOWING = "default: {read: allow, other: allow}\nrules:\n"
KEY = "ed25519:" + "0" * 64


def also(how: str = "binds: args") -> str:
    return ALSO.replace("HOW", how)


def test_what_may_go_is_asked_about_and_what_no_rule_allows_is_not(tmp_path: Path) -> None:
    asked = judge(policy_from(ALLOWING + also(), tmp_path))
    assert (asked.effect, rule_ids(asked)) == (Effect.ASK, ["t/looked"])
    assert asked.rules[0].text == "a person has to say yes: prod is looked at"
    assert asked.asks is not None
    assert (asked.asks.strong, asked.asks.remember, asked.asks.needs) == (False, Remember.NEVER, ())
    assert [one.rule for one in asked.obligations if "human" in one.spec] == ["t/looked"]
    # An `also` decides nothing: no yes lets through what policy does not.
    assert judge(policy_from(DENYING + also(), tmp_path)).effect is Effect.DENY
    denied = policy_from(ALLOWING + also() + "  - {deny: never, tools: fs.write_file}\n", tmp_path)
    assert judge(denied).effect is Effect.DENY
    silent = "pins: {new: trust, changed: deny}\narguments: {undeclared: allow, no_schema: allow}\n"
    assert not policy_from(silent + "default: {read: allow, other: allow}\n", tmp_path).can_ask
    assert policy_from(silent + ALLOWING + also(), tmp_path).can_ask


def test_of_an_allow_that_needs_a_yes_a_doubt_is_no_match(tmp_path: Path) -> None:
    allow = "  - allow: small\n    tools: fs.write_file\n    when: args.n < 5\n    require: [{human: {strong: true}}]\n"
    policy = policy_from(DENYING + allow, tmp_path)
    asked = judge(policy, arguments={"n": 1})
    assert asked.effect is Effect.ASK
    assert asked.asks is not None
    assert asked.asks.strong
    assert judge(policy, arguments={"n": 9}).effect is Effect.DENY
    assert judge(policy, arguments={"n": "x"}).effect is Effect.DENY


def test_only_a_clear_no_of_its_condition_needs_nobody(tmp_path: Path) -> None:
    policy = policy_from(ALLOWING + also("when: 'args.to == \"prod\"'"), tmp_path)
    assert judge(policy, arguments={"to": "dev"}).effect is Effect.ALLOW
    assert judge(policy, arguments={"to": "prod"}).effect is Effect.ASK
    assert judge(policy, arguments={}).effect is Effect.ASK


def test_what_asks_already_is_one_question_with_it_and_the_strictest_holds(tmp_path: Path) -> None:
    ask = "  - {ask: every write, id: every, tools: fs.write_file, remember: run}\n"
    decision = judge(policy_from(ALLOWING + ask + also("strong: true"), tmp_path))
    assert sorted(rule_ids(decision)) == ["t/every", "t/looked"]
    assert decision.asks is not None
    assert (decision.asks.strong, decision.asks.remember) == (True, Remember.NEVER)


def test_people_of_a_role_are_those_of_the_organisation(tmp_path: Path) -> None:
    roles = f"roles: {{lead: [{{name: 'ann', key: '{KEY}'}}]}}\n"
    policy = policy_from(ALLOWING + also("role: lead, not: requester"), tmp_path, organisation=roles)
    terms = judge(policy).asks
    assert terms is not None
    assert [(need.role, need.count, need.not_requester, need.keys) for need in terms.needs] == [
        ("lead", 1, True, (("ann", KEY),))
    ]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (also("role: lead"), 'has no role "lead"'),
        (also("count: 2"), "about the people of a `role`"),
        (also("binds: tool"), "args"),
        (also("when: 'who.client == \"x\"'"), "spares nobody"),
        (also("rol: x"), 'unknown key "rol"'),
        (ALSO.replace("{human: {HOW}}", "{any: [{human: {binds: args}}]}"), "not in `any`"),
        (
            "  - {deny: x, tools: fs.write_file, require: [{human: {binds: args}}]}\n",
            "nobody is asked about what is denied",
        ),
    ],
)
def test_what_would_spare_people_or_ask_nobody_does_not_load(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(LoadErrors) as errors:
        policy_from(ALLOWING + text, tmp_path)
    assert told in str(errors.value)


def test_what_observes_asks_nobody_and_no_probe_or_undo_is_asked_about(tmp_path: Path) -> None:
    assert judge(policy_from("mode: observe\n" + ALLOWING + also(), tmp_path)).effect is Effect.ALLOW
    policy = policy_from(ALLOWING + also(), tmp_path)
    assert judge(policy, cause=Cause.UNDO).effect is Effect.ALLOW


@given(
    default=st.sampled_from(["allow", "ask", "deny"]),
    others=st.lists(st.sampled_from(["allow", "ask", "deny"]), max_size=2),
    human=st.sampled_from(["allow", "ask", "also"]),
)
def test_a_needed_yes_only_tightens(
    tmp_path_factory: pytest.TempPathFactory, default: str, others: list[str], human: str
) -> None:
    folder = tmp_path_factory.getbasetemp()
    head = f"default: {{read: allow, other: {default}}}\nrules:\n"
    rest = "".join(
        f"  - {{{one}: other, id: o{no}, tools: fs.write_file, args: {{x: {{max: {no + 6}}}}}}}\n"
        for no, one in enumerate(others)
    )
    rule = f"  - {{{human}: x, id: h, tools: fs.write_file, args: {{x: {{max: 5}}}}%s}}\n"
    without = judge(policy_from(head + rest + rule % ", limit: {timeout: 9s}", folder), arguments={"x": 1})
    needed = judge(policy_from(head + rest + rule % ", require: [{human: {binds: args}}]", folder), arguments={"x": 1})
    strict = [Effect.ALLOW, Effect.ASK, Effect.DENY]
    assert strict.index(needed.effect) == max(strict.index(without.effect), 1)
