import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml as _yaml  # the reader itself is compared with

from policy_kit import HEAD, effect, judge, policy_from, rule_ids, tool
from soothsayer_mcp.adapters.policy_files.documents.document import Document
from soothsayer_mcp.adapters.policy_files.load import KnownTools, LoadErrors, find, load
from soothsayer_mcp.adapters.policy_files.places import shipped
from soothsayer_mcp.model.decision import Effect, Mode
from soothsayer_mcp.model.entry import PayloadMode
from soothsayer_mcp.model.run import RunRules

del _yaml


def problems(
    text: str,
    folder: Path,
    *,
    known_servers: frozenset[str] | None = None,
    known_tools: KnownTools | None = None,
    head: str = HEAD,
) -> list[str]:
    """What is wrong with a file, without its name."""
    file = folder / "p.yaml"
    file.write_text(head + text)
    with pytest.raises(LoadErrors) as raised:
        load([str(file)], state=folder / "state", known_servers=known_servers, known_tools=known_tools)
    return [str(problem).removeprefix(f"{file}:") for problem in raised.value.problems]


ERRORS: list[tuple[str, str]] = [
    ("rulez: []", '3:1: unknown key "rulez"; did you mean "rules"? [policy-key]'),
    ("mode: enforec", '3:7: "enforec" is none of enforce, observe; did you mean "enforce"? [policy-key]'),
    ("defualt: deny", '3:1: unknown key "defualt"; did you mean "default"? [policy-key]'),
    ("default: denny", '3:10: "denny" is none of allow, ask, deny, leave; did you mean "deny"? [policy-key]'),
    ("default: {raed: allow}", '3:11: unknown key "raed"; did you mean "read"? [policy-key]'),
    ("default: leave", "3:10: `leave` has a meaning in an org or project policy only [policy-scope]"),
    ("default:", "3:9: keys and values are due [policy-type]"),
    ("scope: org", "3:8: the file is loaded as user and cannot make itself org [policy-scope]"),
    ("rules: [{alow: x}]", '3:10: unknown key "alow"; did you mean "allow"? [policy-key]'),
    ("rules: [{tools: a.b}]", "3:9: a rule has exactly one of deny, ask, allow and also [policy-key]"),
    (
        "rules: [{deny: x, allow: x}]",
        "3:9: a rule has exactly one of deny, ask, allow and also, not deny and allow [policy-key]",
    ),
    ('rules: [{deny: ""}]', "3:16: a reason is one line of 1 to 200 characters [policy-value]"),
    ("rules: [{deny: 5}]", "3:16: a text is due; quote it [policy-type]"),
    ("rules: [{deny: x, id: A b}]", '3:23: "A b" is no rule id: small letters, digits and - [policy-value]'),
    (
        "rules: [{deny: x}, {deny: x, tools: a.b}]",
        "3:20: the rule id t/x is already used in line 3; give one of them an `id` [policy-id]",
    ),
    (
        "rules: [{deny: x, who: {claims: a}}]",
        '3:25: "claims" is not supported yet: this version does not have it [policy-key]',
    ),
    (
        "rules: [{also: x, tools: a.b, on_failure: {tool_error: undo}}]",
        (
            "3:9: `on_failure` says undo only in a rule that says what undoes it: `undo: {restore: file(...)}`,"
            " or `undo: {tool: ...}` [policy-key]"
        ),
    ),
    (
        "rules: [{also: x, tools: a.b, on_failure: {tool_eror: stop}}]",
        '3:55: "tool_eror" is no failure class, and no class/reason; did you mean "tool_error"? [policy-key]',
    ),
    ("budgets: {ceiling: {}}", "3:20: at least one key is due [policy-value]"),
    (
        "budgets: {calls: 3, ceiling: {calls: 3}}",
        "3:10: the ceiling of `calls` has to be above its budget [policy-value]",
    ),
    (
        "budgets: {calls: 3, ceiling: {writes: 3}}",
        "3:10: a ceiling for `writes` needs a budget `writes` below it [policy-value]",
    ),
    (
        "rules: [{ask: x, args: {'**': {find: secrets}}}]",
        '3:38: "secrets" is none of secret, email, iban, card_number, phone; did you mean "secret"? [policy-key]',
    ),
    ("labels: [{tools: a.b, does: wirte}]", "did you mean"),
    (
        "labels: [{tools: a.b, does: read, idempotency: x}]",
        '3:48: "x" names no argument; write args.NAME [policy-value]',
    ),
    ("labels: [{tools: a.b, trust: frist_party}]", 'did you mean "first_party"? [policy-key]'),
    ("labels: [{tools: a.b}]", "3:10: the label says nothing about its tools"),
    ("rules: [{deny: x, when: args.x}]", "3:25: at 1:1 of the condition: a condition is true or false"),
    (
        'rules: [{deny: x, when: \'tool.nam == "x" || risk == "a"\'}]',
        '"tool.nam" here; at 1:25 of the condition: == does not go with (int, string) [policy-when]',
    ),
    ("rules: [{deny: x, when: 'args.x == \"${workspace}\"'}]", "its names are written as they are"),
    ("rules: [{allow: x, when: 'who.client == \"ci\"'}]", "3:26: what a client says of itself allows nothing"),
    ("risk: [{add: 5, because: x, when: 'risk > 1'}]", '3:35: at 1:1 of the condition: there is no "risk" here'),
    ("risk: [{add: 0, because: x}]", "3:14: a term adds 1 to 100, or -1 to -100 [policy-value]"),
    ("risk: [{add: 101, because: x}]", "3:14: a term adds 1 to 100, or -1 to -100 [policy-value]"),
    ("risk: [{add: 5}]", '3:8: the key "because" is missing [policy-key]'),
    ("risk: [{add: 5, because: x, risk: {below: 3}}]", '3:29: unknown key "risk"'),
    ("rules: [{deny: x, risk: {at_least: 5}}]", "3:19: no policy here has risk terms, so the risk is always 0"),
    (
        "risk: [{add: 5, because: x}]\nrules: [{deny: x, risk: {at_least: 5, below: 5}}]",
        "4:19: no sum lies there: at_least has to be lower than below",
    ),
    (
        "rules: [{also: x, tools: a.b}]",
        "3:10: an also decides nothing, so it needs an obligation: a limit or a redact [policy-value]",
    ),
    (
        "rules: [{deny: x, redact: [{in: result, find: email}]}]",
        "3:19: a deny lets nothing through that could be masked [policy-value]",
    ),
    ("rules: [{also: x, redact: [{find: email}]}]", '3:28: the key "in" is missing [policy-key]'),
    (
        "rules: [{also: x, redact: [{in: result}]}]",
        "3:28: say what is masked: `find`, `matches`, or `at` with a path [policy-value]",
    ),
    (
        "rules: [{also: x, redact: [{in: result, matches: 'a*'}]}]",
        '"a*": it fits an empty text, so it would be found everywhere [policy-regex]',
    ),
    (
        "rules: [{also: x, redact: [{in: result, find: email, with: a@b.test}]}]",
        'what stands instead, "a@b.test", would be masked itself [policy-value]',
    ),
    (
        'rules: [{also: x, redact: [{in: result, find: email, with: "a\\nb"}]}]',
        "what stands instead is a text without control characters [policy-value]",
    ),
    (
        "rules: [{also: x, redact: [{in: trace, at: a.b}]}]",
        "'a.b' is no place in the trace; begin it with args or result [policy-value]",
    ),
    ("trace: {mask: [{at: '**'}]}", "say what is masked"),
    ("labels: [{tools: a.b, secret: password}]", "'password' is no place in the trace; begin it with args or result"),
    ("labels: [{does: read}]", '3:10: the key "tools" is missing [policy-key]'),
    (
        "rules: [{deny: x, tools: nodot}]",
        '3:26: "nodot" names no tool; write server.tool, with * and ? where you like [policy-value]',
    ),
    ("rules: [{deny: x, args: {path: {undr: /a}}}]", '3:33: unknown key "undr"; did you mean "under"? [policy-key]'),
    ("rules: [{deny: x, args: {path: {any_of: [{undr: /a}]}}}]", '3:43: unknown key "undr"'),
    ("rules: [{deny: x, args: {path: {not: {undr: /a}}}}]", '3:39: unknown key "undr"'),
    ("rules: [{deny: x, args: {path: {}}}]", "3:32: at least one key is due [policy-value]"),
    ("rules: [{deny: x, args: {path: }}]", "3:32: nothing is said about this argument; for a null write {is: null}"),
    ("rules: [{deny: x, args: {}}]", "3:25: at least one is due [policy-type]"),
    ("rules: [{deny: x, who: }]", "keys and values are due [policy-type]"),
    ("rules: [{deny: x, who: {}}]", "3:24: at least one key is due [policy-value]"),
    ("rules: [{deny: x, args: {p: {matches: '(a'}}}]", '3:39: "(a": missing ): (a [policy-regex]'),
    ("rules: [{deny: x, args: {p: {matches: '(?=a)b'}}}]", "[policy-regex]"),
    ("rules: [{deny: x, args: {p: {glob: '/a[b'}}}]", '3:36: "/a[b": a bracket has no partner [policy-value]'),
    ("rules: [{deny: x, args: {p: {under: '~eve/x'}}}]", "begins with the home of another account [policy-value]"),
    ("rules: [{deny: x, args: {p: {host: 'http://a.test'}}}]", '"http://a.test": the address is no'),
    ("rules: [{deny: x, args: {p: {cidr: 10.0.0.0/99}}}]", '3:36: "10.0.0.0/99":'),
    ("rules: [{deny: x, args: {p: {min: 5, max: 3}}}]", "3:26: no number is min 5 and max 3 [policy-never]"),
    ("rules: [{deny: x, args: {p: {above: 3, below: 3}}}]", "[policy-never]"),
    ("rules: [{deny: x, args: {p: {not: {min: 5, max: 3}}}}]", "[policy-never]"),
    ("rules: [{deny: x, args: {p: {present: false, is: a}}}]", "what is not present cannot match `is` [policy-never]"),
    ("rules: [{deny: x, args: {p: {absent: ok}}}]", "`absent: ok` alone says nothing"),
    ("rules: [{deny: x, args: {p: {no_flags: [c]}}}]", "a flag begins with - and has no blanks [policy-value]"),
    ("rules: [{deny: x, args: {'a..b': 1}}]", "is no path to an argument [policy-value]"),
    ("rules: [{allow: x, expires: '2026-02-30'}]", '"2026-02-30" is no date; write "2027-01-31", with quotes'),
    ("rules: [{allow: x, expires: 2026-02-03}]", "is read differently by different versions of YAML: quote it"),
    ("rules: [{deny: x, expires: '2026-02-03'}]", "3:19: not supported yet on anything but an allow [policy-value]"),
    ("rules: [{allow: x, hard: true}]", "3:20: only a deny can be hard [policy-value]"),
    ("rules: [{deny: x, hard: false}]", '"False" is none of true'),
    ("rules: [{deny: x, limit: {timeout: 5s}}]", "a deny lets nothing through that could have a limit [policy-value]"),
    ("rules: [{allow: x, limit: {timeout: 5}}]", '"5" is no duration; write 30s, 15m, 2h or 7d [policy-value]'),
    ("rules: [{allow: x, limit: {args_bytes: 5 kB}}]", '"5 kB" is no size; write 500, 64kB or 20MB [policy-value]'),
    ("rules: [{allow: x, who: {client: ci}}]", "3:20: what a client says of itself allows nothing"),
    ("rules: [{allow: x, who: {not: {client: ci}}}]", "[policy-client-trust]"),
    ("rules: [{ask: x, tools: 'a.@resources/read'}]", "nobody can be asked about requests that are no tool calls"),
    ("rules: [{deny: x, id: a}, {deny: x, id: b, tools: c.d}]", "t/a covers it: equal or stronger"),
    ("rules: [{deny: x, tools: a.*, id: a}, {allow: z, tools: a.*}]", "3:39: t/a covers it"),
    ("rules: [{deny: x, args: {p: '${nix}'}}]", 'no variable is called "nix" [policy-var]'),
    ("rules: [{deny: x, args: {p: '${worspace}/a'}}]", 'did you mean "workspace"? [policy-var]'),
    ("vars: {a: 1}", '3:8: the variable "a" is never used [policy-var]'),
    ("vars: {a: [1]}\nrules: [{deny: 'x ${a}'}]", "is no text or number, so it has to stand alone [policy-var]"),
    ("use: [nowhere]", '3:7: no policy called "nowhere" is shipped [policy-use]'),
    ("use: [../x.yaml]", '3:7: "../x.yaml" leads out of the folder of this file [policy-use]'),
    ("use: [p.yaml]", "policies use each other in a circle [policy-use]"),
    ("use: [{policy: guarded, without: [keys-stay-her]}]", 'did you mean "keys-stay-here"? [policy-use]'),
    ("use: [gone.yaml]", "there is no such policy file"),
    ("methods: {unknown: pass}", "unknown methods pass only with `mode: observe` [policy-value]"),
    ("trace: {mask: ['(a'], payloads: full}", '"(a": missing ): (a [policy-regex]'),
    ("arguments: {max_depth: 0}", "the number is too small [policy-type]"),
    ("rules: {}", "3:8: a list is due [policy-type]"),
    ("rules: []\nrules: []", '4:1: "rules" is already set in line 3 [policy-duplicate-key]'),
    ("rules: [{deny: x, args: {p: *.pem}}]", "needs quotes [policy-yaml]"),
    ("rules: [{deny: x, args: {p: {under: ${workspace}}}}]", 'write "${name}" with quotes [policy-yaml]'),
]


@pytest.mark.parametrize(("text", "wanted"), ERRORS, ids=[text for text, _ in ERRORS])
def test_what_is_wrong_does_not_load_and_says_where(tmp_path: Path, text: str, wanted: str) -> None:
    found = problems(text + "\n", tmp_path)
    assert any(wanted in problem for problem in found), found
    assert all(re.match(r"[1-9][0-9]*:[1-9][0-9]*: .+ \[policy-[a-z-]+\]\Z", problem) for problem in found), found


def test_everything_that_is_wrong_is_told_at_once_by_line_and_column(tmp_path: Path) -> None:
    text = "mode: obsrve\nrules:\n  - {dny: x}\n  - {deny: no, args: {p: {min: a}}}\nlables: []\n"
    found = problems(text, tmp_path)
    assert [problem.split(": ")[0] for problem in found] == ["3:7", "5:6", "6:12", "6:32", "7:1"]


@pytest.mark.parametrize(
    ("head", "wanted"),
    [
        ("", "1:1: the file is empty [policy-yaml]"),
        ("# nothing\n", "1:1: the file is empty [policy-yaml]"),
        ("soothsayer: policy/v2\nname: t\n", '"policy/v2" is none of policy/v1; did you mean "policy/v1"?'),
        ("name: t\n", '1:1: the key "soothsayer" is missing [policy-key]'),
        ("soothsayer: policy/v1\n", '1:1: the key "name" is missing [policy-key]'),
        ("soothsayer: policy/v1\nname: T t\n", "is no policy name"),
    ],
)
def test_a_file_says_what_it_is(tmp_path: Path, head: str, wanted: str) -> None:
    assert any(wanted in problem for problem in problems("", tmp_path, head=head))


def test_names_of_servers_tools_and_arguments_are_checked_where_they_are_known(tmp_path: Path) -> None:
    servers = frozenset({"fs", "git"})
    tools: KnownTools = {"fs": {"write": {"properties": {"path": {}}}, "read": None}}
    wrong = """
rules:
  - {deny: "A.", tools: fss.write}
  - {deny: "B.", tools: fs.wirte}
  - {deny: "C.", tools: fs.write, args: {pth: x}}
  - {deny: "D.", tools: fs.write, args: {"path | fiel.x": x}}
labels: [{tools: gti.log, does: read}]
"""
    assert problems(wrong, tmp_path, known_servers=servers, known_tools=tools) == [
        '5:25: no server is called "fss"; did you mean "fs"? [policy-server]',
        '6:25: the server fs has no tool "wirte"; did you mean "write"? [policy-tool]',
        '7:42: no tool of this rule has an argument "pth"; did you mean "path"? [policy-arg]',
        '8:42: no tool of this rule has an argument "fiel" [policy-arg]',
        '9:18: no server is called "gti"; did you mean "git"? [policy-server]',
    ]
    right = """
servers: {db: {}}
rules:
  - {deny: "A.", tools: "fs.w* | db.any | *.x | git.@resources/read"}
  - {deny: "B.", tools: "fs.*", args: {pth: x}}
"""
    file = tmp_path / "right.yaml"
    file.write_text(HEAD + right)
    assert load([str(file)], state=None, known_servers=servers, known_tools=tools).rule_count == 2


@pytest.mark.pitfall("P-POLICY-05")
def test_nothing_loads_that_cannot_match_or_means_other_than_it_reads(tmp_path: Path) -> None:
    tools: KnownTools = {"fs": {"write": {"properties": {"path": {}}, "required": ["path"]}}}
    cases = [
        ("rules: [{deny: x, tools: fs.write, args: {pth: a}}]", '3:43: no tool of this rule has an argument "pth"'),
        ("rules: [{deny: x, tools: fs.wirte}]", '3:26: the server fs has no tool "wirte"'),
        ("rules: [{deny: x, tools: fs.write, when: 'args.pth == 1'}]", "3:42: no tool of this rule has an argument"),
        ("rules: [{deny: x, when: 'result.ok'}]", '3:25: at 1:7 of the condition: there is no "result.ok" here'),
        ("rules: []\nrules: []", '4:1: "rules" is already set in line 3'),
        ("rules: [{deny: x, args: {a: no}}]", "3:29: no is read differently by different versions of YAML: quote it"),
        ("rules: [{deny: x, args: {a: 12:30:00}}]", "3:29: 12:30:00 is read differently"),
    ]
    for text, wanted in cases:
        found = problems(text + "\n", tmp_path, known_servers=frozenset({"fs"}), known_tools=tools)
        assert [problem for problem in found if problem.startswith(wanted)], found
    policy = policy_from('default: allow\nrules: [{deny: x, args: {x: ["no", "12:30:00"]}}]\n', tmp_path)
    assert effect(policy, "fs.r", {"x": "no"}) == "deny"
    assert effect(policy, "fs.r", {"x": "12:30:00"}) == "deny"
    assert effect(policy, "fs.r", {"x": False}) == "allow"
    assert effect(policy, "fs.r", {"x": 45000}) == "allow"


@pytest.mark.pitfall("P-OPEN-05")
def test_without_a_policy_nothing_is_open(tmp_path: Path) -> None:
    """No file: the packaged `guarded`, where a write is asked about and nobody can be asked. An empty one: no start."""
    nothing_given = load(state=tmp_path / "state")
    assert nothing_given.name == "guarded"
    assert effect(nothing_given, "fs.write_file", {"path": "/w/a"}) == "ask"
    for content in ("", "---\n", "# only words\n", "{}\n"):
        assert problems("", tmp_path, head=content)
    with pytest.raises(LoadErrors):
        load([str(tmp_path / "missing.yaml")], state=tmp_path / "state")


@pytest.mark.pitfall("P-OPEN-05")
@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() == 0, reason="needs a file that we may not read")
def test_a_policy_that_may_not_be_read_does_not_start(tmp_path: Path) -> None:
    file = tmp_path / "closed.yaml"
    file.write_text(HEAD)
    file.chmod(0)
    with pytest.raises(LoadErrors, match="cannot be read"):
        load([str(file)], state=tmp_path / "state")


def test_a_policy_that_cannot_be_read_does_not_start(tmp_path: Path) -> None:
    folder = tmp_path / "folder.yaml"
    folder.mkdir()
    with pytest.raises(LoadErrors, match="cannot be read"):
        load([str(folder)], state=tmp_path / "state")


@pytest.mark.pitfall("P-OPEN-06")
def test_no_unknown_value_has_a_fallback_and_observing_is_never_the_default(tmp_path: Path) -> None:
    """That the start prints the mode is shown with the command."""
    assert problems("mode: enforec\n", tmp_path) == [
        '3:7: "enforec" is none of enforce, observe; did you mean "enforce"? [policy-key]'
    ]
    assert problems("defualt: deny\n", tmp_path) == ['3:1: unknown key "defualt"; did you mean "default"? [policy-key]']
    without = policy_from("default: deny\n", tmp_path)
    assert without.mode is Mode.ENFORCE
    assert judge(without).effect is Effect.DENY
    observing = judge(policy_from("mode: observe\ndefault: deny\n", tmp_path))
    assert (observing.effect, observing.mode, observing.would) == (Effect.ALLOW, Mode.OBSERVE, Effect.DENY)


def test_the_command_line_can_set_the_mode(tmp_path: Path) -> None:
    assert policy_from("default: deny\n", tmp_path, mode=Mode.OBSERVE).mode is Mode.OBSERVE
    assert policy_from("mode: observe\n", tmp_path, mode=Mode.ENFORCE).mode is Mode.ENFORCE


def test_a_word_that_is_no_shipped_policy_is_told_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(LoadErrors, match='did you mean "guarded"'):
        load(["gaurded"], state=tmp_path / "state")


def test_every_shipped_policy_is_found_and_loads(tmp_path: Path) -> None:
    assert set(shipped()) >= {"guarded", "observe", "read-only", "strict", "filesystem", "git", "web", "database"}
    for name in shipped():
        assert find(name) is not None
        assert load([name], state=tmp_path / "state", known_servers=["anything"]).name == name
    assert find("../policies/guarded") is None
    assert find("nowhere") is None


def test_what_is_used_joins_and_what_is_left_out_is_gone(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text(
        HEAD.replace("name: t", "name: base")
        + """
default: allow
mode: observe
pins: {new: deny}
arguments: {max_bytes: 10}
trace: {payloads: digest}
labels: [{tools: fs.read, does: read}]
rules:
  - {deny: "One.", tools: fs.one}
  - {deny: "Two.", tools: fs.two}
"""
    )
    policy = policy_from("use: [{policy: base.yaml, without: [two]}]\narguments: {max_bytes: 99}\n", tmp_path)
    assert (policy.mode, policy.rule_count, policy.payload_mode) == (Mode.ENFORCE, 1, PayloadMode.DIGEST)
    assert rule_ids(judge(policy, "fs.one")) == ["base/one"]
    assert effect(policy, "fs.two") == "ask"
    assert judge(policy, "fs.read").does == ("read",)
    assert (policy.pins.new, policy.arguments.max_bytes) == (Effect.DENY, 10)
    assert set(policy.watch) == {str(tmp_path / "t.yaml"), str(tmp_path / "base.yaml")}


def test_a_rule_left_out_by_one_way_and_kept_by_another_stays(tmp_path: Path) -> None:
    head = HEAD.replace("name: t", "name: {}")
    (tmp_path / "base.yaml").write_text(head.format("base") + "rules: [{deny: One, tools: fs.one}]\n")
    (tmp_path / "mid.yaml").write_text(head.format("mid") + "use: [base.yaml]\n")
    policy = policy_from("use: [{policy: base.yaml, without: [one]}, mid.yaml]\n", tmp_path)
    assert effect(policy, "fs.one") == "deny"


def test_several_named_policies_are_one_scope_with_the_stricter_default(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("soothsayer: policy/v1\nname: a\ndefault: {read: allow, other: deny}\n")
    (tmp_path / "b.yaml").write_text(
        "soothsayer: policy/v1\nname: b\nmode: observe\ndefault: {read: allow, other: allow}\n"
        "labels: [{tools: fs.read, does: read}]\n"
    )
    files = [str(tmp_path / "a.yaml"), str(tmp_path / "b.yaml")]
    for order in (files, files[::-1]):
        policy = load(order, state=tmp_path / "state")
        assert policy.mode is Mode.ENFORCE
        assert effect(policy, "fs.read") == "allow"
        assert effect(policy, "fs.write") == "deny"


@pytest.mark.pitfall("P-POLICY-04")
def test_a_project_cannot_loosen_what_the_organisation_says(tmp_path: Path) -> None:
    """The row's ten thousand random pairs are in `test_properties`."""
    organisation = 'default: leave\nrules: [{deny: "No.", tools: "fs.*", args: {path: {glob: "**/.env"}}}]\n'
    user = "default: allow\n"
    project = 'rules:\n  - {allow: "All files.", tools: "fs.*"}\n'
    policy = policy_from(user, tmp_path, organisation=organisation, project=project)
    assert effect(policy, "fs.read", {"path": "/w/.env"}) == "deny"
    assert effect(policy, "fs.read", {"path": "/w/a"}) == "allow"
    with pytest.raises(LoadErrors):
        policy_from(user, tmp_path, organisation=organisation, project="deny: []\n" + project)


def test_a_project_can_object_and_never_permit(tmp_path: Path) -> None:
    labels = "labels: [{tools: fs.rm, does: read}]\n"
    policy = policy_from(
        "default: {read: allow, other: ask}\n", tmp_path, project=labels + 'rules: [{deny: "Not here.", tools: fs.x}]\n'
    )
    assert effect(policy, "fs.rm") == "ask"
    assert effect(policy, "fs.x") == "deny"
    leaving = policy_from("default: allow\n", tmp_path, project="mode: observe\n")
    assert effect(leaving, "fs.y") == "allow"


def test_names_as_hosts_show_them_are_read(tmp_path: Path) -> None:
    text = 'rules:\n  - {deny: "One.", tools: mcp__fs__write_file}\n  - {deny: "All.", tools: "mcp__db"}\n'
    policy = policy_from(text, tmp_path)
    assert rule_ids(judge(policy, "fs.write_file")) == ["t/one"]
    assert rule_ids(judge(policy, "db.anything")) == ["t/all"]
    unclear = 'rules: [{deny: "One.", tools: mcp__a__b__c}]\n'
    assert problems(unclear, tmp_path, known_servers=frozenset({"a", "a__b"})) == [
        '3:31: "mcp__a__b__c" may mean a.b__c and a__b.c: write one of them [policy-server]'
    ]
    (tmp_path / "q.yaml").write_text(HEAD + unclear)
    clear = load([str(tmp_path / "q.yaml")], state=None, known_servers=["a__b"])
    assert rule_ids(judge(clear, tool("a__b.c"))) == ["t/one"]


def test_variables_keep_their_type_and_lists_spread(tmp_path: Path) -> None:
    policy = policy_from(
        """
vars: {most: 5, hosts: [a.test, "*.b.test"], folder: src, one: c.test}
default: allow
rules:
  - {deny: "More than ${most}.", args: {x: {above: "${most}"}}}
  - {deny: "There.", args: {url: {host: ["${hosts}", "${one}"]}}}
  - {deny: "Sources.", args: {path: {under: "${workspace}/${folder}"}}}
""",
        tmp_path,
    )
    assert judge(policy, "fs.r", {"x": 6}).rules[0].text == "More than 5."
    assert effect(policy, "fs.r", {"x": 5}) == "allow"
    for host in ("a.test", "x.b.test", "c.test"):
        assert effect(policy, "fs.r", {"url": f"https://{host}/"}) == "deny"
    assert effect(policy, "fs.r", {"path": "/w/src/a"}) == "deny"


def test_the_digest_is_about_meaning(tmp_path: Path) -> None:
    one = policy_from(
        '# words\nrules:\n  - {deny: "A.", tools: "x.a | x.b", args: {p: {in: [1, 2]}}}\n  - {ask: "B."}\n', tmp_path
    )
    two = policy_from('rules:\n- ask: "B."\n- args: {p: {in: [2, 1]}}\n  tools: [x.b, x.a]\n  deny: "A."\n', tmp_path)
    other = policy_from(
        'rules:\n  - {deny: "A.", tools: "x.a | x.b", args: {p: {in: [1, 3]}}}\n  - {ask: "B."}\n', tmp_path
    )
    assert one.digest == two.digest != other.digest
    elsewhere = policy_from('rules:\n  - {deny: "A.", args: {p: {under: "${workspace}"}}}\n', tmp_path)
    again = policy_from('rules:\n  - {deny: "A.", args: {p: {under: "${workspace}"}}}\n', tmp_path, workspace="/other")
    assert elsewhere.digest == again.digest


def test_methods_pass_only_where_every_policy_that_speaks_of_them_says_so(tmp_path: Path) -> None:
    policy = policy_from("methods: {pass: [a/b, c/d]}\n", tmp_path, organisation="methods: {pass: a/b}\n")
    assert (policy.methods.passed, policy.methods.unknown_pass) == (frozenset({"a/b"}), False)
    observing = policy_from("mode: observe\nmethods: {unknown: pass}\n", tmp_path)
    assert observing.methods.unknown_pass
    enforced = policy_from("mode: observe\nmethods: {unknown: pass}\n", tmp_path, mode=Mode.ENFORCE)
    assert not enforced.methods.unknown_pass


def keys(model: type[Document]) -> Iterator[tuple[str, str]]:
    for name, field in model.model_fields.items():
        yield model.__name__, field.alias or name


def test_no_key_is_both_supported_and_not() -> None:
    for model in Document.__subclasses__():
        assert not {key for _, key in keys(model)} & model.later, model


def test_what_a_policy_says_of_runs_loads_and_nothing_else_does(tmp_path: Path) -> None:
    assert policy_from("", tmp_path).run_rules == RunRules()
    said = policy_from("run: {idle: 5m, abandon_after: 7d}\ncomplete: {unverified: refuse}\n", tmp_path).run_rules
    assert said == RunRules(idle_s=300.0, abandon_s=7 * 86_400.0, refuse_unverified=True)
    for wrong, told in (
        ("run: {idel: 5m}", 'unknown key "idel"; did you mean "idle"'),
        ("run: {}", "at least one key is due"),
    ):
        with pytest.raises(LoadErrors) as errors:
            policy_from(wrong + "\n", tmp_path)
        assert told in str(errors.value)
