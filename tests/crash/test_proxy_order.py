"""What the operating system sees of a call: synced intent, forward, answer of the tool, synced outcome, answer.

No double stands in between: `strace` notes the system calls of the real proxy and of its server, in their order.
"""

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from fidelity.rig import ALLOWING
from needs import need, need_command
from soothsayer_mcp.testing.hosts import RawHost

SERVER = Path(__file__).parent / "synced_server.py"
CALLS = 20
WATCHED = "write,writev,pwrite64,pwritev,sendto,sendmsg,fsync,fdatasync"
LOG = "/state/trace-000001.db-wal>"
RECEIVED = "/received>"
STARTED = re.compile(r"(\d+) +(\w+)\(\d+<([^>]*>)(.*)")
RESUMED = re.compile(r"(\d+) +<\.\.\. (\w+) resumed>.* = 0")


@dataclass(frozen=True, slots=True, kw_only=True)
class Act:
    """One system call: writing, at the moment it begins, or syncing, at the moment it has ended."""

    thread: int
    syncs: bool
    where: str
    text: str


def read_acts(path: Path) -> list[Act]:
    acts: list[Act] = []
    begun: dict[int, Act] = {}
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        started, resumed = STARTED.match(line), RESUMED.match(line)
        if started is not None:
            thread, name, where, text = int(started[1]), started[2], started[3], started[4].replace('\\"', '"')
            act = Act(thread=thread, syncs=name in {"fsync", "fdatasync"}, where=where, text=text)
            if not act.syncs or text.endswith("= 0"):
                acts.append(act)
            else:
                begun[thread] = act
        elif resumed is not None and resumed[2] in {"fsync", "fdatasync"}:
            acts.append(begun.pop(int(resumed[1])))
    return acts


def only(acts: list[Act], *, where: str, says: str) -> int:
    """The place of the one writing to a file or pipe that says this."""
    [place] = [n for n, act in enumerate(acts) if not act.syncs and where in act.where and says in act.text]
    return place


def first_in_log(acts: list[Act], says: str) -> int:
    return next(n for n, act in enumerate(acts) if act.where.endswith(LOG) and says in act.text)


def is_synced(acts: list[Act], *, before: int) -> bool:
    """Whether the newest thing that happened to the log was its sync."""
    return next(act.syncs for act in reversed(acts[:before]) if act.where.endswith(LOG))


def test_a_call_is_forwarded_after_its_intent_is_synced_and_answered_after_its_outcome_is(tmp_path: Path) -> None:
    strace = need_command("strace")
    probe = subprocess.run([strace, "-o", os.devnull, "true"], capture_output=True, check=False, timeout=60)
    need("ptrace", found=probe.returncode == 0, remedy="allow programs to trace those they start")
    noted = tmp_path / "noted"
    (tmp_path / "policy.yaml").write_text(ALLOWING, encoding="utf-8")
    words: list[str | Path] = [strace, "-f", "-y", "-s", "8192", "-o", noted, "-e", f"trace={WATCHED}"]
    words += [sys.executable, "-m", "soothsayer_mcp", "proxy", "--quiet", "--state", tmp_path / "state"]
    words += ["--name", "real", "--pass-env", "RECEIVED", "--policy", tmp_path / "policy.yaml"]
    words += ["--", sys.executable, "-I", "-S", SERVER]
    with RawHost(words, cwd=tmp_path, env={**os.environ, "RECEIVED": str(tmp_path / "received")}) as host:
        host.initialize()
        for number in range(CALLS):
            assert "result" in host.call("act", {"nonce": f"nonce-{number}."})
        host.end_input()
        assert host.exit_code() == 0
    acts = read_acts(noted)
    for number in range(CALLS):
        asked, did = f'"nonce":"nonce-{number}."', f'"did nonce-{number}."'
        forwarded = only(acts, where="pipe:", says=asked)
        received = only(acts, where=RECEIVED, says=f"nonce-{number}.")
        by_tool, by_proxy = [n for n, act in enumerate(acts) if "pipe:" in act.where and did in act.text]
        assert first_in_log(acts, asked) < forwarded < received < by_tool < first_in_log(acts, did) < by_proxy
        assert is_synced(acts, before=forwarded)
        assert is_synced(acts, before=by_proxy)
        assert acts[by_tool].thread != acts[by_proxy].thread
