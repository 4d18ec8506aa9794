"""One warm connection to a command, driven with as little work of our own as possible."""

import contextlib
import json
import os
import select
import signal
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

LIMIT_S = 60.0
"""How long one answer is waited for; what takes longer hangs."""
OPENING = (
    b'{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},'
    b'"clientInfo":{"name":"bench","version":"1"}}}\n'
    b'{"jsonrpc":"2.0","method":"notifications/initialized"}\n'
)
LIST = b'{"jsonrpc":"2.0","id":%d,"method":"tools/list"}\n'


class BenchError(Exception):
    """A contestant did not do what is measured."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Burst:
    """Many calls with so many in flight."""

    calls: int
    seconds: float
    cpu_us: float
    """Of the process we started, per call; not of the server behind it."""


class Connection:
    """A command on two pipes."""

    def __init__(self, argv: Sequence[str], *, env: dict[str, str], log: Path) -> None:
        self._id = 10
        self._held = b""
        child_in, self._write = os.pipe()
        self._read, child_out = os.pipe()
        self._log = log.open("wb")
        self.started = time.perf_counter()
        self._process = subprocess.Popen(
            argv, stdin=child_in, stdout=child_out, stderr=self._log, env=env, start_new_session=True
        )
        os.close(child_in)
        os.close(child_out)

    def open(self) -> float:
        """Open it; seconds from the start of the process to the first `tools/list` answer."""
        self._say(OPENING + LIST % 2)
        first, second = self._lines(2)
        took = time.perf_counter() - self.started
        if b'"protocolVersion"' not in first or b'"tools":[' not in second:
            raise BenchError(f"no opening: {first[:300]!r} {second[:300]!r}")
        return took

    def frames(self, size: int, count: int) -> list[bytes]:
        """Make calls whose text has so many bytes; built before the clock runs."""
        text = ("x" * size).encode()
        made: list[bytes] = []
        for _ in range(count):
            self._id += 1
            head = b'{"jsonrpc":"2.0","id":%d,"method":"tools/call","params":{"name":"echo","arguments":{"text":"'
            made.append(head % self._id + text + b'"}}}\n')
        return made

    def check(self, size: int) -> None:
        """See that a call comes back whole, once, before it is measured."""
        (frame,) = self.frames(size, 1)
        self._say(frame)
        (line,) = self._lines(1)
        content = json.loads(line)["result"]["content"]
        if content != [{"type": "text", "text": "x" * size}]:
            raise BenchError(f"not echoed: {line[:500]!r}")

    def one_at_a_time(self, size: int, count: int) -> list[float]:
        """Seconds of each of so many calls."""
        frames = self.frames(size, count)
        took: list[float] = []
        for frame in frames:
            before = time.perf_counter()
            self._say(frame)
            (line,) = self._lines(1)
            took.append(time.perf_counter() - before)
            self._judge(line)
        return took

    def lists(self, count: int) -> list[float]:
        """Seconds of each of so many `tools/list`."""
        took: list[float] = []
        for _ in range(count):
            self._id += 1
            frame = LIST % self._id
            before = time.perf_counter()
            self._say(frame)
            self._lines(1)
            took.append(time.perf_counter() - before)
        return took

    def in_flight(self, size: int, count: int, window: int) -> Burst:
        """Keep so many calls in flight until all are answered."""
        frames = self.frames(size, count)
        cpu_before = self.cpu_ns()
        before = time.perf_counter()
        sent, done = 0, 0
        outgoing = memoryview(b"")
        parts: list[bytes] = []
        poll = select.poll()
        poll.register(self._read, select.POLLIN)
        os.set_blocking(self._write, False)
        try:
            while done < count:
                room = min(window - (sent - done), count - sent)
                if room > 0 and not outgoing:
                    outgoing = memoryview(b"".join(frames[sent : sent + room]))
                    sent += room
                if outgoing:
                    with contextlib.suppress(BlockingIOError):
                        outgoing = outgoing[os.write(self._write, outgoing) :]
                    if outgoing:
                        poll.register(self._write, select.POLLOUT)
                    else:
                        with contextlib.suppress(KeyError):
                            poll.unregister(self._write)
                ready = poll.poll(LIMIT_S * 1000)
                if not ready:
                    raise BenchError(f"no answer in {LIMIT_S:g} s with {window} in flight")
                if any(fd == self._read for fd, _ in ready):
                    chunk = os.read(self._read, 1 << 20)
                    if not chunk:
                        raise BenchError("the connection ended")
                    parts.append(chunk)
                    if b"\n" in chunk:
                        *lines, rest = b"".join(parts).split(b"\n")
                        parts = [rest]
                        for line in lines:
                            self._judge(line)
                        done += len(lines)
        finally:
            os.set_blocking(self._write, True)
        seconds = time.perf_counter() - before
        return Burst(calls=count, seconds=seconds, cpu_us=(self.cpu_ns() - cpu_before) / count / 1000)

    def pin(self, cores: set[int]) -> None:
        """Bind every thread of the command and of what it started to these cores."""
        for pid in self._tree():
            for task in Path(f"/proc/{pid}/task").iterdir():
                with contextlib.suppress(ProcessLookupError):
                    os.sched_setaffinity(int(task.name), cores)

    def cpu_ns(self) -> int:
        """Nanoseconds of processor time that the process we started has used."""
        used = 0
        for task in Path(f"/proc/{self._process.pid}/task").iterdir():
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                used += int((task / "schedstat").read_text().split()[0])
        return used

    def memory_mib(self) -> tuple[float, float]:
        """The most memory held so far: of the process we started, and of it with all that it started."""
        peaks = [_peak_kib(pid) for pid in self._tree()]
        return peaks[0] / 1024, sum(peaks) / 1024

    def resident_mib(self) -> float:
        """Memory of the process we started now."""
        return _field_kib(self._process.pid, "VmRSS") / 1024

    def close(self) -> None:
        os.close(self._write)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(10)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        os.close(self._read)
        self._log.close()

    def _tree(self) -> list[int]:
        found = [self._process.pid]
        for pid in found:
            for task in Path(f"/proc/{pid}/task").iterdir():
                with contextlib.suppress(FileNotFoundError):
                    found += map(int, (task / "children").read_text().split())
        return found

    def _say(self, raw: bytes) -> None:
        while raw:
            raw = raw[os.write(self._write, raw) :]

    def _lines(self, count: int) -> list[bytes]:
        lines: list[bytes] = []
        parts = [self._held]
        self._held = b""
        while len(lines) < count:
            if not select.select([self._read], [], [], LIMIT_S)[0]:
                raise BenchError(f"no answer in {LIMIT_S:g} s")
            chunk = os.read(self._read, 1 << 20)
            if not chunk:
                raise BenchError("the connection ended")
            parts.append(chunk)
            if b"\n" in chunk:
                *found, rest = b"".join(parts).split(b"\n")
                lines += found
                parts = [rest]
        self._held = b"".join(parts)
        return lines

    @staticmethod
    def _judge(line: bytes) -> None:
        if b'"result":{"content"' not in line[:120]:
            raise BenchError(f"not what was called for: {line[:500]!r}")


def _peak_kib(pid: int) -> float:
    return _field_kib(pid, "VmHWM")


def _field_kib(pid: int, name: str) -> float:
    with contextlib.suppress(FileNotFoundError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith(name):
                return float(line.split()[1])
    return 0.0
