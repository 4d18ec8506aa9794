"""Connections over a pair of file descriptors: pipes and sockets on the event loop, all else by threads.

A pipe or socket is read and written by the loop itself, because each wake-up between threads costs 20 to 60 us of every
call. A file or a terminal, which no event loop can wait for everywhere, and everything on Windows gets a thread per
direction. Which of the two it is does not show from outside.
"""

import asyncio
import contextlib
import contextvars
import errno
import os
import select
import socket
import stat
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from enum import Enum
from queue import SimpleQueue
from typing import Final, Protocol

from soothsayer_mcp.adapters.lines import MAX_FRAME, Lines
from soothsayer_mcp.ports import LegEnd

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

CHUNK: Final = 64 * 1024
"""How much is read at once: what a pipe holds by default."""

BIG_CHUNK: Final = 1024 * 1024
"""How much is read at once, and what a pipe is made to hold, after it once was full."""

CLOSE_S: Final = 1.0
"""How long closing waits for what is still queued."""

_JOIN_MAX: Final = 16 * 1024
"""Frames up to this size are copied to join them with their line end; longer ones are written in two pieces."""

_BURST_S: Final = 30e-6
"""A frame sent sooner than this after another waits for the end of the loop's turn, so that a burst is one write."""

_PIECES_MAX: Final = 512
"""How many pieces one write takes; systems allow 1,024."""

_LAST_READS: Final = 64
"""How many chunks are still read of a peer that no longer reads us."""

_WINDOW: Final = 4
"""How many chunks a reader thread may be ahead of the loop."""

_Piece = bytes | memoryview


class _Way(Enum):
    """How a descriptor is waited for and written without blocking the loop."""

    OWN = "a pipe whose file description is ours alone: non-blocking"
    SOCKET = "a socket: asked not to block with every call"
    SHARED = "a pipe shared with strangers, whom a non-blocking flag would break: asked before each small write"
    THREAD = "a thread that may block"


def _choose(fd: int, *, write: bool, ours: bool) -> tuple[int, _Way]:
    """Choose the way for a descriptor; the one returned takes the place of the one given."""
    if sys.platform == "win32":
        return fd, _Way.THREAD
    mode = os.fstat(fd).st_mode
    if stat.S_ISSOCK(mode):
        return fd, _Way.SOCKET
    if not stat.S_ISFIFO(mode):
        return fd, _Way.THREAD
    if ours:
        os.set_blocking(fd, False)
        return fd, _Way.OWN
    # A pipe opened again through /proc has flags of its own, so that the host's end keeps blocking as it was.
    flags = os.O_NONBLOCK | os.O_CLOEXEC | (os.O_WRONLY if write else os.O_RDONLY)
    try:
        again = os.open(f"/proc/self/fd/{fd}", flags)
    except OSError:
        return fd, _Way.SHARED
    os.close(fd)
    return again, _Way.OWN


def _widen(fd: int) -> None:
    """Let a pipe that was full once hold more, where the system allows."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, BIG_CHUNK)


class _Reader(Protocol):
    def start(self, deliver: Callable[[list[bytes]], None], ended: Callable[[], None]) -> None: ...
    def pause(self) -> None: ...
    def resume(self) -> None: ...
    def hear_out(self) -> None: ...
    def close(self) -> None: ...


class _Writer(Protocol):
    @property
    def waiting_bytes(self) -> int: ...
    def start(self, failed: Callable[[], None]) -> None: ...
    def send(self, raw: bytes) -> None: ...
    async def drained(self) -> bool: ...
    def close(self) -> None: ...


class PipeLeg:
    """One MCP connection over two descriptors, which it owns from here on."""

    def __init__(
        self,
        read_fd: int,
        write_fd: int,
        *,
        max_frame: int = MAX_FRAME,
        ours: bool = False,
        why_ended: str = "closed the connection",
    ) -> None:
        """Take over two descriptors. `ours` says that nobody shares their file descriptions."""
        self._why_ended = why_ended
        lines = Lines(max_frame=max_frame)
        read_fd, way = _choose(read_fd, write=False, ours=ours)
        self._reader: _Reader = _ThreadReader(read_fd, lines) if way is _Way.THREAD else _LoopReader(read_fd, lines)
        write_fd, way = _choose(write_fd, write=True, ours=ours)
        self._writer: _Writer = _ThreadWriter(write_fd) if way is _Way.THREAD else _LoopWriter(write_fd, way)
        self._ended: Callable[[LegEnd], None] | None = None
        self._closed = False

    @property
    def waiting_bytes(self) -> int:
        """How much was given to `send` and is not written yet."""
        return self._writer.waiting_bytes

    def unsendable(self, tool: str) -> str:  # noqa: ARG002 - all tools are alike here
        """Nothing: every call can be sent."""
        return ""

    def start(self, received: Callable[[Sequence[bytes]], None], ended: Callable[[LegEnd], None]) -> None:
        """Begin to read on the running event loop."""
        self._ended = ended
        self._writer.start(self._write_failed)
        self._reader.start(received, self._end)

    def send(self, raw: bytes) -> None:
        """Queue one frame without its line end; once nobody reads it does nothing."""
        self._writer.send(raw)

    def pause(self) -> None:
        """Stop reading until `resume`."""
        self._reader.pause()

    def resume(self) -> None:
        """Read again."""
        self._reader.resume()

    async def drained(self) -> bool:
        """Wait until all that was sent is written; false when nobody reads it."""
        return await self._writer.drained()

    async def aclose(self) -> None:
        """End the connection, within a second if the other side does not take what is queued."""
        if self._closed:
            return
        self._closed = True
        self._ended = None
        self._reader.close()
        try:
            async with asyncio.timeout(CLOSE_S):
                await self._writer.drained()
        except TimeoutError:
            pass
        finally:
            self._writer.close()

    def _write_failed(self) -> None:
        # A peer that closed only its input would keep the connection half alive for ever. What it had said before
        # still stands in its pipe.
        self._reader.hear_out()
        self._reader.close()
        self._end()

    def _end(self) -> None:
        ended, self._ended = self._ended, None
        if ended is not None:
            ended(LegEnd(why=self._why_ended))


class _LoopReader:
    """Reads a pipe or socket when the loop says that there is something."""

    def __init__(self, fd: int, lines: Lines) -> None:
        self._fd = fd
        self._lines = lines
        self._size = CHUNK
        self._reading = False
        self._open = True
        self._loop: asyncio.AbstractEventLoop | None = None
        self._deliver: Callable[[list[bytes]], None] = _nobody
        self._ended: Callable[[], None] = _nothing

    def start(self, deliver: Callable[[list[bytes]], None], ended: Callable[[], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._deliver = deliver
        self._ended = ended
        self.resume()

    def pause(self) -> None:
        if self._loop is not None and self._reading:
            self._loop.remove_reader(self._fd)
            self._reading = False

    def resume(self) -> None:
        if self._loop is not None and self._open and not self._reading:
            self._loop.add_reader(self._fd, self._readable)
            self._reading = True

    def hear_out(self) -> None:
        """Deliver what is there already; bounded, for a peer may never stop talking."""
        poll = select.poll()
        poll.register(self._fd, select.POLLIN)
        for _ in range(_LAST_READS):
            if not (self._open and poll.poll(0)):
                break
            self._readable()

    def close(self) -> None:
        if not self._open:
            return
        self.pause()
        self._open = False
        os.close(self._fd)

    def _readable(self) -> None:
        try:
            chunk = os.read(self._fd, self._size)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            chunk = b""  # a connection that was reset has ended
        if not chunk:
            self.close()
            last = self._lines.finish()
            if last:
                self._deliver(last)
            self._ended()
            return
        if len(chunk) == self._size:
            if self._size == CHUNK:
                _widen(self._fd)
            self._size = BIG_CHUNK
        else:
            self._size = CHUNK
        lines = self._lines.feed(chunk)
        if lines:
            self._deliver(lines)


class _ThreadReader:
    """Reads anything in a thread and hands whole chunks of lines to the loop."""

    def __init__(self, fd: int, lines: Lines) -> None:
        self._fd = fd
        self._lines = lines
        self._may_read = threading.Event()
        self._may_read.set()
        self._window = threading.Semaphore(_WINDOW)
        self._open = True
        self._loop: asyncio.AbstractEventLoop | None = None
        self._deliver: Callable[[list[bytes]], None] = _nobody
        self._ended: Callable[[], None] = _nothing

    def start(self, deliver: Callable[[list[bytes]], None], ended: Callable[[], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._deliver = deliver
        self._ended = ended
        # What is handed over runs in the context of who started us: in a thread's own, anyio knows of no loop.
        args = (self._loop, contextvars.copy_context())
        threading.Thread(target=self._read, args=args, name="read", daemon=True).start()

    def pause(self) -> None:
        self._may_read.clear()

    def resume(self) -> None:
        self._may_read.set()

    def hear_out(self) -> None:
        """Nothing more is heard of a file whose reader went away: there is no peer that would be owed an answer."""

    def close(self) -> None:
        # The descriptor is closed by the thread that reads it: a number closed under a blocked read may be given to
        # another file at once. A read that never returns keeps it, and its daemon thread, until the process ends.
        self._open = False
        self._may_read.set()
        self._window.release()
        if self._loop is None:
            os.close(self._fd)

    def _read(self, loop: asyncio.AbstractEventLoop, context: contextvars.Context) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody is left to hand anything to
            while self._open:
                self._may_read.wait()
                try:
                    chunk = os.read(self._fd, BIG_CHUNK) if self._open else b""
                except BlockingIOError:
                    select.select([self._fd], [], [], 1.0)
                    continue
                except OSError:
                    chunk = b""
                lines = self._lines.feed(chunk) if chunk else self._lines.finish()
                if lines:
                    self._window.acquire()
                    loop.call_soon_threadsafe(self._hand_over, lines, context=context)
                if not chunk:
                    loop.call_soon_threadsafe(self._finished, context=context)
                    break
        os.close(self._fd)

    def _hand_over(self, lines: list[bytes]) -> None:
        self._window.release()
        if self._open:
            self._deliver(lines)

    def _finished(self) -> None:
        if self._open:
            self._open = False
            self._ended()


class _LoopWriter:
    """Writes a pipe or socket: at once when nothing waits, else when the loop says that there is room."""

    def __init__(self, fd: int, way: _Way) -> None:
        self._fd = fd
        self._socket: socket.socket | None = None
        self._write: Callable[[Sequence[_Piece]], int] = self._write_own
        if way is _Way.SOCKET:
            self._socket = socket.socket(fileno=fd)
            self._write = self._write_socket
        elif way is _Way.SHARED:
            self._poll = select.poll()
            self._poll.register(fd, select.POLLOUT)
            self._write = self._write_shared
        self._pieces: deque[_Piece] = deque()
        self._waiting_bytes = 0
        self._open = True
        self._armed = False
        self._last_write = 0.0
        self._widened = False
        self._empty: list[asyncio.Future[bool]] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._failed: Callable[[], None] = _nothing

    @property
    def waiting_bytes(self) -> int:
        return self._waiting_bytes

    def start(self, failed: Callable[[], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._failed = failed
        if self._pieces:
            self._flush_soon()

    def send(self, raw: bytes) -> None:
        if not self._open:
            return
        idle = not self._pieces
        if len(raw) <= _JOIN_MAX:
            self._pieces.append(raw + b"\n")
        else:
            self._pieces.append(raw)
            self._pieces.append(b"\n")
        self._waiting_bytes += len(raw) + 1
        if not idle or self._loop is None:
            return
        if time.perf_counter() - self._last_write < _BURST_S:
            self._flush_soon()
        else:
            self._flush()

    async def drained(self) -> bool:
        if not self._pieces:
            return self._open
        future = asyncio.get_running_loop().create_future()
        self._empty.append(future)
        return await future

    def close(self) -> None:
        if not self._open:
            return
        self._open = False
        if self._armed and self._loop is not None:
            self._loop.remove_writer(self._fd)
            self._armed = False
        self._pieces.clear()
        self._waiting_bytes = 0
        self._answer_waiting()
        if self._socket is not None:
            # The same socket may be read through another descriptor: only a shutdown tells the other side.
            with contextlib.suppress(OSError):
                self._socket.shutdown(socket.SHUT_WR)
            self._socket.close()
        else:
            os.close(self._fd)

    def _flush_soon(self) -> None:
        if self._loop is not None:
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        while self._pieces:
            batch = list(self._pieces) if len(self._pieces) <= _PIECES_MAX else self._first_pieces()
            try:
                written = self._write(batch)
            except (BlockingIOError, InterruptedError):
                self._wait_for_room()
                return
            except OSError:
                self.close()
                if self._loop is not None:
                    self._loop.call_soon(self._failed)  # not from within `send`
                return
            self._take_off(batch, written)
        self._last_write = time.perf_counter()
        if self._armed and self._loop is not None:
            self._loop.remove_writer(self._fd)
            self._armed = False
        if self._empty:
            self._answer_waiting()

    def _first_pieces(self) -> list[_Piece]:
        pieces = self._pieces
        return [pieces[at] for at in range(_PIECES_MAX)]

    def _take_off(self, batch: list[_Piece], written: int) -> None:
        self._waiting_bytes -= written
        if len(batch) == len(self._pieces) and not self._waiting_bytes:
            self._pieces.clear()
            return
        for piece in batch:
            if written < len(piece):
                if written:
                    self._pieces[0] = memoryview(piece)[written:]
                return
            written -= len(piece)
            self._pieces.popleft()

    def _wait_for_room(self) -> None:
        if not self._widened:
            # Only a pipe that was full is made larger: all pipes of a person share one allowance.
            self._widened = True
            _widen(self._fd)
        if not self._armed and self._loop is not None:
            self._loop.add_writer(self._fd, self._flush)
            self._armed = True

    def _answer_waiting(self) -> None:
        waiting, self._empty = self._empty, []
        for future in waiting:
            if not future.done():
                future.set_result(self._open)

    def _write_own(self, pieces: Sequence[_Piece]) -> int:
        return os.write(self._fd, pieces[0]) if len(pieces) == 1 else os.writev(self._fd, pieces)

    def _write_socket(self, pieces: Sequence[_Piece]) -> int:
        if self._socket is None:
            raise OSError(errno.EBADF, "closed")
        return self._socket.sendmsg(pieces, (), socket.MSG_DONTWAIT)

    def _write_shared(self, pieces: Sequence[_Piece]) -> int:
        # A pipe that polls as writable takes PIPE_BUF bytes without blocking, and promises nothing about more.
        if not self._poll.poll(0):
            raise BlockingIOError
        small = pieces[0][: select.PIPE_BUF]
        for piece in pieces[1:]:
            if len(small) + len(piece) > select.PIPE_BUF:
                break
            small = bytes(small) + bytes(piece)
        return os.write(self._fd, small)


class _ThreadWriter:
    """Writes anything in a thread, what has gathered meanwhile in one piece."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._frames: SimpleQueue[bytes | None] = SimpleQueue()
        self._waiting_bytes = 0
        self._open = True
        self._started = False
        self._empty: list[asyncio.Future[bool]] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._failed: Callable[[], None] = _nothing

    @property
    def waiting_bytes(self) -> int:
        return self._waiting_bytes

    def start(self, failed: Callable[[], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._failed = failed
        # What is handed over runs in the context of who started us: in a thread's own, anyio knows of no loop.
        args = (self._loop, contextvars.copy_context())
        threading.Thread(target=self._write, args=args, name="write", daemon=True).start()

    def send(self, raw: bytes) -> None:
        if self._open:
            self._waiting_bytes += len(raw) + 1
            self._frames.put(raw)

    async def drained(self) -> bool:
        if not self._waiting_bytes:
            return self._open
        future = asyncio.get_running_loop().create_future()
        self._empty.append(future)
        return await future

    def close(self) -> None:
        if not self._open:
            return
        self._open = False
        self._waiting_bytes = 0
        self._answer_waiting()
        self._frames.put(None)
        if self._loop is None:
            os.close(self._fd)

    def _write(self, loop: asyncio.AbstractEventLoop, context: contextvars.Context) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody is left to tell
            while True:
                batch, more = self._gather()
                try:
                    self._write_all(b"".join(batch))
                except OSError:
                    loop.call_soon_threadsafe(self._broken, context=context)
                    break
                loop.call_soon_threadsafe(self._written, sum(map(len, batch)), context=context)
                if not more:
                    break
        os.close(self._fd)

    def _gather(self) -> tuple[list[bytes], bool]:
        """Take what waits, at least one frame; whether more may come."""
        batch: list[bytes] = []
        frame = self._frames.get()
        while frame is not None:
            batch += (frame, b"\n")
            if self._frames.empty() or len(batch) >= _PIECES_MAX:
                return batch, True
            frame = self._frames.get()
        return batch, False

    def _write_all(self, raw: bytes) -> None:
        view = memoryview(raw)
        while view:
            try:
                view = view[os.write(self._fd, view) :]
            except BlockingIOError:
                select.select([], [self._fd], [], 1.0)

    def _written(self, size: int) -> None:
        if self._open:
            self._waiting_bytes -= size
            if not self._waiting_bytes:
                self._answer_waiting()

    def _broken(self) -> None:
        if self._open:
            self.close()
            self._failed()

    def _answer_waiting(self) -> None:
        waiting, self._empty = self._empty, []
        for future in waiting:
            if not future.done():
                future.set_result(self._open)


def _nobody(_lines: list[bytes]) -> None:
    """Drop lines that came before anybody listens."""


def _nothing() -> None:
    """Do nothing at an end that nobody waits for."""


def take_stdio(*, max_frame: int = MAX_FRAME) -> PipeLeg:
    """Take over the connection to the host that started us; nothing else can reach it from here on.

    The real standard input and output move to descriptors of their own; 0 then leads to null and 1 to standard error,
    so that no stray print, import or child can write into the protocol. Nothing is put back.
    """
    _fill_standard_descriptors()
    host_in, host_out = _move_away(0), _move_away(1)
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0, inheritable=True)
    os.close(null)
    os.dup2(2, 1, inheritable=True)
    return PipeLeg(host_in, host_out, max_frame=max_frame)


def _fill_standard_descriptors() -> None:
    """Open null where a standard descriptor is closed: else the next file opened, perhaps the trace, would be it."""
    while (fd := os.open(os.devnull, os.O_RDWR)) <= 2:  # noqa: PLR2004 - standard error, the last of the three
        os.set_inheritable(fd, True)  # noqa: FBT003 - the signature is the system's
    os.close(fd)


def _move_away(fd: int) -> int:
    moved = os.dup(fd)
    if sys.platform == "win32":
        msvcrt.setmode(moved, os.O_BINARY)
    return moved
