"""The same trace under the same policy gives every decision again; nothing but the trace is at hand."""

import contextlib
import json
import sqlite3
import tempfile
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, reject, settings
from hypothesis import strategies as st

from replaying import a_policy, loaded, record, replay
from soothsayer_mcp.adapters.policy_files.problems import LoadErrors
from soothsayer_mcp.model.json import JsonObject
from soothsayer_mcp.policy.policy import Policy
from whole_policies import a_file, rules_of

seeds = st.integers(0, 2**40).map(Random)
ASKING: JsonObject = {
    "soothsayer": "policy/v1",
    "name": "asking",
    "default": {"read": "ask", "other": "ask"},
    "arguments": {"undeclared": "allow", "no_schema": "allow"},
    "pins": {"changed": "ask"},
}
"""Whatever chance makes of the others: under this one every call is asked about."""
MASKED = "arguments were masked in the record"


def some_policy(folder: Path, random: Random) -> Policy | None:
    """A policy by chance, over a project's in some cases; `None` where chance made one that does not load."""
    project: JsonObject | None = None
    if random.random() < 0.3:
        whole = a_file(random, "p", leaves=True)
        project = {key: value for key, value in whole.items() if key not in {"labels", "risk"}}
        project["rules"] = [rule for rule in rules_of(whole) if isinstance(rule, dict) and "risk" not in rule]
    try:
        return loaded(folder, a_policy(random), project=project)
    except LoadErrors:
        return None


def assert_reproduced(told: dict[str, Any]) -> None:
    """No decision is another one now; one that read what the record masks is not told at all."""
    counts = told["counts"]
    assert (counts["looser"], counts["tighter"], counts["different"]) == (0, 0, 0), told["changed"]
    assert {one["why"] for one in told["changed"]} <= {MASKED}
    assert counts["same"] + counts["cannot tell"] == told["steps"]
    assert counts["cannot tell"] <= told["steps"] // 10


@settings(
    max_examples=15,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
@given(seeds)
def test_a_trace_under_its_own_policies_gives_every_decision_again(random: Random) -> None:
    """Runs with a past: history, budgets, flow, taint, risk, questions, calls in flight, and a changed policy."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        policies = [policy for policy in (some_policy(folder, random) for _ in range(2)) if policy is not None]
        if not policies:
            reject()
        record(folder, random, policies, calls=24)
        for file in folder.glob("*.yaml"):
            file.unlink()
        assert_reproduced(replay(folder))


@pytest.fixture(scope="module")
def thousand(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trace of a thousand steps under a dozen policies, none of which is a file any more."""
    folder, random = tmp_path_factory.mktemp("thousand"), Random(9)
    policies = [loaded(folder, ASKING)]
    while len(policies) < 12:
        policy = some_policy(folder, random)
        policies += [] if policy is None else [policy]
    record(folder, random, policies, calls=1_250)
    for file in folder.glob("*.yaml"):
        file.unlink()
    return folder


@pytest.mark.pitfall("P-TRACE-09")
def test_a_thousand_steps_are_decided_again_from_the_trace_alone(thousand: Path) -> None:
    told = replay(thousand)
    assert told["steps"] >= 1_000
    assert_reproduced(told)
    with contextlib.closing(sqlite3.connect(thousand / "trace-000001.db")) as db:
        rows = db.execute("SELECT effect, outcome, count(*) FROM steps GROUP BY effect, outcome").fetchall()
        found = {row[:2] for row in rows}
        read = "".join(text for (text,) in db.execute("SELECT text FROM payloads WHERE part = 'context'"))
    # What was decided again was worth it: each end is there, and each fact was read by some decision.
    assert {("allow", "succeeded"), ("allow", "failed"), ("allow", "unknown"), ("deny", "failed")} <= found
    assert {("ask", "succeeded"), ("ask", "failed")} <= found
    for fact in ("tallies", "origins", "counted", "links", "now", "flaws"):
        assert f'"{fact}":' in read, fact


def test_a_decision_that_its_record_tells_otherwise_is_found_among_a_thousand(thousand: Path) -> None:
    with contextlib.closing(sqlite3.connect(thousand / "trace-000001.db")) as db:
        run, no = db.execute(
            "SELECT s.run, s.no FROM steps s JOIN entries e ON e.run = s.run AND e.no = s.no WHERE s.effect = 'deny'"
            " AND e.body LIKE '%\"effect\":\"deny\"%' AND s.rule = 'default' LIMIT 1"
        ).fetchone()
        trigger, sql = db.execute(
            "SELECT name, sql FROM sqlite_master WHERE type = 'trigger' AND name = 'entries_no_update'"
        ).fetchone()
        where = "WHERE run = ? AND no = ? AND kind = 'step.refused'"
        [before] = db.execute(f"SELECT body FROM entries {where}", (run, no)).fetchone()
        body = json.loads(before)
        body["rules"] = [{"id": "t/another", "effect": "deny"}]
        db.execute(f"DROP TRIGGER {trigger}")
        db.execute(f"UPDATE entries SET body = ? {where}", (json.dumps(body), run, no))
        db.commit()
        try:
            told = replay(thousand, f"run:{run}")
        finally:
            db.execute(f"UPDATE entries SET body = ? {where}", (before, run, no))
            db.execute(sql)
            db.commit()
    assert [(one["no"], one["verdict"]) for one in told["changed"] if one["why"] != MASKED] == [(no, "different")]
