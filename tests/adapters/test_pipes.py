import os
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import anyio
import anyio.to_thread
import pytest

from adapters.conftest import Listener
from soothsayer_mcp.adapters import pipes
from soothsayer_mcp.adapters.pipes import PipeLeg
from soothsayer_mcp.ports import OversizedLine

pytestmark = pytest.mark.anyio


class Peer:
    """The other end of a connection: plain blocking descriptors."""

    def __init__(self, read_fd: int, write_fd: int) -> None:
        self.read_fd = read_fd
        self.write_fd = write_fd
        self._open = {read_fd, write_fd}

    def say(self, raw: bytes) -> None:
        while raw:
            raw = raw[os.write(self.write_fd, raw) :]

    def hear(self, size: int) -> bytes:
        heard = bytearray()
        while len(heard) < size and (chunk := os.read(self.read_fd, size - len(heard))):
            heard += chunk
        return bytes(heard)

    def hang_up(self, fd: int) -> None:
        if fd in self._open:
            self._open.discard(fd)
            os.close(fd)

    def close(self) -> None:
        for fd in tuple(self._open):
            self.hang_up(fd)


Pair = tuple[PipeLeg, Peer]


def pipe_pair(*, max_frame: int = 64 << 20) -> Pair:
    return _pipes(max_frame=max_frame, ours=True)


def _pipes(*, max_frame: int, ours: bool) -> Pair:
    theirs_in, write_fd = os.pipe()
    read_fd, theirs_out = os.pipe()
    return PipeLeg(read_fd, write_fd, max_frame=max_frame, ours=ours), Peer(theirs_in, theirs_out)


def socket_pair(*, max_frame: int = 64 << 20) -> Pair:
    ours, theirs = socket.socketpair()
    leg = PipeLeg(os.dup(ours.fileno()), ours.detach(), max_frame=max_frame)
    return leg, Peer(os.dup(theirs.fileno()), theirs.detach())


def shared_pair(*, max_frame: int = 64 << 20) -> Pair:
    """As where no /proc lets a pipe be opened again."""
    real_open = os.open

    def no_proc(path: str, flags: int) -> int:
        if path.startswith("/proc/"):
            raise FileNotFoundError(path)
        return real_open(path, flags)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipes.os, "open", no_proc)
        return _pipes(max_frame=max_frame, ours=False)


def thread_pair(*, max_frame: int = 64 << 20) -> Pair:
    """As on Windows, and as for files and terminals."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipes.stat, "S_ISFIFO", stat.S_ISDIR)
        return pipe_pair(max_frame=max_frame)


def host_pair(*, max_frame: int = 64 << 20) -> Pair:
    return _pipes(max_frame=max_frame, ours=False)


PAIRS = {
    "pipe": pipe_pair,
    "host pipe": host_pair,
    "socket": socket_pair,
    "shared pipe": shared_pair,
    "threads": thread_pair,
}
Make = Callable[..., Pair]


@pytest.fixture(params=tuple(PAIRS))
def make(request: pytest.FixtureRequest) -> Iterator[Make]:
    made: list[Peer] = []

    def one(**given: int) -> Pair:
        leg, peer = PAIRS[request.param](**given)
        made.append(peer)
        return leg, peer

    yield one
    for peer in made:
        peer.close()


async def test_frames_go_both_ways_in_order(make: Make, listener: Listener) -> None:
    leg, peer = make()
    leg.start(listener.received, listener.ended)
    peer.say(b'{"id":1}\n{"id":2}\r\n\n{"id"')
    peer.say(b":3}\n")
    assert await listener.frame_count(3) == [b'{"id":1}', b'{"id":2}', b'{"id":3}']
    for at in range(200):
        leg.send(b'{"no":%d}' % at)
    expected = b"".join(b'{"no":%d}\n' % at for at in range(200))
    assert await anyio.to_thread.run_sync(peer.hear, len(expected)) == expected
    assert await leg.drained()
    assert leg.waiting_bytes == 0
    await leg.aclose()
    assert listener.ends == []


async def test_eight_mebibytes_pass_in_each_direction_at_once(make: Make, listener: Listener) -> None:
    leg, peer = make()
    line = bytes(range(32, 127)) * (8 * 1024 * 1024 // 95)
    leg.start(listener.received, listener.ended)
    leg.send(line)
    assert leg.waiting_bytes > 0, "a blocked pipe must not block the loop"
    speaker = threading.Thread(target=peer.say, args=(line + b"\n",))
    speaker.start()
    assert await anyio.to_thread.run_sync(peer.hear, len(line) + 1) == line + b"\n"
    assert await listener.frame_count(1) == [line]
    speaker.join()
    assert await leg.drained()
    await leg.aclose()


async def test_a_line_split_at_every_byte_is_one_frame(make: Make, listener: Listener) -> None:
    leg, peer = make()
    leg.start(listener.received, listener.ended)
    for byte in b'{"id":1}\n':
        peer.say(bytes([byte]))
        await anyio.lowlevel.checkpoint()
    assert await listener.frame_count(1) == [b'{"id":1}']
    await leg.aclose()


async def test_over_the_limit_only_the_ends_are_kept_and_the_next_line_works(make: Make, listener: Listener) -> None:
    leg, peer = make(max_frame=100_000)
    leg.start(listener.received, listener.ended)
    line = b'{"id":7,' + b" " * 300_000 + b"}\n"
    await anyio.to_thread.run_sync(peer.say, line + b'{"id":8}\n')
    first, second = await listener.frame_count(2)
    assert isinstance(first, OversizedLine)
    assert first.startswith(b'{"id":7,')
    assert first.tail.endswith(b" }")
    assert first.size_bytes == len(line) - 1
    assert second == b'{"id":8}'
    await leg.aclose()


async def test_the_end_is_told_once_and_after_the_last_frame(make: Make, listener: Listener) -> None:
    leg, peer = make()
    leg.start(listener.received, listener.ended)
    peer.say(b"first\nlast")
    if isinstance(leg._writer, pipes._LoopWriter) and leg._writer._socket is not None:
        with socket.socket(fileno=os.dup(peer.write_fd)) as theirs:
            theirs.shutdown(socket.SHUT_WR)
    peer.hang_up(peer.write_fd)
    await listener.end()
    assert listener.frames == [b"first", b"last"]
    assert listener.frames_at_end == 2
    leg.send(b"still owed")
    assert await anyio.to_thread.run_sync(peer.hear, 11) == b"still owed\n"
    assert await leg.drained(), "what is owed is still written after the end of input"
    peer.hang_up(peer.read_fd)
    leg.send(b"lost")
    await leg.drained()
    await leg.aclose()
    assert len(listener.ends) == 1


async def test_a_reader_that_is_gone_ends_the_connection_once_and_what_it_said_is_heard(
    make: Make, listener: Listener
) -> None:
    leg, peer = make()
    leg.start(listener.received, listener.ended)
    if not isinstance(leg._reader, pipes._ThreadReader):
        leg.pause()
        peer.say(b"last words\n")
    peer.close()
    leg.send(b"into the void")
    if isinstance(leg._writer, pipes._LoopWriter):
        leg.send(b"again")
    leg.resume()
    await listener.end()
    leg.send(b"and again")
    assert not await leg.drained()
    assert leg.waiting_bytes == 0
    if not isinstance(leg._reader, pipes._ThreadReader):
        assert listener.frames == [b"last words"]
    await leg.aclose()
    assert len(listener.ends) == 1


async def test_a_paused_connection_feels_the_pressure_and_loses_nothing(make: Make, listener: Listener) -> None:
    leg, peer = make()
    leg.start(listener.received, listener.ended)
    peer.say(b"before\n")
    await listener.frame_count(1)
    leg.pause()
    lines = [b"%07d" % at for at in range(1_000_000)]
    said = threading.Event()

    def say() -> None:
        peer.say(b"".join(line + b"\n" for line in lines))
        said.set()

    speaker = threading.Thread(target=say)
    speaker.start()
    assert not await anyio.to_thread.run_sync(said.wait, 0.2), "8 MB fit into no pipe that nobody reads"
    leg.resume()
    assert await listener.frame_count(1_000_001) == [b"before", *lines]
    speaker.join()
    await leg.aclose()


async def test_closing_is_bounded_though_nobody_reads(make: Make, listener: Listener) -> None:
    leg, _peer = make()
    leg.start(listener.received, listener.ended)
    leg.send(b"x" * 3_000_000)
    with anyio.fail_after(30):
        await leg.aclose()
    leg.send(b"nothing happens")
    assert listener.ends == []


async def test_what_was_sent_before_the_start_is_written_at_the_start(make: Make, listener: Listener) -> None:
    leg, peer = make()
    leg.send(b"early")
    assert leg.waiting_bytes == 6
    leg.start(listener.received, listener.ended)
    assert await anyio.to_thread.run_sync(peer.hear, 6) == b"early\n"
    await leg.aclose()


async def test_a_pipe_of_the_host_stays_blocking_for_the_host(listener: Listener) -> None:
    theirs_in, write_fd = os.pipe()
    read_fd, theirs_out = os.pipe()
    shared_write, shared_read = os.dup(write_fd), os.dup(read_fd)
    leg = PipeLeg(read_fd, write_fd)
    leg.start(listener.received, listener.ended)
    assert os.get_blocking(shared_write)
    assert os.get_blocking(shared_read)
    await leg.aclose()
    for fd in (theirs_in, theirs_out, shared_read, shared_write):
        os.close(fd)


async def test_a_closed_connection_leaves_no_descriptor(make: Make, listener: Listener) -> None:
    def count() -> int:
        return sum(1 for _ in Path("/proc/self/fd").iterdir())

    leg, peer = make()
    leg.start(listener.received, listener.ended)
    before = count()
    peer.hang_up(peer.write_fd)
    peer.hang_up(peer.read_fd)
    await listener.end()
    await leg.aclose()
    with anyio.fail_after(30):
        while count() > before - 4:  # noqa: ASYNC110 - a reader thread closes its descriptor in its own time
            await anyio.sleep(0.01)


SPEAKER = """
import os, subprocess, sys
import anyio
from soothsayer_mcp.adapters.pipes import take_stdio

async def main():
    leg = take_stdio()
    print("a stray print")
    os.write(1, b"a stray write\\n")
    subprocess.run(["sh", "-c", "cat; echo a stray child"])
    done = anyio.Event()
    leg.start(lambda frames: [leg.send(b"re:" + each) for each in frames], lambda end: done.set())
    await done.wait()
    assert await leg.drained()
    await leg.aclose()

anyio.run(main)
"""


@pytest.mark.parametrize("kind", ["pipe", "file"])
def test_no_stray_print_write_or_child_reaches_the_host(kind: str, tmp_path: Path) -> None:
    answers = tmp_path / "out"
    if kind == "pipe":
        ran = subprocess.run(
            [sys.executable, "-c", SPEAKER], input=b"1\n2\n3", capture_output=True, timeout=60, check=True
        )
        stdout, stderr = ran.stdout, ran.stderr
    else:
        (tmp_path / "in").write_bytes(b"1\n2\n3")
        with (tmp_path / "in").open("rb") as given, answers.open("wb") as taken:
            ran = subprocess.run(
                [sys.executable, "-c", SPEAKER],
                stdin=given,
                stdout=taken,
                stderr=subprocess.PIPE,
                timeout=60,
                check=True,
            )
        stdout, stderr = answers.read_bytes(), ran.stderr
    assert stdout == b"re:1\nre:2\nre:3\n"
    assert sorted(stderr.splitlines()) == [b"a stray child", b"a stray print", b"a stray write"]


CLOSED = """
import os, sys
for fd in (0, 1):
    os.close(fd)
from soothsayer_mcp.adapters.pipes import take_stdio
leg = take_stdio()
report = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT)
assert report > 2, report
os.write(report, b"%d" % (os.fstat(0).st_rdev == os.stat("/dev/null").st_rdev))
"""


def test_a_closed_standard_descriptor_is_never_given_to_another_file(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", CLOSED, str(tmp_path / "report")], timeout=60, check=True)
    assert (tmp_path / "report").read_bytes() == b"1"
    assert stat.S_ISREG((tmp_path / "report").stat().st_mode)
