"""What a server says to a model beside its tools, its instructions and prompts: compared with its pins, or held back.

Each kind is pinned by itself, as `SERVER/instructions` and `SERVER/prompts`, so that the first prompts of a server
whose tools are known are still its first.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace

from soothsayer_mcp.model.call import PinState
from soothsayer_mcp.model.decision import Effect, Mode
from soothsayer_mcp.model.entry import Kind
from soothsayer_mcp.model.failure import Acted, Reason
from soothsayer_mcp.model.json import Digest, Json, JsonObject, canonical, compact, digest
from soothsayer_mcp.policy.policy import Policy
from soothsayer_mcp.ports import Note, PortError, SeenTool
from soothsayer_mcp.proxy.connection import HostConnection
from soothsayer_mcp.proxy.downstream import Downstream
from soothsayer_mcp.proxy.gate import Refusal
from soothsayer_mcp.proxy.paging import Envelope, pages_of
from soothsayer_mcp.proxy.pins import Item, Listed, ListUnreadableError, digest_of, items_of
from soothsayer_mcp.wire.frame import Frame, Remove
from soothsayer_mcp.wire.strict import read_server

INSTRUCTIONS = "instructions"
PROMPTS = "prompts"
ROUNDS = 3
"""How often a list is fetched again because it changed while it was read."""

_TEXTS = {
    PinState.NEW: "new and not reviewed",
    PinState.CHANGED: "not what was accepted",
    PinState.SHADOWED: "listed twice, and not alike",
}


class Guidance:
    """The instructions and prompts of every server, as compared on this connection."""

    def __init__(self, connection: HostConnection) -> None:
        """Nothing is compared yet."""
        self._connection = connection
        self._prompts: dict[str, Mapping[str, tuple[Digest, PinState]]] = {}
        """Server -> prompt -> what was compared; no entry where that was not done, or is void."""
        self._editions: dict[str, int] = {}
        self._told: set[tuple[str, str, str, str]] = set()

    # -- instructions -------------------------------------------------------------------------------------------------

    async def without_held(self, server: Downstream, opening: Frame) -> Frame:
        """An opening as the host may read it: without instructions that nobody accepted.

        Raises `PortError` for one that reads in more than one way, of which nobody could say what is left out.
        """
        result = opening.result
        if not isinstance(result, dict) or not says_something(opening):
            return opening
        policy = self._connection.policies.current()
        value: JsonObject = {INSTRUCTIONS: result[INSTRUCTIONS]}
        raw = compact(value)
        seen = SeenTool(name=INSTRUCTIONS, digest=digest(canonical(value)), raw=raw)
        held = await self._held(server, INSTRUCTIONS, [seen], policy)
        if not held(INSTRUCTIONS):
            return opening
        if not opening.strict:
            summary = f"{server.name} sent an opening that reads in more than one way"
            raise PortError(Reason.SERVER_UNREACHABLE, summary, acted=Acted.NO)
        note = self._tell(server, "initialize", INSTRUCTIONS, INSTRUCTIONS, held(INSTRUCTIONS))
        if note is not None:
            self._connection.store.note_soon(note)
        return read_server(opening.edited(Remove(("result", INSTRUCTIONS))))

    async def _held(
        self, server: Downstream, kind: str, seen: Sequence[SeenTool], policy: Policy
    ) -> Callable[[str], str]:
        """Of each name, why policy holds it back; empty for what may be shown."""
        try:
            states = await self._compare(server, kind, seen, policy)
        except PortError as error:
            why = f"not compared with what was accepted: {error.summary}"
            return lambda _name: "" if policy.mode is Mode.OBSERVE else why
        return lambda name: why_held(policy, states.get(name, PinState.NEW))

    async def _compare(
        self, server: Downstream, kind: str, seen: Sequence[SeenTool], policy: Policy
    ) -> Mapping[str, PinState]:
        """How they stand to their pins. Raises `PortError`."""
        identity = replace(server.identity, name=f"{server.identity.name}/{kind}")
        first = policy.pins.first is None
        return (await self._connection.store.compare_definitions(identity, seen, trust_first=first)).states

    # -- prompts ------------------------------------------------------------------------------------------------------

    def void(self, server: str) -> None:
        """Forget what was compared: the list of prompts may be another now."""
        self._editions[server] = self.edition(server) + 1
        self._prompts.pop(server, None)

    def edition(self, server: str) -> int:
        """Grows with every void: an answer to an older edition's request is no comparison of this one."""
        return self._editions.get(server, 0)

    async def learn(self, server: Downstream, items: Iterable[Item | None], *, edition: int) -> bool:
        """Compare a whole list of prompts. False when it was voided meanwhile. Raises `PortError`."""
        found: dict[str, Item] = {}
        doubled: set[str] = set()
        for item in items:
            if item is not None and found.setdefault(item.name, item) is not item:
                doubled |= {item.name} if digest_of(found[item.name]) != digest_of(item) else set()
        seen = [SeenTool(name=name, digest=digest_of(item), raw=item.raw) for name, item in found.items()]
        states = await self._compare(server, PROMPTS, seen, self._connection.policies.current())
        if edition != self.edition(server.name):
            return False
        self._prompts[server.name] = {
            one.name: (one.digest, PinState.SHADOWED if one.name in doubled else states.get(one.name, PinState.NEW))
            for one in seen
        }
        return True

    async def read(self, server: Downstream, envelope: Envelope) -> None:
        """List all prompts of a server and compare them, where that is not done. Raises `PortError`."""
        for _ in range(ROUNDS):
            if server.name in self._prompts:
                return
            edition = self.edition(server.name)
            pages = await pages_of(server, "prompts/list", envelope)
            try:
                items = [item for page in pages for item in items_of(page, PROMPTS)]
            except ListUnreadableError as error:
                raise PortError(Reason.SERVER_UNREACHABLE, f"{server.name} {error}", acted=Acted.NO) from error
            await self.learn(server, items, edition=edition)
        if server.name not in self._prompts:
            summary = f"{server.name} keeps changing its list of prompts"
            raise PortError(Reason.SERVER_UNREACHABLE, summary, acted=Acted.NO)

    def knows(self, server: str, item: Listed) -> bool:
        """Whether a list's element is what was compared."""
        known = self._prompts.get(server, {}).get(item.name)
        return known is not None and known[0] == digest_of(item)

    def shows(self, server: Downstream, item: Listed) -> bool:
        """Whether policy shows a prompt that a list has; what is held back is told once."""
        why = why_held(self._connection.policies.current(), self._state(server.name, item))
        note = self._tell(server, "prompts/list", PROMPTS, item.name, why) if why else None
        if note is not None:
            self._connection.store.note_soon(note)
        return not why

    def _state(self, server: str, item: Listed) -> PinState:
        known = self._prompts.get(server, {}).get(item.name)
        if known is None:
            return PinState.NEW
        return known[1] if known[0] == digest_of(item) else PinState.CHANGED

    async def refusal(self, server: Downstream, name: Json) -> Refusal | None:
        """Why a prompt may not be got that no list shows; what this host was not shown is no matter of its pin."""
        policy = self._connection.policies.current()
        known = self._prompts.get(server.name, {}).get(name) if isinstance(name, str) else None
        why = "" if known is None else why_held(policy, known[1])
        if known is None or not why:
            return None
        rule = f"pins/{known[1]}"
        with suppress(PortError):  # refused all the same
            note = _note(server, "prompts/get", f"{rule}: its prompt {name!a} is {why}", rules=[rule])
            await self._connection.store.note(note)
        return Refusal(reason=Reason.RULE_DENIED, summary=f"{rule}: the prompt is {why}")

    # -- telling ------------------------------------------------------------------------------------------------------

    def _tell(self, server: Downstream, method: str, kind: str, name: str, why: str) -> Note | None:
        """Name what is held back to a person, the first time; the entry of it, where it was not told before."""
        told = (server.name, kind, name, why)
        if told in self._told:
            return None
        self._told.add(told)
        what = f"its prompt {name[:100]!a} is {why}" if kind == PROMPTS else f"its instructions are {why}"
        pins = f"{server.identity.name}/{kind}"
        how = f"soothsayer pins diff {pins} shows it, pins accept {pins} lets it pass"
        self._connection.log(f"{server.name}: {what}, and not passed on: {how}")
        return _note(server, method, f"not passed on: {what}")


def _note(server: Downstream, method: str, why: str, *, rules: Sequence[str] = ()) -> Note:
    fields: dict[str, Json] = {
        "method": method,
        "from": "server",
        "server": server.name,
        "effect": Effect.DENY.value,
        "rules": [*rules],
        "reason": why,
        "bytes": 0,
    }
    return Note(kind=Kind.MESSAGE_CHECKED, fields=fields)


def says_something(opening: Frame) -> bool:
    """Whether an opening holds instructions."""
    result = opening.result
    return isinstance(result, dict) and result.get(INSTRUCTIONS) is not None


def why_held(policy: Policy, state: PinState) -> str:
    """Why policy holds back what stands so to its pin, as a phrase; empty when not. Nobody can be asked here."""
    if policy.mode is Mode.OBSERVE or policy.pins.effect(state) in {None, Effect.ALLOW}:
        return ""
    return _TEXTS.get(state, "not accepted")
