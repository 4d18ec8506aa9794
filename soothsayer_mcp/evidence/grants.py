"""Remembered answers: which further calls of a run a yes covers; pure. A person sees the shape before it holds."""

import hashlib
import posixpath
from collections.abc import Mapping

from soothsayer_mcp.model.ask import Ask, Grant, Remember
from soothsayer_mcp.model.decision import Decision
from soothsayer_mcp.model.failure import Failure, Reason
from soothsayer_mcp.model.json import Json, canonical
from soothsayer_mcp.model.step import ProposedStep

NEVER_REMEMBERED = frozenset({"pay", "delete", "admin"})
"""Effects whose every call is asked about anew."""

_PATH_NAMES = frozenset({"path", "file", "filename", "source", "destination", "directory", "folder"})
_DOUBTFUL = frozenset("\\%$~*?\0")


def bound_to(identity: str, step: ProposedStep, decision: Decision) -> str:
    """What a remembered yes hangs on, in hex: the server's identity, the tool's definition, the policy, who asks.

    A rule that did not ask then, because nothing was tainted or spent yet, is not answered by that yes.
    """
    definition = "" if step.tool is None else step.tool.digest
    asking = sorted(rule.id for rule in decision.rules if rule.effect is decision.effect)
    return hashlib.sha256(canonical([identity, definition, decision.policy_digest, [*asking]])).hexdigest()


def why_not_remembered(ask: Ask) -> str:
    """Why a yes to this question covers no further call; empty when it may."""
    if ask.strong or ask.needs or ask.remember is not Remember.RUN:
        return "the rule that asks wants every call looked at"
    does = ask.card.get("does")
    if isinstance(does, list) and not NEVER_REMEMBERED.isdisjoint(map(str, does)):
        return "what it does cannot be taken back"
    if not ask.card:
        return "the question is closed"
    return ""


def shape_of(arguments: Mapping[str, Json]) -> dict[str, Json]:
    """The narrowest useful shape: paths may lie anywhere in the same folder, every other value stays as it is."""
    return {name: _part(name, value) for name, value in arguments.items()}


def asks_by_rule(ask: Ask) -> bool:
    """Whether a rule asks, and not what a policy says where none does."""
    return ask.rule != "default"


def why_no_rule(ask: Ask) -> str:
    """Why a yes to this question cannot stand in the policy as a rule; empty when it can."""
    if asks_by_rule(ask):
        return f"the rule {ask.rule} asks, and an ask is stronger than an allow: change that rule instead"
    args = ask.card.get("args")
    if not isinstance(args, Mapping) or not args:
        return "a call without arguments would allow the tool whatever it is called with"
    return ""


def rule_of(card: Mapping[str, Json], *, by: str, day: str, until: str) -> dict[str, Json]:
    """A rule that allows calls of the shape of one: the same arguments and no other. `until` is its last day."""
    args = card.get("args")
    shape = shape_of(args if isinstance(args, Mapping) else {})
    return {
        "allow": f"Approved by {by} on {day}.",
        "id": f"approved-{hashlib.sha256(canonical([card.get('server'), card.get('tool'), shape])).hexdigest()[:8]}",
        "tools": f"{card.get('server')}.{card.get('tool')}",
        "args": shape,
        "only_args": True,
        "expires": until,
    }


def fits(shape: Mapping[str, Json], arguments: Mapping[str, Json]) -> bool:
    """Whether a call is of a shape: the same arguments and no other, each as the shape says."""
    return shape.keys() == arguments.keys() and all(
        _fits_part(part, arguments[name]) if isinstance(part, Mapping) else False for name, part in shape.items()
    )


def still_covers(grant: Grant | None, identity: str, step: ProposedStep, decision: Decision) -> Failure | None:
    """Whether a remembered yes lets this step through now; the refusal where it does not."""
    if grant is None or grant.revoked:
        return Failure(reason=Reason.STATE_CHANGED, summary="the remembered answer was taken back")
    if bound_to(identity, step, decision) != grant.bound or not fits(grant.shape, step.proposal.arguments):
        return Failure(reason=Reason.STATE_CHANGED, summary="what the person was asked about")
    return None


def _part(name: str, value: Json) -> dict[str, Json]:
    if name in _PATH_NAMES and isinstance(value, str) and _is_plain(value):
        path = posixpath.normpath(value)
        folder = posixpath.dirname(path)
        if folder.strip("/"):
            return {"under": folder}
    return {"is": value}


def _fits_part(part: Mapping[str, Json], value: Json) -> bool:
    folder = part.get("under")
    if isinstance(folder, str):
        return isinstance(value, str) and _is_plain(value) and posixpath.normpath(value).startswith(f"{folder}/")
    return "is" in part and canonical(part["is"]) == canonical(value)


def _is_plain(path: str) -> bool:
    """Whether a path can be read in one way only, and leads nowhere up."""
    return path.startswith("/") and _DOUBTFUL.isdisjoint(path) and ".." not in path.split("/") and path.isprintable()
