import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest

from adapters.conftest import Listener
from soothsayer_mcp.adapters import processes
from soothsayer_mcp.adapters.launch import WORD_MAX, WORDS_KEPT, Launch, launch, printable
from soothsayer_mcp.adapters.processes import ServerProcess
from soothsayer_mcp.model.failure import Acted, Reason
from soothsayer_mcp.ports import PortError

pytestmark = pytest.mark.anyio

ECHO = "import sys\nfor line in sys.stdin.buffer: sys.stdout.buffer.write(line); sys.stdout.buffer.flush()"


def python(code: str, *args: str) -> tuple[str, ...]:
    return (sys.executable, "-c", code, *args)


def server(*argv: str, name: str = "echo", **more: object) -> Launch:
    return Launch(name=name, argv=argv, **more)  # pyright: ignore[reportArgumentType] - a shorthand of the tests


def is_gone(pid: int) -> bool:
    """A dead process whose parent has not asked yet is gone for our purpose."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rsplit(")", 1)[1].split()[0] in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return True


async def gone(pid: int, within_s: float = 30.0) -> None:
    with anyio.fail_after(within_s):
        while not is_gone(pid):  # noqa: ASYNC110 - no event tells the end of a stranger
            await anyio.sleep(0.01)


async def test_a_server_answers_and_ends_when_its_input_ends(
    listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "INPUT_END_S", 60.0)  # however busy this machine is
    leg = await ServerProcess(server(*python(ECHO)))()
    leg.start(listener.received, listener.ended)
    leg.send(b'{"id":1}')
    leg.send(b'{"id":2}')
    assert await listener.frame_count(2) == [b'{"id":1}', b'{"id":2}']
    pid = leg.child.pid
    with anyio.fail_after(30):
        await leg.aclose()
    assert is_gone(pid)
    assert leg.child.ended() == 0, "it was not killed"
    assert listener.ends == [], "who closes is not told of the end"


async def test_a_process_spawned_early_is_the_one_connected_to_and_the_next_is_another(listener: Listener) -> None:
    how = server(*python(ECHO))
    early = launch(how)
    connect = ServerProcess(how, first=early)
    first, second = await connect(), await connect()
    first.start(listener.received, listener.ended)
    first.send(b"hello")
    assert await listener.frame_count(1) == [b"hello"]
    assert first.child is early
    assert first.child.pid != second.child.pid
    await first.aclose()
    second.start(listener.received, listener.ended)
    await second.aclose()


async def test_a_death_tells_exit_code_and_last_words(listener: Listener) -> None:
    code = "import sys; print('first answer'); sys.stderr.write('token missing\\n\\x1b[31mgiving up'); sys.exit(3)"
    leg = await ServerProcess(server(*python(code)))()
    leg.start(listener.received, listener.ended)
    end = await listener.end()
    assert listener.frames == [b"first answer"]
    assert end.why == "exited with code 3"
    assert end.last_words == "token missing\n\\x1b[31mgiving up"
    await leg.aclose()
    assert len(listener.ends) == 1


async def test_a_killed_server_is_told_by_its_signal(listener: Listener) -> None:
    leg = await ServerProcess(server(*python(ECHO)))()
    leg.start(listener.received, listener.ended)
    os.kill(leg.child.pid, signal.SIGKILL)
    assert (await listener.end()).why == "was ended by SIGKILL"
    await leg.aclose()


async def test_a_server_that_only_closes_its_output_has_ended(listener: Listener) -> None:
    leg = await ServerProcess(server(*python("import os, sys; os.close(1); sys.stdin.read()")))()
    leg.start(listener.received, listener.ended)
    assert (await listener.end()).why == "closed its output"
    pid = leg.child.pid
    await leg.aclose()
    assert is_gone(pid)


async def test_the_death_of_the_leader_is_the_end_though_a_child_holds_its_output_open(listener: Listener) -> None:
    code = (
        "import subprocess, sys; "
        "p = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'], stdin=subprocess.DEVNULL); "
        "print(p.pid, flush=True)"
    )
    leg = await ServerProcess(server(*python(code)))()
    leg.start(listener.received, listener.ended)
    (orphan,) = await listener.frame_count(1)
    assert (await listener.end()).why == "exited with code 0"
    await leg.aclose()
    await gone(int(orphan))


STUBBORN = """
import os, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print(os.getpid(), flush=True)
while True:
    time.sleep(60)
"""


async def test_a_group_that_ignores_everything_is_killed_whole(listener: Listener) -> None:
    leg = await ServerProcess(server("sh", "-c", f'"{sys.executable}" -c "$1" & wait', "sh", STUBBORN))()
    leg.start(listener.received, listener.ended)
    (stubborn,) = await listener.frame_count(1)
    with anyio.fail_after(30):
        await leg.aclose()
    await gone(int(stubborn))
    assert is_gone(leg.child.pid)


async def test_closing_goes_on_though_its_caller_is_cancelled(listener: Listener) -> None:
    leg = await ServerProcess(server(*python(STUBBORN)))()
    leg.start(listener.received, listener.ended)
    (stubborn,) = await listener.frame_count(1)
    with anyio.move_on_after(0.05):
        await leg.aclose()
    await gone(int(stubborn))
    await leg.aclose()


OWNER = """
import sys, anyio
from soothsayer_mcp.adapters.launch import Launch, launch
from soothsayer_mcp.adapters.processes import ServerProcess

async def main():
    how = Launch(name="s", argv=("sh", "-c", 'python="$0"; "$python" -c "$1"', *sys.argv[2:]))
    connect = ServerProcess(how, first=launch(how))
    leg = await connect()
    ready = anyio.Event()
    leg.start(lambda frames: (print(frames[0].decode(), flush=True), ready.set()), lambda end: None)
    await ready.wait()
    match sys.argv[1]:
        case "crash":
            raise RuntimeError
        case "exit":
            sys.exit(0)
        case _:
            await anyio.sleep(30)

anyio.run(main)
"""


@pytest.fixture(params=["crash", "exit", "kill"])
def owner(request: pytest.FixtureRequest) -> Iterator[tuple[str, "subprocess.Popen[bytes]"]]:
    code = (
        STUBBORN if request.param != "kill" else STUBBORN.replace("while True:\n    time.sleep(60)", "sys.stdin.read()")
    )
    started = subprocess.Popen(
        [sys.executable, "-c", OWNER, request.param, sys.executable, code],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    yield request.param, started
    started.kill()
    started.communicate()


async def test_no_server_outlives_us_however_we_end(owner: tuple[str, "subprocess.Popen[bytes]"]) -> None:
    how, process = owner
    assert process.stdout is not None
    pid = int(await anyio.to_thread.run_sync(process.stdout.readline))
    assert not is_gone(pid) or how != "kill"
    if how == "kill":
        process.kill()
    await anyio.to_thread.run_sync(process.wait)
    await gone(pid)


@pytest.mark.pitfall("P-SECRET-04")
async def test_a_server_sees_the_base_list_and_what_its_entry_names(
    listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = {"PATH": os.environ["PATH"], "HOME": "/home/ada", "LC_ALL": "C.UTF-8", "TZ": "UTC", "LANG": "C.UTF-8"}
    secret = {"AWS_SECRET_ACCESS_KEY": "s1", "SOOTHSAYER_STATE": "/s", "SOOTHSAYER_KEY": "s2", "OTHER_TOKEN": "s3"}
    for name in tuple(os.environ):
        monkeypatch.delenv(name)
    for name, value in (ours | secret | {"TOKEN": "passed"}).items():
        monkeypatch.setenv(name, value)
    code = "import json, os; print(json.dumps(dict(os.environ)))"
    how = server(*python(code), env={"LEVEL": "warning", "TZ": "CET"}, pass_env=("TOKEN", "NOT_SET"))
    leg = await ServerProcess(how)()
    leg.start(listener.received, listener.ended)
    (dumped,) = await listener.frame_count(1)
    seen = json.loads(dumped)
    seen.pop("LC_CTYPE", None)  # set by Python itself at its start
    assert seen == ours | {"TOKEN": "passed", "LEVEL": "warning", "TZ": "CET"}
    await leg.aclose()


def test_all_of_our_environment_passes_only_under_its_unsafe_name() -> None:
    ours = {"PATH": "/bin", "SECRET": "s"}
    assert Launch(name="s", argv=("s",)).environment(ours) == {"PATH": "/bin"}
    assert Launch(name="s", argv=("s",), unsafe_pass_all_env=True).environment(ours) == ours


async def test_a_server_is_started_in_its_folder(listener: Listener, tmp_path: Path) -> None:
    leg = await ServerProcess(server(*python("import os; print(os.getcwd())"), cwd=str(tmp_path)))()
    leg.start(listener.received, listener.ended)
    assert await listener.frame_count(1) == [str(tmp_path).encode()]
    await leg.aclose()


@pytest.mark.parametrize(
    ("how", "parts"),
    [
        (
            server("no-such-command-here", env={"PATH": "/usr/bin:/bin"}),
            ("`no-such-command-here` is not on PATH (/usr/bin:/bin)", "full path", "`env`"),
        ),
        (server("/no/such/command"), ("/no/such/command is not there", "`command`")),
        (server("true", cwd="/no/such/folder"), ("folder /no/such/folder is not there", "`cwd`")),
        (server("/etc/passwd"), ("/etc/passwd may not be run", "permissions")),
        (server("/etc"), ("/etc is a folder", "program")),
    ],
)
async def test_a_server_that_cannot_start_says_why_and_how_to_mend_it(how: Launch, parts: tuple[str, ...]) -> None:
    with pytest.raises(PortError) as early:
        launch(how)
    connect = ServerProcess(how, first=early.value)
    for _ in range(2):
        with pytest.raises(PortError) as caught:
            await connect()
        assert (caught.value.reason, caught.value.acted) == (Reason.SERVER_UNREACHABLE, Acted.NO)
        for part in (*parts, "server echo"):
            assert part in caught.value.summary


async def test_a_script_whose_interpreter_is_missing_says_so(tmp_path: Path) -> None:
    script = tmp_path / "server"
    script.write_text("#!/no/such/interpreter\n")
    script.chmod(0o755)
    with pytest.raises(PortError, match="interpreter"):
        await ServerProcess(server(str(script)))()


def test_a_failed_start_leaves_no_descriptor() -> None:
    before = set(Path("/proc/self/fd").iterdir())
    with pytest.raises(PortError):
        launch(server("/no/such/command"))
    # What an earlier test left to be collected may be closed meanwhile.
    assert set(Path("/proc/self/fd").iterdir()) <= before


CHATTY = """
import os, sys
from soothsayer_mcp.adapters.launch import Launch, launch
child = launch(Launch(name="git", argv=tuple(sys.argv[1:]), label_stderr=True))
child.process.wait()
child.wait_for_words(20)
print(child.last_words)
"""


def test_standard_error_is_shown_under_the_servers_name_and_only_its_end_is_kept() -> None:
    code = "import sys\nfor at in range(5000): sys.stderr.write(f'line {at}\\n')\nsys.stderr.write('x' * 100_000)"
    ran = subprocess.run([sys.executable, "-c", CHATTY, *python(code)], capture_output=True, timeout=60, check=True)
    shown = ran.stderr.decode().splitlines()
    assert shown[:5000] == [f"[git] line {at}" for at in range(5000)]
    assert "".join(line.removeprefix("[git] ") for line in shown[5000:]) == "x" * 100_000
    kept = ran.stdout.decode().splitlines()
    assert len(kept) == WORDS_KEPT
    assert all(len(line) <= WORD_MAX for line in kept)


def test_control_and_invisible_characters_are_shown_as_escapes() -> None:
    assert printable("plain \u00e9 \u4e2d") == "plain \u00e9 \u4e2d"
    assert printable("\x1b[2J\x07\u202eabc\x9b\t|") == "\\x1b[2J\\x07\\u202eabc\\x9b\t|"
