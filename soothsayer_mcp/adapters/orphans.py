"""Servers of a proxy that was killed: noted while they run, ended when the next proxy starts.

A proxy that is killed ends nothing, and a server that ignores the end of its input then goes on by itself. Nothing is
ended on the word of a number alone: a process is the one that was noted only if it has its number and its start time.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Final, cast

from soothsayer_mcp.adapters.launch import TERM_S, Child, printable
from soothsayer_mcp.model.json import JsonObject, canonical, compact, digest
from soothsayer_mcp.model.value import dataclass

FOLDER: Final = "servers"
"""Where the notes lie, in the state folder."""

_TORN_S: Final = 60.0
"""How old a note that cannot be read must be before it is cleared: a younger one may just be written."""

_LOOK_S: Final = 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """One server that was started, and by whom."""

    name: str
    pid: int
    born: str
    proxy: int
    proxy_born: str
    place: str


class Orphans:
    """The notes of one state folder."""

    def __init__(self, folder: Path) -> None:
        """`folder` is the state folder; nothing is written before a server is noted."""
        self._folder = folder / FOLDER
        self._place = _place()
        self._born = born(os.getpid()) or ""

    def note(self, child: Child) -> None:
        """Note a server that was started, until its group has ended; what cannot be noted is not."""
        its = born(child.pid)
        if its is None or not self._born:
            return
        path = self._folder / f"{child.pid}.json"
        note: JsonObject = {
            "server": child.name,
            "pid": child.pid,
            "born": its,
            "argv": digest(canonical([*child.argv])),  # for people; a command line may hold a secret
            "proxy": os.getpid(),
            "proxy_born": self._born,
            "place": self._place,
        }
        with contextlib.suppress(OSError):
            self._folder.mkdir(mode=0o700, exist_ok=True)
            path.write_bytes(compact(note))
            child.when_forgotten = lambda: path.unlink(missing_ok=True)

    def end_left(self) -> tuple[str, ...]:
        """End what killed proxies left behind; a line for each server that is told to people."""
        left = list(self._left())
        told: list[str] = []
        asked: list[Note] = []
        for path, note in left:
            who = f"server {printable(note.name)} (process {note.pid}), left behind by a proxy that was killed,"
            if born(note.pid) != note.born:
                path.unlink(missing_ok=True)
            elif _signal(note, signal.SIGTERM):
                asked.append(note)
                told.append(f"{who} was ended")
                path.unlink(missing_ok=True)
            else:
                told.append(f"{who} belongs to another account and goes on: end it yourself")
        if not _all_end(asked, TERM_S):
            for note in filter(_group_lives, asked):
                _signal(note, signal.SIGKILL)
            _all_end(asked, TERM_S)
        return tuple(told)

    def _left(self) -> Iterable[tuple[Path, Note]]:
        """The notes whose proxy is gone; those of another start of the machine are cleared."""
        try:
            paths = sorted(self._folder.iterdir())
        except OSError:
            return
        for path in paths:
            try:
                note = _read(path.read_bytes())
                torn = note is None and time.time() - path.stat().st_mtime > _TORN_S
            except OSError:
                continue  # its proxy has just ended it
            if torn or (note is not None and note.place.partition(" ")[0] != self._place.partition(" ")[0]):
                path.unlink(missing_ok=True)
            elif note is not None and note.place == self._place and born(note.proxy) != note.proxy_born:
                yield path, note


def born(pid: int) -> str | None:
    """When the process of a number was started, as the system spells it; `None` where none lives, or none can tell."""
    if sys.platform == "linux":
        try:
            fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
        except OSError:
            return None
        return None if fields[0] in {b"Z", b"X"} else fields[19].decode()  # proc(5): state, and start in ticks
    if sys.platform == "win32":
        return None  # there a job ends the servers of a proxy with it
    asked = subprocess.run(  # noqa: S603 - a number, and a program of the system
        ["/bin/ps", "-o", "stat=,lstart=", "-p", str(pid)], capture_output=True, text=True, check=False, timeout=5
    )
    state, _, started = asked.stdout.strip().partition(" ")
    return None if not started or state.startswith("Z") else started.strip()


def _place() -> str:
    """Where numbers of processes mean something: this start of this machine, and this space of numbers in it."""
    if sys.platform != "linux":
        return ""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"  # noqa: PTH115 - the text of the link, which is no path
    except OSError:
        return ""


def _read(raw: bytes) -> Note | None:
    try:
        value = cast("object", json.loads(raw))
        if not isinstance(value, dict):
            return None
        members = cast("dict[str, object]", value)
        return Note(
            name=str(members["server"]),
            pid=int(str(members["pid"])),
            born=str(members["born"]),
            proxy=int(str(members["proxy"])),
            proxy_born=str(members["proxy_born"]),
            place=str(members["place"]),
        )
    except (ValueError, KeyError):
        return None


def _signal(note: Note, number: int) -> bool:
    """Signal the group that a noted server leads; false when that is not allowed."""
    if sys.platform == "win32" or note.pid <= 1:
        return False
    try:
        os.killpg(note.pid, number)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return True


def _group_lives(note: Note) -> bool:
    """Whether any of a group is left that was just asked to end; its leader may be gone before the others."""
    if sys.platform == "win32" or born(note.pid) not in {note.born, None}:
        return False
    try:
        os.killpg(note.pid, 0)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def _all_end(notes: Iterable[Note], within_s: float) -> bool:
    deadline = time.monotonic() + within_s
    while any(map(_group_lives, notes)):
        if time.monotonic() >= deadline:
            return False
        time.sleep(_LOOK_S)
    return True
