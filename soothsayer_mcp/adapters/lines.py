"""Cuts a stream of bytes into lines. No reading here: chunks come in, whole lines come out."""

from typing import Final

from soothsayer_mcp.ports import OversizedLine

MAX_FRAME: Final = 64 * 1024 * 1024
"""The longest line that is a frame, in bytes, where the configuration names no other."""

KEPT: Final = 4096
"""How much of either end is kept of a line over the limit: enough to find the id of a request."""


class Lines:
    """Cuts chunks at line feeds, at nothing else; a carriage return before one is dropped, empty lines are ignored."""

    __slots__ = ("_head", "_held", "_max_frame", "_parts", "_tail")

    def __init__(self, *, max_frame: int = MAX_FRAME) -> None:
        """Hold at most `max_frame` bytes of an unfinished line."""
        self._max_frame = max_frame
        self._parts: list[bytes] = []
        self._held = 0
        self._head: bytes | None = None
        self._tail = b""

    def feed(self, chunk: bytes) -> list[bytes]:
        """Take the next chunk and return the lines that it ends."""
        lines = chunk.split(b"\n")
        rest = lines.pop()
        if lines:
            if self._held:
                self._hold(lines[0])
                lines[0] = self._release()
            limit = self._max_frame
            lines = [
                line if len(line) <= limit or isinstance(line, OversizedLine) else _oversized(line)
                for line in (_without_return(line) for line in lines)
                if line
            ]
        if rest:
            self._hold(rest)
        return lines

    def finish(self) -> list[bytes]:
        """Return the last line if it lacks its end."""
        if not self._held:
            return []
        line = _without_return(self._release())
        return [line] if line else []

    def _hold(self, part: bytes) -> None:
        self._held += len(part)
        if self._head is not None:
            self._tail = (self._tail + part[-KEPT:])[-KEPT:]
            return
        self._parts.append(part)
        if self._held > self._max_frame + 1:
            whole = b"".join(self._parts)
            self._head, self._tail = whole[:KEPT], whole[-KEPT:]
            self._parts.clear()

    def _release(self) -> bytes:
        held, self._held = self._held, 0
        if self._head is not None:
            line = OversizedLine(self._head, tail=self._tail, size_bytes=held)
            self._head, self._tail = None, b""
            return line
        line = b"".join(self._parts) if len(self._parts) > 1 else self._parts[0]
        self._parts.clear()
        return line


def _without_return(line: bytes) -> bytes:
    return line[:-1] if line.endswith(b"\r") and not isinstance(line, OversizedLine) else line


def _oversized(line: bytes) -> OversizedLine:
    return OversizedLine(line[:KEPT], tail=line[-KEPT:], size_bytes=len(line))
