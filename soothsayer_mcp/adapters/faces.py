"""Whether somebody looks at open questions now: each face that does touches a file of its own while it is open."""

import os
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

ALIVE_S = 15.0
"""How long a touch counts."""
BEAT_S = 5.0
"""How often a face touches its file."""
_UNFINISHED = ".new"


class Face:
    """One open face: `watch`, `asks --follow`, or a page of `ui`."""

    def __init__(self, folder: Path, name: str) -> None:
        """`folder` is the state folder. Nobody is told before the first `beat`."""
        self._path = folder / "faces" / f"{name}-{os.getpid()}"

    def beat(self) -> None:
        """Say that somebody looks. Raises `OSError`."""
        # Each by itself: of what is made with `parents` only the last is private.
        self._path.parent.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._path.parent.mkdir(mode=0o700, exist_ok=True)
        self._path.touch(mode=0o600)

    def close(self) -> None:
        """Nobody looks here any more."""
        self._path.unlink(missing_ok=True)


class Pages:
    """The address of one running `ui`, which stands in a file of its own while it runs."""

    def __init__(self, folder: Path, address: str) -> None:
        """`folder` is the state folder. Nobody is told before the first `beat`."""
        self._path = folder / "pages" / str(os.getpid())
        self._address = address

    def beat(self) -> None:
        """Say where the pages are. Raises `OSError`."""
        if not self._path.exists():
            self._path.parent.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._path.parent.mkdir(mode=0o700, exist_ok=True)
            fresh = self._path.with_suffix(_UNFINISHED)
            descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(descriptor, "w", encoding="ascii") as file:
                file.write(self._address)
            fresh.replace(self._path)
        self._path.touch()

    def close(self) -> None:
        """There are no pages here any more."""
        self._path.unlink(missing_ok=True)


def open_pages(folder: Path) -> str:
    """Where the pages of a `ui` are that runs; empty where none does."""
    found: list[tuple[float, str]] = []
    for path, beaten_s, is_fresh in _beaten(folder / "pages"):
        # It may end, and take its file away, between one look and the next.
        with suppress(OSError, ValueError):
            if is_fresh and not path.endswith(_UNFINISHED):
                found.append((beaten_s, Path(path).read_text(encoding="ascii")))
    return max(found)[1] if found else ""


def is_watched(folder: Path) -> bool:
    """Whether a face was open in the last 15 seconds; files of faces that died are cleared away."""
    watched = False
    for _, _, is_fresh in _beaten(folder / "faces"):
        watched = watched or is_fresh
    return watched


def _beaten(folder: Path) -> Iterator[tuple[str, float, bool]]:
    """The files there: when each was touched last, and whether that counts. What died long ago is cleared away."""
    now = time.time()
    with suppress(OSError), os.scandir(folder) as found:
        for entry in found:
            with suppress(OSError):  # another one may end while this is looked through, and tells nothing of the rest
                beaten_s = entry.stat().st_mtime
                if now - beaten_s > 60 * ALIVE_S:
                    Path(entry.path).unlink()
                    continue
                yield entry.path, beaten_s, abs(now - beaten_s) <= ALIVE_S
