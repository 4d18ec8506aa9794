"""Policies from text, and calls to decide: what the tests of policies share."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from soothsayer_mcp.adapters.policy_files.load import load
from soothsayer_mcp.model.call import Cause, Client, PinState, Principal, Proposal, RunId, StepId, ToolDefinition
from soothsayer_mcp.model.decision import Decision, Mode
from soothsayer_mcp.model.facts import NO_FACTS, Facts
from soothsayer_mcp.model.failure import Failure
from soothsayer_mcp.model.json import Json, JsonObject, compact, digest
from soothsayer_mcp.model.message import Message
from soothsayer_mcp.model.run import Run, RunState
from soothsayer_mcp.model.step import ProposedStep
from soothsayer_mcp.policy.decide import decide, visible
from soothsayer_mcp.policy.policy import Policy

RUN_ID = RunId("0" * 32)
ADA = Principal(id="os:ada", how="os_account", groups=("staff",))
HOST = Client(name="host", version="1")
RUN = Run(id=RUN_ID, principal=ADA, state=RunState.OPEN, version=1)
NOW_US = 1_700_000_000_000_000
"""2023-11-14, 22:13:20 UTC."""

HEAD = "soothsayer: policy/v1\nname: t\n"


def policy_from(
    text: str,
    folder: Path,
    *,
    mode: Mode | None = None,
    head: bool = True,
    workspace: str = "/w",
    project: str = "",
    organisation: str = "",
    servers: Sequence[str] | None = None,
) -> Policy:
    """Load a policy as people write it; `HEAD` is put before it."""

    def file(name: str, content: str) -> tuple[str, ...]:
        if not content:
            return ()
        path = folder / f"{name}.yaml"
        path.write_text(HEAD.replace("name: t", f"name: {name}") + content if head else content)
        return (str(path),)

    return load(
        file("t", text),
        mode_override=mode,
        workspace=workspace,
        home="/home/u",
        temp="/tmp",
        state=folder / "state",
        organisation=file("org", organisation),
        project=file("project", project),
        known_servers=servers,
    )


def tool(
    name: str = "fs.write_file",
    *,
    pin: PinState = PinState.PINNED,
    annotations: Mapping[str, Json] | None = None,
    properties: frozenset[str] | None = frozenset({"path", "paths", "url", "command", "n", "to", "x"}),
) -> ToolDefinition:
    """A tool with a usable schema."""
    server, _, own = name.partition(".")
    raw = compact({"name": own, "annotations": dict(annotations or {}), "declared": sorted(properties or ())})
    return ToolDefinition(
        server=server,
        name=own,
        raw=raw,
        digest=digest(raw),
        pin=pin,
        annotations=annotations or {},
        properties=properties,
    )


def step(
    definition: ToolDefinition | str = "fs.write_file",
    arguments: JsonObject | None = None,
    *,
    principal: Principal = ADA,
    client: Client = HOST,
    cause: Cause = Cause.AGENT,
    flaws: tuple[Failure, ...] = (),
    now_us: int = NOW_US,
) -> ProposedStep:
    """A call, as the proxy would propose it."""
    definition = tool(definition) if isinstance(definition, str) else definition
    arguments = {} if arguments is None else arguments
    raw = compact(arguments)
    return ProposedStep(
        id=StepId("0" * 16),
        run_id=RUN_ID,
        cause=cause,
        principal=principal,
        client=client,
        tool=definition,
        proposal=Proposal(
            server=definition.server,
            tool=definition.name,
            arguments=arguments,
            raw_arguments=raw,
            raw=raw,
            request_id=1,
        ),
        flaws=flaws,
        proposed_at_us=now_us,
        began_ns=0,
    )


def judge(
    policy: Policy,
    definition: ToolDefinition | str = "fs.write_file",
    arguments: JsonObject | None = None,
    *,
    links: Mapping[str, str] | None = None,
    principal: Principal = ADA,
    client: Client = HOST,
    cause: Cause = Cause.AGENT,
    flaws: tuple[Failure, ...] = (),
    now_us: int = NOW_US,
) -> Decision:
    """Decide one call."""
    facts = NO_FACTS if links is None else Facts(links=links)
    proposed = step(definition, arguments, principal=principal, client=client, cause=cause, flaws=flaws, now_us=now_us)
    return decide(policy, RUN, proposed, facts)


def a_message(server: str, method: str, params: JsonObject | None = None, *, run: Run | None = None) -> Message:
    """A request that is no tool call."""
    return Message(server=server, method=method, params=params or {}, principal=ADA, client=HOST, run=run)


def effect(
    policy: Policy, definition: ToolDefinition | str = "fs.write_file", arguments: JsonObject | None = None
) -> str:
    """The effect of one call, as a word."""
    return judge(policy, definition, arguments).effect.value


def is_listed(policy: Policy, definition: ToolDefinition | str = "fs.write_file") -> bool:
    """Whether the tool may be listed for Ada."""
    return visible(policy, tool(definition) if isinstance(definition, str) else definition, ADA)


def rule_ids(decision: Decision) -> list[str]:
    """The rules of the winning effect."""
    return [rule.id for rule in decision.rules]
