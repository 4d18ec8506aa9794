from functools import cache
from pathlib import Path

import pytest

from policy_kit import a_message
from soothsayer_mcp.adapters.policy_files.load import find, load
from soothsayer_mcp.adapters.policy_files.places import shipped
from soothsayer_mcp.adapters.policy_files.suites import RUN
from soothsayer_mcp.adapters.policy_files.trial import Trial
from soothsayer_mcp.model.call import PinState
from soothsayer_mcp.model.decision import Effect
from soothsayer_mcp.model.facts import NO_FACTS
from soothsayer_mcp.policy.decide import decide, decide_message, visible
from soothsayer_mcp.policy.suite import own_rules


@cache
def trial(name: str) -> Trial:
    file = find(name)
    assert file is not None
    return Trial.read(str(file.with_name(f"{name}.test.yaml")))


CASES = [(name, case.name) for name in shipped() for case in trial(name).suite.cases]


@pytest.mark.parametrize(("name", "case"), CASES, ids=[f"{name}: {case}" for name, case in CASES])
def test_a_shipped_policy_decides_as_its_suite_says(name: str, case: str) -> None:
    chosen = tuple(one for one in trial(name).suite.cases if one.name == case)
    result = trial(name).run(chosen)
    assert [verdict.differences for verdict in result.verdicts] == [()]


@pytest.mark.parametrize("name", shipped())
def test_no_shipped_policy_lets_a_server_use_the_hosts_model(name: str) -> None:
    policy = load([name], state=None)
    decision = decide_message(policy, a_message("any", "sampling/createMessage"), NO_FACTS)
    assert (decision.would or decision.effect) is Effect.DENY


@pytest.mark.pitfall("P-POLICY-06")
@pytest.mark.parametrize("name", shipped())
def test_a_hidden_tool_is_denied_for_every_call_of_the_suites(name: str) -> None:
    """The row's thousand random policies are in `test_properties`; what other faces show is the proxy's part."""
    policy = load([name], state=None, workspace="/w", home="/home/u", temp="/tmp")
    for other in shipped():
        for step in (turn.step for case in trial(other).suite.cases for turn in case.turns):
            if step.tool is not None and not visible(policy, step.tool, step.principal):
                assert step.tool.pin is PinState.PINNED
                assert decide(policy, RUN, step, NO_FACTS).effect is Effect.DENY


def test_every_shipped_policy_has_a_suite() -> None:
    for name in shipped():
        file = find(name)
        assert file is not None
        assert Path(file).with_name(f"{name}.test.yaml").is_file()


@pytest.mark.parametrize("name", shipped())
def test_a_suite_tries_every_rule_both_ways_and_notices_every_change(name: str) -> None:
    chosen = trial(name)
    assert chosen.run(chosen.suite.cases).uncovered == ()
    unnoticed, tried = chosen.unnoticed()
    assert [(one.rule, one.change) for one in unnoticed] == []
    assert bool(tried) is bool(own_rules(chosen.policy))
