"""What policy masks in messages that answer no call: lists, resources, prompts, notices, questions, late results."""

from collections.abc import Iterable
from dataclasses import replace

from soothsayer_mcp.model.decision import Decision, Obligation
from soothsayer_mcp.model.failure import Reason
from soothsayer_mcp.model.json import JsonObject
from soothsayer_mcp.model.outcome import Shown
from soothsayer_mcp.proxy.connection import HostConnection, refusal
from soothsayer_mcp.proxy.gate import Gate
from soothsayer_mcp.proxy.owed import HostRequest
from soothsayer_mcp.redaction import masked
from soothsayer_mcp.wire import replies
from soothsayer_mcp.wire.codes import Code
from soothsayer_mcp.wire.frame import Frame
from soothsayer_mcp.wire.ids import key
from soothsayer_mcp.wire.strict import read_server

PROGRESS = "notifications/progress"


class Masks:
    """Masks by the policy in force at each moment; where it masks nothing, every frame stays what it is."""

    def __init__(self, connection: HostConnection, gate: Gate) -> None:
        """Mask what goes to one host."""
        self._connection = connection
        self._gate = gate

    @property
    def any(self) -> bool:
        """Whether policy masks anything at all."""
        return self._connection.policies.current().redacts

    def answer(self, request: HostRequest, server: str, answer: Frame, params: JsonObject | None = None) -> Frame:
        """The answer to a request that is no call, as the host may read it; an error where it may read none of it."""
        if not self.any:
            return answer
        params = (request.frame.params or {}) if params is None else params
        decision = self._gate.decide(server, request.method, params, request=request)
        shown = self._masked(decision, server, request.method, answer)
        return answer if shown is None else self._or_refused(request, shown)

    def whole(self, request: HostRequest, servers: Iterable[str], raw: bytes) -> bytes:
        """One answer that is made of those of several servers."""
        if not self.any:
            return raw
        answer = read_server(raw)
        for server in servers:
            answer = self.answer(request, server, answer)
        return answer.raw

    def message(self, server: str, frame: Frame) -> Frame | None:
        """What a server says without being asked, as the host may read it; `None` when it may read none of it."""
        if not self.any:
            return frame
        decision = self._gate.decide(server, frame.method, frame.params or {})
        if frame.method == PROGRESS:
            # Whatever is masked in the result of a call is masked in its progress.
            decision = replace(decision, obligations=(*decision.obligations, *self._owed_by_call(frame)))
        return self._passed(decision, server, frame)

    def late(self, server: str, frame: Frame, decision: Decision | None, method: str) -> Frame | None:
        """What comes of a task, by the decision of the call that made it; `None` when the host may read none of it."""
        if not self.any:
            return frame
        own = self._gate.decide(server, method, frame.params or {})
        owed = () if decision is None else decision.obligations
        return self._passed(replace(own, obligations=(*own.obligations, *owed)), server, frame, method)

    # -- inside -------------------------------------------------------------------------------------------------------

    def _owed_by_call(self, frame: Frame) -> tuple[Obligation, ...]:
        token = key((frame.params or {}).get("progressToken"))
        for request in self._connection.owed.all():
            if request.call is not None and request.call.recorded is not None:
                asked = request.frame.meta.get("progressToken")
                if asked is not None and key(asked) == token:
                    return request.call.recorded.decision.obligations
        return ()

    def _passed(self, decision: Decision, server: str, frame: Frame, method: str = "") -> Frame | None:
        shown = self._masked(decision, server, method or frame.method, frame)
        if shown is None:
            return frame
        if shown.raw is not None:
            return read_server(shown.raw)
        self._connection.dropped(
            frame.raw, Reason.NOT_MASKED, origin="server", method=method or frame.method, server=server
        )
        return None

    def _or_refused(self, request: HostRequest, shown: Shown) -> Frame:
        if shown.raw is not None:
            return read_server(shown.raw)
        told = refusal(Reason.NOT_MASKED, "it reads in more than one way")
        return read_server(replies.error(request.id, Code.POLICY, *told))

    def _masked(self, decision: Decision, server: str, method: str, frame: Frame) -> Shown | None:
        if not decision.obligations:
            return None
        shown = masked(self._connection.policies.current(), decision, frame.raw, strict=lambda: frame.strict)
        if shown is None:
            return None
        note = self._connection.checked(method, decision, origin="server", server=server, size=len(frame.raw))
        rules = list(dict.fromkeys(owed.rule for owed in decision.obligations))
        told = {name: counts for name, counts in (("masked", shown.masked), ("would_mask", shown.would)) if counts}
        self._connection.store.note_soon(replace(note, fields={**note.fields, "rules": rules, **told}))
        return None if shown.raw == frame.raw else shown
