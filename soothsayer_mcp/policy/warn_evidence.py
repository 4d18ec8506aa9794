"""What should be looked at again about evidence: tests that cannot fail, and writes that nothing checks."""

from collections.abc import Iterable, Sequence

from soothsayer_mcp.model.call import Does
from soothsayer_mcp.model.decision import Effect
from soothsayer_mcp.policy.dues import Form, step_specs
from soothsayer_mcp.policy.lint import Flaw
from soothsayer_mcp.policy.policy import Policy
from soothsayer_mcp.policy.rules import Rule
from soothsayer_mcp.policy.scopes import Label

_READS = frozenset({Does.READ.value})


def about_evidence(policy: Policy, tools: Iterable[tuple[str, str]]) -> tuple[Flaw, ...]:
    """What to look at in the evidence that a policy demands; `tools` are those that are known, by server and name."""
    labels = [label for scope in policy.scopes for label in scope.labels]
    rules = [rule for scope in policy.scopes for rule in scope.rules]
    specs = [(rule.id, spec) for rule in rules if rule.demands is not None for spec in step_specs(rule.demands)]
    specs += [(item.rule, item.spec) for item in policy.run_rules.required]
    found = [*_open_tests(specs, labels)]
    if policy.budgets.unverified_writes is not None:
        found += _unchecked(rules, labels, [*tools, *_spelled_out(rules)])
    return tuple(found)


def _open_tests(specs: Iterable[tuple[str, Form]], labels: Sequence[Label]) -> Iterable[Flaw]:
    """Steps of an exec tool that serve whatever they ran, by who asks for them."""
    for asking, spec in specs:
        named = spec.get("tools")
        if spec.get("args") or not isinstance(named, list):
            continue
        for name in named:
            server, _, tool = str(name).partition(".")
            if Does.EXEC.value in _does(labels, server, tool):
                text = f"any call of {name} serves as this step: say in `args` which, or the agent picks what passes"
                yield Flaw(rule=asking, id="policy-exec-args", text=text, path=("require",))


def _unchecked(rules: Sequence[Rule], labels: Sequence[Label], tools: Iterable[tuple[str, str]]) -> Iterable[Flaw]:
    """Writes that would count as unverified for ever."""
    for server, tool in dict.fromkeys(tools):
        fitting = [label.demands for label in labels if label.demands is not None and label.fits(server, tool)]
        does = _does(labels, server, tool)
        if not does or does <= _READS or any(owes.verify or owes.unchecked for owes in fitting):
            continue
        if any(rule.demands is not None and rule.demands.verify and _fits(rule, server, tool) for rule in rules):
            continue
        if any(rule.effect is Effect.ALLOW and _fits(rule, server, tool) for rule in rules):
            text = "nothing checks it, so `unverified_writes` never counts it: add `verify`, or say `verify: none`"
            yield Flaw(rule=f"{server}.{tool}", id="policy-no-check", text=text)


def _does(labels: Sequence[Label], server: str, tool: str) -> frozenset[str]:
    return frozenset[str]().union(*(label.does for label in labels if label.fits(server, tool)))


def _fits(rule: Rule, server: str, tool: str) -> bool:
    return not rule.tools or any(pattern.fits(server, tool) for pattern in rule.tools)


def _spelled_out(rules: Sequence[Rule]) -> Iterable[tuple[str, str]]:
    """Tools that rules name without a glob."""
    for rule in rules:
        for pattern in rule.tools:
            if not set("*?[|") & set(pattern.server + pattern.tool) and not pattern.names_messages:
                yield pattern.server, pattern.tool
