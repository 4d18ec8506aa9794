"""Fills a small disk under a store; run by `test_failing_store` in a mount namespace of its own."""

import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import anyio
import pytest

from recording import admit, bind, end, intend, make_answer, make_step, open_store, whole_step
from soothsayer_mcp.adapters.store.sqlite import SqliteStore
from soothsayer_mcp.adapters.verifier import verify
from soothsayer_mcp.model.call import RunId
from soothsayer_mcp.model.failure import Reason
from soothsayer_mcp.model.step import ClosedStep
from soothsayer_mcp.ports import PortError
from soothsayer_mcp.run.close import close


def fill(folder: Path) -> Path:
    """Take every byte that is left."""
    path = folder / "filler"
    with path.open("wb", buffering=0) as file:
        for size in (4096, 512, 1):
            try:
                while True:
                    file.write(bytes(size))
            except OSError:
                continue
    return path


async def propose_many(store: SqliteStore, run_id: RunId) -> None:
    for _ in range(100):
        await store.record_intent(make_step(run_id, arguments={"text": "x" * 4000}), admit, close)


async def scene(store: SqliteStore, folder: Path) -> None:
    run_id = await bind(store)
    sent = [await intend(store, make_step(run_id)) for _ in range(20)]
    filler = fill(folder)
    with pytest.raises(PortError) as caught:
        await propose_many(store, run_id)
    assert caught.value.reason is Reason.TRACE_UNAVAILABLE
    assert caught.value.summary in {"the disk is full", "no space left on device"}
    closed: list[ClosedStep] = [await end(store, recorded, make_answer("y" * 3000)) for recorded in sent]
    assert len(closed) == 20
    assert not (folder / "state" / "ballast").exists()
    filler.unlink()
    with anyio.fail_after(60):
        while not (folder / "state" / "ballast").exists():
            with suppress(PortError):
                await whole_step(store, run_id)


def main() -> None:
    folder = Path(sys.argv[1])
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "none", str(folder)], check=True)
    store = open_store(folder / "state", ballast_bytes=2 * 1024 * 1024)
    anyio.run(scene, store, folder)
    store.close()
    report = verify([folder / "state"])
    assert report.holds, report.lines()
    sys.stdout.write("recorded what was sent, refused what was new, mended itself\n")


if __name__ == "__main__":
    main()
