"""Steps at every stage of their life, for tests of the store."""

import time
from collections.abc import Callable, Coroutine, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import anyio

from soothsayer_mcp.adapters.store.sqlite import SqliteStore
from soothsayer_mcp.adapters.system import RandomIds
from soothsayer_mcp.model.call import Cause, Client, Principal, Proposal, RunId, ToolDefinition
from soothsayer_mcp.model.decision import Decision, Effect, Mode, RuleMatch
from soothsayer_mcp.model.entry import Durability, PayloadMode
from soothsayer_mcp.model.evidence import Support
from soothsayer_mcp.model.failure import Failure, Reason
from soothsayer_mcp.model.finding import Finding
from soothsayer_mcp.model.json import Digest, JsonObject, compact, digest
from soothsayer_mcp.model.outcome import Asked, Refused, Returned, Unknown
from soothsayer_mcp.model.run import RunBinding
from soothsayer_mcp.model.step import ClosedStep, ProposedStep, RecordedStep, SupportedStep, WithheldStep
from soothsayer_mcp.ports import Standing
from soothsayer_mcp.run.close import close
from soothsayer_mcp.run.reserve import refuse_unless_open

POLICY = Digest("sha256:" + "5c" * 32)
PRINCIPAL = Principal(id="os:ada", how="os_account", groups=("staff",))
CLIENT = Client(name="test-host", version="1.2")
BINDING = RunBinding(principal=PRINCIPAL, workspace="/work/project", client=CLIENT)
ROOM = 256 * 1024
"""Ballast for tests: less to write than the real one."""

T = TypeVar("T")


def run(body: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run an asynchronous test on asyncio."""
    return anyio.run(body, backend="asyncio")


def open_store(
    folder: Path,
    *,
    durability: Durability = Durability.STRICT,
    payloads: PayloadMode = PayloadMode.FULL,
    timeout_s: float = 2.0,
    outcome_timeout_s: float = 10.0,
    ballast_bytes: int = ROOM,
) -> SqliteStore:
    """A store with a small ballast."""
    return SqliteStore.open(
        folder,
        durability=durability,
        payload_mode=lambda: payloads,
        timeout_s=timeout_s,
        outcome_timeout_s=outcome_timeout_s,
        ballast_bytes=ballast_bytes,
    )


@contextmanager
def opened(folder: Path, **options: Any) -> Generator[SqliteStore]:
    """A store that is closed at the end."""
    store = open_store(folder, **options)
    try:
        yield store
    finally:
        store.close()


async def bind(store: SqliteStore) -> RunId:
    """The automatic run of the tests."""
    run_id, failure = await store.bind_run(BINDING, POLICY)
    assert failure is None
    return run_id


def make_decision(
    effect: Effect = Effect.ALLOW, *, does: tuple[str, ...] = ("write",), timeout_s: float | None = None
) -> Decision:
    """A decision by one rule."""
    reason = {Effect.ALLOW: None, Effect.DENY: Reason.RULE_DENIED, Effect.ASK: Reason.NOBODY_TO_ASK}[effect]
    return Decision(
        effect=effect,
        reason=reason,
        rules=(RuleMatch(id="test/rule", effect=effect, text="a reason"),),
        mode=Mode.ENFORCE,
        policy_digest=POLICY,
        does=does,
        timeout_s=timeout_s,
    )


def make_step(
    run_id: RunId,
    *,
    arguments: JsonObject | None = None,
    raw_arguments: bytes | None = None,
    effect: Effect = Effect.ALLOW,
    does: tuple[str, ...] = ("write",),
    server: str = "files",
    tool: str = "write_file",
    meta: JsonObject | None = None,
    request_id: str | int = 7,
    timeout_s: float | None = None,
    flaws: tuple[Failure, ...] = (),
) -> SupportedStep:
    """A step that is ready to be recorded."""
    arguments = {"path": "src/app.py"} if arguments is None else arguments
    definition = compact({"name": tool})
    proposed = ProposedStep(
        id=RandomIds().step(),
        run_id=run_id,
        cause=Cause.AGENT,
        principal=PRINCIPAL,
        client=CLIENT,
        tool=ToolDefinition(server=server, name=tool, raw=definition, digest=digest(definition)),
        proposal=Proposal(
            server=server,
            tool=tool,
            arguments=arguments,
            raw_arguments=compact(arguments) if raw_arguments is None else raw_arguments,
            raw=b"{}",
            request_id=request_id,
            meta={} if meta is None else meta,
        ),
        flaws=flaws,
        proposed_at_us=time.time_ns() // 1000,
        began_ns=time.monotonic_ns(),
    )
    return proposed.decided(make_decision(effect, does=does, timeout_s=timeout_s)).supported(Support())


def make_answer(text: str = "done", *, is_error: bool = False) -> Returned:
    """A tool's answer, as its server sent it."""
    result: JsonObject = {"content": [{"type": "text", "text": text}]}
    if is_error:
        result["isError"] = True
    return Returned(raw=compact({"jsonrpc": "2.0", "id": 7, "result": result}), result=result, tool_us=1904)


def admit(standing: Standing, step: SupportedStep) -> Refused | None:
    """Admit what policy allows, in a run that is open."""
    if step.decision.effect is not Effect.ALLOW and step.decision.reason is not None:
        return Refused(failure=Failure(reason=step.decision.reason, summary="test/rule: a reason"))
    closed = refuse_unless_open(standing.run)
    return None if closed is None else Refused(failure=closed)


def ask(_standing: Standing, _step: SupportedStep) -> Asked:
    """Ask a person instead."""
    return Asked(failure=Failure(reason=Reason.APPROVAL_PENDING, summary="new-recipient"), ask="7f3a910c55d2e8b1")


async def intend(store: SqliteStore, step: SupportedStep) -> RecordedStep:
    """Commit A of a step that is admitted."""
    recorded = await store.record_intent(step, admit, close)
    assert isinstance(recorded, RecordedStep)
    return recorded


async def withhold(store: SqliteStore, step: SupportedStep) -> ClosedStep:
    """The one commit of a step that is not admitted."""
    withheld = await store.record_intent(step, admit, close)
    assert isinstance(withheld, WithheldStep)
    return await store.record_outcome(withheld.verified(()), close)


async def end(
    store: SqliteStore,
    recorded: RecordedStep,
    outcome: Returned | Unknown | Refused | None = None,
    findings: tuple[Finding, ...] = (),
) -> ClosedStep:
    """Commit B."""
    answered = recorded.answered(make_answer() if outcome is None else outcome)
    return await store.record_outcome(answered.verified(findings), close)


async def whole_step(store: SqliteStore, run_id: RunId, **options: Any) -> ClosedStep:
    """Both commits of a step."""
    return await end(store, await intend(store, make_step(run_id, **options)))
