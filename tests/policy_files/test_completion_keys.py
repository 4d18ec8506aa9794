"""`complete: {require: ...}`: what loads, what is refused, and which scopes it holds in."""

from pathlib import Path

import pytest

from policy_kit import HEAD, policy_from
from soothsayer_mcp.adapters.policy_files.load import load
from soothsayer_mcp.adapters.policy_files.problems import LoadErrors


def file(folder: Path, text: str) -> list[str]:
    path = folder / "p.yaml"
    path.write_text(HEAD + text)
    return [str(path)]


STEP = 'complete: {require: {step: {tools: "dev.run", not_before: last_write(file(workspace)), max_age: 1h}}}\n'


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ("[]", "at least one is due"),
        ("[{}]", "at least one key is due"),
        ('{step: {tools: "dev.run", tols: 1}}', 'unknown key "tols"'),
        ('{artifact: {file: "x", exists: true}}', '"artifact" is not supported yet'),
        ('{human: {role: "lead"}}', '"human" is not supported yet'),
        ("{any: []}", '"any" is not supported yet'),
        ('{step: {tools: "dev.run", when: "true"}}', "`when` is about a call"),
        ('{step: {tools: "dev.run", single_use: true}}', "`single_use` is about a call"),
        ('{step: {tools: "dev.run", cross_run: true, max_age: 1h}}', "`cross_run` is about a call"),
        ('{step: {tools: "dev.run", match: {result.commit: args.commit}}}', "`match` is about a call"),
        ('{step: {tools: "dev.run", unchanged: "src/**"}}', "`unchanged` is about a call"),
        ('{step: {tools: "dev.run", not_before: last_write(file(args.path))}}', "no arguments when a run is completed"),
        ('{step: {tools: "dve.run"}}', 'no server is called "dve"'),
    ],
)
def test_what_cannot_be_judged_when_a_run_is_completed_does_not_load(tmp_path: Path, wrong: str, told: str) -> None:
    with pytest.raises(LoadErrors) as errors:
        load(file(tmp_path, f"complete: {{require: {wrong}}}\n"), known_servers=["dev"], state=tmp_path / "state")
    assert told in str(errors.value)


def test_what_any_binding_file_requires_is_required_once_and_only_what_observes_requires_nothing(
    tmp_path: Path,
) -> None:
    assert policy_from("", tmp_path).run_rules.required == ()
    (item,) = policy_from(STEP, tmp_path, organisation=STEP).run_rules.required
    assert item.spec["tools"] == ["dev.run"]
    assert policy_from("mode: observe\n" + STEP, tmp_path).run_rules.required == ()
    assert len(policy_from(STEP.replace("1h", "2h"), tmp_path, organisation=STEP).run_rules.required) == 2


def test_a_write_through_any_server_counts_however_it_spells_its_files(tmp_path: Path) -> None:
    servers = "servers: {dev: {files: local, os: linux, case: exact}}\n" + STEP
    (item,) = policy_from(servers, tmp_path, workspace="/Work").run_rules.required
    assert set(item.newer_than) == {"file:/Work", "file:/work"}
