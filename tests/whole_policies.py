"""Whole valid policies by chance, over every key that decides, and calls and facts to decide them with."""

import json
from dataclasses import replace
from pathlib import Path
from random import Random

from policy_kit import RUN, step, tool
from soothsayer_mcp.adapters.policy_files.load import load
from soothsayer_mcp.model.call import Cause, PinState
from soothsayer_mcp.model.decision import Mode
from soothsayer_mcp.model.facts import NO_FACTS, Facts, Origin, Seen, Tally
from soothsayer_mcp.model.json import Json, JsonObject
from soothsayer_mcp.model.run import Counters, DeclaredBy, Intent, Run
from soothsayer_mcp.model.step import ProposedStep
from soothsayer_mcp.policy.policy import Policy

TOOLS = ("fs.read", "fs.write", "mail.send", "db.query")
EFFECTS = ("allow", "ask", "deny")
_GLOBS = ("fs.*", "fs.read", "fs.write | mail.send", "*.query", "mail.send", "*.*")
_DOES = ("read", "write", "send", "unlabelled")
_CONDITIONS = (
    'args.to == "ann@a.test"',
    "has(args.n) && args.n > 3",
    'who.sub == "os:ada" && "staff" in who.groups',
    "tool.trust == 'untrusted'",
    'args.exists(name, name == "path")',
)
_MATCHERS: tuple[Json, ...] = (
    "a",
    {"in": ["a", "b"]},
    {"min": 2},
    {"below": 4},
    {"matches": "[a-z]+"},
    {"under": "/w"},
    {"under": "~/.ssh"},
    {"host": "a.test"},
    {"email_domain": "a.test"},
    {"find": "email"},
    {"argv0": "git"},
    {"no_shell_syntax": True},
    {"not": {"glob": "**/a"}},
    {"any_of": [{"is": "a"}, {"max_chars": 3}]},
)
_ARGUMENTS = ("path", "to", "n", "x", "x.a", "x[*]", "path | url", "**")
_FLOWS: tuple[JsonObject, ...] = (
    {"into": "sinks", "unless_from": ["intent", "first_party"]},
    {"into": "args.to", "unless_from": "intent", "seen_in": "untrusted"},
    {"into": ["args.path", {"arg": "args.to", "as": "email"}], "unless_from": "first_party"},
)
_PASTS: tuple[Json, ...] = (
    "fs.read",
    {"tools": "mail.*", "ok": "any"},
    {"tools": "fs.*", "args": {"path": "a"}, "within": "1h"},
    ["db.query", {"tools": "fs.read", "same": ["args.path"]}],
)
_HISTORIES: tuple[JsonObject, ...] = (
    {"count": "calls", "above": 2},
    {"count": "failures", "of": "fs.read", "above": 1},
    {"count": "denials", "above": 1},
    {"sum": "args.n", "above": 5},
    {"count": "calls", "per": "principal", "window": "1h", "above": 3},
    {"count": "calls", "of": "*.*", "same": ["args.to"], "above": 1},
)
_REDACTS: tuple[JsonObject, ...] = (
    {"in": "result", "find": "email"},
    {"in": "result", "at": ["a.b"], "with": "[gone]"},
    {"in": "trace", "find": ["secret", "iban"]},
)
_ON_FAILURE: tuple[JsonObject, ...] = (
    {"tool_error": "stop"},
    {"policy_denied": "pause", "tool_error/tool_failed": "fail"},
)


def chance(random: Random, share: float) -> bool:
    """Whether something is so, in this share of the cases."""
    return random.random() < share


def a_rule(random: Random, effect: str = "") -> JsonObject:
    """A rule, as people write one."""
    effect = effect or random.choice((*EFFECTS, *EFFECTS, "also"))
    rule: JsonObject = {effect: "It fits.", "id": f"r{random.randrange(10**9)}"}
    optional: list[tuple[float, str, Json]] = [
        (0.7, "tools", random.choice(_GLOBS)),
        (0.1, "except", "db.query"),
        (0.2, "does", random.sample(_DOES, 2)),
        (0.1, "who", random.choice(({"groups": "staff"}, {"not": {"sub": "os:eve"}}, {"sub": "os:eve"}))),
        (0.3, "args", {name: random.choice(_MATCHERS) for name in random.sample(_ARGUMENTS, random.randint(1, 2))}),
        (0.2, "when", random.choice(_CONDITIONS)),
        (0.15, "risk", random.choice(({"at_least": 30}, {"below": 40}, {"at_least": 10, "below": 60}))),
        (0.1, "tainted", random.choice((True, False))),
    ]
    rule |= {key: value for share, key, value in optional if chance(random, share)}
    if chance(random, 0.1) and "args" in rule and "**" not in str(rule["args"]):
        rule["only_args"] = True
    _look_back(random, rule, effect)
    if effect == "deny":
        if chance(random, 0.15):
            rule["hard"] = True
        return rule
    owed: list[tuple[float, str, Json]] = [
        (0.15, "limit", _limit(random)),
        (0.15, "redact", [random.choice(_REDACTS)]),
        (0.1, "on_failure", random.choice(_ON_FAILURE)),
        (0.1, "large_results", {"over": f"{random.choice((4, 8))}kB", "keep": "1kB"}),
    ]
    rule |= {key: value for share, key, value in owed if chance(random, share)}
    if "mode" in rule:
        # What only observes may not change a result, and such a rule does not load.
        for key in ("redact", "large_results"):
            rule.pop(key, None)
    if "redact" not in rule and effect == "also":
        rule["redact"] = [random.choice(_REDACTS)]
    return rule


def _look_back(random: Random, rule: JsonObject, effect: str) -> None:
    if chance(random, 0.1):
        rule[random.choice(("after", "unless_after"))] = random.choice(_PASTS)
    if effect in {"deny", "ask"}:
        if chance(random, 0.15):
            rule["history"] = random.choice(_HISTORIES)
        if chance(random, 0.15):
            rule["flow"] = random.choice(_FLOWS)
        if chance(random, 0.1) and "hard" not in rule:
            rule["mode"] = "observe"
    elif effect == "allow" and chance(random, 0.1):
        rule["flow"] = {"into": "sinks", "from": ["intent", "first_party"]}


def _limit(random: Random) -> JsonObject:
    every: JsonObject = {
        "timeout": random.choice(("5s", "1m")),
        "args_bytes": random.choice((20, 4000)),
        "result_bytes": random.choice((500, 9000)),
        "calls": random.choice((1, 3)),
    }
    limit = {key: every[key] for key in random.sample(sorted(every), random.randint(1, 3))}
    if "calls" in limit and chance(random, 0.4):
        limit |= {"per": "principal", "window": "1h"}
    return limit


def _label(random: Random) -> JsonObject:
    label: JsonObject = {"tools": random.choice(_GLOBS), "does": random.choice(("read", "write", ["write", "send"]))}
    optional: list[tuple[float, str, Json]] = [
        (0.3, "trust", random.choice(("first_party", "untrusted"))),
        (0.3, "sinks", random.choice(("args.to", ["args.path", "args.to"]))),
        (0.2, "cost", random.choice((2, "args.n"))),
        (0.2, "secret", "args.x"),
        (0.1, "polling", "5s"),
    ]
    return label | {key: value for share, key, value in optional if chance(random, share)}


def _term(random: Random) -> JsonObject:
    term: JsonObject = {"add": random.choice((-20, 5, 30, 100)), "because": random.choice("abc")}
    if chance(random, 0.5):
        term["tools"] = random.choice(_GLOBS)
    if chance(random, 0.4):
        term["args"] = {random.choice(_ARGUMENTS): random.choice(_MATCHERS)}
    if chance(random, 0.4):
        term["when"] = random.choice(_CONDITIONS)
    if chance(random, 0.2):
        term[random.choice(("after", "unless_after"))] = random.choice(_PASTS)
    if chance(random, 0.2):
        term["history"] = random.choice(_HISTORIES)
    return term


def a_file(random: Random, name: str, *, leaves: bool = False) -> JsonObject:
    """A policy file; one that leaves may say nothing by default."""
    words = ("leave",) if leaves and chance(random, 0.5) else EFFECTS
    file: JsonObject = {
        "soothsayer": "policy/v1",
        "name": name,
        "default": {cell: random.choice(words) for cell in ("read", "other", "checked")},
        "labels": [_label(random) for _ in range(random.randrange(3))],
        "risk": [_term(random) for _ in range(random.randint(1, 2))],
        "rules": [a_rule(random) for _ in range(random.randrange(6))],
        "arguments": {"undeclared": random.choice(EFFECTS), "no_schema": random.choice(EFFECTS)},
    }
    optional: list[tuple[float, str, Json]] = [
        (0.3, "budgets", {"calls": 5, "cost": 9, "denials": 3, "tools": {"fs.*": {"calls": 2}}}),
        (0.3, "next", {"compact_after": {"calls": 3}}),
        (0.2, "pins", {"new": "ask", "changed": "deny"}),
        (0.2, "trace", {"payloads": "full", "mask": ["secret"]}),
    ]
    return file | {key: value for share, key, value in optional if chance(random, share)}


def rules_of(file: JsonObject) -> list[Json]:
    """The rules of a file."""
    rules = file["rules"]
    assert isinstance(rules, list)
    return rules


class Files:
    """A folder in which files become policies."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def policy(
        self,
        user: JsonObject | None,
        *,
        organisation: JsonObject | None = None,
        project: JsonObject | None = None,
        mode: Mode | None = None,
    ) -> Policy:
        """Load files the way a proxy does. JSON is YAML."""

        def written(name: str, file: JsonObject | None) -> tuple[str, ...]:
            if file is None:
                return ()
            path = self._folder / f"{name}.yaml"
            path.write_text(json.dumps(file))
            return (str(path),)

        return load(
            written("user", user),
            mode_override=mode,
            workspace="/w",
            home="/home/u",
            temp="/tmp",
            state=self._folder / "state",
            organisation=written("org", organisation),
            project=written("project", project),
        )


_VALUES: tuple[Json, ...] = (
    "a",
    "/w/a",
    "/w/../etc/a",
    "~/.ssh/id",
    "ann@a.test",
    "https://a.test/",
    "git log; rm x",
    "",
    1,
    7,
    2.5,
    2**70,
    True,
    None,
    {"a": "b"},
    ["a", 3],
    [[], {}],
)


def a_call(random: Random) -> ProposedStep:
    """A call of one of the tools, with arguments of any type."""
    names = random.sample(("path", "to", "n", "x", "url", "other"), random.randrange(5))
    definition = tool(
        random.choice(TOOLS),
        pin=random.choice((PinState.PINNED, PinState.PINNED, PinState.PINNED, PinState.NEW, PinState.CHANGED)),
        annotations=random.choice(({}, {"readOnlyHint": True})),
        properties=random.choice((None, *[frozenset({"path", "to", "n", "x", "url"})] * 5)),
    )
    cause = random.choice((Cause.AGENT, Cause.AGENT, Cause.AGENT, Cause.PROBE, Cause.UNDO))
    return step(definition, {name: random.choice(_VALUES) for name in names}, cause=cause)


def a_run(random: Random) -> Run:
    """A run that has done something already."""
    counters = Counters(calls=random.randrange(9), errors=random.randrange(3), untrusted_reads=random.randrange(2))
    intent = Intent(text="Write to ann@a.test", declared_by=random.choice(list(DeclaredBy)))
    return replace(RUN, counters=counters, intent=random.choice((None, intent)))


def facts_for(random: Random, policy: Policy, call: ProposedStep) -> Facts:
    """What a store could answer to what a policy asks, and sometimes does not."""
    asked = policy.questions(call)
    if chance(random, 0.1):
        return NO_FACTS
    origins = list(Origin)
    return Facts(
        links={path: random.choice((path, "/etc/a", "/w/b")) for path in asked.links if chance(random, 0.8)},
        tallies={
            question: Tally(*(random.randrange(3) for _ in Tally._fields))
            for question in asked.tallies
            if chance(random, 0.9)
        },
        values={
            question: Seen(
                frozenset(random.sample(origins, random.randrange(3))),
                frozenset(random.sample(origins, random.randrange(2))),
            )
            for question in asked.values
            if chance(random, 0.9)
        },
    )
