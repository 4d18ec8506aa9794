import time
from pathlib import Path

import pytest

from policy_kit import effect, policy_from, tool
from soothsayer_mcp.adapters.schemas import compile_input
from soothsayer_mcp.model.json import Json


def matched(folder: Path, matchers: str, value: Json, *, head: str) -> bool:
    """Whether a rule with these matchers on `x` counts as matched: an allow over a denying default, or a deny."""
    default = "deny" if head == "allow" else "allow"
    policy = policy_from(f'default: {default}\nrules: [{{{head}: "It fits.", args: {{x: {matchers}}}}}]\n', folder)
    return effect(policy, "fs.read", {"x": value}) == head


TRUE: Json = True

YES, NO, UNKNOWN = (True, True), (False, False), (False, True)
"""Whether an allow matches, and whether a deny does."""


@pytest.mark.parametrize(
    ("matchers", "value", "wanted"),
    [
        ("prod", "prod", YES),
        ("prod", "Prod", NO),
        ("prod", "prod ", NO),
        ("prod", 1, NO),
        ("{is: prod}", {"a": 1}, UNKNOWN),
        ("{is: 1}", 1.0, YES),
        ("{is: 1}", True, NO),
        ("{is: true}", 1, NO),
        ("{is: true}", True, YES),
        ("{is: null}", None, YES),
        ("{is: null}", False, NO),
        ("{is: 9007199254740993}", 9007199254740993, YES),
        ("{is: 9007199254740993}", 9007199254740992, NO),
        ("{is: 9007199254740993}", 9007199254740992.0, NO),
        ("[a, b, 3]", "b", YES),
        ("[a, b, 3]", 3.0, YES),
        ("[a, b, 3]", "3", NO),
        ("{in: [1]}", True, NO),
        ("{min: 1, max: 3}", 1, YES),
        ("{min: 1, max: 3}", 3, YES),
        ("{min: 1, max: 3}", 3.01, NO),
        ("{above: 1, below: 3}", 1, NO),
        ("{above: 1, below: 3}", 2, YES),
        ("{above: 1, below: 3}", 3, NO),
        ("{max: 3}", "3", UNKNOWN),
        ("{max: 3}", True, UNKNOWN),
        ("{max: 9007199254740992}", 9007199254740993, NO),
        ("{max_chars: 3}", "äöü", YES),
        ("{max_chars: 3}", "abcd", NO),
        ("{max_chars: 3}", 5, UNKNOWN),
        ("{max_items: 2}", [1, 2], YES),
        ("{max_items: 2}", [1, 2, 3], NO),
        ("{max_items: 2}", "ab", UNKNOWN),
        ("{max_items: 2}", [], YES),
        ('{matches: "[a-z]+"}', "abc", YES),
        ('{matches: "[a-z]+"}', "abc1", NO),
        ('{matches: "[a-z]+"}', "1", NO),
        ('{matches: "[a-z]+"}', None, UNKNOWN),
        ('{matches: "[a-z]+"}', "\ud800", UNKNOWN),
        ("{not: {is: a}}", "b", YES),
        ("{not: {is: a}}", "a", NO),
        ("{not: {max: 3}}", "a", UNKNOWN),
        ("{not: {not: {max: 3}}}", 2, YES),
        ("{any_of: [{is: a}, {max: 3}]}", "a", YES),
        ("{any_of: [{is: a}, {max: 3}]}", 3, YES),
        ("{any_of: [{is: a}, {max: 3}]}", 4, NO),
        ("{any_of: [{is: a}, {max: 3}]}", "b", UNKNOWN),
        ("{min: 1, not: {in: [5, 6]}}", 5, NO),
        ("{min: 1, not: {in: [5, 6]}}", 7, YES),
    ],
)
def test_a_matcher_has_one_of_three_answers(
    tmp_path: Path, matchers: str, value: Json, wanted: tuple[bool, bool]
) -> None:
    found = tuple(matched(tmp_path, matchers, value, head=head) for head in ("allow", "deny"))
    assert found == wanted


LISTS: list[tuple[Json, bool, bool]] = [
    (["a", "a"], True, True),
    (["a", "b"], False, True),
    (["b", "b"], False, False),
    ([], False, False),
    (["a", {}], False, True),
    (["b", {}], False, True),
    ([["a"]], False, True),
]


@pytest.mark.parametrize(("value", "allowed", "denied"), LISTS)
def test_an_allow_needs_every_element_of_a_list_and_one_at_least(
    tmp_path: Path, value: Json, allowed: bool, denied: bool
) -> None:
    found = tuple(matched(tmp_path, "{is: a}", value, head=head) for head in ("allow", "deny"))
    assert found == (allowed, denied)


def test_not_is_about_each_element(tmp_path: Path) -> None:
    assert not matched(tmp_path, "{not: {is: a}}", ["a", "b"], head="allow")
    assert matched(tmp_path, "{not: {is: a}}", ["b", "c"], head="allow")
    assert matched(tmp_path, "{not: {is: a}}", ["a", "b"], head="deny")
    assert not matched(tmp_path, "{not: {is: a}}", ["a"], head="deny")


def test_an_absent_argument_does_not_match_unless_that_is_fine(tmp_path: Path) -> None:
    policy = policy_from(
        """
rules:
  - {allow: "A, if anything.", tools: fs.a, args: {x: {is: a, absent: ok}}}
  - {allow: "A.", tools: fs.b, args: {x: a}}
  - {allow: "With to, without x.", tools: fs.c, args: {to: {present: true}, x: {present: false}}}
""",
        tmp_path,
    )
    assert effect(policy, "fs.a") == "allow"
    assert effect(policy, "fs.a", {"x": "b"}) == "ask"
    assert effect(policy, "fs.b") == "ask"
    assert effect(policy, "fs.c", {"to": None}) == "allow"
    assert effect(policy, "fs.c", {"to": 1, "x": 1}) == "ask"
    assert effect(policy, "fs.c") == "ask"


def test_only_args_refuses_what_args_does_not_name(tmp_path: Path) -> None:
    policy = policy_from(
        'rules: [{allow: "Just this.", args: {"path | x": a, "to.name": {absent: ok, is: b}}, only_args: true}]\n',
        tmp_path,
    )
    assert effect(policy, "fs.a", {"x": "a"}) == "allow"
    assert effect(policy, "fs.a", {"path": "a", "to": {"name": "b"}}) == "allow"
    assert effect(policy, "fs.a", {"x": "a", "n": 1}) == "ask"


def test_alternatives_are_whichever_is_present(tmp_path: Path) -> None:
    text = '{head}: "One of them.", args: {{"path | x": a}}'
    allow = policy_from("default: deny\nrules: [{" + text.format(head="allow") + "}]\n", tmp_path)
    assert effect(allow, "fs.r", {"path": "a"}) == "allow"
    assert effect(allow, "fs.r", {"x": "a"}) == "allow"
    assert effect(allow, "fs.r", {"x": "a", "path": "b"}) == "deny"
    assert effect(allow, "fs.r", {"n": "a"}) == "deny"
    deny = policy_from("default: allow\nrules: [{" + text.format(head="deny") + "}]\n", tmp_path)
    assert effect(deny, "fs.r", {"x": "a", "path": "b"}) == "deny"
    assert effect(deny, "fs.r", {"x": "b"}) == "allow"


WAYS: list[tuple[str, dict[str, Json], bool, bool]] = [
    ("to.name", {"to": {"name": "a"}}, True, True),
    ("to.name", {"to": {"name": "b"}}, False, False),
    ("to.name", {"to": {}}, False, False),
    ("to.name", {"to": "a"}, False, True),
    ("to.name", {"to": '{"name": "b"}'}, False, True),
    ("to[*].name", {"to": [{"name": "a"}, {"name": "a"}]}, True, True),
    ("to[*].name", {"to": [{"name": "a"}, {"name": "b"}]}, False, True),
    ("to[*].name", {"to": [{"name": "a"}, {}]}, False, True),
    ("to[*].name", {"to": [{}, {}]}, False, False),
    ("to[*].name", {"to": {"name": "a"}}, False, True),
    ("/to/name", {"to": {"name": "a"}}, True, True),
    ("/to/1", {"to": ["b", "a"]}, True, True),
    ("/to/7", {"to": ["b", "a"]}, False, False),
    ("/a~1b", {"a/b": "a"}, True, True),
]


@pytest.mark.parametrize(("key", "arguments", "allowed", "denied"), WAYS)
def test_keys_lead_into_arguments(
    tmp_path: Path, key: str, arguments: dict[str, Json], allowed: bool, denied: bool
) -> None:
    definition = tool("fs.r", properties=frozenset({"to", "a/b"}))
    allow = policy_from(f'default: deny\nrules: [{{allow: "It.", args: {{"{key}": a}}}}]\n', tmp_path)
    assert (effect(allow, definition, arguments) == "allow") is allowed
    deny = policy_from(f'default: allow\nrules: [{{deny: "It.", args: {{"{key}": a}}}}]\n', tmp_path)
    assert (effect(deny, definition, arguments) == "deny") is denied


@pytest.mark.parametrize(
    "arguments",
    [
        {"x": "bad"},
        {"x": ["ok", "bad"]},
        {"x": {"deep": {"er": ["bad"]}}},
        {"x": '{"a": ["bad"]}'},
        {"x": {"bad": 1}},
        {"x": "{not json, bad", "n": "bad"},
    ],
)
def test_two_stars_look_at_every_text(tmp_path: Path, arguments: dict[str, Json]) -> None:
    deny = policy_from('default: allow\nrules: [{deny: "It.", args: {"**": {is: bad}}}]\n', tmp_path)
    assert effect(deny, "fs.r", arguments) == "deny"
    assert effect(deny, "fs.r", {"x": "fine", "n": 5}) == "allow"


def test_two_stars_are_a_net_and_no_wall(tmp_path: Path) -> None:
    deny = policy_from('default: allow\nrules: [{deny: "It.", args: {"**": {under: "~/.ssh"}}}]\n', tmp_path)
    assert effect(deny, "fs.r", {"x": "costs $5", "n": 5}) == "allow"
    assert effect(deny, "fs.r", {"x": "~/.ssh/id"}) == "deny"
    allow = policy_from('default: deny\nrules: [{allow: "It.", args: {"**": {under: "/w"}}}]\n', tmp_path)
    assert effect(allow, "fs.r", {"x": "/w/a", "n": 5}) == "allow"
    assert effect(allow, "fs.r", {"x": "/w/a", "to": "/etc"}) == "deny"
    assert effect(allow, "fs.r", {"n": 5}) == "deny"


@pytest.mark.pitfall("P-POLICY-07")
def test_values_of_the_wrong_type_slip_past_no_matcher(tmp_path: Path) -> None:
    """Arguments that do not fit their schema are a flaw, and `test_decide` shows that it comes first."""
    schema = compile_input({"type": "object", "properties": {"path": {"type": "string"}, "t": {"type": "object"}}})
    assert schema is not None
    assert schema({"path": ["~/.ssh/id"]}) is not None
    assert schema({"t": '{"t":1}'}) is not None
    assert schema("text") is not None
    policy = policy_from('default: allow\nrules: [{deny: "Keys.", args: {path: {under: "~/.ssh"}}}]\n', tmp_path)
    open_schema = tool("fs.r", properties=frozenset({"path"}))
    assert effect(policy, open_schema, {"path": ["~/.ssh/id"]}) == "deny"
    assert effect(policy, open_schema, {"path": '["~/.ssh/id"]'}) == "deny"
    assert effect(policy, open_schema, {"path": '{"t": {"u": "~/.ssh/id"}}'}) == "deny"
    assert effect(policy, open_schema, {"path": '"{\\"t\\": 1}"'}) == "allow"
    assert effect(policy, open_schema, {"path": {"t": "~/.ssh/id"}}) == "deny"
    assert effect(policy, open_schema, {"path": "~/notes"}) == "allow"
    assert not matched(tmp_path, "{in: [1]}", TRUE, head="allow")
    assert not matched(tmp_path, "{in: [1]}", TRUE, head="deny")


def test_a_text_that_encodes_json_is_judged_as_what_it_encodes_too(tmp_path: Path) -> None:
    for text in ('["bad"]', ' {"a": "bad"}', '{"a": {"b": ["x", "bad"]}}', '["[\\"bad\\"]"]', '{"a": 1, "a": "bad"}'):
        assert matched(tmp_path, "{is: bad}", text, head="deny"), text
    assert not matched(tmp_path, "{is: bad}", '["fine"]', head="deny")
    assert not matched(tmp_path, '{matches: ".*"}', '["a", 5]', head="allow")
    assert matched(tmp_path, '{matches: ".*"}', '["a", "b"]', head="allow")
    huge = '["' + "9" * 10 + '", ' + "9" * 5000 + ', "bad"]'
    assert matched(tmp_path, "{is: bad}", huge, head="deny")
    assert matched(tmp_path, "{is: bad}", "[" * 100_000 + "]" * 100_000, head="deny")


@pytest.mark.parametrize(("expression", "text"), [("^(a+)+$", "a" * 50_000 + "!"), ("(.*a){12}", "a" * 50_000)])
def test_an_expression_takes_time_linear_in_the_text(tmp_path: Path, expression: str, text: str) -> None:
    policy = policy_from(f'rules: [{{allow: "It.", args: {{x: {{matches: "{expression}"}}}}}}]\n', tmp_path)
    effect(policy, "fs.r", {"x": "warm"})
    began = time.thread_time()
    found = effect(policy, "fs.r", {"x": text})
    assert time.thread_time() - began < 0.5
    assert found == ("ask" if text.endswith("!") else "allow")


def test_an_expression_has_to_fit_the_whole_text(tmp_path: Path) -> None:
    expression = '{matches: "[a-z]+\\\\.example\\\\.com"}'
    assert matched(tmp_path, expression, "a.example.com", head="allow")
    assert not matched(tmp_path, expression, "x.test/?a.example.com", head="deny")
    assert not matched(tmp_path, expression, "a.example.com\n", head="allow")


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        ("ann@acme.test", YES),
        ("Ann <ann@acme.test>", YES),
        ("ann@ACME.test.", YES),
        ("ann@eu.acme.test", YES),
        ("ann@evil.test", NO),
        ("ann@acme.test.evil.test", NO),
        ("ann@notacme.test", NO),
        ("ann@acme.test, eve@evil.test", UNKNOWN),
        ("ann@acme.test eve@evil.test", UNKNOWN),
        ("Eve <eve@evil.test> <ann@acme.test>", UNKNOWN),
        ("eve@evil.test <ann@acme.test>", UNKNOWN),
        ("<eve@evil.test>ann@acme.test", UNKNOWN),
        ("ann@acme.test\r\nBcc: eve@evil.test", UNKNOWN),
        ('"ann@evil.test"@acme.test', UNKNOWN),
        ("acme.test", UNKNOWN),
        ("@acme.test", UNKNOWN),
        (5, UNKNOWN),
    ],
)
def test_a_mail_address_is_compared_by_its_domain(tmp_path: Path, value: Json, wanted: tuple[bool, bool]) -> None:
    matchers = '{email_domain: [acme.test, "*.acme.test"]}'
    assert tuple(matched(tmp_path, matchers, value, head=head) for head in ("allow", "deny")) == wanted
