"""The examples do what their pages say, with the real servers that they name."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from end_to_end.conftest import program
from needs import need
from soothsayer_mcp.adapters.config import load as load_config
from soothsayer_mcp.adapters.store.reader import Reader
from soothsayer_mcp.cli.main import main
from soothsayer_mcp.console import views
from soothsayer_mcp.trace.query import parse

EXAMPLES = Path(__file__).parent.parent.parent / "examples"
FETCH = program("py", "mcp-server-fetch")


def test_research_ends_with_its_budget_and_reads_a_long_page_in_parts() -> None:
    need("servers", found=Path(FETCH).exists(), remedy="make servers")
    script = EXAMPLES / "budgeted-research" / "research.py"
    words = [FETCH, "--ignore-robots-txt", "--allow-private-ips"]
    ended = subprocess.run(
        [sys.executable, script, "--", *words], capture_output=True, text=True, timeout=120, check=False
    )
    assert ended.returncode == 0, ended.stderr
    told = ended.stdout
    in_order = [
        r"These were the first 1,000 of \d\d,\d{3} bytes; all of them are stored\.",
        r"These were bytes 1,000 to 3,000 of \d\d,\d{3} of the result",
        r"Denied by policy rule budgeted-research/library-only",
        r"Compact: 12,\d{3} bytes were returned since the last time\.",
        r"- calls 1 of 4",
        r"Not done: the budget calls \(4 of 4\) is used up",
        r"Stop: the budget calls is used up \(4 of 4\)\. Make no more calls\.",
        r"Run [0-9a-f]{4} is paused",
    ]
    at = 0
    for line in in_order:
        found = re.compile(line).search(told, at)
        assert found is not None, f"{line}\n{told}"
        at = found.end()


def test_the_policy_of_research_passes_its_tests_and_its_configuration_loads(
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = EXAMPLES / "budgeted-research"
    assert main(["policy", "test", str(folder / "policy.test.yaml")]) == 0, capsys.readouterr().out
    config = load_config(folder / "soothsayer.yaml", environ={})
    assert [server.name for server in config.servers] == ["web"]
    assert config.control_tools


def test_a_push_waits_for_tests_after_the_last_edit_and_for_the_commit_of_what_was_tested(tmp_path: Path) -> None:
    git, files = program("py", "mcp-server-git"), program("npm", "mcp-server-filesystem")
    need("servers", found=Path(git).exists() and Path(files).exists(), remedy="make servers")
    script = EXAMPLES / "tested-before-push" / "agent.py"
    words = ["--files", files, "--git", f"{git} --repository", "--state", tmp_path / "state"]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    ended = subprocess.run(
        [sys.executable, script, *words],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**os.environ, "PATH": path},
    )
    assert ended.returncode == 0, ended.stderr
    pushes = ended.stdout.split("> shell__push")[1:]
    for push, said in zip(
        pushes,
        (
            r"\[missing_evidence/stale, step .*\n.* passed, but .* wrote app\.py after it began\.",
            r"\[verification_failed/contradicted, step .*\n.*: the latest one, .*, did not succeed \(tool_error",
            r"- what git\.git_status says: .* is not true\.\n    Do: commit what was tested",
            r'\{"commit": "[0-9a-f]{40}"\}',
        ),
        strict=True,
    ):
        assert re.search(said, push), push
    with Reader(tmp_path / "state") as reader:
        last = next(reader.steps(parse("tool:shell.push outcome:succeeded"), reader.now(), limit=1))
        cited = views.cited(reader.story(last))
    tests, status = cited
    assert ", kept E1, about /" in tests
    assert status.startswith("readback ")
    assert ", kept E2, about git.git_status" in status


def test_the_policy_of_the_push_passes_its_tests_and_its_configuration_loads(
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = EXAMPLES / "tested-before-push"
    assert main(["policy", "test", str(folder / "policy.test.yaml")]) == 0, capsys.readouterr().out
    config = load_config(folder / "soothsayer.yaml", environ={})
    assert [server.name for server in config.servers] == ["files", "git", "shell"]


def test_a_failed_run_of_fifty_steps_is_put_back_and_a_foreign_edit_stops_it(tmp_path: Path) -> None:
    git, files = program("py", "mcp-server-git"), program("npm", "mcp-server-filesystem")
    need("servers", found=Path(git).exists() and Path(files).exists(), remedy="make servers")
    words = ["--files", files, "--git", f"{git} --repository", "--state", tmp_path / "state"]
    script = EXAMPLES / "failed-run-restored" / "agent.py"
    ended = subprocess.run([sys.executable, script, *words], capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    stopped, done = ended.stdout.split("$ soothsayer rollback")[1:]
    assert re.search(r"conflict +\w+\.17 +/\S+/src/3\.py is #\w+, left as #\w+, was #\w+: changed", stopped)
    assert "exit 1" in stopped
    assert "undone" in done
    assert "As before, in all bytes and in git's eyes: yes" in done


def test_the_policy_of_what_is_restored_passes_its_tests(capsys: pytest.CaptureFixture[str]) -> None:
    folder = EXAMPLES / "failed-run-restored"
    assert main(["policy", "test", str(folder / "policy.test.yaml")]) == 0, capsys.readouterr().out


def test_a_deployment_needs_a_build_that_passed_and_is_done_when_it_is_seen_running(tmp_path: Path) -> None:
    builds = program("py1", "mcp-server-sqlite")
    need("servers", found=Path(builds).exists(), remedy="make servers")
    script = EXAMPLES / "deploy-with-readback" / "agent.py"
    words = ["--builds", builds, "--state", tmp_path / "state"]
    ended = subprocess.run([sys.executable, script, *words], capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode == 0, ended.stderr
    for told, said in zip(
        ended.stdout.split("\n> ")[1:],
        (
            r"what builds\.read_query says: .* Nothing was sent\. \[verification_failed/contradicted, step ",
            r"^  ok: shop 1\.1 is being deployed$",
            r"\[verification_failed/check_broken, step .*\n  The effect may be in place; its answer is withheld\.",
            r"Not completed: .*\n.*\n  - step [0-9a-f]{4}\.\d+: its check readback is broken",
        ),
        strict=True,
    ):
        assert re.search(said, told, re.MULTILINE), told
    assert "ok: shop 1.3" not in ended.stdout
    with Reader(tmp_path / "state") as reader:
        deployed = next(reader.steps(parse("tool:cluster.deploy outcome:succeeded"), reader.now(), limit=1))
        looks = [*reader.steps(parse("tool:cluster.running"), reader.now(), limit=20)]
        cited = views.cited(reader.story(deployed))
    assert [look.cause for look in looks] == ["probe"] * len(looks)
    assert any(look.no == deployed.no + 1 for look in looks)
    assert any(one.startswith("readback ") and "builds.read_query" in one for one in cited)


def test_the_policy_of_the_deployment_passes_its_tests_and_its_configuration_loads(
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = EXAMPLES / "deploy-with-readback"
    assert main(["policy", "test", str(folder / "policy.test.yaml")]) == 0, capsys.readouterr().out
    config = load_config(folder / "soothsayer.yaml", environ={})
    assert [server.name for server in config.servers] == ["builds", "cluster"]
    assert config.control_tools
