"""What is kept before a call that may have to be undone, and how the same things stand when it is over."""

from collections.abc import Callable, Mapping
from contextlib import suppress

import anyio

from soothsayer_mcp.evidence.scope import AbsentError, fill, result_of, values_of
from soothsayer_mcp.model.dues import Held
from soothsayer_mcp.model.failure import Acted, Reason
from soothsayer_mcp.model.json import Json
from soothsayer_mcp.model.outcome import Returned
from soothsayer_mcp.model.step import AnsweredStep, ProposedStep
from soothsayer_mcp.model.undo import ABSENT, Captured, FileBefore, UndoTerms
from soothsayer_mcp.ports import Call, PortError, Probes

WAIT_S = 10.0
"""How long a call waits for another one that is in flight on the same subject."""
KEPT_BYTES = 8 * 1024 * 1024
"""How much of files is kept for one call."""


class Capturing:
    """Looks for the sake of undoing."""

    def __init__(self, *, held: Callable[[], Held], probes: Probes, workspace: str, reach: Mapping[str, Json]) -> None:
        """Look through `probes`; `reach` says of each server how it is reached again."""
        self._held = held
        self._probes = probes
        self._workspace = workspace
        self._reach = reach

    async def before(self, step: ProposedStep, terms: UndoTerms, opens: tuple[str, ...], call: Call) -> Captured:
        """Keep the state before. Raises `PortError` or `AbsentError` when it cannot be kept whole."""
        if terms.tool:
            return await self._for_a_call(step, terms, opens, call)
        began = await self._undisturbed(terms.subjects(opens))
        if terms.vague:
            raise _doubt("its files cannot be told from the arguments")
        if terms.files and not terms.root:
            raise _doubt(f"the files of {step.proposal.server} are not declared as files of this machine")
        files: list[FileBefore] = []
        for path in terms.files:
            files.append(await self._probes.keep(path))
            if sum(len(one.content) for one in files) > KEPT_BYTES:
                raise _doubt(f"more than {KEPT_BYTES:,} bytes would have to be kept")
        return Captured(files=tuple(files), began=began)

    async def _for_a_call(self, step: ProposedStep, terms: UndoTerms, opens: tuple[str, ...], call: Call) -> Captured:
        """What an inverse call needs: that it can be made, and the state before where one is looked at."""
        await _reachable(terms.tool, call)
        servers = {tool.partition(".")[0] for tool in terms.tools}
        for server in servers - self._reach.keys():
            raise _doubt(f"how {server} is reached again cannot be kept")
        values = values_of(step, self._workspace)
        began = await self._undisturbed(terms.subjects(opens))
        look_args: dict[str, Json] = {}
        seen: Json = None
        if terms.look is not None:
            look_args = _filled(terms.look.args, values)
            seen = await _read(step, terms.look.tool, look_args, call)
        return Captured(
            seen=seen,
            has_seen=terms.look is not None,
            began=began,
            look_args=look_args,
            names={name: values[name] for name in ("run", "who", "workspace")},
            reach={server: self._reach[server] for server in sorted(servers)},
        )

    async def after(self, step: AnsweredStep, call: Call) -> Captured | None:
        """Take the same look once the forward is over; what cannot be seen is left out."""
        terms, before = step.decision.dues.undo, step.support.captured
        if terms is None or before is None:
            return None
        files: list[FileBefore] = []
        for one in before.files:
            try:
                facts = await self._probes.file(one.path)
            except PortError:
                continue
            files.append(FileBefore(path=one.path, root=one.root, state=facts.sha256 if facts.exists else ABSENT))
        seen, has_seen = None, False
        if terms.look is not None:
            with suppress(PortError, AbsentError):
                seen, has_seen = await _read(step, terms.look.tool, before.look_args, call), True
        returned, has_returned = None, False
        if terms.names_returned and isinstance(step.outcome, Returned):
            returned, has_returned = result_of(step.outcome)[0], True
        return Captured(files=tuple(files), seen=seen, has_seen=has_seen, returned=returned, has_returned=has_returned)

    async def _undisturbed(self, about: tuple[str, ...]) -> int:
        """Wait until nothing is in flight on these subjects; where the record ends then."""
        with anyio.move_on_after(WAIT_S):
            while True:
                held = self._held()
                began = held.position()
                if not any(held.in_flight(one) for one in about):
                    return began
                await anyio.sleep(0.02)
        raise PortError(Reason.STATE_CHANGED, "another call is in flight on the same subject", acted=Acted.NO)


def _filled(args: Mapping[str, Json], values: Mapping[str, Json]) -> dict[str, Json]:
    filled = fill(dict(args), values)
    assert isinstance(filled, Mapping)
    return dict(filled)


async def _read(step: ProposedStep, tool: str, arguments: Mapping[str, Json], call: Call) -> Json:
    """What a tool answers that tells a state."""
    if call.read is None:
        raise _doubt(f"{tool} cannot be called from here")
    facts = await call.read(step, tool, dict(arguments))
    return facts.text if facts.result is None else facts.result


async def _reachable(tool: str, call: Call) -> None:
    if call.offered is None:
        raise _doubt(f"{tool}, which would undo it, cannot be called from here")
    why = await call.offered(tool)
    if why:
        raise _doubt(f"{tool}, which would undo it, {why}")


def _doubt(why: str) -> PortError:
    return PortError(Reason.UNREACHABLE, why, acted=Acted.NO)
