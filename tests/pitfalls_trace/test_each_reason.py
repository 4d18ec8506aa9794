"""Each reason that exists is forced, on the real command where that can be done: one step, one end, one class."""

import re
import signal
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest

import soothsayer_mcp
from fidelity.rig import Rig, at, entries, notice, read
from placing import put
from recording import CLIENT, bind, open_store, opened, run
from soothsayer_mcp.adapters.store.lock import FileLock
from soothsayer_mcp.adapters.store.sqlite import SqliteStore
from soothsayer_mcp.adapters.system import RandomIds, account
from soothsayer_mcp.governor import Governor, Unrecorded
from soothsayer_mcp.model.call import RunId
from soothsayer_mcp.model.failure import REASONS, Reason
from soothsayer_mcp.model.json import Digest, JsonObject
from soothsayer_mcp.model.run import RunBinding, RunScope, RunState
from soothsayer_mcp.policy.policy import Policy
from soothsayer_mcp.ports import Call
from soothsayer_mcp.testing.factories import make_policy
from soothsayer_mcp.testing.factories import make_step as make_proposal
from soothsayer_mcp.testing.servers import Act, Script, die, error, in_life, result, tool, wait_path, wait_until
from soothsayer_mcp.testing.world import World

LATER: Final = frozenset({Reason.HELD})
"""Reasons that nothing gives yet: no call is held until its run completes."""

POLICY: Final = """
soothsayer: policy/v1
name: forcing
default: {read: deny, other: deny, checked: allow}
arguments: {undeclared: allow, no_schema: allow}
rules:
  - {deny: "Never this one.", id: never, tools: raw.forbidden}
  - {deny: "No keys.", id: keys, tools: raw.doubtful, args: {path: {under: "~/.ssh"}}}
  - {ask: "Somebody has to look.", id: look, tools: raw.asked}
  - {allow: "Not for long.", id: quick, tools: raw.silent, limit: {timeout: 200ms}}
  - {also: "No secrets of this one.", tools: raw.masked, redact: [{in: result, find: secret}]}
  - {allow: "What is left of them.", id: rest, tools: "raw.*", except: raw.nowhere}
"""

CONFIG: Final = """
soothsayer: config/v1
policy: [policy.yaml]
limits: {in_flight: 2}
mcpServers:
  raw: {command: %s, args: %s}
"""

OUTPUT: Final[JsonObject] = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
PLAIN: Final = (
    *("forbidden", "doubtful", "asked", "nowhere", "silent", "mute", "fails", "errs", "blank", "held", "plain"),
    *("masked", "swayed", "dies", "die"),
)


class Forcing(Rig):
    """A proxy under a policy that has an end for every tool; its server changes when it is started again."""

    def __init__(self, folder: Path) -> None:
        tools = [tool(name) for name in PLAIN] + [tool(name, outputSchema=OUTPUT) for name in ("wrong", "twice")]
        changed = [tool("dies"), tool("die", description="another one")]
        self.go = folder / "go"
        acts: dict[str, list[Act]] = {
            "tool:silent": [],
            "tool:mute": [],
            "tool:fails": [result('{"content":[],"isError":true}')],
            "tool:errs": [error('{"code":-32050,"message":"no"}')],
            "tool:blank": [result('"a text"')],
            "tool:held": [wait_path(self.go), result('{"content":[]}')],
            "tool:wrong": [result('{"content":[],"structuredContent":{"n":"x"}}')],
            "tool:masked": [result('{"content":[],"a":1,"a":"password=hunter22"}')],
            "tool:twice": [result('{"content":[],"structuredContent":{"n":1,"n":2}}')],
            "tool:dies": [die(3)],
            "tools/list": [
                in_life(number, result('{"tools":[' + ",".join(listed) + "]}"))
                for number, listed in ((1, tools), (2, changed))
            ],
        }
        made = Script(tools=tools, on=acts, at_start=[in_life(number, die(4)) for number in range(3, 9)])
        command, *words = made.command(folder)
        config = folder / "soothsayer.yaml"
        config.write_text(CONFIG % (command, words), encoding="utf-8")
        super().__init__(folder, made, policy=POLICY, config=config)
        self.host.initialize()
        assert "isError" not in str(self.host.call("plain"))

    def fences(self) -> None:
        """Have everything that was sent handled as far as it goes."""
        for _ in range(3):
            self.host.request("ping")

    @contextmanager
    def stuck(self) -> Generator[None]:
        """The record cannot be written meanwhile: somebody else stands in the turnstile."""
        lock = FileLock(self.state / "write.lock")
        lock.acquire()
        try:
            yield
        finally:
            lock.close()

    def other_run(self, to: RunState) -> RunId:
        """A run of the same account that takes no calls."""

        async def made(store: SqliteStore) -> RunId:
            binding = RunBinding(principal=account(), workspace=f"/elsewhere/{to}", client=CLIENT)
            run_id, _ = await store.bind_run(binding, Digest("sha256:" + "1" * 64))
            return run_id

        with opened(self.state) as store:
            run_id = run(lambda: made(store))
            store.change_run(run_id, to, by=account().id, reason="a test")
        return run_id

    def narrow_run(self) -> RunId:
        """A run of the same account that was opened for another server's tools."""
        binding = RunBinding(principal=account(), workspace="/elsewhere/narrow", client=CLIENT)
        with opened(self.state) as store:
            return store.open_run(binding, RunScope(only=("other.*",))).id

    def named(self, run_id: str) -> JsonObject:
        """A call that belongs to a named run."""
        return self.host.request(
            "tools/call", {"name": "plain", "arguments": {}, "_meta": {"dev.soothsayer/run": run_id}}
        )

    def begun(self, name: str) -> int:
        """Begin a call; its id."""
        return self.host.ask("tools/call", {"name": name, "arguments": {}})


def too_many(rig: Forcing) -> JsonObject:
    held = [rig.begun("held"), rig.begun("held")]
    wait_until(lambda: len(rig.record.calls("held")) == len(held), "the calls that are held")
    refused = rig.host.call("plain")
    rig.go.touch()
    for each in held:
        rig.host.answer(each)
    return refused


def cancelled(rig: Forcing) -> None:
    began = rig.begun("mute")
    wait_until(lambda: len(rig.record.calls("mute")) == 1, "the call")
    rig.host.send(notice("notifications/cancelled", f'{{"requestId":{began}}}'))


def withdrawn(rig: Forcing) -> None:
    with rig.stuck():
        began = rig.begun("plain")
        rig.fences()
        rig.host.send(notice("notifications/cancelled", f'{{"requestId":{began}}}'))
        rig.fences()


def swayed(rig: Forcing) -> JsonObject:
    with rig.stuck():
        began = rig.begun("swayed")
        rig.fences()
        policy = rig.folder / "policy.yaml"
        put(policy, POLICY + '  - {deny: "Not any more.", id: late, tools: raw.swayed}\n')
        wait_until(lambda: "loaded again" in rig.host.stderr, "the new policy")
    return read(rig.host.answer(began))


def stuck(rig: Forcing) -> JsonObject:
    with rig.stuck():
        return rig.host.call("plain")


SCENES: Final[dict[Reason, Callable[[Forcing], JsonObject | None]]] = {
    Reason.RULE_DENIED: lambda rig: rig.host.call("forbidden"),
    Reason.RULE_ERROR: lambda rig: rig.host.call("doubtful", {"path": 7}),
    Reason.NOBODY_TO_ASK: lambda rig: rig.host.call("asked"),
    Reason.NO_RULE: lambda rig: rig.host.call("nowhere"),
    Reason.ARGUMENTS_INVALID: lambda rig: rig.host.request("tools/call", {"name": "plain", "arguments": []}),
    Reason.TOOL_UNKNOWN: lambda rig: rig.host.call("absent"),
    Reason.RUN_UNKNOWN: lambda rig: rig.named("ffff"),
    Reason.OUT_OF_SCOPE: lambda rig: rig.named(rig.narrow_run()),
    Reason.RUN_PAUSED: lambda rig: rig.named(rig.other_run(RunState.PAUSED)),
    Reason.RUN_CLOSED: lambda rig: rig.named(rig.other_run(RunState.STOPPED)),
    Reason.STATE_CHANGED: swayed,
    Reason.TOO_MANY_IN_FLIGHT: too_many,
    Reason.WITHDRAWN: withdrawn,
    Reason.CANCELLED: cancelled,
    Reason.CALL_TIMEOUT: lambda rig: rig.host.call("silent"),
    Reason.TOOL_FAILED: lambda rig: rig.host.call("fails"),
    Reason.PROTOCOL_ERROR: lambda rig: rig.host.call("errs"),
    Reason.ANSWER_UNREADABLE: lambda rig: rig.host.call("blank"),
    Reason.RESULT_SCHEMA: lambda rig: rig.host.call("wrong"),
    Reason.UNCHECKED: lambda rig: rig.host.call("twice"),
    Reason.NOT_MASKED: lambda rig: rig.host.call("masked"),
}
"""Reason -> what forces it."""

ELSEWHERE: Final = frozenset(
    {
        *(Reason.CONNECTION_LOST, Reason.DEFINITION_CHANGED, Reason.SERVER_UNREACHABLE, Reason.OUTCOME_LOST),
        *(Reason.INTERNAL_ERROR, Reason.TRACE_UNAVAILABLE),
        # In tests/asks.
        *(Reason.DECLINED, Reason.APPROVAL_PENDING, Reason.APPROVAL_EXPIRED, Reason.CONSUMED),
        # In tests/evidence, tests/adapters and tests/pitfalls_e2e.
        *(Reason.NOT_OK, Reason.CONTRADICTED, Reason.SIGNATURE_INVALID, Reason.CHECK_BROKEN, Reason.SIDE_EFFECT),
        *(Reason.ABSENT, Reason.STALE, Reason.LEVEL_TOO_LOW, Reason.EVIDENCE_PENDING, Reason.UNREACHABLE),
        # In tests/rollback.
        *(Reason.CAPTURE_FAILED, Reason.NOT_RESTORED),
        # In tests/run, tests/pitfalls_e2e/test_budget_rows.py and test_history_rows.py.
        *(Reason.BUDGET_SPENT, Reason.DEBT_LIMIT, Reason.RESULT_TOO_BIG, Reason.REPEAT_LIMIT, Reason.DUPLICATE_CALL),
    }
)
"""Reasons with a test of their own, below or where it says."""

UNANSWERED: Final = {Reason.WITHDRAWN, Reason.CANCELLED}
SERVERS_OWN: Final = {Reason.TOOL_FAILED, Reason.PROTOCOL_ERROR}


def ends(state: Path, mark: int) -> list[JsonObject]:
    """The failed ends of steps since there were so many entries."""
    return [entry for entry in entries(state)[mark:] if str(entry["kind"]).startswith("step.") and "failure" in entry]


def assert_one_end(state: Path, mark: int, reason: Reason) -> None:
    """One step has failed since, once, for this reason, in its one class."""
    wait_until(lambda: ends(state, mark) != [], f"an end by {reason}")
    [end] = ends(state, mark)
    assert (end["reason"], end["failure"]) == (reason, REASONS[reason].failure)
    kinds = [
        entry["kind"]
        for entry in entries(state)
        if (entry.get("run"), entry.get("no")) == (end["run"], end["no"]) and entry["kind"] != "step.finding"
    ]
    assert kinds in (["step.refused"], ["step.intent", "step.outcome"])


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Generator[Forcing]:
    with Forcing(tmp_path_factory.mktemp("forcing")) as made:
        yield made


@pytest.mark.pitfall("P-TRACE-02")
@pytest.mark.parametrize("reason", SCENES)
def test_each_reason_ends_one_step_once_in_its_one_class(reason: Reason, rig: Forcing) -> None:
    mark = len(rig.entries())
    answer = SCENES[reason](rig)
    assert_one_end(rig.state, mark, reason)
    rig.fences()
    assert len(ends(rig.state, mark)) == 1
    assert (answer is None) is (reason in UNANSWERED)
    if answer is not None and reason not in SERVERS_OWN:
        told = at(answer, "result", "_meta", "dev.soothsayer/step")
        assert (at(told, "reason"), at(told, "class")) == (reason, REASONS[reason].failure)


def test_a_record_that_cannot_be_written_refuses_and_is_told_of_it_afterwards(rig: Forcing) -> None:
    """No step is written late; that a call was refused for this is on record as soon as anything is."""
    mark, sent = len(rig.entries()), len(rig.record.calls("plain"))
    answer = stuck(rig)
    assert at(answer, "result", "_meta", "dev.soothsayer/step", "reason") == "trace_unavailable"
    rig.host.call("plain")
    since = [entry for entry in rig.entries()[mark:] if entry["kind"] == "message.dropped"]
    assert [(entry["reason"], entry["method"], entry["answered"]) for entry in since] == [
        ("trace_unavailable", "tools/call", True)
    ]
    assert ends(rig.state, mark) == []
    assert len(rig.record.calls("plain")) == sent + 1


def test_a_server_that_dies_changes_and_does_not_come_back_ends_each_step_once(tmp_path: Path) -> None:
    with Forcing(tmp_path) as rig:
        # Each call is another one: what may have happened is not sent twice.
        for number, (name, reason) in enumerate(
            (
                ("dies", Reason.CONNECTION_LOST),
                ("die", Reason.DEFINITION_CHANGED),
                ("dies", Reason.CONNECTION_LOST),
                ("dies", Reason.SERVER_UNREACHABLE),
            )
        ):
            mark = len(rig.entries())
            answer = rig.host.call(name, {"n": number})
            assert at(answer, "result", "_meta", "dev.soothsayer/step", "reason") == reason
            assert_one_end(rig.state, mark, reason)


def test_a_proxy_that_is_killed_leaves_one_end_per_step_to_the_next(tmp_path: Path) -> None:
    with Forcing(tmp_path) as rig:
        rig.begun("mute")
        wait_until(lambda: len(rig.record.calls("mute")) == 1, "the call")
        mark = len(rig.entries())
        rig.host.signal(signal.SIGKILL)
        rig.host.exit_code()
        open_store(rig.state).close()
        assert_one_end(rig.state, mark, Reason.OUTCOME_LOST)


def test_a_fault_of_ours_ends_its_step_once(tmp_path: Path) -> None:
    """No input makes the real command fail inside, so the sentence is given something that raises."""
    world = World()

    faults = iter([ZeroDivisionError()])

    def policy() -> Policy:
        for fault in faults:
            raise fault
        return make_policy()

    async def body(store: SqliteStore) -> None:
        governor = Governor(
            policy=policy, store=store, tools=world, look=world.look, inspector=world, call_timeout_s=1.0
        )
        step = replace(make_proposal(id_=RandomIds().step()), run_id=await bind(store))
        with pytest.raises(ZeroDivisionError):
            await governor.govern(step, Call())
        assert not isinstance(await governor.abandon(step, Call()), Unrecorded)

    with opened(tmp_path) as store:
        mark = len(entries(tmp_path))
        run(lambda: body(store))
        assert_one_end(tmp_path, mark, Reason.INTERNAL_ERROR)
    assert world.forwarded == []


def test_every_reason_is_forced_here_or_is_given_by_nothing_yet() -> None:
    assert SCENES.keys() | ELSEWHERE | LATER == set(Reason)
    package = Path(soothsayer_mcp.__file__).parent
    # These three tell reasons apart and give none.
    telling = {package / "model/failure.py", package / "console/views.py", package / "proxy/answers.py"}
    for path in set(package.rglob("*.py")) - telling:
        named = {Reason[name] for name in re.findall(r"\bReason\.([A-Z_]+)\b", path.read_text(encoding="utf-8"))}
        assert named & LATER == set(), path
