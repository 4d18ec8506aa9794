"""Builds the wheel, installs it where nothing else is, and uses it there: what an editable install hides shows here."""

import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).parent.parent

CHECKS: tuple[tuple[str, ...], ...] = (
    ("soothsayer", "version"),
    ("soothsayer-mcp", "--help"),
    ("soothsayer", "policy", "check", "guarded"),
    ("python", "-m", "soothsayer_mcp", "version"),
)
"""Each must succeed: the scripts, the package data, and the module."""

EXPECTED = (
    "soothsayer_mcp/py.typed",
    "soothsayer_mcp/policies/guarded.yaml",
    "soothsayer_mcp/demo/policy.yaml",
)
"""What the wheel must hold beside modules."""


def run(*command: str | Path, where: Path = ROOT) -> None:
    """Run a command in a small environment of its own; print what it said when it fails."""
    keep = {"PATH", "HOME", "LANG", "TMPDIR", "SSL_CERT_FILE", "SYSTEMROOT"}
    environment = {name: value for name, value in os.environ.items() if name in keep or name.startswith("PIP_")}
    environment["SOOTHSAYER_STATE"] = str(where / "state")
    done = subprocess.run(
        [str(part) for part in command], cwd=where, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        said = (done.stdout + done.stderr).strip()
        raise SystemExit(f"{' '.join(map(str, command))} ended with {done.returncode}:\n{said}")


def installer() -> tuple[str, ...]:
    """Find a pip: this environment's own, else that of the Python which made it."""
    for python in (sys.executable, getattr(sys, "_base_executable", sys.executable)):
        has_pip = subprocess.run([python, "-m", "pip", "--version"], capture_output=True, check=False).returncode == 0
        if has_pip:
            return (python, "-m", "pip")
    raise SystemExit("pip was not found")


def main() -> int:
    """Build, look inside, install, use."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        run(sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", place / "dist")
        (wheel,) = (place / "dist").glob("*.whl")
        held = set(zipfile.ZipFile(wheel).namelist())
        missing = [name for name in EXPECTED if name not in held]
        if missing:
            raise SystemExit(f"the wheel lacks {', '.join(missing)}")
        run(sys.executable, "-m", "venv", "--without-pip", place / "clean")
        programs = place / "clean" / ("Scripts" if os.name == "nt" else "bin")
        python = programs / "python"
        run(*installer(), "--python", python, "install", "--quiet", "--disable-pip-version-check", wheel)
        for program, *arguments in CHECKS:
            run(programs / program, *arguments, where=place)
    print(f"the wheel installs and works ({', '.join(' '.join(check) for check in CHECKS)})")
    return 0


if __name__ == "__main__":
    sys.exit(main())
