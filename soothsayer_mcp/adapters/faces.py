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
