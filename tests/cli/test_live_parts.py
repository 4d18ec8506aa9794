"""What is set up and on no path is told: by a start that refuses, and by `policy check --live`."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from commands import Soothsayer
from fidelity.rig import read
from soothsayer_mcp.cli.exits import Exit
from soothsayer_mcp.testing.servers import Script, tool

POLICY = """\
soothsayer: policy/v1
name: live
default: {read: allow, other: ask}
labels: [{tools: "raw.get_*", does: read}]
rules:
  - {also: "Checked.", id: met, tools: "raw.get_*", verify: [{schema: {type: object}}], limit: {calls: 9}}
  - {also: "Checked too.", id: unmet, tools: "raw.set_*", verify: [{schema: {type: object}}]}
  - {deny: "By what it does.", id: loose, does: pay}
  - {deny: "When it changed.", id: pinned, tools: "raw.put", pin: changed}
  - {deny: "No message.", id: message, tools: "raw.@resources/read"}
"""


@pytest.fixture
def there(tmp_path: Path) -> tuple[str, ...]:
    """A configuration of one server that offers less than its policy names."""
    script = Script(tools=[tool("get_time"), tool("put")])
    program, *args = map(str, script.command(tmp_path))
    config = tmp_path / "soothsayer.yaml"
    document = {
        "soothsayer": "config/v1",
        "policy": "live.yaml",
        "mcpServers": {"raw": {"command": program, "args": args}},
    }
    config.write_text(json.dumps(document), encoding="utf-8")
    (tmp_path / "live.yaml").write_text(POLICY, encoding="utf-8")
    return ("-c", str(config), "--state", str(tmp_path / "state"))


@pytest.mark.pitfall("P-OPEN-02")
def test_a_check_on_a_tool_that_nobody_offers_is_told_as_not_applicable_and_is_no_success(
    there: tuple[str, ...], tmp_path: Path, soothsayer: Soothsayer
) -> None:
    ended = soothsayer("policy", "check", "--live", "--pin", "--yes", *there)
    assert ended.code == Exit.NO
    told = [line for line in ended.out.splitlines() if line.startswith("self-test")]
    assert told == [
        "self-test  2 of 3 rules that name tools meet a tool that is offered",
        "self-test  N/A  live/unmet (also, verify): no server offers what it names: raw.set_*",
    ]
    document = json.loads(soothsayer("policy", "check", "--live", "--json", *there).out)
    assert [(part["rule"], part["state"], part["parts"], part["tools"]) for part in document["self_test"]] == [
        ("live/met", "ok", ["also", "verify", "limit"], ["raw.get_time"]),
        ("live/unmet", "N/A", ["also", "verify"], []),
        ("live/pinned", "ok", ["deny"], ["raw.put"]),
    ]
    # A name without a glob is an error, and once all is met nothing stands against it.
    file = tmp_path / "live.yaml"
    file.write_text(POLICY.replace("raw.set_*", "raw.set_time"), encoding="utf-8")
    ended = soothsayer("policy", "check", "--live", *there)
    assert (ended.code, 'has no tool "set_time"' in ended.err) == (Exit.USAGE, True)
    file.write_text(POLICY.replace("raw.set_*", "raw.p*"), encoding="utf-8")
    assert soothsayer("policy", "check", "--live", *there).code == Exit.DONE


UNPLUG = """\
import sys
from soothsayer_mcp import governor
setattr(governor, sys.argv.pop(1), lambda *_: None)
from soothsayer_mcp.__main__ import main
sys.exit(main())
"""


@pytest.mark.cold
@pytest.mark.pitfall("P-OPEN-02")
@pytest.mark.parametrize(
    ("stage", "named"), [("shown", "redact"), ("refuse_over_budget", "budgets"), ("_unapproved", "ask")]
)
def test_a_build_with_a_stage_unplugged_does_not_start_and_names_the_part(
    stage: str, named: str, tmp_path: Path
) -> None:
    """Every other stage is unplugged in `tests/selftest`."""
    script = Script()
    words = ["proxy", "--state", str(tmp_path / "state"), "--", *map(str, script.command(tmp_path))]
    opening = b'{"jsonrpc":"2.0","id":1,"method":"initialize","params":{}}\n'
    ended = subprocess.run(
        [sys.executable, "-c", UNPLUG, stage, *words], input=opening, capture_output=True, timeout=60, check=False
    )
    assert ended.returncode == Exit.BUG
    assert f"the self-test failed, so nothing is forwarded: {named}: ".encode() in ended.stderr
    assert not [line for line in ended.stdout.splitlines() if "result" in read(line)]
    assert script.record(tmp_path).methods == []
