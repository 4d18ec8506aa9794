"""Which processes stand above this one: what a host started answers no question of that host's own calls."""

import os
from pathlib import Path

_MOST = 64


def ancestors(pid: int | None = None) -> list[int]:
    """The processes above one, nearest first, as far as the system tells. Only Linux is asked; elsewhere the parent."""
    found: list[int] = []
    current = os.getpid() if pid is None else pid
    while current > 1 and len(found) < _MOST:
        current = _parent(current)
        if current <= 1 or current in found:
            break
        found.append(current)
    return found


def _parent(pid: int) -> int:
    if pid == os.getpid():
        return os.getppid()
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return 0
    # The name stands in brackets and may hold anything; what follows the last bracket is state, then parent.
    return int(stat.rpartition(")")[2].split()[1])
