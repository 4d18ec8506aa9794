"""Undoing a step as soon as it has ended, in the proxy that made it: governed and recorded as every undo is."""

from collections.abc import Callable

from soothsayer_mcp.adapters.probes.restoring import Restoring
from soothsayer_mcp.adapters.store.sqlite import SqliteStore
from soothsayer_mcp.adapters.system import RandomIds, SystemClock, look
from soothsayer_mcp.governor import Governor
from soothsayer_mcp.model.step import ClosedStep
from soothsayer_mcp.model.undo import Done
from soothsayer_mcp.policy.policy import Policy
from soothsayer_mcp.ports import Inspector, Servers
from soothsayer_mcp.rollback import Restorer, Rollback

UNDO_S = 30.0
"""How long putting files back, or the inverse call, may take."""


async def undo(
    closed: ClosedStep,
    servers: Servers,
    *,
    policy: Callable[[], Policy],
    store: SqliteStore,
    inspector: Inspector,
    workspace: str,
) -> Done:
    """Put the files of a step back, or have a server take it back. Raises `PortError`."""
    captured = closed.support.captured
    assert captured is not None
    files = Restoring(sorted({one.root for one in captured.files if one.root}))
    restorer = Restorer(files, servers)
    rollback = Rollback(
        run=closed.run_id,
        governor=Governor(
            policy=policy, store=store, tools=restorer, look=look, inspector=inspector, call_timeout_s=UNDO_S
        ),
        restorer=restorer,
        files=files,
        book=store.undo_log,
        principal=closed.principal,
        workspace=workspace,
        clock=SystemClock(),
        ids=RandomIds(),
        servers=servers,
    )
    return await rollback.at_once(closed)
