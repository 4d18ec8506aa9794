"""What is compared: no proxy, a byte pump, and the proxy at each level of durability."""

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.connection import Connection

HERE = Path(__file__).parent
LEVELS = ("relaxed", "balanced", "strict")
DIRECT, PUMP = "direct", "pump"
NAMES = (DIRECT, PUMP, *LEVELS)


def rules(count: int, applying: int) -> str:
    """A policy of so many rules: one that allows the call, some that look at its arguments, the rest about others."""
    lines = [
        "soothsayer: policy/v1",
        "name: bench",
        "default: {read: ask, other: deny, checked: allow}",
        "arguments: {max_bytes: 4MB}",
        "rules:",
        '  - {allow: "The tool that is measured.", id: measured, tools: "bench.echo*"}',
    ]
    for number in range(1, count):
        if number < applying:
            lines.append(
                f'  - {{deny: "No text of this kind ({number}).", id: kind-{number}, tools: "bench.echo*", '
                f'args: {{text: {{in: ["forbidden {number}", "also forbidden {number}"]}}}}}}'
            )
        else:
            lines.append(
                f'  - {{deny: "Another tool ({number}).", id: other-{number}, tools: "bench.other_{number}", '
                f'args: {{text: {{glob: "*{number}*"}}}}}}'
            )
    return "\n".join(lines) + "\n"


class Stage:
    """A folder with an echo server, policies and a state folder for each proxy."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._count = 0
        self.server = self._compiled()
        self.policy = self.write_policy("policy.yaml", 100, 10)
        keep = ("PATH", "HOME", "LANG", "TMPDIR", "TZ")
        self.env = {name: os.environ[name] for name in keep if name in os.environ}

    @property
    def server_kind(self) -> str:
        return "C" if self.server[0].endswith("/echo") else "Python"

    def _compiled(self) -> tuple[str, ...]:
        compiler = shutil.which("cc")
        target = self.folder / "echo"
        if compiler is not None:
            made = subprocess.run(
                [compiler, "-O2", "-o", str(target), str(HERE / "echo.c")], check=False, capture_output=True
            )
            if made.returncode == 0:
                return (str(target),)
        return (sys.executable, "-S", "-E", str(HERE / "echo.py"))

    def write_policy(self, name: str, count: int, applying: int) -> Path:
        path = self.folder / name
        path.write_text(rules(count, applying), encoding="utf-8")
        return path

    def fresh_state(self) -> Path:
        self._count += 1
        return self.folder / f"state-{self._count}"

    def argv(self, name: str, *, tools: int = 1, state: Path | None = None, policy: Path | None = None) -> list[str]:
        """The command line of a contestant, over a server that lists so many tools."""
        server = [*self.server, str(tools)]
        if name == DIRECT:
            return server
        if name == PUMP:
            return [sys.executable, "-S", "-E", str(HERE / "pump.py"), *server]
        return [
            *(str(Path(sys.executable).with_name("soothsayer")), "proxy", "--name", "bench"),
            *("--policy", str(policy or self.policy), "--state", str(state or self.fresh_state())),
            *("--durability", name, "--", *server),
        ]

    def start(self, argv: Sequence[str]) -> Connection:
        self._count += 1
        return Connection(argv, env=self.env, log=self.folder / f"stderr-{self._count}.log")

    def last_words(self) -> str:
        """What contestants wrote on standard error, for whoever wonders why one failed."""
        logs = sorted(self.folder.glob("stderr-*.log"), key=lambda path: path.stat().st_mtime)
        return "\n".join(text for log in logs if (text := log.read_text(errors="replace")[-2000:]))
