"""Traces made by hand for tests of reading: the schema of the store, rows as the writer leaves them."""

import hashlib
import json
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from soothsayer_mcp.adapters.store.schema import APPLICATION_ID, FORMAT, LIVE, READ_FROM, SHAPE, TABLES
from soothsayer_mcp.model.json import Json

WRITER = "a1f0c2d97be34c55"
NOON_US = 1_795_514_400_000_000
"""2026-11-24 10:00:00 UTC."""


@dataclass
class Seed:
    """A trace being made."""

    db: sqlite3.Connection
    at_us: int = NOON_US
    seq: int = 0
    pos: int = 0
    prev: str = "0" * 64
    steps: dict[str, int] = field(default_factory=dict[str, int])

    def entry(self, kind: str, fields: Mapping[str, Json], *, run: str | None = None, no: int | None = None) -> int:
        """Append one entry, hashed and chained, and tell its sequence number."""
        body: dict[str, Json] = {"v": 1, "writer": WRITER, "seq": self.seq, "prev": self.prev, "at": "", "kind": kind}
        if run is not None:
            body["run"] = run
        if no is not None:
            body["no"] = no
        text = json.dumps({**body, **fields}, separators=(",", ":"), ensure_ascii=False)
        leaf = hashlib.sha256(b"\0" + text.encode()).digest()
        self.db.execute(
            "INSERT INTO entries VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (self.pos, WRITER, self.seq, self.at_us, kind, run, no, leaf, text),
        )
        self.prev, self.seq, self.pos = leaf.hex(), self.seq + 1, self.pos + 1
        return self.seq - 1

    def payload(self, seq: int, part: str, text: str) -> dict[str, Json]:
        """Keep what was said, and tell the field that stands in the entry."""
        self.db.execute(
            "INSERT INTO payloads(writer, seq, part, at, salt, text) VALUES(?, ?, ?, ?, ?, ?)",
            (WRITER, seq, part, self.at_us, b"0" * 16, text),
        )
        return {"digest": "sha256:" + "c0" * 32, "bytes": len(text.encode(errors="replace")), "mode": "redacted"}

    def policy(self, name: str = "guarded", digest: str = "5c1e44" + "0" * 58) -> int:
        """Load a policy."""
        self.entry("policy.loaded", {"policy": f"sha256:{digest}", "name": name, "rules": 4})
        self.db.execute(
            "INSERT INTO policies(digest, name, at) VALUES(?, ?, ?)", (f"sha256:{digest}", name, self.at_us)
        )
        return int(self.db.execute("SELECT max(n) FROM policies").fetchone()[0])

    def run(
        self,
        run: str,
        *,
        principal: str = "os:ada",
        host: str = "claude-code",
        policy: int = 1,
        intent: str = "",
        workspace: str = "/home/ada/app",
    ) -> str:
        """Open a run."""
        fields: dict[str, Json] = {"principal": {"id": principal, "how": "os_account"}}
        if intent:
            fields["intent"] = {"by": "human", "text": self.payload(self.seq, "intent", intent)}
        self.entry("run.opened", fields, run=run)
        self.db.execute(
            "INSERT INTO runs(id, state, principal, host, policy, opened_at, last_at, workspace)"
            " VALUES(?, 'open', ?, ?, ?, ?, ?, ?)",
            (run, principal, host, policy, self.at_us, self.at_us, workspace),
        )
        return run

    def step(
        self,
        run: str,
        call: str = "files.read_file",
        *,
        effect: str = "allow",
        rule: str | None = "edits-in-tree",
        outcome: str | None = "succeeded",
        failure: str | None = None,
        reason: str | None = None,
        acted: str | None = "yes",
        args: str | None = '{"path":"src/app.py"}',
        result: str | None = '{"content":[]}',
        said: str | None = None,
        does: str = "read",
        would: str | None = None,
        next_step: str = "continue",
        dur_us: int | None = 2_480,
        tool_us: int | None = 1_904,
        cause: str = "agent",
        findings: tuple[tuple[str, str, str], ...] = (),
        policy: int = 1,
        rule_text: str = "",
    ) -> str:
        """Record one step, and tell its name."""
        no = self.steps[run] = self.steps.get(run, 0) + 1
        self.at_us += 1_000_000
        server, _, tool = call.partition(".")
        first = "step.intent" if outcome != "failed" or acted != "no" or tool_us else "step.refused"
        decided: dict[str, Json] = {
            "server": server,
            "tool": tool,
            "does": does.split(),
            "cause": cause,
            "effect": effect,
            "mode": "observe" if would else "enforce",
            "rules": [{"id": rule, "effect": effect, "text": rule_text}] if rule else [],
        }
        if args is not None:
            decided["args"] = self.payload(self.seq, "args", args)
        ending: dict[str, Json] = {"next": next_step, "dur_us": dur_us or 0}
        if failure:
            ending |= {"failure": failure, "reason": reason}
        if first == "step.refused":
            if said is not None:
                ending["said"] = self.payload(self.seq, "said", said)
            self.entry(first, decided | ending, run=run, no=no)
        else:
            self.entry(first, decided, run=run, no=no)
            for check, answer, level in findings:
                self.entry("step.finding", {"check": check, "finding": answer, "level": level}, run=run, no=no)
            if outcome is not None:
                if result is not None:
                    ending["result"] = self.payload(self.seq, "result", result)
                if said is not None:
                    ending["said"] = self.payload(self.seq, "said", said)
                ending |= {"outcome": outcome, "acted": acted, "tool_us": tool_us or 0, "store_us": 310}
                self.entry("step.outcome", ending, run=run, no=no)
        span = hashlib.sha256(f"{run}.{no}".encode()).hexdigest()[:16]
        self.db.execute(
            "INSERT INTO steps(run, no, span, writer, at, cause, server, tool, does, policy, effect, would, rule,"
            " outcome, acted, failure, reason, next, dur_us, tool_us)"
            " VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                run,
                no,
                span,
                WRITER,
                self.at_us,
                cause,
                server,
                tool,
                does,
                policy,
                effect,
                would,
                rule,
                outcome,
                acted,
                failure,
                reason,
                next_step if outcome else None,
                dur_us if outcome else None,
                tool_us if outcome else None,
            ),
        )
        self.db.execute(
            "UPDATE runs SET last_at = ?, steps = steps + 1, failed = failed + ?, unknown = unknown + ? WHERE id = ?",
            (self.at_us, outcome == "failed", outcome == "unknown", run),
        )
        self.db.commit()
        return f"{run}.{no}"

    def approval(self, run: str, no: int, *, rule: str, state: str, wait_us: int | None = None, by: str = "") -> None:
        """Ask a person."""
        identity = hashlib.sha256(f"{run}.{no}.{rule}.{state}".encode()).hexdigest()[:16]
        answered = None if wait_us is None else self.at_us + wait_us
        self.db.execute(
            "INSERT INTO approvals(id, run, no, about, rule, call, asked_at, expires_at, state, answered_at,"
            " answered_by, channel) VALUES(?, ?, ?, 'call', ?, 'hmac:00', ?, ?, ?, ?, ?, 'terminal')",
            (identity, run, no, rule, self.at_us, self.at_us + 600_000_000, state, answered, by or None),
        )
        self.db.execute("UPDATE steps SET asked = 1 WHERE run = ? AND no = ?", (run, no))
        self.db.commit()


def seed(state_dir: Path) -> Seed:
    """Make an empty trace in a state folder."""
    state_dir.mkdir(parents=True, exist_ok=True)
    db = sqlite3.connect(state_dir / LIVE.format(1))
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = OFF")
    db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    db.execute(f"PRAGMA user_version = {FORMAT}")
    db.executescript(TABLES)
    db.executemany(
        "INSERT INTO meta VALUES(?, ?)",
        [("store", "7d" * 16), ("first_pos", "0"), ("read_from", str(READ_FROM)), ("segment", "1"), ("shape", SHAPE)],
    )
    made = Seed(db=db)
    made.entry("writer.opened", {"store": "7d" * 16, "segment": 1})
    made.policy()
    db.commit()
    return made


D3A0 = "d3a0f92f3577b34da6a3ce929d0e0e47"
D3B1 = "d3b1f92f3577b34da6a3ce929d0e0e47"


def sample(state_dir: Path) -> Seed:
    """The trace of the sample pages: one step of each sort."""
    made = seed(state_dir)
    made.run(D3A0, intent="publish 1.5.0")
    made.step(D3A0, "files.read_file", findings=(("schema:output", "kept", "E1"),))
    made.step(
        D3A0,
        "files.read_file",
        args='{"path":"../.ssh/id_ed25519"}',
        effect="deny",
        rule="keys-stay-here",
        outcome="failed",
        failure="policy_denied",
        reason="rule_denied",
        acted="no",
        said="Denied by policy rule keys-stay-here: key files never leave this machine. Nothing was sent.",
        tool_us=None,
        dur_us=310,
    )
    made.step(D3A0, "files.write_file", does="write", findings=(("artifact:src/app.py", "kept", "E3"),))
    made.step(
        D3A0,
        "k8s.deploy",
        outcome="failed",
        failure="verification_failed",
        reason="check_broken",
        findings=(("readback:image", "broken", "E2"),),
        dur_us=62_000_000,
        next_step="stop",
    )
    made.step(
        D3A0,
        "bank.pay",
        does="pay",
        outcome="unknown",
        failure="timeout_or_budget_exceeded",
        reason="call_timeout",
        acted="maybe",
        dur_us=30_000_000,
        result=None,
    )
    made.step(
        D3A0,
        "ci.run_tests",
        outcome="failed",
        failure="tool_error",
        reason="tool_failed",
        acted="maybe",
        rule=None,
        does="unlabelled",
    )
    made.step(D3A0, "shell.run", does="exec", would="deny", rule="no-pipes")
    made.step(D3A0, "files.read_file", outcome=None, acted=None)
    made.run(D3B1, principal="token:ci", host="runner")
    made.step(D3B1, "files.list_directory", rule="reads")
    made.db.commit()
    return made
