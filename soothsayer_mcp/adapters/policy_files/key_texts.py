"""What every key of policy files and of their tests means, a line each, for editors and for the generated pages.

Apart from the models, which a start without a kept form imports. A test sees that no key lacks its line.
"""

from collections.abc import Mapping
from typing import Final

_MATCHED = {
    "tools": "Which tools, as server.tool globs with | between them; without it every tool.",
    "except": "Tools that are left out, as globs.",
    "does": "What the tool does by its labels. An allow needs all of a tool's labels listed, the others one.",
    "who": "The caller.",
    "cause": "Who makes the call: the agent, an undo, a probe or the self-test; without it all.",
    "pin": "The state of the tool's definition.",
    "args": "Matchers by argument: a path such as a.b or items[*].id, a | b for either, or ** for every text.",
    "only_args": "No other argument than those that args names.",
    "tainted": "Whether the run was given a result that others than the first party can write.",
    "flow": "Where the values that say where something goes came from.",
    "when": "A condition in CEL over args, tool, who, run, risk and now.",
}

_MASKED = {
    "at": "Where: paths such as a.b or items[*].id, which in the record begin with args or result; ** is everywhere.",
    "find": "Detectors; without them and without matches the whole value at a path is masked.",
    "matches": "RE2 expressions; whatever fits is masked.",
    "with": "What stands there instead; without it a marker that names the kind.",
}

KEY_TEXTS: Final[Mapping[str, Mapping[str, str]]] = {
    "PolicyDocument": {
        "soothsayer": "The language and its version.",
        "name": "The policy's name, the first half of its rules' ids.",
        "about": "What the policy is for; policy check shows it.",
        "scope": "Whose policy it is. It can only say what the place it is loaded from says already.",
        "mode": "enforce, or observe: only record what would be denied or asked about.",
        "default": "The effect where no rule decides: one for all, or one each for read, other and checked.",
        "use": "Policies whose rules, labels and risk terms join: shipped ones by name, files beside this one.",
        "vars": "Values that ${name} stands for in this file.",
        "servers": "How a server is taken, by the name that the configuration gives it.",
        "labels": "What the operator knows about tools.",
        "risk": "Terms that make a call risky; their sum is between 0 and 100.",
        "rules": "The rules; their order means nothing. deny beats ask beats allow beats default.",
        "pins": "What the state of a tool's definition says.",
        "arguments": "What holds of the arguments of every call.",
        "methods": "Methods of the protocol that have no row of their own.",
        "trace": "How much the record keeps of arguments and results.",
        "run": "When a run of this policy ends by itself.",
        "complete": "What has to hold before a run is completed, beside the checks that its steps owe.",
    },
    "CompleteDocument": {
        "unverified": "list: what was changed and not checked is listed; refuse: the run is not completed for it.",
    },
    "RunDocument": {
        "idle": "How long an automatic run may be without a call and still take the next one.",
        "abandon_after": "How long a run may stay paused before it is given up.",
    },
    "DefaultDocument": {
        "read": "For tools labelled read and nothing else.",
        "other": "For every other tool.",
        "checked": "For requests that are no tool calls; nobody can be asked about them, so ask denies.",
    },
    "UseDocument": {
        "policy": "A shipped policy by its name, or a file beside this one.",
        "without": "Rule ids that are left out.",
    },
    "ServerDocument": {
        "trusted": "Whether its readOnlyHint labels an unlabelled tool as read.",
        "files": "Whether its paths are on this machine, where links are followed, or elsewhere.",
        "root": "The folder that its relative paths begin at; else the workspace.",
        "home": "What ~ stands for; else the home folder.",
        "os": "How it reads paths.",
        "case": "Whether its file names are compared exactly or folded.",
    },
    "LabelDocument": {
        "tools": "Which tools the label is about, as server.tool globs.",
        "except": "Tools that are left out, as globs.",
        "does": "What these tools do to the world. Several labels of one tool add up.",
        "trust": "Who can write what these tools return: first_party, or anybody.",
        "sinks": "The arguments that say where something goes: args.to, or {arg: args.to, as: email}.",
        "secret": "Arguments, written args.name, of whose values the record keeps a salted digest only.",
    },
    "RuleDocument": {
        "deny": "Never: the reason, in one line that people and models read.",
        "ask": "A person is asked: the reason, in one line.",
        "allow": "It may: the reason, in one line.",
        "also": "Decides nothing: what is owed by every call that matches, whichever rule lets it through.",
        "id": "The second half of the rule's id; else the first six words of its reason.",
        "mode": "This rule only records.",
        "hard": "A deny that holds in observe mode too.",
        "expires": 'Of an allow the last day, in UTC: "2027-01-31"; of an ask how long it stays open: 5m.',
        "strong": "No answer counts that a host can give by itself: a person answers at a terminal.",
        "remember": "How far a yes may reach: never or once for this call alone, run for calls like it in the run.",
        **_MATCHED,
        "risk": "Between which sums of the risk terms the rule matches.",
        "limit": "Figures for the calls that the rule matches; of all matching rules the smallest holds.",
        "redact": "What is masked in results before a model reads them, or in the record.",
    },
    "RedactDocument": {
        "in": "result, before a model reads it and whatever part of a message holds it; or trace, in the record only.",
        **_MASKED,
    },
    "MaskDocument": _MASKED,
    "TermDocument": {
        "add": "Points, 1 to 100, or -1 to -100.",
        "because": "Why, in one line.",
        **_MATCHED,
        "when": "A condition in CEL over args, tool, who, run and now.",
    },
    "SinkDocument": {
        "arg": "The argument, as args.to or args.items[*].id.",
        "as": "In which form its values are compared; else exactly.",
    },
    "FlowDocument": {
        "into": "Whose values: sinks for those that labels name, or arguments.",
        "from": "Every value came from one of these.",
        "unless_from": "At least one value came from none of these.",
        "seen_in": "With unless_from: only if that value stood in a result that others can write.",
    },
    "RiskDocument": {"at_least": "This sum or more.", "below": "Less than this sum."},
    "WhoMatcher": {
        "sub": "The caller's id is one of these.",
        "groups": "The caller is in one of these groups.",
        "client": "The host application says it is one of these; an allow cannot rest on it.",
        "not": "The caller does not fit this.",
    },
    "LimitDocument": {
        "timeout": "How long a call may take.",
        "args_bytes": "How large its arguments may be.",
    },
    "Matchers": {
        "is": "Equal as JSON.",
        "in": "Equal to one of these.",
        "min": "This number or more.",
        "max": "This number or less.",
        "above": "More than this number.",
        "below": "Less than this number.",
        "max_chars": "At most so many characters.",
        "max_items": "At most so many elements.",
        "matches": "The whole text matches one of these RE2 expressions.",
        "under": "A path in one of these folders, or the folder itself.",
        "glob": "A path that one of these globs fits, relative to the server's root.",
        "host": "A URL or host name of one of these hosts; *.acme.test is all below it.",
        "scheme": "A URL with one of these schemes.",
        "port": "A URL with one of these ports.",
        "cidr": "An address in one of these networks; private is all that is not globally routable.",
        "email_domain": "One mail address in one of these domains.",
        "argv0": "A command whose program is one of these.",
        "argv": "A command that begins with the words of one of these.",
        "no_flags": "A command without these options.",
        "no_shell_syntax": "A command that a shell would take as plain words.",
        "find": "A text in which a detector finds something, also behind percent signs, base64 and hex.",
        "present": "Whether the argument is there.",
        "absent": "ok: holds when the argument is not there, too.",
        "not": "None of this.",
        "any_of": "At least one of these.",
    },
    "PinsDocument": {
        "first": "For a server without any accepted definition.",
        "new": "For a tool that was not there when its server was accepted.",
        "changed": "For a tool whose definition is not the accepted one.",
        "shadowed": "For a tool whose name imitates another's.",
    },
    "ArgumentsDocument": {
        "undeclared": "For an argument that the tool's schema does not name.",
        "no_schema": "For a tool without a usable schema.",
        "max_bytes": "How large the arguments of a call may be.",
        "max_depth": "How deep they may be nested.",
    },
    "MethodsDocument": {
        "pass": "Methods that pass unread.",
        "unknown": "What becomes of the others; pass only in observe mode.",
    },
    "TraceDocument": {
        "payloads": "full, redacted (secrets masked) or digest.",
        "mask": "What is masked in everything that the record keeps: an expression, or find, matches, at and with.",
    },
    "SuiteDocument": {
        "soothsayer": "The language and its version.",
        "policy": "The policy under test: a file beside this one or a shipped name; several are one scope.",
        "tools": "Server name to a file with its saved tools/list.",
        "principals": "Callers, by the names that tests use.",
        "defaults": "What holds for every test that says nothing else.",
        "tests": "The tests.",
        "coverage": "How much of the policy its tests have to reach.",
    },
    "PrincipalDocument": {"sub": "The caller's id.", "groups": "The caller's groups."},
    "CallDocument": {"tool": "server.tool, as saved.", "args": "The arguments."},
    "ExpectDocument": {
        "effect": "allow, ask or deny. Alone as a text it is all that is compared.",
        "rules": "The rules of the winning effect, or default; all of them.",
        "obligations": "The kinds of what an allowed call owes; all of them.",
        "reason": "Why it is no allow; compared where it is given.",
        "would": "In observe mode, the effect that enforcing would have had.",
        "where": "For a matrix: values and the effect that is due where they meet.",
        "else": "For a matrix: the effect everywhere else.",
        "short": "Set by a bare effect; not written.",
    },
    "CaseDocument": {
        "name": "What the test shows.",
        "who": "Who calls: a name of principals.",
        "now": 'When, for example "2027-01-31T12:00:00Z".',
        "call": "The call.",
        "matrix": "Values for ${x} in the call; each combination is a test.",
        "expect": "All that the decision has to be; a bare effect compares the effect alone.",
    },
    "DefaultsDocument": {"who": "Who calls.", "now": "When."},
    "CoverageDocument": {"rules": "Percent of the policy's own rules that must say yes in one test and no in another."},
}
"""Class of the model -> key as it is written -> its line."""


def key_text(model: str, key: str) -> str:
    """What a key means; empty when nobody has said it."""
    return KEY_TEXTS.get(model, {}).get(key, "")
