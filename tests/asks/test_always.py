"""A yes for good is a rule in the policy file: shown first, written by a person, with a last day, and nothing more."""

import json
from datetime import UTC, datetime
from pathlib import Path

from asks.test_answering_at_a_terminal import Ended, asked
from asks.test_asking_a_host import SCRIPT, answer, send
from commands import at_a_terminal
from fidelity.rig import Rig, at, step
from soothsayer_mcp.adapters.faces import Face
from soothsayer_mcp.model.json import JsonObject
from soothsayer_mcp.testing.servers import wait_until

POLICY = """\
# Ours.
soothsayer: policy/v1
name: own
default: {read: allow, other: ask, checked: allow}  # careful
arguments: {undeclared: allow, no_schema: allow}
labels:
  - {tools: raw.send, does: write}
  - {tools: raw.pay, does: pay}
rules:
  # Of these one has to be careful.
  - ask: "A person looks at it every time."
    id: look
    tools: raw.quick  # the last line
# The end.
"""


def typed(rig: Rig, keys: str, *words: str) -> tuple[int, str]:
    """What a person at a terminal, who is nobody of the host's, sees and is told."""
    options = ("--state", rig.state, "--config", rig.folder / "soothsayer.yaml")
    return at_a_terminal(keys, *words, *options, cwd=rig.folder)


def configured(folder: Path) -> Path:
    server = SCRIPT.command(folder)
    config = folder / "soothsayer.yaml"
    document: JsonObject = {
        "soothsayer": "config/v1",
        "policy": ["policy.yaml"],
        "mcpServers": {"raw": {"command": str(server[0]), "args": [str(word) for word in server[1:]]}},
    }
    config.write_text(json.dumps(document), encoding="utf-8")
    (folder / "state").mkdir(mode=0o700)
    Face(folder / "state", "watch").beat()
    return config


def test_calls_of_the_shape_are_allowed_by_a_rule_that_was_seen_first(tmp_path: Path) -> None:
    with Rig(tmp_path, SCRIPT, policy=POLICY, config=configured(tmp_path)) as rig:
        rig.host.initialize()
        file = tmp_path / "policy.yaml"
        name = send(rig, path="/srv/work/a.txt", n=1)
        ask = asked(rig)
        words = ("approve", str(ask["id"]), "--for", "always", "--until", "2999-01-31")
        # A script may not, and a person may think better of it.
        scripted = Ended(
            tmp_path, *words, "--digest", str(ask["digest"]), "--config", str(tmp_path / "soothsayer.yaml")
        )
        assert (scripted.code, "a person looks" in scripted.out) == (3, True), scripted.out
        assert typed(rig, "n\n", *words)[0] == 1
        assert file.read_text(encoding="utf-8") == POLICY
        assert rig.entries("approval.answered") == []
        code, out = typed(rig, "y\n", *words)
        assert code == 0, out
        assert at(answer(rig, name), "result", "content", 0, "text") == "sent"
        after = file.read_text(encoding="utf-8").splitlines()
        (line,) = [line for line in after if line not in POLICY.splitlines()]
        assert [one for one in after if one != line] == POLICY.splitlines()
        assert f"+{line}" in "".join(out.split("\r"))
        rule = json.loads(line.partition("- ")[2])
        assert rule["args"] == {"path": {"under": "/srv/work"}, "n": {"is": 1}}
        assert (rule["tools"], rule["only_args"], rule["expires"]) == ("raw.send", True, "2999-01-31")
        assert f"{datetime.now(UTC):%Y-%m-%d}" in rule["allow"]
        wait_until(lambda: "loaded again" in rig.host.stderr, "the changed policy")
        other = answer(rig, send(rig, path="/srv/work/deep/b.txt", n=1))
        assert at(other, "result", "content", 0, "text") == "sent"
        assert len(rig.entries("approval.asked")) == 1
        send(rig, path="/srv/work/a.txt", n=2)
        wait_until(lambda: len(rig.entries("approval.asked")) > 1, "another question")


def test_what_no_rule_may_or_could_allow_is_not_offered(tmp_path: Path) -> None:
    with Rig(tmp_path, SCRIPT, policy=POLICY, config=configured(tmp_path)) as rig:
        rig.host.initialize()
        for tool, why, for_the_run in (
            ("pay", "cannot be taken back", False),
            ("quick", "stronger than an allow", True),
        ):
            before = len(rig.entries("approval.asked"))
            name = rig.host.ask("tools/call", {"name": tool, "arguments": {"sum": 1}})
            wait_until(lambda count=before: len(rig.entries("approval.asked")) > count, "a question")  # type: ignore[misc]  # bound now
            ask = asked(rig)
            code, out = typed(rig, "y\n", "approve", str(ask["id"]), "--for", "always")
            # What would be refused as well is no remedy.
            assert (code, why in out, "--for run" in out) == (1, True, for_the_run), out
            # Of a rule that asks it is said where it stands and what may be done about it.
            line = 1 + next(n for n, text in enumerate(POLICY.splitlines()) if "- ask:" in text)
            placed = (f"{tmp_path / 'policy.yaml'}:{line}: " in out, f"narrow what asks at policy.yaml:{line}" in out)
            assert placed == (for_the_run, for_the_run), out
            assert Ended(tmp_path, "deny", str(ask["id"]), "--digest", str(ask["digest"])).code == 0
            assert step(answer(rig, name))["reason"] == "declined"
        assert (tmp_path / "policy.yaml").read_text(encoding="utf-8") == POLICY
