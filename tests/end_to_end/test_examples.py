"""The examples do what their pages say, with the real servers that they name."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from end_to_end.conftest import program
from needs import need
from soothsayer_mcp.adapters.config import load as load_config
from soothsayer_mcp.cli.main import main

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
