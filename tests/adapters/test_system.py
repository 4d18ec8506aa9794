import os
import pwd
import signal
import subprocess
import sys
from pathlib import Path

import anyio
import pytest

from soothsayer_mcp.adapters.signals import on_signals
from soothsayer_mcp.adapters.system import (
    LOOKS_MAX,
    RandomIds,
    SystemClock,
    account,
    config_folder,
    look,
    state_folder,
)


def test_a_clock_tells_microseconds_and_never_goes_back() -> None:
    clock = SystemClock()
    assert abs(clock.now_us() - os.stat_result(Path("/proc/self").stat()).st_mtime * 1e6) < 3_600e6
    assert clock.monotonic_ns() <= clock.monotonic_ns()


def test_ids_are_fresh_hex() -> None:
    ids = RandomIds()
    made = {ids.step() for _ in range(1_000)} | {ids.token() for _ in range(1_000)}
    assert len(made) == 2_000
    assert all(len(each) == 16 and set(each) <= set("0123456789abcdef") for each in made)


FORKED = """
import os
from soothsayer_mcp.adapters.system import RandomIds
ids = RandomIds()
ids.token()
child = os.fork()
os.write(1, ids.token().encode() + b"\\n")
if child:
    os.waitpid(child, 0)
"""


def test_a_fork_repeats_no_id() -> None:
    ran = subprocess.run([sys.executable, "-c", FORKED], capture_output=True, text=True, timeout=60, check=True)
    first, second = ran.stdout.split()
    assert first != second


def test_the_state_folder_is_the_first_that_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    environ = {"SOOTHSAYER_STATE": "/from/environment"}
    assert state_folder("/typed", configured="/configured", environ=environ) == Path("/typed")
    assert state_folder(None, configured="/configured", environ=environ) == Path("/from/environment")
    assert state_folder(None, configured="/configured", environ={}) == Path("/configured")
    assert state_folder("relative", environ={}) == Path.cwd() / "relative"
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    assert state_folder(None, environ={}) == tmp_path / "state" / "soothsayer"
    assert config_folder() == tmp_path / "config" / "soothsayer"


def test_the_account_is_the_systems_and_not_the_environments(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("USER", "LOGNAME", "USERNAME"):
        monkeypatch.setenv(name, "somebody-else")
    assert account().id == f"os:{pwd.getpwuid(os.getuid()).pw_name}"
    assert account().how == "os_account"


def test_links_are_followed_up_to_the_nearest_existing_parent(tmp_path: Path) -> None:
    real = tmp_path / "real"
    real.mkdir()
    (tmp_path / "link").symlink_to(real)
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere" / "file")
    (real / "up").symlink_to("..")
    paths = {
        str(real): str(real),
        str(tmp_path / "link" / "new" / "file.txt"): str(real / "new" / "file.txt"),
        str(tmp_path / "dangling"): str(tmp_path / "nowhere" / "file"),
        str(tmp_path / "link" / "up" / "x"): str(tmp_path / "x"),
        str(tmp_path / "link" / ".." / "x"): str(tmp_path / "x"),
    }
    assert look(list(paths)).links == paths


def test_what_cannot_be_followed_is_absent(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "a").symlink_to(tmp_path / "b")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    hopeless = ["relative", "", "/zero\x00byte", "/" + "x" * 5_000, "/" + "x" * 300, "/\ud800"]
    assert look([*hopeless, str(tmp_path / "loop"), str(tmp_path / "a" / "file")]).links == {}


def test_only_so_many_paths_are_looked_up(tmp_path: Path) -> None:
    assert len(look([str(tmp_path / str(at)) for at in range(LOOKS_MAX + 10)]).links) == LOOKS_MAX


def test_signals_that_ask_us_to_end_are_heard_on_the_loop_and_then_put_back() -> None:
    def mine(_number: int, _frame: object) -> None:
        raise AssertionError

    async def hear() -> list[str]:
        heard: list[str] = []
        news = anyio.Event()

        def ending(name: str) -> None:
            heard.append(name)
            if len(heard) == 3:
                news.set()

        restore = on_signals(ending)
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
            os.kill(os.getpid(), number)
        with anyio.fail_after(30):
            await news.wait()
        restore()
        return heard

    before = signal.signal(signal.SIGHUP, mine)
    try:
        assert sorted(anyio.run(hear)) == ["SIGHUP", "SIGINT", "SIGTERM"]
        assert signal.getsignal(signal.SIGHUP) is mine
    finally:
        signal.signal(signal.SIGHUP, before)


EARLY = """
import atexit, signal, sys
from soothsayer_mcp.adapters.system import exit_on_signals
atexit.register(print, "left in order")
exit_on_signals()
print("ready", flush=True)
signal.pause()
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_before_there_is_a_loop_ends_us_in_order(number: signal.Signals) -> None:
    with subprocess.Popen([sys.executable, "-c", EARLY], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(number)
        assert process.stdout.read() == "left in order\n"
        assert process.wait(60) == 128 + number
