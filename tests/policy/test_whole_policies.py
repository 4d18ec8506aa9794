"""What holds of every policy, over all keys that decide: files as people write them, loaded as a proxy loads them."""

import json
import tempfile
from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path
from random import Random

import anyio
import pytest
from hypothesis import HealthCheck, given, reject, settings
from hypothesis import strategies as st

from policy_kit import ADA
from soothsayer_mcp.adapters.policy_files.problems import LoadErrors
from soothsayer_mcp.governor import Governor, Unrecorded
from soothsayer_mcp.model.call import Cause
from soothsayer_mcp.model.decision import Decision, Effect, Mode, ObligationKind
from soothsayer_mcp.model.failure import Reason
from soothsayer_mcp.model.json import Json, JsonObject, compact
from soothsayer_mcp.model.outcome import Returned
from soothsayer_mcp.policy.decide import decide, visible
from soothsayer_mcp.policy.policy import Policy
from soothsayer_mcp.ports import Call
from soothsayer_mcp.testing.world import World
from whole_policies import Files, a_call, a_file, a_rule, a_run, chance, facts_for, rules_of

SOME = settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.function_scoped_fixture],
)
seeds = st.integers(0, 2**40).map(Random)
CALLS = 6
"""So many calls are decided by each policy: loading one takes longer than deciding many."""


@pytest.fixture(scope="module")
def files() -> Iterator[Files]:
    """A folder for all policies of this file."""
    with tempfile.TemporaryDirectory() as folder:
        yield Files(Path(folder))


def loaded(files: Files, *pairs: tuple[JsonObject | None, JsonObject | None]) -> list[Policy]:
    """The policies of (user, project) files; chance also makes files that do not load, such as with a dead rule."""
    try:
        return [files.policy(user, project=project) for user, project in pairs]
    except LoadErrors:
        reject()


def alike(random: Random, *policies: Policy) -> Iterator[tuple[Decision, ...]]:
    """The same calls, runs and facts decided by several policies; what any of them asks is known to all or none."""
    for _ in range(CALLS):
        call, run = a_call(random), a_run(random)
        known = [facts_for(Random(random.random()), policy, call) for policy in policies]
        facts = replace(
            known[0],
            links={key: value for one in known for key, value in one.links.items()},
            tallies={key: value for one in known for key, value in one.tallies.items()},
            values={key: value for one in known for key, value in one.values.items()},
        )
        yield tuple(decide(policy, run, call, facts) for policy in policies)


def shuffled(random: Random, file: JsonObject) -> JsonObject:
    def mixed(value: Json) -> Json:
        return random.sample(value, len(value)) if isinstance(value, list) else value

    return {key: mixed(value) if key in {"rules", "labels", "risk"} else value for key, value in file.items()}


def said(decision: Decision) -> dict[str, object]:
    """All of a decision but the digest of the files, field by field."""
    return {one.name: getattr(decision, one.name) for one in fields(decision) if one.name != "policy_digest"}


@SOME
@given(seeds)
def test_the_order_of_rules_labels_and_terms_says_nothing(files: Files, random: Random) -> None:
    file = a_file(random, "t")
    one, other = loaded(files, (file, None), (shuffled(random, file), None))
    for first, second in alike(random, one, other):
        assert said(first) == said(second)


@SOME
@given(seeds)
def test_one_more_deny_never_allows_more(files: Files, random: Random) -> None:
    file, rule = a_file(random, "t"), a_rule(random, "deny")
    before, after = loaded(files, (file, None), ({**file, "rules": [*rules_of(file), rule]}, None))
    for first, second in alike(random, before, after):
        assert second.effect.strictness >= first.effect.strictness


@SOME
@given(seeds)
def test_what_a_project_says_never_allows_more(files: Files, random: Random) -> None:
    user, project = a_file(random, "t"), a_file(random, "p", leaves=True)
    project = {key: value for key, value in project.items() if key not in {"labels", "risk"}}
    project["rules"] = [rule for rule in rules_of(project) if isinstance(rule, dict) and "risk" not in rule]
    without, with_project = loaded(files, (user, None), (user, project))
    for first, second in alike(random, without, with_project):
        assert second.effect.strictness >= first.effect.strictness


@SOME
@given(seeds)
def test_no_call_and_no_fact_makes_deciding_fail(files: Files, random: Random) -> None:
    (policy,) = loaded(files, (a_file(random, "t"), None))
    for (decision,) in alike(random, policy):
        assert decision.reason is not Reason.INTERNAL_ERROR
        assert (decision.reason is None) is (decision.effect is Effect.ALLOW)
        assert decision.rules or decision.effect is Effect.ALLOW
        if decision.effect is Effect.DENY:
            assert decision.obligations == ()


@SOME
@given(seeds)
def test_the_same_files_decide_the_same_whatever_was_decided_before(files: Files, random: Random) -> None:
    """Replaying a record: another process loads the same files, and has not decided what this one has."""
    file = a_file(random, "t")
    seasoned, fresh = loaded(files, (file, None), (file, None))
    assert seasoned.digest == fresh.digest
    for _ in alike(Random(1), seasoned):
        pass
    for first, second in alike(random, seasoned, fresh):
        assert first == second


@SOME
@given(seeds)
def test_what_is_hidden_is_denied_whatever_it_is_called_with(files: Files, random: Random) -> None:
    (policy,) = loaded(files, (a_file(random, "t"), None))
    for _ in range(CALLS):
        call = a_call(random)
        assert call.tool is not None
        if call.cause is Cause.AGENT and not visible(policy, call.tool, ADA):
            assert decide(policy, a_run(random), call, facts_for(random, policy, call)).effect is Effect.DENY


SAID = Returned(
    raw=compact({"jsonrpc": "2.0", "id": 1, "result": {"content": [{"type": "text", "text": "ann@a.test " * 900}]}}),
    result={"content": [{"type": "text", "text": "ann@a.test " * 900}]},
)


@SOME
@given(seeds)
def test_observing_changes_no_byte_of_what_goes_through(files: Files, random: Random) -> None:
    file = {**a_file(random, "t"), "mode": "observe"}
    (policy,) = loaded(files, (file, None))
    for _ in range(2):
        call, world = a_call(random), World()
        if call.cause is not Cause.AGENT:
            continue
        world.answer = SAID
        governor = Governor(
            policy=lambda: policy, store=world, tools=world, look=world.look, inspector=world, call_timeout_s=5.0
        )
        closed = anyio.run(governor.govern, call, Call())
        assert not isinstance(closed, Unrecorded)
        hard = {f"t/{rule['id']}" for rule in rules_of(file) if isinstance(rule, dict) and "hard" in rule}
        if closed.decision.effect is Effect.DENY:
            assert hard & {match.id for match in closed.decision.rules}
            continue
        assert world.forwarded
        assert isinstance(closed.outcome, Returned)
        assert closed.outcome.raw == SAID.raw
        assert closed.stored is None
        assert closed.shown is None or closed.shown.raw == SAID.raw


@SOME
@given(seeds)
def test_observing_tells_what_enforcing_would_do_and_owes_nothing_that_shows(files: Files, random: Random) -> None:
    file = a_file(random, "t")
    try:
        enforcing, observing = files.policy(file), files.policy(file, mode=Mode.OBSERVE)
    except LoadErrors:
        reject()
    for held, seen in alike(random, enforcing, observing):
        if seen.effect is Effect.ALLOW and seen.rules:
            assert seen.would is not None or held.effect is Effect.ALLOW
        assert seen.mode is Mode.OBSERVE
        assert (seen.large, seen.timeout_s, seen.on_failure) == (None, None, ())
        assert all(owed.observed for owed in seen.obligations if owed.kind is ObligationKind.REDACT)


def test_what_is_generated_holds_every_key_that_decides() -> None:
    random, text = Random(5), ""
    for _ in range(300):
        text += json.dumps(a_file(random, "t"))
    for key in (
        *("after", "unless_after", "history", "flow", "risk", "when", "tainted", "who", "does", "except", "args"),
        *("only_args", "limit", "redact", "on_failure", "large_results", "hard", "mode", "budgets", "next", "pins"),
        *("cost", "sinks", "secret", "trust", "polling", "per", "window", "same"),
    ):
        assert f'"{key}"' in text
    assert chance(random, 1)
