"""Running commands: in this process through the program's own edge, or as a real one."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from commands import Ended, Soothsayer
from seeding import sample
from soothsayer_mcp.__main__ import run


@pytest.fixture(scope="session")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("state")
    sample(folder).db.close()
    return folder


@pytest.fixture
def soothsayer(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, state: Path) -> Soothsayer:
    """Run a command line on the sample trace, in this process."""
    for name in [name for name in os.environ if name.startswith("SOOTHSAYER_")]:
        monkeypatch.delenv(name)
    for name in ("NO_COLOR", "FORCE_COLOR", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SOOTHSAYER_STATE", str(state))

    def soothsay(*argv: str) -> Ended:
        code = run(argv)
        captured = capsys.readouterr()
        return Ended(code=int(code), out=captured.out, err=captured.err)

    return soothsay


@pytest.fixture
def process(state: Path, tmp_path: Path) -> Iterator[Callable[..., "subprocess.Popen[bytes]"]]:
    """Start a real process on the sample trace, with nothing in its environment but what is given."""
    all_started: list[subprocess.Popen[bytes]] = []

    def start(*argv: str, **environ: str) -> "subprocess.Popen[bytes]":
        started = subprocess.Popen(
            [sys.executable, "-m", "soothsayer_mcp", *argv],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={
                "PATH": os.environ["PATH"],
                "HOME": str(tmp_path),
                "SOOTHSAYER_STATE": str(state),
                **environ,
            },
        )
        all_started.append(started)
        return started

    yield start
    for started in all_started:
        with started:  # closes its pipes and waits for it
            started.kill()
