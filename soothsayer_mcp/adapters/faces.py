"""Whether somebody looks at open questions now: each face that does touches a file of its own while it is open."""

import os
import time
from pathlib import Path

ALIVE_S = 15.0
"""How long a touch counts."""
BEAT_S = 5.0
"""How often a face touches its file."""


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
            fresh = self._path.with_suffix(".new")
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
    now = time.time()
    found: list[tuple[float, str]] = []
    try:
        for path in (folder / "pages").iterdir():
            beaten_s = path.stat().st_mtime
            age_s = now - beaten_s
            if -ALIVE_S <= age_s <= ALIVE_S and not path.suffix:
                found.append((beaten_s, path.read_text(encoding="ascii")))
            elif age_s > 60 * ALIVE_S:
                path.unlink()
    except (OSError, ValueError):
        return ""
    return max(found)[1] if found else ""


def is_watched(folder: Path) -> bool:
    """Whether a face was open in the last 15 seconds; files of faces that died are cleared away."""
    now = time.time()
    watched = False
    try:
        with os.scandir(folder / "faces") as found:
            for entry in found:
                age_s = now - entry.stat().st_mtime
                watched = watched or -ALIVE_S <= age_s <= ALIVE_S
                if age_s > 60 * ALIVE_S:
                    Path(entry.path).unlink()
    except OSError:
        return watched
    return watched
