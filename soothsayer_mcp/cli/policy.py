"""`policy check` and `policy explain`: whether rules load, and what they say of one call and why."""

import json
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import field, replace
from pathlib import Path
from typing import cast

import click

from soothsayer_mcp.adapters.config import Config, find_config
from soothsayer_mcp.adapters.config import load as load_config
from soothsayer_mcp.adapters.policy_files.lines import rule_lines
from soothsayer_mcp.adapters.policy_files.load import DEFAULT, KnownTools, load_standing
from soothsayer_mcp.adapters.policy_files.places import Organisation
from soothsayer_mcp.adapters.policy_files.problems import LoadErrors
from soothsayer_mcp.adapters.store.reader import NoTraceError, Reader
from soothsayer_mcp.adapters.system import SystemClock, account, look
from soothsayer_mcp.cli.command import choices, command
from soothsayer_mcp.cli.exits import Exit
from soothsayer_mcp.cli.output import Output
from soothsayer_mcp.cli.pinning import EVERY, Definitions
from soothsayer_mcp.cli.policy_findings import FORMATS, REPORTS, untested
from soothsayer_mcp.cli.problems import Problem, Problems, as_problem
from soothsayer_mcp.cli.recorded import Recall, definition_of, recall
from soothsayer_mcp.cli.state import complete_run, open_reader, state_dir
from soothsayer_mcp.console import explanation
from soothsayer_mcp.console.explanation import Explained
from soothsayer_mcp.console.layout import visible
from soothsayer_mcp.model.call import Cause, Client, Principal, Proposal, RunId, StepId, ToolDefinition
from soothsayer_mcp.model.decision import Mode
from soothsayer_mcp.model.facts import Facts, Seen, Tally
from soothsayer_mcp.model.failure import Failure, Reason
from soothsayer_mcp.model.json import Json, JsonObject, canonical, digest
from soothsayer_mcp.model.run import Run, RunState
from soothsayer_mcp.model.step import ProposedStep
from soothsayer_mcp.model.value import dataclass
from soothsayer_mcp.policy.explain import Explanation, explain
from soothsayer_mcp.policy.lint import Flaw
from soothsayer_mcp.policy.parts import Touched, touched
from soothsayer_mcp.policy.policy import Policy
from soothsayer_mcp.policy.scopes import Cell
from soothsayer_mcp.policy.suite import own_rules
from soothsayer_mcp.policy.warn import about_tools, grouped, warnings
from soothsayer_mcp.policy.warn_evidence import about_evidence
from soothsayer_mcp.policy.warn_probes import Allowed, about_probes

STEP_NAME = re.compile(r"[0-9a-f]{1,32}\.\d{1,15}", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ground:
    """What a policy is loaded for: names or files, the workspace, the servers there are."""

    names: tuple[str, ...]
    workspace: str | None
    servers: tuple[str, ...] | None
    state: Path
    organisation: Organisation | None = None
    mode: Mode | None = None
    tiers: tuple[str, ...] | None = None
    """The configuration's model tiers; `None` where there is none to ask."""
    tools: KnownTools = field(default_factory=dict[str, Mapping[str, "Mapping[str, Json] | None"]])
    """The tools that rules may name, of the servers of which they are known."""

    allowed: Allowed | None = None
    """What the configuration opens to checks."""

    def load(self, names: tuple[str, ...] | None = None) -> Policy:
        """Load as the proxy would, and keep nothing. Raises `LoadErrors`."""
        return load_standing(
            self.names if names is None else names,
            self.organisation,
            mode_override=self.mode,
            workspace=self.workspace,
            state=self.state,
            known_servers=self.servers,
            # Given where nothing is known of tools too, so that nothing is written beside the trace.
            known_tools=self.tools,
            tiers=self.tiers,
        )


@command(
    "policy check",
    more=(
        "FILEs are policy files or names of packaged policies, each checked by itself; without any, those of the"
        " configuration together, as the proxy would load them, against the tools of its soothsayer.lock. Exits 2 when"
        " one does not load; 1 with --strict when something in its rules should be looked at again, and with --live or"
        " --pin when definitions are not as they were agreed on and stay so. --live also tests whether what a rule sets"
        " up for tools that it names meets a tool that is offered: N/A is a no."
    ),
)
@click.argument("files", nargs=-1, metavar="[FILE]...")
@click.option("--strict", is_flag=True, help="What should be looked at again is a no.")
@click.option("--live", is_flag=True, help="Start the servers: compare what they define now, and test what rules meet.")
@click.option(
    "--pin",
    metavar="[SERVER]",
    is_flag=False,
    flag_value=EVERY,
    help="Show how definitions differ from soothsayer.lock, and write them into it on a yes.",
)
@click.option("--yes", is_flag=True, help="Do not ask: the differences were read.")
@click.option("--format", "form", type=choices(FORMATS), default="text", help="Findings for code hosts and editors.")
def policy_check(  # noqa: D103 - see the table
    output: Output, files: tuple[str, ...], *, strict: bool, live: bool, pin: str | None, yes: bool, form: str
) -> int:
    if form in REPORTS and (pin is not None or output.as_json):
        raise Problem(f"--format {form} goes with neither --pin nor --json", id="usage")
    ground = ground_of(output, ())
    definitions = Definitions.look(output, ground.state, live=live, pin=pin)
    ground = replace(ground, tools=definitions.known)
    loaded: list[Policy] = []
    problems: list[Problem] = []
    for names in [(file,) for file in files] or [ground.names]:
        try:
            loaded.append((replace(ground, servers=None) if files else ground).load(names))
        except LoadErrors as errors:
            found = as_problem(errors)
            assert isinstance(found, Problems)
            problems += found.problems
    doubtful = [flaw for policy in loaded for flaw in _doubtful(policy)]
    doubtful += [flaw for policy in loaded for flaw in about_tools(policy, definitions.hints())]
    tools = [(server, name) for server, name, _ in definitions.hints()]
    doubtful += [flaw for policy in loaded for flaw in about_evidence(policy, tools)]
    doubtful += [flaw for policy in loaded for flaw in about_probes(policy, None if files else ground.allowed)]
    doubtful += untested(files or ground.names)
    parts = (
        [part for policy in loaded for part in touched(policy, own_rules(policy), definitions.tools())] if live else []
    )
    absent = [part for part in parts if not part.tools]
    if form in REPORTS:
        output.text(REPORTS[form](problems, doubtful, (files or ground.names)[0]))
        return Exit.USAGE if problems else Exit.NO if absent or (strict and doubtful) else Exit.DONE
    if loaded and not output.as_json:
        output.page(explanation.policies([_policy(policy) for policy in loaded], output.width))
    for flaw in () if output.as_json else doubtful:
        output.remark(f"warning: {flaw.rule}: {flaw.text} [{flaw.id}]")
    for line in () if output.as_json or problems else _self_test(parts):
        output.line(visible(line))
    agreed = bool(problems) or definitions.settle(output, yes=yes)
    if output.as_json:
        output.document(
            {
                "policies": [_policy(policy) for policy in loaded],
                "warnings": [{"rule": flaw.rule, "id": flaw.id, "message": flaw.text} for flaw in doubtful],
                "definitions": [each.document() for each in definitions.differing],
                "self_test": [
                    {"rule": part.rule, "parts": [*part.parts], "tools": [*part.tools], "state": _state(part)}
                    for part in parts
                ],
            }
        )
    if problems:
        raise Problems(problems)
    return Exit.DONE if agreed and not absent and not (strict and doubtful) else Exit.NO


def _state(part: Touched) -> str:
    return "ok" if part.tools else "N/A"


def _self_test(parts: Sequence[Touched]) -> Iterator[str]:
    """How many of the rules that name tools meet one that is offered, and each that does not."""
    if parts:
        met = sum(bool(part.tools) for part in parts)
        yield f"self-test  {met} of {len(parts)} rules that name tools meet a tool that is offered"
    for part in parts:
        if not part.tools:
            what = f"no server offers what it names: {', '.join(part.named)}"
            yield f"self-test  N/A  {part.rule} ({', '.join(part.parts)}): {what}"


def _doubtful(policy: Policy) -> tuple[Flaw, ...]:
    """What a person should look at again in the rules of the policies that were named."""
    own = set(own_rules(policy))
    rules = [rule for scope in policy.scopes for rule in scope.rules if rule.id in own]
    weights = [one.matches for scope in policy.scopes for one in (*scope.terms, *scope.tiers)]
    return (*warnings(rules, SystemClock().now_us()), *grouped(weights))


@command(
    "policy explain",
    more=(
        "CALL is SERVER.TOOL with its ARGUMENTS as JSON, a step on record (4bf92f.7), or a file, or - for standard"
        ' input, that holds {"tool": "SERVER.TOOL", "args": {...}}. A recorded step is explained from the record:'
        " its policy, its arguments, its caller."
    ),
)
@click.argument("call", shell_complete=complete_run)
@click.argument("arguments", required=False)
@click.option("--policy", "policies", metavar="FILE|NAME", multiple=True, help="Explain under this policy.")
@click.option("--mode", type=choices(("enforce", "observe")), help="Explain as if in this mode.")
@click.option("--principal", metavar="ID", help="On whose authority; else this account.")
@click.option("--client", metavar="NAME", default="", help="The host application that calls.")
def policy_explain(  # noqa: D103 - see policy_check
    output: Output,
    call: str,
    arguments: str | None,
    policies: tuple[str, ...],
    mode: str | None,
    principal: str | None,
    client: str,
) -> int:
    ground = replace(ground_of(output, policies), mode=None if mode is None else Mode(mode))
    if STEP_NAME.fullmatch(call):
        if arguments is not None or principal is not None or client:
            raise Problem(
                "a step on record has its own arguments and caller", id="usage", fix="name SERVER.TOOL instead"
            )
        told = _of_step(output, ground, call, chosen=bool(policies))
    else:
        who = account() if principal is None else Principal(id=principal, how="named")
        told = _of_call(output, ground, _Typed.read(call, arguments), who, Client(name=client))
    if output.as_json:
        output.document({"explanation": _document(told)})
    else:
        output.page(explanation.explanation(told, output.width))
    return Exit.DONE


def ground_of(output: Output, policies: tuple[str, ...]) -> Ground:
    """What the proxy would start from, as far as options and configuration say. Raises `LoadErrors`."""
    settings = output.settings
    file = find_config(settings.config)
    config = None if file is None else load_config(file)
    return Ground(
        names=policies or (config.policy if config is not None else (DEFAULT,)),
        workspace=None if config is None else config.workspace,
        servers=None if config is None or policies else tuple(spec.name for spec in config.servers),
        state=state_dir(settings),
        organisation=None if config is None else config.organisation,
        mode=_observing(config),
        tiers=None if config is None else tuple(tier.name for tier in config.tiers),
        allowed=None if config is None else _allowed(config),
    )


def _allowed(config: Config) -> Allowed:
    probes = config.probes
    return Allowed(
        files=bool(probes.roots),
        hosts=probes.hosts,
        commands=frozenset(probes.commands),
        keys=frozenset(probes.keys),
    )


def _observing(config: Config | None) -> Mode | None:
    return Mode.OBSERVE if config is not None and config.mode is Mode.OBSERVE else None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Typed:
    """A call as it was typed."""

    server: str
    tool: str
    arguments: JsonObject

    @classmethod
    def read(cls, call: str, arguments: str | None) -> "_Typed":
        """Read `SERVER.TOOL JSON`, a file, or standard input. Raises `Problem`."""
        if call == "-" or (arguments is None and Path(call).is_file()):
            text = sys.stdin.read() if call == "-" else Path(call).read_text(encoding="utf-8")
            whole = _object(text, call)
            named, given = whole.get("tool"), whole.get("args", whole.get("arguments", {}))
            if not isinstance(named, str) or not isinstance(given, dict):
                raise Problem("a call is an object with tool and args", id="call", where=call)
            call, found = named, given
        else:
            found = _object(arguments or "{}", "ARGUMENTS")
        server, dot, tool = call.partition(".")
        if not (dot and server and tool):
            text = f'"{call}" is neither SERVER.TOOL, a step on record, nor a file'
            raise Problem(
                text, id="call", fix='for example: soothsayer policy explain files.read_file \'{"path": "a"}\''
            )
        return cls(server=server, tool=tool, arguments=found)


def _object(text: str, where: str) -> JsonObject:
    try:
        value = cast("Json", json.loads(text))
    except ValueError as error:
        raise Problem(f"this is no JSON: {error}", id="call", where=where) from error
    if not isinstance(value, dict):
        raise Problem("arguments are a JSON object", id="call", where=where)
    return value


def _of_call(output: Output, ground: Ground, typed: _Typed, who: Principal, client: Client) -> Explained:
    """Explain a call that nobody made."""
    notes: list[str] = []
    policy = ground.load()
    try:
        with open_reader(output.settings) as reader:
            tool = definition_of(reader, typed.server, typed.tool)
    except NoTraceError:
        tool = None
    if tool is None:
        notes.append("no definition of this tool is on record: explained without its schema and its hints")
        tool = ToolDefinition(
            server=typed.server,
            name=typed.tool,
            raw=b"{}",
            digest=digest(b"{}"),
            properties=frozenset(typed.arguments),
        )
    fault = None if tool.check_arguments is None else tool.check_arguments(typed.arguments)
    flaws: tuple[Failure, ...] = ()
    if fault is not None:
        flaws = (Failure(reason=Reason.ARGUMENTS_INVALID, summary=f"argument {fault.path} {fault.problem}"),)
    step = _step(typed, tool=tool, flaws=flaws, who=who, client=client, cause=Cause.AGENT, at_us=SystemClock().now_us())
    asked = policy.questions(step)
    # Nobody made it, so nothing came before it.
    facts = replace(
        look(asked.links),
        tallies={question: Tally() for question in asked.tallies},
        values={question: Seen() for question in asked.values},
    )
    if asked.tallies or asked.values:
        notes.append("explained as the first call of a run for which nobody said what it is for")
    run = Run(id=step.run_id, principal=step.principal, state=RunState.OPEN, version=0)
    return _explained(policy, run, step, facts, notes, policy.sources)


def explain_call(output: Output, names: tuple[str, ...], server: str, tool: str, arguments: JsonObject) -> Explained:
    """Explain a call as the first of a run, under these policies in place of the configured. Raises `LoadErrors`."""
    ground = replace(ground_of(output, ()), names=names)
    typed = _Typed(server=server, tool=tool, arguments=arguments)
    return _of_call(output, ground, typed, account(), Client(name=""))


def explain_step(output: Output, name: str) -> Explained:
    """Explain a step from what was recorded of it, by the policy of that time. Raises `Problem` and `ReadError`."""
    return _of_step(output, ground_of(output, ()), name, chosen=False)


def _of_step(output: Output, ground: Ground, name: str, *, chosen: bool) -> Explained:
    """Explain a step from what was recorded of it."""
    with open_reader(output.settings) as reader:
        recalled = recall(reader, reader.find_step(name))
        notes = [*recalled.notes]
        policy = None if chosen else recalled.load_policy(ground.state, mode=ground.mode)
        if policy is None:
            policy = ground.load()
            if policy.digest == recalled.policy_digest:
                notes.append("explained under the policy it was decided by")
            else:
                why = "as asked" if chosen else "the recorded one does not load here any more"
                notes.append(f"explained under {policy.name}, not under the policy it was decided by: {why}")
        else:
            notes.append("explained under the recorded policy")
        step = recalled_step(reader, recalled)
        own = policy.digest == recalled.policy_digest
        sources = recalled.sources if own and recalled.sources else policy.sources
        told = _explained(policy, recalled.run, step, recalled.known(policy.questions(step)), notes, sources)
    again = (str(told.explanation.decision.effect), [rule.id for rule in told.explanation.decision.rules])
    if again != (recalled.effect, [*recalled.rules]):
        before = f"{recalled.effect} by {', '.join(recalled.rules) or 'the default'}"
        told = replace(told, notes=(*told.notes, f"recorded was: {before}"))
    return told


def recalled_step(reader: Reader, recalled: Recall) -> ProposedStep:
    """A step on record, as it was proposed."""
    typed = _Typed(server=recalled.step.server, tool=recalled.step.tool, arguments=recalled.arguments)
    return _step(
        typed,
        tool=recalled.tool(reader),
        flaws=recalled.flaws,
        who=recalled.principal,
        client=recalled.client,
        cause=Cause(recalled.step.cause),
        at_us=recalled.decided_at_us,
        raw_arguments=recalled.raw_arguments,
        run=recalled.step.run,
    )


def _step(
    typed: _Typed,
    *,
    tool: ToolDefinition | None,
    flaws: tuple[Failure, ...],
    who: Principal,
    client: Client,
    cause: Cause,
    at_us: int,
    raw_arguments: bytes | None = None,
    run: str = "0" * 32,
) -> ProposedStep:
    return ProposedStep(
        id=StepId("0" * 16),
        run_id=RunId(run),
        cause=cause,
        principal=who,
        client=client,
        tool=tool,
        proposal=Proposal(
            server=typed.server,
            tool=typed.tool,
            arguments=typed.arguments,
            raw_arguments=canonical(typed.arguments) if raw_arguments is None else raw_arguments,
            raw=b"",
            request_id=None,
        ),
        flaws=flaws,
        proposed_at_us=at_us,
        began_ns=0,
    )


def _explained(
    policy: Policy, run: Run, step: ProposedStep, facts: Facts, notes: list[str], sources: Mapping[str, str]
) -> Explained:
    return Explained(
        call=f"{step.proposal.server}.{step.proposal.tool}",
        arguments=step.proposal.arguments,
        policy=f"{policy.name}@{policy.digest.removeprefix('sha256:')[:6]}",
        policy_digest=policy.digest,
        explanation=explain(policy, run, step, facts),
        lines={rule: (stands.file, stands.line) for rule, stands in rule_lines(sources).items()},
        notes=tuple(notes),
    )


def _policy(policy: Policy) -> dict[str, Json]:
    return {
        "name": policy.name,
        "digest": policy.digest,
        "about": policy.about or None,
        "mode": policy.mode,
        "rules": policy.rule_count,
        "scopes": [
            {
                "kind": scope.kind,
                "name": scope.name,
                "mode": scope.mode,
                "rules": len(scope.rules),
                "default": {str(cell): scope.defaults[cell] for cell in Cell},
            }
            for scope in policy.scopes
        ],
        "files": [*policy.watch],
    }


def _stands(told: Explained, rule: str) -> dict[str, Json]:
    file, line = told.lines.get(rule, (None, None))
    return {"file": file, "line": line}


def _document(told: Explained) -> dict[str, Json]:
    found: Explanation = told.explanation
    decision = found.decision
    return {
        "call": told.call,
        "arguments": told.arguments,
        "policy": told.policy_digest,
        "effect": decision.effect,
        "would": decision.would,
        "reason": decision.reason,
        "rules": [
            {"id": rule.id, "effect": rule.effect, "text": rule.text, **_stands(told, rule.id)}
            for rule in decision.rules
        ],
        "does": [*decision.does],
        "risk": None
        if decision.risk is None
        else {
            "score": decision.risk.high,
            "low": decision.risk.low,
            "terms": [
                {"because": term.because, "add": term.add, "unknown": term.unknown or None}
                for term in decision.risk.terms
            ],
        },
        "timeout_s": decision.timeout_s,
        "pin": found.pin,
        "listed": found.listed,
        "scopes": [
            {
                "kind": scope.kind,
                "name": scope.name,
                "mode": scope.mode,
                "does": [*scope.does],
                "default": scope.default,
                "cell": scope.cell,
                "rules": scope.rules,
            }
            for scope in found.scopes
        ],
        "candidates": [
            {
                "id": rule.id,
                "scope": rule.scope,
                "effect": rule.head,
                "text": rule.text,
                "matched": rule.matched,
                "at": rule.at or None,
                "why": rule.why or None,
                "value": rule.value or None,
                "readings": [*rule.readings],
                "observe": rule.observe,
                "hard": rule.hard,
                **_stands(told, rule.id),
            }
            for rule in found.rules
        ],
        "notes": [*told.notes],
    }
