"""Tests, edits and pushes in every order, on the real store, through the real sentence and real files."""

import json
import sqlite3
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from policy_kit import policy_from, tool
from policy_kit import step as make_step
from recording import BINDING, bind, open_store, run
from soothsayer_mcp.adapters.lab import EVIDENCE_CONDITIONS
from soothsayer_mcp.adapters.probes.probes import LocalProbes
from soothsayer_mcp.adapters.probes.settings import ProbeSettings
from soothsayer_mcp.adapters.store.debts import load_debts
from soothsayer_mcp.adapters.store.sqlite import SqliteStore
from soothsayer_mcp.adapters.system import RandomIds, SystemClock, look
from soothsayer_mcp.gathering import Inspection
from soothsayer_mcp.governor import Governor
from soothsayer_mcp.model.call import Client, Digest, RunId
from soothsayer_mcp.model.decision import Mode
from soothsayer_mcp.model.failure import Reason
from soothsayer_mcp.model.json import JsonObject, compact
from soothsayer_mcp.model.outcome import Returned
from soothsayer_mcp.model.step import ClosedStep, RecordedStep
from soothsayer_mcp.ports import Call

POLICY = """\
default: {read: allow, other: deny, checked: allow}
servers: {dev: {files: local}}
labels:
  - {tools: "dev.write", does: write, touches: file(args.path)}
  - {tools: "dev.run", does: exec, ok_when: 'result.exit_code == 0', touches: [], verify: none}
  - {tools: "dev.push", does: share, touches: remote, verify: none}
rules:
  - allow: "Edits."
    tools: "dev.write"
    verify: [{artifact: {file: "${args.path}", exists: true}}]
  - {allow: "The tests.", tools: "dev.run", args: {command: {is: test}}}
  - allow: "Push."
    tools: "dev.push"
    require:
      - step: {tools: "dev.run", args: {command: {is: test}}, not_before: last_write(file(workspace)),
               unchanged: ["${workspace}/*.py"], ONCE}
"""
OPS = ("test", "edit well", "edit badly", "edit by hand", "put back by hand", "push", "restart", "forget")
RUNS = ("one host", "another host")


class Desk:
    """A tool server on a folder, and what should be true of it, told apart from how it is found out."""

    def __init__(self, folder: Path, *, once: bool, across: bool = False) -> None:
        self.folder = folder
        self.work = folder / "work"
        self.work.mkdir()
        self.app = self.work / "app.py"
        self.app.write_text("good")
        self.once = once
        self.pushes = 0
        self.tested: str | None = None
        """What the files were when the latest tests passed; `None` when they failed, or none were run."""
        self.written = False
        """Whether anything was written through the proxy since those tests began."""
        self.used = False
        more = (", single_use: true" if once else "") + (", cross_run: true" if across else "")
        self.policy = policy_from(POLICY.replace(", ONCE", more), folder, workspace=str(self.work))
        self.tools = {
            name: tool(f"dev.{name}", properties=frozenset({"path", "content", "command"}))
            for name in ("write", "run", "push")
        }
        self.store = self._open()

    def _open(self) -> SqliteStore:
        store = open_store(self.folder / "trace")
        self.governor = Governor(
            policy=lambda: self.policy,
            store=store,
            tools=self,
            look=look,
            inspector=Inspection(
                held=lambda: store.held,
                probes=LocalProbes(ProbeSettings(roots=(str(self.work),))),
                conditions=EVIDENCE_CONDITIONS.compile,
                schema=lambda _schema: None,
                workspace=str(self.work),
                clock=SystemClock(),
                ids=RandomIds(),
            ),
            call_timeout_s=5.0,
        )
        return store

    async def forward(self, step: RecordedStep, call: Call) -> Returned:
        """Do what the tools of a server do."""
        call.sent = True
        arguments = step.proposal.arguments
        said: JsonObject = {}
        match step.proposal.tool:
            case "write":
                self.app.write_text(str(arguments["content"]))
            case "run":
                said = {"exit_code": 1 if "bad" in self.app.read_text() else 0}
            case _:
                self.pushes += 1
        result: JsonObject = {"content": [], "structuredContent": said}
        return Returned(raw=compact({"jsonrpc": "2.0", "id": 1, "result": result}), result=result)

    async def call(self, run_id: RunId, name: str, **arguments: str) -> ClosedStep:
        proposed = replace(make_step(self.tools[name], dict(arguments)), id=RandomIds().step(), run_id=run_id)
        closed = await self.governor.govern(proposed, Call())
        assert isinstance(closed, ClosedStep)
        return closed

    async def act(self, run_id: RunId, op: str, number: int) -> None:
        match op:
            case "test":
                passed = (await self.call(run_id, "run", command="test")).failure is None
                assert passed is ("bad" not in self.app.read_text())
                self.tested, self.written, self.used = self.app.read_text() if passed else None, False, False
            case "edit well" | "edit badly":
                content = f"{'good' if op == 'edit well' else 'bad'} {number}"
                assert (await self.call(run_id, "write", path=str(self.app), content=content)).failure is None
                self.written = True
            case "edit by hand":
                self.app.write_text(f"by hand {number}")
            case "put back by hand":
                self.app.write_text(self.tested or "good")
            case "restart":
                self.store.close()
                self.store = self._open()
            case "forget":
                self.forget(run_id)
            case _:
                await self.push(run_id)

    async def push(self, run_id: RunId) -> None:
        may = self.tested is not None and not self.written and self.app.read_text() == self.tested
        may = may and not (self.once and self.used)
        before = self.pushes
        closed = await self.call(run_id, "push")
        assert (closed.failure is None, self.pushes - before) == (may, int(may)), closed.failure
        if may:
            self.used = True
        elif self.tested is None:
            assert closed.failure is not None
            assert closed.failure.reason in {Reason.ABSENT, Reason.CONTRADICTED}
        else:
            assert closed.failure is not None
            assert closed.failure.reason in {Reason.STALE, Reason.CONSUMED}

    def forget(self, run_id: RunId) -> None:
        """Delete every evidence row: no debt and no duty goes with it."""
        [segment] = (self.folder / "trace").glob("trace-*.db")
        db = sqlite3.connect(segment, timeout=5.0, isolation_level=None)
        try:
            before = load_debts(db, run_id)
            db.execute("DELETE FROM evidence")
            assert load_debts(db, run_id) == before
        finally:
            db.close()


async def joined(store: SqliteStore, policy: str, *, client: str, workspace: str) -> RunId:
    """The automatic run of a host in a workspace."""
    binding = replace(BINDING, client=Client(name=client), workspace=workspace)
    run_id, failure = await store.bind_run(binding, Digest(policy))
    assert failure is None
    return run_id


def play(ops: Sequence[str], *, once: bool, across: bool = False) -> None:
    with tempfile.TemporaryDirectory() as folder:
        desk = Desk(Path(folder).resolve(), once=once, across=across)

        async def body() -> None:
            run_id = await bind(desk.store)
            for number, op in enumerate(ops):
                if op in RUNS:
                    client = BINDING.client.name if op == RUNS[0] else op
                    run_id = await joined(desk.store, desk.policy.digest, client=client, workspace=BINDING.workspace)
                elif op == "restart":
                    await desk.act(run_id, op, number)
                    assert across or await bind(desk.store) == run_id
                else:
                    await desk.act(run_id, op, number)

        try:
            run(body)
        finally:
            desk.store.close()


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(ops=st.lists(st.sampled_from(OPS), min_size=1, max_size=12), once=st.booleans())
@example(ops=["test", "push", "push", "restart", "push"], once=True)
@example(ops=["test", "edit well", "push", "test", "push"], once=False)
@example(ops=["test", "edit by hand", "push", "put back by hand", "push"], once=False)
@example(ops=["test", "edit well", "put back by hand", "push"], once=False)
@example(ops=["test", "push", "forget", "push", "restart", "push", "test", "push"], once=True)
def test_no_order_of_tests_edits_and_pushes_lets_stale_or_spent_evidence_pass(ops: list[str], *, once: bool) -> None:
    play(ops, once=once)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(ops=st.lists(st.sampled_from(OPS + RUNS), min_size=1, max_size=14), once=st.booleans())
@example(ops=["test", RUNS[1], "push", RUNS[0], "push"], once=True)
@example(ops=["test", RUNS[1], "edit well", RUNS[0], "push"], once=False)
@example(ops=["test", RUNS[1], "edit badly", "test", RUNS[0], "push"], once=False)
@example(ops=["test", RUNS[1], "edit by hand", "push", "restart", "put back by hand", "push"], once=True)
def test_where_a_step_of_any_run_serves_all_runs_together_let_pass_what_one_run_would(
    ops: list[str], *, once: bool
) -> None:
    play(ops, once=once, across=True)


def test_a_step_of_another_run_serves_only_where_policy_says_so(tmp_path: Path) -> None:
    for across in (False, True):
        folder = tmp_path / str(across)
        folder.mkdir()
        desk = Desk(folder, once=False, across=across)

        async def body(desk: Desk = desk, across: bool = across) -> None:
            await desk.act(await bind(desk.store), "test", 0)
            other = await joined(desk.store, desk.policy.digest, client="another host", workspace=BINDING.workspace)
            pushed = await desk.call(other, "push")
            assert (pushed.failure is None) is across
            if across:
                [cited] = pushed.support.evidence
                assert cited.across
                assert str(cited.source["step"]).endswith(".1")
                assert not str(cited.source["step"]).startswith(other)

        try:
            run(body)
        finally:
            desk.store.close()


def test_tests_that_were_only_observed_are_no_pass_once_policy_is_enforced(tmp_path: Path) -> None:
    desk = Desk(tmp_path, once=False)
    enforced = desk.policy
    observed = policy_from(POLICY.replace(", ONCE", ""), tmp_path, workspace=str(desk.work), mode=Mode.OBSERVE)

    async def body() -> None:
        run_id = await bind(desk.store)
        desk.app.write_text("bad")
        desk.policy = observed
        assert (await desk.call(run_id, "run", command="test")).failure is None
        assert (await desk.call(run_id, "push")).failure is None
        desk.policy = enforced
        pushed = await desk.call(run_id, "push")
        assert pushed.failure is not None
        assert pushed.failure.reason is Reason.ABSENT
        desk.app.write_text("good")
        await desk.act(run_id, "test", 1)
        await desk.act(run_id, "push", 2)

    try:
        run(body)
    finally:
        desk.store.close()


@pytest.mark.parametrize("apart", ["workspace", "principal", "policy", "observed"])
def test_a_step_of_another_workspace_principal_or_policy_or_one_only_observed_serves_no_other_run(
    tmp_path: Path, apart: str
) -> None:
    desk = Desk(tmp_path, once=False, across=True)
    same, text = desk.policy, POLICY.replace(", ONCE", ", cross_run: true")
    more = policy_from(text + '  - {deny: "Never.", tools: "dev.never"}\n', tmp_path, workspace=str(desk.work))
    observed = policy_from(text, tmp_path, workspace=str(desk.work), mode=Mode.OBSERVE)
    assert (more.digest == same.digest, observed.digest == same.digest) == (False, True)

    async def body() -> None:
        desk.policy = {"policy": more, "observed": observed}.get(apart, same)
        await desk.act(await bind(desk.store), "test", 0)
        desk.policy = same
        binding = replace(BINDING, client=Client(name="another host"))
        if apart == "workspace":
            binding = replace(binding, workspace=f"{BINDING.workspace}/below")
        elif apart == "principal":
            binding = replace(binding, principal=replace(BINDING.principal, id="os:bob"))
        other, failure = await desk.store.bind_run(binding, same.digest)
        assert failure is None
        pushed = await desk.call(other, "push")
        assert pushed.failure is not None
        assert pushed.failure.reason is Reason.ABSENT

    try:
        run(body)
    finally:
        desk.store.close()


def test_obligations_are_fixed_with_the_intent_and_outlive_every_evidence_row(tmp_path: Path) -> None:
    desk = Desk(tmp_path, once=False)

    async def body() -> RunId:
        run_id = await bind(desk.store)
        for number, op in enumerate(("edit well", "test", "push", "forget", "push")):
            await desk.act(run_id, op, number)
        return run_id

    try:
        run_id = run(body)
        [segment] = (tmp_path / "trace").glob("trace-*.db")
        db = sqlite3.connect(segment)
        try:
            intents = [
                json.loads(row[0])
                for row in db.execute(
                    "SELECT body FROM entries WHERE run = ? AND kind = 'step.intent' ORDER BY pos", (run_id,)
                )
            ]
        finally:
            db.close()
    finally:
        desk.store.close()
    owed = [intent.get("obligations", []) for intent in intents]
    assert owed == [["verify:artifact"], [], ["require:step"], ["require:step"]]
