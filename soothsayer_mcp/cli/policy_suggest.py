"""`policy suggest`: from recorded steps a policy that allows them and nothing wider, with its tests."""

import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import click
from rich.text import Text

from soothsayer_mcp.adapters.policy_files.trial import Trial
from soothsayer_mcp.adapters.store.reader import Reader
from soothsayer_mcp.cli.command import FilterCommand, command
from soothsayer_mcp.cli.exits import Exit
from soothsayer_mcp.cli.output import Output
from soothsayer_mcp.cli.policy import ground_of, recalled_step
from soothsayer_mcp.cli.problems import Problem
from soothsayer_mcp.cli.recorded import recall
from soothsayer_mcp.cli.state import open_reader
from soothsayer_mcp.console.measures import count
from soothsayer_mcp.console.text import escape
from soothsayer_mcp.model.decision import Effect
from soothsayer_mcp.model.facts import Facts
from soothsayer_mcp.model.json import Json, JsonObject
from soothsayer_mcp.model.value import dataclass
from soothsayer_mcp.policy.decide import decide
from soothsayer_mcp.policy.policy import Policy
from soothsayer_mcp.policy.suggest import Seen, Suggested, suggest
from soothsayer_mcp.trace.query import parse
from soothsayer_mcp.trace.rows import StepRow

NAME = "suggested"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Trace:
    """What was read of a trace."""

    seen: tuple[Seen, ...]
    tools: Mapping[str, Mapping[str, JsonObject]]
    """Server -> tool -> its wire object."""
    workspace: str
    refused: tuple[StepRow, ...]
    unread: int
    """Steps whose arguments are not kept, or are masked."""


@command(
    "policy suggest",
    more=(
        "TRACE is a filter as log takes it; without any, all steps. Only steps that succeeded and whose checks hold are"
        " read. What can pay, delete or administer, what nobody labelled, and what varies too much stays with a"
        " person. What a tool does is what the labels said when it was called, or say in the policy that is named: so"
        " fill in the labels that it asks for, and name that file. Prints; --write puts the policy, its tests and the"
        " tools into a folder, never over a file."
    ),
    kind=FilterCommand,
)
@click.argument("trace", nargs=-1, metavar="[TRACE]...")
@click.option("--write", "folder", metavar="DIR", type=click.Path(path_type=Path), help="Write the files there.")
@click.option("--policy", "policies", metavar="FILE|NAME", multiple=True, help="Label the tools by this policy.")
def policy_suggest(  # noqa: D103 - see the table
    output: Output, trace: tuple[str, ...], folder: Path | None, policies: tuple[str, ...]
) -> int:
    labels = ground_of(output, policies).load() if policies else None
    with open_reader(output.settings) as reader:
        read = _read(reader, list(reader.steps(parse(" ".join(trace)), reader.now(), limit=None)), labels)
        if not read.seen:
            raise Problem("no step fits that succeeded and whose arguments are on record", id="not-found", exit=Exit.NO)
        found = suggest(read.seen, read.workspace)
        with tempfile.TemporaryDirectory(prefix="soothsayer-") as laid:
            files = _files(found, read, Path(laid))
            trial = Trial.read(str(Path(laid) / f"{NAME}.test.yaml"))
            let_in = [step for step in read.refused if _allows(trial.policy, reader, step)]
    if folder is not None:
        _write(folder, files)
    if output.as_json:
        output.document(
            {"files": {**files}, "tools": [_document(one) for one in found], "would_let_in": [s.step for s in let_in]}
        )
        return Exit.DONE
    if folder is None:
        output.text(files[f"{NAME}.yaml"])
    left = [one for one in found if one.rule is None]
    remarks = [f"{one.tool}: {count(one.calls, 'call')} left to a person, because {one.why_not}" for one in left]
    remarks += [f"it would also let in the refused step {step.run[:6]}.{step.no}, {step.call}" for step in let_in]
    if read.unread:
        remarks.append(f"{read.unread} steps were not read: their arguments are not kept whole")
    for text in remarks:
        output.remark(text)
    if folder is not None:
        output.page([Text(f"wrote {escape(str(folder / name))}") for name in files])
    return Exit.DONE


def _read(reader: Reader, steps: Sequence[StepRow], labels: Policy | None) -> _Trace:
    seen: list[Seen] = []
    tools: dict[str, dict[str, JsonObject]] = {}
    workspaces: list[str] = []
    unread = 0
    for step in steps:
        if step.outcome != "succeeded" or step.effect != Effect.ALLOW or step.checks or step.cause != "agent":
            continue
        try:
            recalled = recall(reader, step)
        except Problem:
            unread += 1
            continue
        tool = recalled.tool(reader)
        if recalled.masked or tool is None:
            unread += 1
            continue
        raw: Json = json.loads(tool.raw)
        if isinstance(raw, dict) and "name" in raw:
            tools.setdefault(step.server, {})[step.tool] = raw
            does = tuple(step.does.replace(",", " ").split()) if labels is None else labels.candidates(tool).does
            seen.append(Seen(server=step.server, tool=step.tool, does=does, arguments=recalled.arguments, run=step.run))
            workspaces.append(recalled.workspace)
    refused = tuple(step for step in steps if step.effect == Effect.DENY and step.cause == "agent")
    # Rules with a folder only fit where all runs had one workspace.
    workspace = workspaces[0] if len(set(workspaces)) == 1 else "/nowhere"
    return _Trace(seen=tuple(seen), tools=tools, workspace=workspace, refused=refused, unread=unread)


def _allows(policy: Policy, reader: Reader, step: StepRow) -> bool:
    try:
        recalled = recall(reader, step)
    except Problem:
        return False
    proposed = recalled_step(reader, recalled)
    facts = Facts(links={path: path for path in policy.questions(proposed).links})
    return decide(policy, recalled.run, proposed, facts).effect is Effect.ALLOW


def _files(found: Sequence[Suggested], read: _Trace, folder: Path) -> dict[str, str]:
    """The files, as they lie in a folder; the tests expect what the policy says, so they are made last."""
    files = {f"{NAME}.yaml": _policy(found, read.tools)}
    files |= {
        f"{server}.tools.json": json.dumps({"tools": [tools[name] for name in sorted(tools)]}, indent=1) + "\n"
        for server, tools in sorted(read.tools.items())
    }
    servers = ", ".join(f"{server}: {server}.tools.json" for server in sorted(read.tools))
    head = f"soothsayer: policy-test/v1\npolicy: {NAME}.yaml\ntools: {{{servers}}}\ntests:\n"
    tests: list[str] = []
    for one in found:
        effect = "ask" if one.rule is None else "allow"
        example = one.example if one.example is not None else _first(read, one.tool)
        expect = "ask" if one.rule is None else f"{{effect: {effect}, rules: {_flow(one.rule['id'])}}}"
        call = f"{{tool: {_flow(one.tool)}, args: {_flow(_local(example, read.workspace))}}}"
        tests.append(f"  - {{name: {_flow(f'{one.tool} as it was called')}, call: {call}, expect: {expect}}}\n")
        if one.rule is not None:
            foreign = f"{{tool: {_flow(one.tool)}, args: {{soothsayer_foreign: 1}}}}"
            tests.append(f"  - {{name: {_flow(f'{one.tool} otherwise')}, call: {foreign}, expect: EFFECT}}\n")
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")
    files[f"{NAME}.test.yaml"] = head + _settled(folder, head, tests) + "coverage: {rules: 100}\n"
    (folder / f"{NAME}.test.yaml").write_text(files[f"{NAME}.test.yaml"], encoding="utf-8")
    return files


def _settled(folder: Path, head: str, tests: Sequence[str]) -> str:
    """Whether a foreign call is asked about or denied is for its schema to say; that it is not allowed is ours."""
    file = folder / f"{NAME}.test.yaml"
    file.write_text(head + "".join(tests).replace("expect: EFFECT", "expect: ask"), encoding="utf-8")
    trial = Trial.read(str(file))
    verdicts = trial.run(trial.suite.cases).verdicts
    effects = [verdict.decided[0].decision.effect for verdict in verdicts]
    assert not any(effect is Effect.ALLOW for effect, test in zip(effects, tests, strict=True) if "EFFECT" in test)
    return "".join(
        test.replace("expect: EFFECT", f"expect: {effect}") for effect, test in zip(effects, tests, strict=True)
    )


def _first(read: _Trace, tool: str) -> JsonObject:
    return next(call.arguments for call in read.seen if f"{call.server}.{call.tool}" == tool)


def _local(arguments: JsonObject, workspace: str) -> Json:
    """Arguments with the workspace that tests have."""

    def moved(value: Json) -> Json:
        if isinstance(value, str) and (value == workspace or value.startswith(workspace + "/")):
            return "/w" + value.removeprefix(workspace)
        return [moved(item) for item in value] if isinstance(value, list) else value

    return {name: moved(value) for name, value in arguments.items()}


def _policy(found: Sequence[Suggested], tools: Mapping[str, Mapping[str, JsonObject]]) -> str:
    lines = [
        "# Made from recorded steps. It allows what was seen and asks about the rest; read it before you use it.",
        "soothsayer: policy/v1",
        f"name: {NAME}",
        "default: {read: ask, other: ask, checked: deny}",
    ]
    labelled = [one for one in found if one.does and "unlabelled" not in one.does]
    if labelled:
        lines.append("labels:")
        lines += [f"  - {{tools: {_flow(one.tool)}, does: {_flow([*one.does])}}}" for one in labelled]
    asked = [one for one in found if one not in labelled]
    if asked:
        lines += _QUESTION if labelled else [*_QUESTION, "#labels:"]
        lines += [_asked(one, tools) for one in asked]
    ruled = [one.rule for one in found if one.rule is not None]
    if ruled:
        lines.append("rules:")
        lines += [f"  - {_flow(rule)}" for rule in ruled]
    return "\n".join(lines) + "\n"


_QUESTION = (
    "# Nobody has said yet what these tools do. Say it, take away the #, and have the rules made again by",
    f"#   soothsayer policy suggest --policy {NAME}.yaml",
    "# does: read, write, send, share, delete, pay, exec or admin; several as a list. A server's own word is no label.",
)


def _asked(one: Suggested, tools: Mapping[str, Mapping[str, JsonObject]]) -> str:
    """A label that waits for a person, with what the server says of its tool."""
    server, _, name = one.tool.partition(".")
    hints = tools[server][name].get("annotations")
    held: JsonObject = hints if isinstance(hints, dict) else {}
    said = [text for (hint, value), text in _HINTS.items() if held.get(hint) is value]
    says = f"; its server says that it {' and '.join(said)}" if said else ""
    return f"#  - {{tools: {escape(_flow(one.tool))}, does: }}  # {count(one.calls, 'call')}{says}"


_HINTS = {
    ("readOnlyHint", True): "only reads",
    ("readOnlyHint", False): "changes something",
    ("destructiveHint", True): "may destroy",
}


def _flow(value: Json) -> str:
    """A value as YAML that no version reads differently: every text in quotes."""
    return json.dumps(value, ensure_ascii=False)


def _write(folder: Path, files: Mapping[str, str]) -> None:
    there = [name for name in files if (folder / name).exists()]
    if there:
        raise Problem(f"{there[0]} is already there", id="exists", where=str(folder), fix="name another folder")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            (folder / name).write_text(text, encoding="utf-8")
    except OSError as error:
        raise Problem(f"the files cannot be written ({error.strerror})", id="output", where=str(folder)) from error


def _document(one: Suggested) -> Json:
    return {
        "tool": one.tool,
        "does": [*one.does],
        "calls": one.calls,
        "runs": one.runs,
        "rule": one.rule,
        "why_not": one.why_not or None,
    }
