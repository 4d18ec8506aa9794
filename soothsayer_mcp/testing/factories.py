"""Values for tests, each valid as it comes: say only what the test is about."""

import re
from collections.abc import Callable, Iterable, Sequence
from typing import cast

from soothsayer_mcp.model.call import ArgumentFault, Cause, PinState, Proposal, StepId, ToolDefinition
from soothsayer_mcp.model.condition import Condition, ConditionError
from soothsayer_mcp.model.decision import Effect, Mode
from soothsayer_mcp.model.entry import PayloadMode
from soothsayer_mcp.model.failure import Failure
from soothsayer_mcp.model.json import Json, JsonObject, compact, digest
from soothsayer_mcp.model.step import ProposedStep
from soothsayer_mcp.policy.detectors import Found
from soothsayer_mcp.policy.paths import Place
from soothsayer_mcp.policy.policy import Policy
from soothsayer_mcp.policy.rules import Rule, ToolPattern
from soothsayer_mcp.policy.scene import Lab
from soothsayer_mcp.policy.scopes import ArgumentLimits, Cell, Methods, Pins, Scope, ScopeKind
from soothsayer_mcp.testing.world import CLIENT, PRINCIPAL, RUN_ID


def _pattern(source: str) -> Callable[[str], bool]:
    compiled = re.compile(source)
    return lambda text: compiled.fullmatch(text) is not None


def _condition(text: str) -> Condition:
    raise ConditionError(((1, 1, f"the standard library evaluates no conditions: {text}"),))


class _Scan:
    """The same answers as RE2 gives, without its speed."""

    def __init__(self, patterns: Sequence[str]) -> None:
        as_here = (pattern.replace(r"\pL", r"^\W\d_").replace(r"\z", r"\Z") for pattern in patterns)
        self._patterns = [re.compile(pattern) for pattern in as_here]

    def hits(self, raw: bytes) -> frozenset[int]:
        text = raw.decode(errors="surrogatepass")
        return frozenset(index for index, pattern in enumerate(self._patterns) if pattern.search(text))

    def search(self, index: int, text: str) -> Iterable[Found]:
        return cast("Iterable[Found]", self._patterns[index].finditer(text))


LAB = Lab(
    pattern=_pattern,
    to_ascii=lambda host: host.encode("idna").decode("ascii"),
    condition=_condition,
    term_condition=_condition,
    names_of=lambda _text: frozenset(),
    scan=_Scan,
)
"""The libraries that judge, from the standard library: for rules that tests write themselves."""


def make_tool(
    name: str = "read",
    *,
    server: str = "files",
    pin: PinState = PinState.PINNED,
    properties: Sequence[str] | None = None,
    check_result: Callable[[Json], ArgumentFault | None] | None = None,
) -> ToolDefinition:
    """A pinned tool that takes any arguments; `check_result` stands for its output schema."""
    schema: JsonObject = {"type": "object"}
    if properties is not None:
        schema["properties"] = {name: {} for name in properties}
    raw = compact({"name": name, "inputSchema": schema})
    return ToolDefinition(
        server=server,
        name=name,
        raw=raw,
        digest=digest(raw),
        pin=pin,
        properties=None if properties is None else frozenset(properties),
        check_arguments=lambda _arguments: None,
        check_result=check_result,
    )


def make_step(
    tool: ToolDefinition | None = None,
    *,
    arguments: JsonObject | None = None,
    flaws: Sequence[Failure] = (),
    id_: StepId | None = None,
) -> ProposedStep:
    """A fresh proposal of the recording world's run."""
    tool = tool or make_tool()
    arguments = {} if arguments is None else arguments
    params: JsonObject = {"name": tool.name, "arguments": arguments}
    return ProposedStep(
        id=id_ or StepId("1" * 16),
        run_id=RUN_ID,
        cause=Cause.AGENT,
        principal=PRINCIPAL,
        client=CLIENT,
        tool=tool,
        proposal=Proposal(
            server=tool.server,
            tool=tool.name,
            arguments=arguments,
            raw_arguments=compact(arguments),
            raw=compact({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}),
            request_id=1,
        ),
        flaws=tuple(flaws),
        proposed_at_us=1_800_000_000_000_000,
        began_ns=0,
    )


def make_rule(effect: Effect, *, tools: str = "files.*", id_: str = "test/rule", text: str = "a reason") -> Rule:
    """A rule over one tool pattern."""
    server, tool = tools.split(".", 1)
    return Rule(id=id_, effect=effect, text=text, tools=(ToolPattern(server=server, tool=tool),))


def make_policy(
    default: Effect = Effect.ALLOW,
    *,
    rules: Sequence[Rule] = (),
    mode: Mode = Mode.ENFORCE,
    local: bool = False,
) -> Policy:
    """A policy of one scope; its digest follows from what is said here. With `local`, links of paths are looked up."""
    name = "test"
    said = f"{name} {default} {mode} {local} {rules}"
    scope = Scope(
        kind=ScopeKind.USER,
        name=name,
        mode=mode,
        defaults=dict.fromkeys(Cell, default),
        rules=tuple(rules),
    )
    return Policy(
        name=name,
        scopes=(scope,),
        digest=digest(said.encode()),
        lab=LAB,
        place=Place(root="/work", home="/home/tester", local=local),
        places={},
        pins=Pins(),
        arguments=ArgumentLimits(undeclared=Effect.ALLOW, no_schema=Effect.ALLOW),
        methods=Methods(),
        payload_mode=PayloadMode.FULL,
        sources={},
        watch=(),
    )
