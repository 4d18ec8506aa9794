"""What people and the model may write about a run: opening one, and saying what it is for."""

from soothsayer_mcp.adapters.store.batch import Batch
from soothsayer_mcp.adapters.store.items import Item, open_run
from soothsayer_mcp.adapters.store.payloads import Payload
from soothsayer_mcp.model.call import RunId
from soothsayer_mcp.model.run import Run, RunBinding, RunScope


class OpenRunItem(Item[Run]):
    """Opens a run that takes the calls of its principal and workspace."""

    def __init__(
        self,
        binding: RunBinding,
        *,
        fresh: tuple[RunId, bytes],
        intent: Payload | None,
        scope: RunScope | None,
    ) -> None:
        super().__init__()
        self._binding = binding
        self._fresh = fresh
        self._intent = intent
        self._scope = scope

    def apply(self, batch: Batch) -> Run:
        """Open it."""
        row = open_run(
            batch,
            self._binding,
            None,
            fresh=self._fresh,
            intent=self._intent,
            attached=True,
            scope=self._scope,
        )
        return row.as_run()
