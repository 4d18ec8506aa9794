from pathlib import Path

from policy_kit import RUN, policy_from, step, tool
from soothsayer_mcp.model.call import PinState
from soothsayer_mcp.model.decision import Effect
from soothsayer_mcp.model.facts import NO_FACTS
from soothsayer_mcp.policy.decide import decide
from soothsayer_mcp.policy.explain import RuleStory, explain

TEXT = """
default: {read: allow, other: ask}
labels: [{tools: fs.read, does: read}]
rules:
  - {deny: "Keys.", id: keys, args: {path: {any_of: [{under: "~/.ssh"}, {glob: "**/*.pem"}]}}}
  - {allow: "Here.", id: here, args: {path: {under: "${workspace}", not: {glob: "**/.git/**"}}}}
  - {ask: "Large.", id: large, args: {n: {above: 5}}}
  - {allow: "Admins.", id: admins, who: {groups: admins}}
  - {deny: "Others.", id: others, tools: db.*}
  - {deny: "Trial.", id: trial, mode: observe, tools: "fs.*"}
"""


def story(folder: Path, rule: str, arguments: dict[str, object]) -> RuleStory:
    definition = tool("fs.write", properties=frozenset({"path", "n"}))
    told = explain(policy_from(TEXT.replace("{n:", '{"n":'), folder), RUN, step(definition, dict(arguments)), NO_FACTS)  # type: ignore[arg-type]  # JSON
    return next(one for one in told.rules if one.id == f"t/{rule}")


def test_a_rule_that_said_no_names_its_first_matcher_with_value_and_reading(tmp_path: Path) -> None:
    keys = story(tmp_path, "keys", {"path": "a/../b"})
    assert (keys.matched, keys.at, keys.value, keys.readings) == (False, "args.path: any_of", '"a/../b"', ("/w/b",))
    here = story(tmp_path, "here", {"path": "/w/.git/x"})
    assert (here.matched, here.at) == (False, "args.path: not")
    outside = story(tmp_path, "here", {"path": "/etc/%61"})
    assert (outside.at, outside.readings) == ("args.path: under", ("/etc/%61", "/etc/a"))
    absent = story(tmp_path, "here", {})
    assert (absent.matched, absent.value) == (False, "absent")
    admins = story(tmp_path, "admins", {})
    assert (admins.matched, admins.at) == (False, "who")


def test_a_rule_in_doubt_says_why(tmp_path: Path) -> None:
    large = story(tmp_path, "large", {"n": "many"})
    assert (large.matched, large.at, large.why) == (None, "args.n: above", "the value is no number")
    keys = story(tmp_path, "keys", {"path": "$HOME"})
    assert (keys.matched, keys.why) == (None, "the path holds a variable ($)")


def test_a_rule_that_matched_says_so(tmp_path: Path) -> None:
    here = story(tmp_path, "here", {"path": "a"})
    assert (here.matched, here.effect, here.text, here.at) == (True, Effect.ALLOW, "Here.", "")
    assert story(tmp_path, "trial", {}).observe


def test_an_explanation_holds_the_decision_itself_and_only_rules_that_concern_the_tool(tmp_path: Path) -> None:
    policy = policy_from(TEXT.replace("{n:", '{"n":'), tmp_path)
    proposed = step(tool("fs.read"), {"path": "~/.ssh/id"})
    told = explain(policy, RUN, proposed, NO_FACTS)
    assert told.decision == decide(policy, RUN, proposed, NO_FACTS)
    assert [one.id for one in told.rules if one.matched] == ["t/keys", "t/trial"]
    assert "t/others" not in [one.id for one in told.rules]
    (scope,) = told.scopes
    assert (scope.does, scope.cell, scope.default, scope.rules) == (("read",), "read", Effect.ALLOW, 6)
    assert told.listed
    changed = explain(policy, RUN, step(tool("fs.read", pin=PinState.CHANGED)), NO_FACTS)
    assert (changed.pin, changed.listed) == (PinState.CHANGED, False)
