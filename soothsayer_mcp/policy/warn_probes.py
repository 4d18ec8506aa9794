"""What checks want to look at and would not be let: tools that do more than read, and what no configuration opens."""

import re
from collections.abc import Iterable, Iterator, Mapping

from soothsayer_mcp.model.call import Does
from soothsayer_mcp.model.json import Json
from soothsayer_mcp.model.value import dataclass
from soothsayer_mcp.policy.lint import Flaw
from soothsayer_mcp.policy.policy import Policy
from soothsayer_mcp.policy.rules import Rule

_ID = "policy-probe"
_READS = frozenset({Does.READ.value})
_ADDRESS = re.compile(r"(https?)://([^/?#]+)")
_USUAL_PORTS = {"https": "443", "http": "80"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowed:
    """What the key `probes` of a configuration opens to checks."""

    files: bool
    hosts: frozenset[str]
    commands: frozenset[str]
    keys: frozenset[str]


def about_probes(policy: Policy, allowed: Allowed | None) -> tuple[Flaw, ...]:
    """What the checks of a policy would not be let; `allowed` is `None` where no configuration says."""
    found: dict[Flaw, None] = {}
    for scope in policy.scopes:
        for rule in scope.rules:
            if rule.demands is None:
                continue
            undo, capture = rule.demands.undo, rule.demands.capture
            items = [*_flat([*rule.demands.require, *rule.demands.verify])]
            tools = [str(held["tool"]) for kind, held in items if kind == "readback" and "tool" in held]
            tools += [
                str(of["tool"]) for kind, held in items if kind == "count" and isinstance(of := held.get("of"), Mapping)
            ]
            tools += [str(capture["tool"])] if capture is not None and "tool" in capture else []
            asks = rule.demands.settle
            if asks is not None and isinstance(readback := asks.get("readback"), Mapping):
                tools.append(str(readback["tool"]))
            for tool in tools:
                if told := _not_read(policy, tool):
                    found[Flaw(rule=rule.id, id=_ID, text=told)] = None
            for kind, held in items:
                found.update((Flaw(rule=rule.id, id=_ID, text=told), None) for told in _closed(kind, held, allowed))
            looks = any(kind in {"artifact", "diff"} for kind, _ in items)
            if looks or (isinstance(undo, Mapping) and "restore" in undo):
                found.update((Flaw(rule=rule.id, id=_ID, text=told), None) for told in _files(policy, rule, allowed))
    return tuple(found)


def _flat(items: Iterable[Json]) -> Iterator[tuple[str, Mapping[str, Json]]]:
    """Every item of some, those within `any` too, with its kind."""
    for item in items:
        for kind, held in item.items() if isinstance(item, Mapping) else ():
            if kind == "any" and isinstance(held, list):
                yield from _flat(held)
            elif isinstance(held, Mapping):
                yield kind, held


def _not_read(policy: Policy, tool: str) -> str:
    """Why a check may not call a tool; empty where it may, or where its server may say that it reads."""
    server, _, name = tool.partition(".")
    does = frozenset[str]().union(
        *(label.does for scope in policy.scopes for label in scope.labels if label.fits(server, name))
    )
    if does == _READS or (not does and any(server in scope.trusted for scope in policy.scopes)):
        return ""
    said = f"and its label says {', '.join(sorted(does))}" if does else "and it has no label"
    return f"checks call tools that are labelled read and no others, {said}: {tool}"


def _closed(kind: str, held: Mapping[str, Json], allowed: Allowed | None) -> Iterator[str]:
    if allowed is None:
        return
    if kind == "command" and (name := str(held.get("name"))) not in allowed.commands:
        yield f"the configuration defines no command {name}: `probes: {{commands: ...}}`"
    elif kind == "http":
        address = _ADDRESS.match(str(held.get("url")))
        if address is None or "$" in address[2]:
            return
        host, _, port = address[2].lower().partition(":")
        port = port or _USUAL_PORTS[address[1]]
        if f"{host}:{port}" not in allowed.hosts and not (port == _USUAL_PORTS[address[1]] and host in allowed.hosts):
            yield f"the configuration lets no check ask {address[2]}: `probes: {{http: {{hosts: ...}}}}`"
    elif kind == "attestation" and isinstance(keys := held.get("keys"), list):
        for key in keys:
            if str(key) not in allowed.keys:
                yield f"the configuration has no key {key}: `probes: {{keys: ...}}`"


def _files(policy: Policy, rule: Rule, allowed: Allowed | None) -> Iterator[str]:
    """Files that no check can see: of servers that are elsewhere, or below no folder that is opened."""
    remote = [
        one.server for one in rule.tools if not set("*?") & set(one.server) and not policy.place_of(one.server).local
    ]
    for server in sorted(set(remote)):
        yield f"files of {server} are not known to be on this machine: `servers: {{{server}: {{files: local}}}}`"
    if allowed is not None and not allowed.files:
        yield "the configuration opens no folder to checks: `probes: {files: {roots: ...}}`"
