"""What rules set up for tools that they name, and whether any tool that is offered meets it: else it is on no path."""

from collections.abc import Collection, Sequence

from soothsayer_mcp.model.call import ToolDefinition
from soothsayer_mcp.model.value import dataclass
from soothsayer_mcp.policy.policy import Policy
from soothsayer_mcp.policy.rules import Rule


@dataclass(frozen=True, slots=True, kw_only=True)
class Touched:
    """One rule that names tools, and the offered tools that it is about."""

    rule: str
    parts: tuple[str, ...]
    """Its head, and what it sets up beside."""
    named: tuple[str, ...]
    """The tools that it names, as it names them."""
    tools: tuple[str, ...]
    """Empty: it is about none that is offered."""


def touched(policy: Policy, rules: Collection[str], offered: Sequence[ToolDefinition]) -> tuple[Touched, ...]:
    """Tell of each of these rules, by id, which offered tools it is about; `offered` is all that servers have.

    Rules that name no tool, or none of a server that was listed, are left out: they are about whatever comes.
    """
    met: dict[str, list[str]] = {}
    for tool in offered:
        for scope in policy.candidates(tool).scopes:
            for prepared in scope.prepared:
                met.setdefault(prepared.rule.id, []).append(f"{tool.server}.{tool.name}")
    servers = sorted({tool.server for tool in offered})
    return tuple(
        Touched(
            rule=rule.id,
            parts=parts_of(rule),
            named=tuple(f"{pattern.server}.{pattern.tool}" for pattern in rule.tools),
            tools=tuple(met.get(rule.id, ())) or _fitting(rule, offered),
        )
        for scope in policy.scopes
        for rule in scope.rules
        if rule.id in rules and _names_tools_of(rule, servers)
    )


def parts_of(rule: Rule) -> tuple[str, ...]:
    """What a rule sets up: its head, and what its calls owe."""
    owes = rule.demands
    found = {
        "require": owes is not None and owes.require,
        "verify": owes is not None and owes.verify,
        "capture": owes is not None and owes.capture,
        "undo": owes is not None and owes.undo,
        "settle": owes is not None and owes.settle,
        "limit": rule.limit,
        "redact": rule.redact,
        "large_results": rule.large,
        "on_failure": rule.on_failure,
    }
    return (rule.head, *(name for name, held in found.items() if held))


def _names_tools_of(rule: Rule, servers: Sequence[str]) -> bool:
    named = [pattern for pattern in rule.tools if not pattern.names_messages]
    return any(pattern.fits(server, pattern.tool) for pattern in named for server in servers)


def _fitting(rule: Rule, offered: Sequence[ToolDefinition]) -> tuple[str, ...]:
    """For rules about the state or the text of a definition, which may be another tomorrow: whatever they name."""
    if not rule.pins and rule.hidden_text is None and rule.instructions is None:
        return ()
    return tuple(
        f"{tool.server}.{tool.name}"
        for tool in offered
        if any(pattern.fits(tool.server, tool.name) for pattern in rule.tools)
    )
