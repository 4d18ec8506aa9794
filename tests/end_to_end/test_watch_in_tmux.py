"""The real `watch` in a real terminal while a real proxy holds a call: answered there, the terminal left as it was."""

import json
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest

from asks.test_asking_a_host import ASKING, SCRIPT
from fidelity.rig import Rig, at, quickest_s
from needs import need_command
from soothsayer_mcp.adapters.faces import is_watched
from soothsayer_mcp.model.json import JsonObject
from soothsayer_mcp.testing.servers import wait_until


class Terminal:
    """A terminal with a shell in it, whose server is no child of ours: what runs there belongs to no host of ours."""

    def __init__(self, folder: Path) -> None:
        self._command = [need_command("tmux"), "-S", str(folder / "tmux"), "-f", "/dev/null"]
        self._tmux("new-session", "-d", "-x", "80", "-y", "24", "PS1='$ ' exec /bin/sh")

    def _tmux(self, *words: str) -> str:
        done = subprocess.run([*self._command, *words], check=True, capture_output=True, text=True, timeout=60)
        return done.stdout

    @property
    def screen(self) -> str:
        return self._tmux("capture-pane", "-p")

    def type(self, line: str) -> None:
        self._tmux("send-keys", "-l", line)
        self._tmux("send-keys", "Enter")

    def press(self, key: str) -> None:
        self._tmux("send-keys", key)

    def sees(self, text: str) -> None:
        try:
            wait_until(lambda: text in self.screen, text)
        except TimeoutError:
            pytest.fail(f"{text!r} was not seen on\n{self.screen}")

    def close(self) -> None:
        self._tmux("kill-server")


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Terminal]:
    made = Terminal(tmp_path)
    yield made
    made.close()


def test_a_held_call_goes_on_within_a_second_of_the_key_and_the_terminal_is_left_clean(
    terminal: Terminal, tmp_path: Path
) -> None:
    state, pid = tmp_path / "state", tmp_path / "pid"
    with Rig(tmp_path, SCRIPT, policy=ASKING) as rig:
        rig.host.initialize()
        # The shell tells its own id and becomes the program.
        watch = shlex.join([sys.executable, "-m", "soothsayer_mcp", "watch", "--screen", "asks", "--state", str(state)])
        line = f"stty -a >{tmp_path}/before; sh -c 'echo $$ >{pid}; exec {watch}'; echo ended $?; stty -a >{tmp_path}/"
        terminal.type(f"{line}after")
        terminal.sees("No question is open")
        wait_until(lambda: is_watched(state), "the heartbeat")
        for to in ("ann", "bob"):
            name = rig.host.ask("tools/call", {"name": "send", "arguments": {"to": to}})
            terminal.sees(f'to  "{to}"')
            terminal.sees("a allow once")
            if to == "bob":
                terminal.sees('to  was "ann"')  # What was allowed last.
            terminal.press("a")
            said = cast("JsonObject", json.loads(rig.host.answer(name)))
            assert at(said, "result", "content", 0, "text") == "sent"
            terminal.sees("allowed, once")
        assert [entry["channel"] for entry in rig.entries("approval.answered")] == ["watch", "watch"]
        assert quickest_s(state) < 1.0
        terminal.press("q")
        terminal.sees("ended 0")
        assert "No question is open" not in terminal.screen
        assert not is_watched(state)

        terminal.type(f"clear; {line}killed")
        terminal.sees("No question is open")
        os.kill(int(pid.read_text(encoding="ascii")), signal.SIGTERM)
        terminal.sees(f"ended {128 + signal.SIGTERM}")
        assert "No question is open" not in terminal.screen
        assert not is_watched(state)
        wait_until((tmp_path / "killed").exists, "the terminal's settings")
        before = (tmp_path / "before").read_text(encoding="ascii")
        for after in ("after", "killed"):
            wait_until(lambda after=after: (tmp_path / after).read_text(encoding="ascii") == before, "a clean terminal")
