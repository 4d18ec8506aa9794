"""The first minutes of somebody who has cloned the repository: `make demo` and `make test`, and what they say."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from needs import need, need_command

ROOT = Path(__file__).parent.parent.parent
LEFT_OUT = shutil.ignore_patterns(
    ".git", ".venv", ".servers", ".*_cache", ".hypothesis", "__pycache__", "dist", "node_modules", "results"
)
QUICK = "tests/run"
"""A part of the suite that runs in a second: the whole one inside itself would have no end."""


def make(
    *arguments: str, where: Path, path: str = os.defpath, timeout_s: float = 50
) -> subprocess.CompletedProcess[str]:
    """Run make with nothing in its environment but what an empty one has."""
    keep = {name: value for name, value in os.environ.items() if name.startswith("PIP_")}
    environment = {**keep, "PATH": path, "HOME": str(where / "home"), "LANG": "C.UTF-8"}
    return subprocess.run(
        [need_command("make"), "--no-print-directory", *arguments],
        cwd=where,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=timeout_s,
    )


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A copy of the tree, as a fresh clone would be."""
    return Path(shutil.copytree(ROOT, tmp_path / "clone", ignore=LEFT_OUT, symlinks=True))


def targets() -> set[str]:
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    found = re.search(r"^\.PHONY: (.+)$", text, re.MULTILINE)
    assert found is not None
    return set(found[1].split())


def test_make_alone_tells_what_every_target_is_for() -> None:
    done = make(where=ROOT)
    assert done.returncode == 0
    told = set(re.findall(r"^make ([a-z-]+) ", done.stdout, re.MULTILINE))
    assert told == targets() - {"help"}


def test_without_a_fit_python_there_is_one_line_with_the_remedy(clone: Path) -> None:
    done = make("test", "PYTHON=", where=clone)
    assert done.returncode == 2
    line, *rest = done.stderr.splitlines()
    assert line.startswith("make: Python 3.11 or newer was not found: ")
    assert "make PYTHON=/path/to/python3 test" in line
    assert all(text.startswith("make: ***") for text in rest)
    assert not (clone / ".venv").exists()


def test_the_script_of_the_build_machine_is_a_script() -> None:
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    done = subprocess.run([need_command("bash"), "-n", script], capture_output=True, check=False, timeout=60)
    assert done.returncode == 0
    assert script.read_text(encoding="utf-8").splitlines()[-1] == "exec make check"


def fresh_installs_are_wanted() -> None:
    """They take minutes and ask the package index, so they run where they are asked for."""
    asked = "make" in os.environ.get("SOOTHSAYER_REQUIRE", "").split(",")
    need("make", found=asked, remedy="fresh installs run with SOOTHSAYER_REQUIRE=make")


@pytest.mark.timeout(900)
def test_a_fresh_clone_runs_the_demo_and_the_tests_and_installs_once(clone: Path) -> None:
    fresh_installs_are_wanted()
    path = f"{Path(sys.executable).resolve().parent}{os.pathsep}{os.defpath}"
    for arguments in (("demo",), ("test", f"ARGS={QUICK}")):
        done = make(*arguments, where=clone, path=path, timeout_s=420)
        assert done.returncode == 0, done.stdout + done.stderr
    again = make("--question", ".venv/.ready", ".venv/.ready-test", where=clone, path=path)
    assert again.returncode == 0, "a second run would install again"


WITHOUT_ENSUREPIP = """#!/bin/sh
# A Python whose venv cannot put a pip into what it makes, as some systems ship it.
case "$*" in
  "-m venv .venv") mkdir -p .venv/bin && exit 1 ;;
esac
exec {python} "$@"
"""


@pytest.mark.timeout(900)
def test_a_python_without_ensurepip_is_enough(clone: Path, tmp_path: Path) -> None:
    fresh_installs_are_wanted()
    wrapper = tmp_path / "python3"
    wrapper.write_text(WITHOUT_ENSUREPIP.format(python=Path(sys.executable).resolve()), encoding="utf-8")
    wrapper.chmod(0o755)
    done = make("test", f"ARGS={QUICK}", f"PYTHON={wrapper}", where=clone, timeout_s=420)
    assert done.returncode == 0, done.stdout + done.stderr
    bare = subprocess.run([clone / ".venv/bin/python", "-m", "pip", "--version"], capture_output=True, check=False)
    assert bare.returncode != 0, "there is a pip inside after all, so this showed nothing"
