"""What README shows is what happens: its policy decides as it says, its files load, its tour is the tour."""

import json
import re
from pathlib import Path

import pytest

from soothsayer_mcp.adapters.config import load as load_config
from soothsayer_mcp.adapters.launch import Launch
from soothsayer_mcp.adapters.policy_files.load import load as load_policy
from soothsayer_mcp.cli.options import parse_proxy
from soothsayer_mcp.demo.script import FIRST_ACT, SECOND_ACT
from soothsayer_mcp.model.decision import Effect
from soothsayer_mcp.model.facts import NO_FACTS, Facts
from soothsayer_mcp.policy.decide import decide
from soothsayer_mcp.testing.factories import make_step, make_tool
from soothsayer_mcp.testing.world import World

ROOT = Path(__file__).parent.parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


(HOST,) = blocks("json")
CONFIG, POLICY = blocks("yaml")
(TOUR,) = blocks("text")


def test_readme_stays_short() -> None:
    assert len(README.splitlines()) < 200


def test_the_tour_that_is_shown_is_the_one_that_is_played() -> None:
    shown = re.findall(r"^ +\d+  (\S.*?) +(allow|ask|deny) +(\w+)", TOUR, re.MULTILINE)
    played = [(scene.shown, scene.effect.value, scene.ended_as) for scene in (*FIRST_ACT, *SECOND_ACT)]
    assert shown == played


def test_the_entry_for_a_host_starts_a_proxy() -> None:
    (entry,) = json.loads(HOST)["mcpServers"].values()
    word, *arguments = entry["args"]
    options = parse_proxy(arguments, {})
    assert word == "proxy"
    assert options.name == "files"
    assert options.policy == ("observe",)
    assert options.command == ("npx", "-y", "@modelcontextprotocol/server-filesystem", "/home/ada/work")


def test_the_configuration_loads(tmp_path: Path) -> None:
    path = tmp_path / "soothsayer.yaml"
    path.write_text(CONFIG, encoding="utf-8")
    config = load_config(path, environ={})
    assert [server.name for server in config.servers] == ["files", "docs"]
    files = config.servers[0].reach
    assert isinstance(files, Launch)
    assert files.argv[-1] == str(tmp_path.resolve())
    assert config.policy == (str(tmp_path / "my-files.yaml"),)


@pytest.mark.parametrize(
    ("tool", "path", "effect"),
    [
        ("read_file", "/work/a", Effect.ALLOW),
        ("list_directory", "/work", Effect.ALLOW),
        ("write_file", "/work/notes.md", Effect.ALLOW),
        ("edit_file", "/work/src/a.py", Effect.ALLOW),
        ("write_file", "/work/.git/config", Effect.ASK),
        ("write_file", "/etc/hosts", Effect.ASK),
        ("move_file", "/work/a", Effect.ASK),
        ("read_file", "/home/ada/.ssh/id_ed25519", Effect.DENY),
    ],
)
def test_the_policy_decides_as_it_reads(tool: str, path: str, effect: Effect, tmp_path: Path) -> None:
    file = tmp_path / "my-files.yaml"
    file.write_text(POLICY, encoding="utf-8")
    policy = load_policy([str(file)], workspace="/work", home="/home/ada", state="/home/ada/.state")
    step = make_step(make_tool(tool, properties=["path"]), arguments={"path": path})
    questions = policy.questions(step).links
    facts = Facts(links={question: question for question in questions}) if questions else NO_FACTS
    assert decide(policy, World().run, step, facts).effect is effect
