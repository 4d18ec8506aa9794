"""A proxy as the store sees it, to be killed: proposes steps, notes what it was allowed to send and what it may answer.

`python victim.py FOLDER NAME IN_FLIGHT STEPS`. STEPS is how many each caller makes; 0 goes on until killed. What may
be sent is appended to `NAME.sent` once its receipt is there, what may be answered to `NAME.answered`; killing a process
loses nothing of either. At the end the longest wait for a receipt is printed, in milliseconds.
"""

import itertools
import os
import sys
import time
from pathlib import Path

import anyio

from recording import CLIENT, POLICY, PRINCIPAL, end, intend, make_answer, make_step, open_store
from soothsayer_mcp.adapters.store.sqlite import SqliteStore
from soothsayer_mcp.model.run import RunBinding
from soothsayer_mcp.ports import PortError


class Notes:
    """Lines that are in the file as soon as they are written."""

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def add(self, line: str) -> None:
        os.write(self._descriptor, f"{line}\n".encode())


async def scene(store: SqliteStore, folder: Path, name: str, in_flight: int, steps: int) -> None:
    sent, answered = Notes(folder / f"{name}.sent"), Notes(folder / f"{name}.answered")
    binding = RunBinding(principal=PRINCIPAL, workspace="/work", client=CLIENT)
    run_id, _failure = await store.bind_run(binding, POLICY)
    waits: list[float] = []
    os.write(1, b"ready\n")
    nonces = itertools.count()

    async def caller() -> None:
        for _ in range(steps) if steps else itertools.count():
            nonce = f"{name}-{next(nonces)}"
            began = time.monotonic()
            recorded = await intend(store, make_step(run_id, arguments={"nonce": nonce}))
            waits.append(time.monotonic() - began)
            sent.add(nonce)
            answer = make_answer(nonce)
            began = time.monotonic()
            await end(store, recorded, answer)
            waits.append(time.monotonic() - began)
            answered.add(nonce)

    try:
        async with anyio.create_task_group() as group:
            for _ in range(in_flight):
                group.start_soon(caller)
    except* PortError as errors:
        os.write(2, f"{errors.exceptions}\n".encode())
        raise
    os.write(1, f"{max(waits) * 1000:.1f}\n".encode())


def main() -> None:
    folder, name, in_flight, steps = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    store = open_store(folder / "state")
    anyio.run(scene, store, folder, name, in_flight, steps)
    store.close()


if __name__ == "__main__":
    main()
