from dataclasses import replace
from pathlib import Path

import pytest

from policy_kit import RUN, a_message, effect, is_listed, judge, policy_from, rule_ids, step, tool
from soothsayer_mcp.model.call import Cause, Client, PinState, Principal
from soothsayer_mcp.model.decision import Effect, Mode
from soothsayer_mcp.model.facts import NO_FACTS
from soothsayer_mcp.model.failure import Failure, Reason
from soothsayer_mcp.policy.answers import Unsure
from soothsayer_mcp.policy.decide import decide, decide_message
from soothsayer_mcp.policy.policy import Policy
from soothsayer_mcp.policy.prepared import Prepared


def test_deny_beats_ask_beats_allow_beats_the_default(tmp_path: Path) -> None:
    policy = policy_from(
        """
default: ask
rules:
  - {allow: "All of it.", tools: "fs.*"}
  - {ask: "Not x.", tools: "fs.*", args: {x: [1, 2]}}
  - {deny: "Not two.", tools: "fs.*", args: {x: 2}}
""",
        tmp_path,
    )
    assert effect(policy, "fs.read") == "allow"
    assert effect(policy, "fs.read", {"x": 1}) == "ask"
    assert effect(policy, "fs.read", {"x": 2}) == "deny"
    assert effect(policy, "db.read") == "ask"


def test_order_in_the_file_means_nothing(tmp_path: Path) -> None:
    rules = ['  - {deny: "No.", tools: "fs.*"}', '  - {allow: "Yes.", tools: "fs.read"}']
    for order in (rules, rules[::-1]):
        policy = policy_from("rules:\n" + "\n".join(order) + "\n", tmp_path)
        assert rule_ids(judge(policy, "fs.read")) == ["t/no"]


def test_a_denial_names_its_rules_and_its_reason(tmp_path: Path) -> None:
    policy = policy_from('rules: [{deny: "Never this.", id: never, tools: "fs.*"}]\ndefault: deny\n', tmp_path)
    decision = judge(policy, "fs.read")
    assert (decision.effect, decision.reason, rule_ids(decision)) == (Effect.DENY, Reason.RULE_DENIED, ["t/never"])
    assert decision.rules[0].text == "Never this."
    by_default = judge(policy, "db.read")
    assert (by_default.effect, by_default.reason, rule_ids(by_default)) == (Effect.DENY, Reason.NO_RULE, ["default"])


def test_an_ask_says_that_nobody_can_be_asked(tmp_path: Path) -> None:
    decision = judge(policy_from("default: ask\n", tmp_path))
    assert (decision.effect, decision.reason) == (Effect.ASK, Reason.NOBODY_TO_ASK)


def test_a_deny_that_cannot_be_evaluated_denies_and_says_why(tmp_path: Path) -> None:
    policy = policy_from('default: allow\nrules: [{deny: "No keys.", args: {path: {under: "~/.ssh"}}}]\n', tmp_path)
    decision = judge(policy, "fs.read", {"path": 7})
    assert (decision.effect, decision.reason) == (Effect.DENY, Reason.RULE_ERROR)
    assert decision.rules[0].unknown == "the value is no text"


def test_an_allow_that_cannot_be_evaluated_does_not_match(tmp_path: Path) -> None:
    policy = policy_from('rules: [{allow: "Here.", args: {path: {under: "/w"}}}]\n', tmp_path)
    assert effect(policy, "fs.read", {"path": 7}) == "ask"
    assert effect(policy, "fs.read", {"path": "/w/a"}) == "allow"


@pytest.mark.parametrize(
    ("default", "with_allow", "wanted"),
    [("allow", False, "ask"), ("deny", False, "deny"), ("deny", True, "ask"), ("ask", False, "ask")],
)
def test_an_ask_in_doubt_is_the_stricter_of_ask_and_the_rest(
    tmp_path: Path, default: str, with_allow: bool, wanted: str
) -> None:
    allow = '  - {allow: "All."}\n' if with_allow else ""
    text = f'default: {default}\nrules:\n  - {{ask: "Which?", args: {{path: {{under: "/w"}}}}}}\n{allow}'
    assert effect(policy_from(text, tmp_path), "fs.read", {"path": 1}) == wanted


def test_only_doubts_make_the_reason_a_rule_error(tmp_path: Path) -> None:
    text = 'default: allow\nrules: [{ask: "Which?", args: {path: {under: "/w"}}}]\n'
    assert judge(policy_from(text, tmp_path), "fs.read", {"path": 1}).reason is Reason.RULE_ERROR


@pytest.mark.pitfall("P-POLICY-08")
def test_the_default_does_not_depend_on_which_rules_there_are(tmp_path: Path) -> None:
    with_deny = policy_from('default: ask\nrules: [{deny: "No.", tools: fs.rm}]\n', tmp_path)
    without = policy_from("default: ask\n", tmp_path)
    for policy in (with_deny, without):
        for name in ("fs.read", "db.query", "fs.write_file"):
            assert effect(policy, name) == "ask"
            assert rule_ids(judge(policy, name)) == ["default"]
    assert effect(with_deny, "fs.rm") == "deny"
    assert effect(without, "fs.rm") == "ask"


def test_only_tools_labelled_as_nothing_but_reads_get_the_read_default(tmp_path: Path) -> None:
    policy = policy_from(
        """
default: {read: allow, other: deny}
labels:
  - {tools: "fs.read_* | fs.both", does: read}
  - {tools: fs.both, does: write}
""",
        tmp_path,
    )
    assert effect(policy, "fs.read_file") == "allow"
    assert effect(policy, "fs.both") == "deny"
    assert effect(policy, "fs.other") == "deny"
    assert judge(policy, "fs.both").does == ("read", "write")
    assert judge(policy, "fs.other").does == ("unlabelled",)


@pytest.mark.pitfall("P-IDENT-07")
@pytest.mark.parametrize("name", ["Read_File", "read_file ", "reаd_file"])  # noqa: RUF001 - the last has a Cyrillic letter
def test_a_rule_for_a_name_fits_no_look_alike(tmp_path: Path, name: str) -> None:
    """The row's report of look-alikes is the pins' part: here they are told as `shadowed` and denied."""
    policy = policy_from('rules: [{allow: "Reading.", tools: fs.read_file}]\n', tmp_path)
    assert effect(policy, "fs.read_file") == "allow"
    assert rule_ids(judge(policy, f"fs.{name}")) == ["default"]
    shadowed = judge(policy, tool(f"fs.{name}", pin=PinState.SHADOWED))
    assert (shadowed.effect, rule_ids(shadowed)) == (Effect.DENY, ["pins/shadowed"])


@pytest.mark.parametrize(
    ("annotations", "does"),
    [
        ({"readOnlyHint": True}, ("unlabelled",)),
        ({"readOnlyHint": False}, ("unlabelled", "write")),
        ({"destructiveHint": True}, ("delete", "unlabelled")),
        ({"readOnlyHint": "false"}, ("unlabelled",)),
        ({}, ("unlabelled",)),
    ],
)
def test_a_servers_word_about_itself_only_tightens(
    tmp_path: Path, annotations: dict[str, bool], does: tuple[str]
) -> None:
    policy = policy_from('default: ask\nrules: [{allow: "Reads.", does: read}]\n', tmp_path)
    decision = judge(policy, tool("fs.read", annotations=annotations))
    assert decision.does == does
    assert decision.effect is Effect.ASK


@pytest.mark.parametrize("hint", [{"readOnlyHint": False}, {"destructiveHint": True}])
def test_a_hint_that_a_read_writes_takes_the_read_default_away(tmp_path: Path, hint: dict[str, bool]) -> None:
    policy = policy_from('default: {read: allow, other: ask}\nlabels: [{tools: "fs.*", does: read}]\n', tmp_path)
    assert effect(policy, tool("fs.read")) == "allow"
    assert effect(policy, tool("fs.read", annotations=hint)) == "ask"


def test_a_trusted_servers_read_only_hint_labels_an_unlabelled_tool(tmp_path: Path) -> None:
    policy = policy_from("default: {read: allow, other: ask}\nservers: {fs: {trusted: true}}\n", tmp_path)
    hinted = {"readOnlyHint": True}
    assert effect(policy, tool("fs.read", annotations=hinted)) == "allow"
    assert effect(policy, tool("fs.read")) == "ask"
    assert effect(policy, tool("db.read", annotations=hinted)) == "ask"
    assert effect(policy, tool("fs.read", annotations={**hinted, "destructiveHint": True})) == "ask"


def test_an_allow_wants_every_label_named_and_a_deny_one(tmp_path: Path) -> None:
    policy = policy_from(
        """
labels:
  - {tools: fs.move, does: [write, delete]}
  - {tools: fs.write, does: write}
  - {tools: fs.send, does: send}
rules:
  - {allow: "Writes.", does: write}
  - {deny: "Nothing leaves.", does: [send, share]}
""",
        tmp_path,
    )
    assert effect(policy, "fs.write") == "allow"
    assert effect(policy, "fs.move") == "ask"
    assert effect(policy, "fs.send") == "deny"
    assert effect(policy, "fs.none") == "ask"


def test_a_rule_can_match_what_is_unlabelled(tmp_path: Path) -> None:
    policy = policy_from(
        'default: allow\nlabels: [{tools: fs.read, does: read}]\nrules: [{deny: "Label it.", does: unlabelled}]\n',
        tmp_path,
    )
    assert effect(policy, "fs.read") == "allow"
    assert effect(policy, "fs.other") == "deny"
    assert effect(policy, tool("fs.other", annotations={"readOnlyHint": False})) == "deny"


@pytest.mark.parametrize(
    ("pin", "wanted", "reason", "rule"),
    [
        (PinState.NEW, "ask", Reason.NOBODY_TO_ASK, "pins/new"),
        (PinState.CHANGED, "deny", Reason.DEFINITION_CHANGED, "pins/changed"),
        (PinState.SHADOWED, "deny", Reason.RULE_DENIED, "pins/shadowed"),
    ],
)
def test_the_state_of_a_definition_acts_as_a_rule(
    tmp_path: Path, pin: PinState, wanted: str, reason: Reason, rule: str
) -> None:
    policy = policy_from("default: allow\n", tmp_path)
    decision = judge(policy, tool("fs.read", pin=pin))
    assert (decision.effect.value, decision.reason, rule_ids(decision)) == (wanted, reason, [rule])
    trusting = policy_from(f"default: allow\npins: {{{pin.value}: trust}}\n", tmp_path)
    assert effect(trusting, tool("fs.read", pin=pin)) == "allow"


def test_pins_first_is_the_floor_for_new_tools_where_first_use_is_not_trusted(tmp_path: Path) -> None:
    policy = policy_from("default: allow\npins: {first: deny, new: trust}\n", tmp_path)
    assert policy.pins.first is Effect.DENY
    assert effect(policy, tool("fs.read", pin=PinState.NEW)) == "deny"
    assert policy_from("default: allow\n", tmp_path).pins.first is None


def test_an_argument_that_the_schema_does_not_name_is_asked_about(tmp_path: Path) -> None:
    policy = policy_from("default: allow\n", tmp_path)
    decision = judge(policy, tool(properties=frozenset({"a"})), {"a": 1, "b": 2})
    assert (decision.effect, rule_ids(decision)) == (Effect.ASK, ["arguments/undeclared"])
    assert decision.rules[0].text == 'argument "b" is not in the tool\'s schema'
    denying = policy_from("default: allow\narguments: {undeclared: deny}\n", tmp_path)
    assert judge(denying, tool(properties=frozenset({"a"})), {"b": 2}).reason is Reason.ARGUMENTS_INVALID
    allowing = policy_from("default: allow\narguments: {undeclared: allow}\n", tmp_path)
    assert effect(allowing, tool(properties=frozenset({"a"})), {"b": 2}) == "allow"


def test_a_tool_without_a_usable_schema_is_asked_about(tmp_path: Path) -> None:
    bare = tool(properties=None)
    assert rule_ids(judge(policy_from("default: allow\n", tmp_path), bare)) == ["arguments/no_schema"]
    assert effect(policy_from("default: allow\narguments: {no_schema: deny}\n", tmp_path), bare) == "deny"
    assert effect(policy_from("default: allow\narguments: {no_schema: allow}\n", tmp_path), bare) == "allow"


def test_arguments_have_a_size_and_a_depth(tmp_path: Path) -> None:
    policy = policy_from("default: allow\narguments: {max_bytes: 20, max_depth: 3}\n", tmp_path)
    assert effect(policy, "fs.read", {"x": "1234"}) == "allow"
    large = judge(policy, "fs.read", {"x": "12345678901234567890"})
    assert (large.effect, large.reason, rule_ids(large)) == (
        Effect.DENY,
        Reason.ARGUMENTS_INVALID,
        ["arguments/max_bytes"],
    )
    assert effect(policy, "fs.read", {"x": [[1]]}) == "allow"
    deep = judge(policy, "fs.read", {"x": [[[1]]]})
    assert rule_ids(deep) == ["arguments/max_depth"]
    assert effect(policy, "fs.read", {"x": "[[[["}) == "allow"


def test_a_limit_holds_the_size_of_arguments_and_the_smallest_time(tmp_path: Path) -> None:
    policy = policy_from(
        """
rules:
  - {allow: "Slowly.", tools: "fs.*", limit: {timeout: 5m, args_bytes: 30}}
  - {allow: "Quickly.", tools: fs.read, limit: {timeout: 30s}}
""",
        tmp_path,
    )
    assert judge(policy, "fs.read").timeout_s == 30
    assert judge(policy, "fs.write").timeout_s == 300
    assert [one.rule for one in judge(policy, "fs.read").obligations] == ["t/quickly", "t/slowly"]
    too_large = judge(policy, "fs.read", {"x": "1234567890123456789012345"})
    assert (too_large.effect, too_large.reason, rule_ids(too_large)) == (Effect.DENY, Reason.RULE_DENIED, ["t/slowly"])
    assert too_large.obligations == ()


def test_an_allow_ends_with_its_day(tmp_path: Path) -> None:
    policy = policy_from('rules: [{allow: "For now.", expires: "2023-11-14"}]\n', tmp_path)
    midnight = 1_700_006_400_000_000
    assert judge(policy, now_us=midnight - 1).effect is Effect.ALLOW
    assert judge(policy, now_us=midnight).effect is Effect.ASK


def test_a_rule_may_be_about_the_caller(tmp_path: Path) -> None:
    policy = policy_from(
        """
rules:
  - {allow: "Staff.", who: {groups: [staff, admins], not: {sub: "os:eve"}}}
  - {deny: "Not from there.", who: {client: old-host}}
""",
        tmp_path,
    )
    stranger = Principal(id="os:bob", how="os_account")
    eve = Principal(id="os:eve", how="os_account", groups=("staff",))
    assert judge(policy).effect is Effect.ALLOW
    assert judge(policy, principal=stranger).effect is Effect.ASK
    assert judge(policy, principal=eve).effect is Effect.ASK
    assert judge(policy, client=Client(name="old-host")).effect is Effect.DENY


def test_a_rule_may_be_about_the_cause(tmp_path: Path) -> None:
    policy = policy_from('default: allow\nrules: [{deny: "Agents do not.", cause: agent}]\n', tmp_path)
    assert judge(policy).effect is Effect.DENY
    assert judge(policy, cause=Cause.UNDO).effect is Effect.ALLOW


def test_a_rule_may_be_about_the_definitions_state(tmp_path: Path) -> None:
    policy = policy_from(
        'default: allow\npins: {new: trust}\nrules: [{deny: "Reviewed tools only.", pin: [new, changed]}]\n', tmp_path
    )
    assert effect(policy, tool("fs.read")) == "allow"
    assert effect(policy, tool("fs.read", pin=PinState.NEW)) == "deny"


def test_flaws_deny_with_their_own_reason_before_any_rule(tmp_path: Path) -> None:
    policy = policy_from('default: allow\nrules: [{deny: "No.", id: never}]\n', tmp_path)
    flaw = Failure(reason=Reason.ARGUMENTS_INVALID, summary="argument /n is no number")
    decision = judge(policy, flaws=(flaw,))
    assert (decision.effect, decision.reason, rule_ids(decision)) == (
        Effect.DENY,
        Reason.ARGUMENTS_INVALID,
        ["arguments/invalid"],
    )


def test_a_tool_that_nobody_offers_is_denied_in_every_mode(tmp_path: Path) -> None:
    unknown = Failure(reason=Reason.TOOL_UNKNOWN, summary="no server offers gone")
    without_tool = replace(step("fs.gone"), tool=None, flaws=(unknown,))
    for mode in Mode:
        decision = decide(policy_from("default: allow\n", tmp_path, mode=mode), RUN, without_tool, NO_FACTS)
        assert (decision.effect, decision.reason) == (Effect.DENY, Reason.TOOL_UNKNOWN)


def test_observe_mode_lets_through_and_says_what_would_have_been(tmp_path: Path) -> None:
    text = """
mode: observe
default: ask
rules:
  - {deny: "No.", tools: fs.rm, id: soft}
  - {deny: "Never.", tools: fs.format, id: firm, hard: true}
  - {allow: "Fine.", tools: fs.read, limit: {timeout: 5s}}
"""
    policy = policy_from(text, tmp_path)
    assert policy.mode is Mode.OBSERVE
    soft = judge(policy, "fs.rm")
    assert (soft.effect, soft.would, soft.mode, rule_ids(soft)) == (Effect.ALLOW, Effect.DENY, Mode.OBSERVE, ["t/soft"])
    assert soft.reason is None
    hard = judge(policy, "fs.format")
    assert (hard.effect, hard.would, hard.reason, rule_ids(hard)) == (
        Effect.DENY,
        Effect.DENY,
        Reason.RULE_DENIED,
        ["t/firm"],
    )
    asked = judge(policy, "fs.other")
    assert (asked.effect, asked.would) == (Effect.ALLOW, Effect.ASK)
    fine = judge(policy, "fs.read")
    assert (fine.effect, fine.would, fine.timeout_s) == (Effect.ALLOW, Effect.ALLOW, None)
    changed = judge(policy, tool("fs.read", pin=PinState.CHANGED))
    assert (changed.effect, changed.would) == (Effect.ALLOW, Effect.DENY)


def test_observe_mode_records_bad_arguments_and_lets_them_through_but_for_hard_denies(tmp_path: Path) -> None:
    text = 'mode: observe\nrules: [{deny: "No keys.", hard: true, args: {path: {under: "/keys"}}}]\n'
    policy = policy_from(text, tmp_path)
    flaw = Failure(reason=Reason.ARGUMENTS_INVALID, summary="argument /path is no text")
    decision = judge(policy, "fs.read", {"x": 1}, flaws=(flaw,))
    assert (decision.effect, decision.would) == (Effect.ALLOW, Effect.DENY)
    assert judge(policy, "fs.read", {"path": ["/keys/a"]}, flaws=(flaw,)).effect is Effect.DENY
    other = Failure(reason=Reason.TOO_MANY_IN_FLIGHT, summary="too many")
    assert judge(policy, flaws=(other,)).effect is Effect.DENY


def test_a_rule_that_only_observes_is_told_and_changes_nothing(tmp_path: Path) -> None:
    text = 'default: allow\nrules: [{deny: "Perhaps soon.", id: trial, mode: observe, tools: fs.rm}]\n'
    decision = judge(policy_from(text, tmp_path), "fs.rm")
    assert (decision.effect, decision.would, decision.mode) == (Effect.ALLOW, Effect.DENY, Mode.ENFORCE)
    assert "t/trial" in rule_ids(decision)
    asking = judge(policy_from(text.replace("default: allow", "default: ask"), tmp_path), "fs.rm")
    assert (asking.effect, asking.would) == (Effect.ASK, Effect.DENY)
    assert rule_ids(asking)[0] == "default"


def test_enforcing_is_told_as_such(tmp_path: Path) -> None:
    decision = judge(policy_from("default: allow\n", tmp_path))
    assert (decision.mode, decision.would) == (Mode.ENFORCE, None)


def test_hidden_is_what_is_denied_whatever_the_arguments(tmp_path: Path) -> None:
    policy = policy_from(
        """
default: deny
labels: [{tools: fs.read, does: read}]
rules:
  - {deny: "Never.", tools: fs.rm}
  - {allow: "Anything.", tools: "fs.rm | fs.write"}
  - {deny: "Not there.", tools: fs.write, args: {path: {under: /etc}}}
  - {allow: "Here.", tools: fs.edit, args: {path: {under: /w}}}
  - {ask: "Perhaps.", tools: fs.move}
""",
        tmp_path,
    )
    assert not is_listed(policy, "fs.rm")
    assert not is_listed(policy, "fs.other")
    assert is_listed(policy, "fs.write")
    assert is_listed(policy, "fs.edit")
    assert is_listed(policy, "fs.move")
    assert not is_listed(policy, tool("fs.write", pin=PinState.CHANGED))


def test_observe_mode_hides_only_what_is_hard_denied(tmp_path: Path) -> None:
    text = 'mode: observe\ndefault: deny\nrules: [{deny: "Never.", tools: fs.rm, hard: true}]\n'
    policy = policy_from(text, tmp_path)
    assert is_listed(policy, "fs.other")
    assert not is_listed(policy, "fs.rm")


def message(policy: Policy, method: str, params: dict[str, str], server: str = "docs") -> tuple[str, str, list[str]]:
    decision = decide_message(policy, a_message(server, method, dict(params)), NO_FACTS)
    return decision.effect.value, str(decision.reason), rule_ids(decision)


def test_requests_that_are_no_tool_calls_follow_rules_that_name_them(tmp_path: Path) -> None:
    policy = policy_from(
        """
default: {read: allow, other: ask, checked: deny}
rules:
  - {allow: "Public pages.", id: public, tools: "docs.@resources/read", args: {uri: {glob: "/public/**"}}}
  - {deny: "No sampling.", id: sampling, tools: "*.@sampling/createMessage"}
  - {allow: "Everything.", tools: "docs.*"}
  - {ask: "Ask.", tools: "docs.x*"}
""",
        tmp_path,
    )
    assert message(policy, "resources/read", {"uri": "/public/a"}) == ("allow", "None", ["t/public"])
    assert message(policy, "resources/read", {"uri": "/private/a"}) == ("deny", "no_rule", ["default"])
    assert message(policy, "prompts/get", {}) == ("deny", "no_rule", ["default"])
    assert message(policy, "sampling/createMessage", {})[::2] == ("deny", ["t/sampling"])


def test_nobody_can_be_asked_about_a_request_so_an_asking_default_denies(tmp_path: Path) -> None:
    policy = policy_from('default: ask\nrules: [{ask: "Every tool."}]\n', tmp_path)
    assert message(policy, "resources/read", {})[0] == "deny"
    passing = policy_from('default: {checked: allow}\nrules: [{ask: "Every tool."}]\n', tmp_path)
    assert message(passing, "resources/read", {})[0] == "allow"


def test_a_deny_without_tools_holds_for_requests_too(tmp_path: Path) -> None:
    policy = policy_from('default: allow\nrules: [{deny: "No keys.", args: {uri: {under: "~/.ssh"}}}]\n', tmp_path)
    assert message(policy, "resources/read", {"uri": "file:///home/u/.ssh/id"})[0] == "deny"
    assert message(policy, "resources/read", {"uri": "file:///home/u/notes"})[0] == "allow"


def test_a_tool_that_calls_itself_like_a_request_gets_no_allow_of_it(tmp_path: Path) -> None:
    policy = policy_from('default: ask\nrules: [{allow: "Pages.", tools: "docs.@resources/read"}]\n', tmp_path)
    assert message(policy, "resources/read", {})[0] == "allow"
    assert effect(policy, tool("docs.@resources/read")) == "ask"
    assert message(policy, "resources/read", {})[0] == "allow"


def test_a_fault_of_ours_denies(tmp_path: Path) -> None:
    class Broken(Policy):
        def candidates(self, tool: object) -> object:  # type: ignore[override]  # broken on purpose
            raise ZeroDivisionError

    sound = policy_from("default: allow\n", tmp_path)
    broken = sound.with_scopes(sound.scopes)
    broken.__class__ = Broken
    decision = judge(broken)
    assert (decision.effect, decision.reason) == (Effect.DENY, Reason.INTERNAL_ERROR)
    assert not is_listed(broken)


def test_an_exception_inside_a_matcher_is_a_doubt(tmp_path: Path) -> None:
    policy = policy_from(
        'rules: [{deny: "No.", tools: fs.a, args: {x: 1}}, {allow: "Yes.", tools: fs.b, args: {x: 1}}]\n', tmp_path
    )

    def fails(_: object) -> bool:
        raise RuntimeError("broken on purpose")

    for name in ("fs.a", "fs.b"):
        (prepared,) = policy.candidates(tool(name)).scopes[0].prepared
        broken = Prepared(rule=prepared.rule, arguments=(), tests=(("args.x", fails),))
        assert broken.answer(None) == Unsure("a matcher failed: RuntimeError")  # type: ignore[arg-type]  # never looked at


def test_a_changed_definition_is_settled_anew(tmp_path: Path) -> None:
    policy = policy_from("default: {read: allow, other: ask}\nlabels: [{tools: fs.read, does: read}]\n", tmp_path)
    assert effect(policy, tool("fs.read")) == "allow"
    assert effect(policy, tool("fs.read", annotations={"destructiveHint": True})) == "ask"
    assert effect(policy, tool("fs.read", pin=PinState.CHANGED)) == "deny"
    assert effect(policy, tool("fs.read")) == "allow"
