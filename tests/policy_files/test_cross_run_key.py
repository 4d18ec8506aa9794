"""`cross_run`: a step of another run may serve, where something says how fresh it has to be."""

from pathlib import Path

import pytest

from policy_kit import policy_from
from soothsayer_mcp.adapters.policy_files.problems import LoadErrors

RULE = 'rules: [{allow: "Push.", tools: "dev.push", require: [ITEM]}]\n'


@pytest.mark.parametrize(
    ("item", "told"),
    [
        ('{step: {tools: "dev.run", cross_run: true}}', "say max_age, not_before or unchanged"),
        ('{any: [{step: {tools: "dev.run", cross_run: true, single_use: true}}]}', "say max_age, not_before or"),
        ('{step: {tools: "dev.run", cross_run: yes please, max_age: 1h}}', "true or false is due"),
        ('{artifact: {file: "x", exists: true, cross_run: true}}', 'unknown key "cross_run"'),
        ('{step: {tools: "dev.run", crossrun: true, max_age: 1h}}', 'did you mean "cross_run"'),
    ],
)
def test_a_step_of_any_age_or_what_is_looked_at_anew_crosses_no_runs(tmp_path: Path, item: str, told: str) -> None:
    with pytest.raises(LoadErrors) as errors:
        policy_from(RULE.replace("ITEM", item), tmp_path)
    assert told in str(errors.value)


@pytest.mark.parametrize(
    "fresh", ["max_age: 1h", "not_before: last_write(file(workspace))", 'unchanged: ["${workspace}/**"]']
)
def test_it_loads_with_any_word_on_freshness_and_means_another_policy(tmp_path: Path, fresh: str) -> None:
    def digest(crossing: str) -> str:
        item = f'{{step: {{tools: "dev.run", {fresh}{crossing}}}}}'
        return policy_from("servers: {dev: {files: local}}\n" + RULE.replace("ITEM", item), tmp_path).digest

    assert digest(", cross_run: true") != digest("")
    assert digest(", cross_run: false") != digest(", cross_run: true")
