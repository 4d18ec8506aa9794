from pathlib import Path

import pytest

from policy_kit import ADA, HOST
from soothsayer_mcp.adapters.policy_files.load import find, load
from soothsayer_mcp.adapters.policy_files.places import shipped
from soothsayer_mcp.adapters.policy_files.suites import RUN, Suite, read_suite
from soothsayer_mcp.model.call import PinState
from soothsayer_mcp.model.decision import Effect
from soothsayer_mcp.model.facts import NO_FACTS
from soothsayer_mcp.policy.decide import decide, decide_message, visible
from soothsayer_mcp.policy.rules import Policy
from soothsayer_mcp.policy.suite import run_suite


def suite_of(name: str) -> Suite:
    file = find(name)
    assert file is not None
    return read_suite(str(file.with_name(f"{name}.test.yaml")))


def loaded(suite: Suite) -> Policy:
    return load(suite.policies, state=None, workspace="/w", home="/home/u", temp="/tmp", known_servers=suite.servers)


CASES = [(name, case.name) for name in shipped() for case in suite_of(name).cases]


@pytest.mark.parametrize(("name", "case"), CASES, ids=[f"{name}: {case}" for name, case in CASES])
def test_a_shipped_policy_decides_as_its_suite_says(name: str, case: str) -> None:
    suite = suite_of(name)
    chosen = [one for one in suite.cases if one.name == case]
    result = run_suite(loaded(suite), RUN, chosen)
    assert [verdict.differences for verdict in result.verdicts] == [()]


@pytest.mark.parametrize("name", shipped())
def test_a_suite_names_rules_that_exist_and_reaches_what_it_promises(name: str) -> None:
    suite = suite_of(name)
    policy = loaded(suite)
    assert suite.unknown_rules(policy) == ()
    result = run_suite(policy, RUN, suite.cases)
    assert result.covered_percent >= suite.coverage, result.uncovered


@pytest.mark.parametrize("name", shipped())
def test_no_shipped_policy_lets_a_server_use_the_hosts_model(name: str) -> None:
    policy = load([name], state=None)
    decision = decide_message(policy, ADA, HOST, "any", "sampling/createMessage", {}, NO_FACTS)
    assert (decision.would or decision.effect) is Effect.DENY


@pytest.mark.pitfall("P-POLICY-06")
@pytest.mark.parametrize("name", shipped())
def test_a_hidden_tool_is_denied_for_every_call_of_the_suites(name: str) -> None:
    """The row's thousand random policies are in `test_properties`; what other faces show is the proxy's part."""
    policy = load([name], state=None, workspace="/w", home="/home/u", temp="/tmp")
    for other in shipped():
        for case in suite_of(other).cases:
            tool = case.step.tool
            assert tool is not None
            assert tool.pin is PinState.PINNED
            if not visible(policy, tool, case.step.principal):
                assert decide(policy, RUN, case.step, NO_FACTS).effect is Effect.DENY


def test_every_shipped_policy_has_a_suite() -> None:
    for name in shipped():
        file = find(name)
        assert file is not None
        assert Path(file).with_name(f"{name}.test.yaml").is_file()
