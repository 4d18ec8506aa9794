"""Before the first byte is let through: a forbidden call takes the real path, and each part of it is touched."""

from collections.abc import Awaitable, Callable
from typing import Final, TypeAlias

from soothsayer_mcp.governor import Governor, Rehearsed, Unrecorded
from soothsayer_mcp.model.budget import RAISED, Allowance
from soothsayer_mcp.model.call import Cause, Client, Principal, Proposal, ToolDefinition
from soothsayer_mcp.model.decision import Decision, Effect, LargeResults, Mode, Obligation, ObligationKind
from soothsayer_mcp.model.dues import NOTHING_DUE, Dues, Item
from soothsayer_mcp.model.evidence import Support
from soothsayer_mcp.model.facts import Cap, Charge, Facts, Questions, Tally, TallyQuestion
from soothsayer_mcp.model.failure import FailureClass, Reason
from soothsayer_mcp.model.finding import Answer
from soothsayer_mcp.model.following import OnFailure
from soothsayer_mcp.model.json import JsonObject, compact, digest
from soothsayer_mcp.model.outcome import Refused, Returned
from soothsayer_mcp.model.run import NOTHING_COUNTED, Counters, NextStep, Run, RunBinding, RunState
from soothsayer_mcp.model.step import ClosedStep, DecidedStep, ProposedStep
from soothsayer_mcp.policy.policy import Policy
from soothsayer_mcp.ports import Call, Clock, Ids, PortError, Standing, Store
from soothsayer_mcp.run.repeat import Repeat

TOOL = ToolDefinition(server="soothsayer", name="selftest", raw=b"{}", digest=digest(b"{}"), properties=frozenset())
"""A tool that no server has."""
CLIENT = Client(name="soothsayer-selftest")


async def self_test(
    governor: Governor, store: Store, *, principal: Principal, workspace: str, policy: Policy, clock: Clock, ids: Ids
) -> str | None:
    """Drive a forbidden call through the whole loop, and each part that policy can configure: `None` when all are live.

    Else what is not. A call with cause `selftest` is denied by every policy in every mode, so no server can ever
    receive it; the parts behind a decision are touched with calls that are neither recorded nor sent. All are touched,
    whatever policy configures now: it may be changed while the proxy runs.
    """
    call = Call()
    try:
        binding = RunBinding(principal=principal, workspace=workspace, client=CLIENT, alone=True)
        run, _ = await store.bind_run(binding, policy.digest)
        step = ProposedStep(
            id=ids.step(),
            run_id=run,
            cause=Cause.SELFTEST,
            principal=principal,
            client=CLIENT,
            tool=TOOL,
            proposal=Proposal(
                server=TOOL.server, tool=TOOL.name, arguments={}, raw_arguments=b"{}", raw=b"{}", request_id=None
            ),
            flaws=(),
            proposed_at_us=clock.now_us(),
            began_ns=clock.monotonic_ns(),
        )
        closed = await governor.govern(step, call)
        fault = await _fault(closed, call, store)
        if fault is not None or not isinstance(closed, ClosedStep):
            return fault
        return await _Parts(governor, store, policy, step=step, closed=closed, now_us=clock.now_us()).dead()
    except PortError as error:
        return f"the trace: {error.summary}"


async def _fault(closed: ClosedStep | Unrecorded, call: Call, store: Store) -> str | None:
    if isinstance(closed, Unrecorded):
        return f"the trace: {closed.failure.summary}"
    if call.sent or call.recorded is not None or not isinstance(closed.outcome, Refused):
        return "the policy: a forbidden call was let through"
    if closed.outcome.failure.reason is not Reason.RULE_DENIED:
        return f"the loop: a forbidden call ended as {closed.outcome.failure.reason}"
    if not await store.holds(closed.intent):
        return "the trace: a refusal is not on record"
    return None


MUCH: Final = 10**15
"""More than any budget lets a run use up, and less than a row of the store holds."""
SECRET: Final = "ghp_" + "a1B2c3D4" * 4 + "e5F6"
"""In the form of a secret, and none."""
QUESTION: Final = TallyQuestion("selftest", "selftest")
_WRITE: Final = Charge(write=True)
_RESULT: Final[JsonObject] = {"content": [{"type": "text", "text": SECRET}]}
_FAILED: Final[JsonObject] = {**_RESULT, "isError": True}
_NEVER: Final = Item(kind="step", spec={}, rule="selftest", pattern="selftest")
"""A step that no run has."""
_HIDDEN: Final = Obligation(
    kind=ObligationKind.REDACT, spec={"in": "result", "at": ["**"], "find": ["secret"]}, rule="selftest"
)
_BROKEN: Final = Item(kind="schema", spec={"schema": {"type": "object"}}, rule="selftest")
"""What a result without structured content never is."""


class _Parts:
    """Touches the parts behind a decision, each with a call that it has to hold up, check or change."""

    def __init__(
        self, governor: Governor, store: Store, policy: Policy, *, step: ProposedStep, closed: ClosedStep, now_us: int
    ) -> None:
        self._governor = governor
        self._store = store
        self._policy = policy
        self._receipt = closed.intent
        self._now_us = now_us
        self._shut = False
        """Whether a budget of nothing refuses every call anyway."""
        self._step = ProposedStep(
            id=step.id,
            run_id=step.run_id,
            cause=Cause.AGENT,
            principal=step.principal,
            client=step.client,
            tool=step.tool,
            proposal=step.proposal,
            flaws=(),
            proposed_at_us=step.proposed_at_us,
            began_ns=step.began_ns,
        )

    async def dead(self) -> str | None:
        """Name the first part that is not live; `None` when all are."""
        rows: tuple[tuple[str, Touch], ...] = (
            ("require", self._require),
            ("ask", self._ask),
            ("budgets", self._budgets),
            ("limit", self._limit),
            ("repeats", self._repeats),
            ("verify", self._verify),
            ("redact", self._redact),
            ("large_results", self._large),
            ("on_failure", self._on_failure),
        )
        self._shut = isinstance((await self._rehearsed()).withheld, Refused)
        for name, touch in rows:
            try:
                live = await touch()
            except PortError:
                raise
            except Exception:  # noqa: BLE001 - a part that fails inside is not live
                live = False
            if not live:
                return f"{name}: what it should hold up or change went on as if it were not there"
        return None

    async def _require(self) -> bool:
        found = await self._rehearsed(dues=Dues(require=(_NEVER,)))
        held = found.withheld
        return isinstance(held, Refused) and held.failure.failure is FailureClass.MISSING_EVIDENCE

    async def _ask(self) -> bool:
        asked: list[DecidedStep] = []

        async def says_nothing(step: DecidedStep) -> Support:
            asked.append(step)
            return Support()

        unanswered = await self._rehearsed(effect=Effect.ASK, call=Call(says_nothing))
        alone = await self._rehearsed(effect=Effect.ASK)
        return bool(asked) and unanswered.withheld is not None and alone.withheld is not None

    async def _budgets(self) -> bool:
        for name in RAISED:
            counted = self._counted("open_us" if name == "minutes" else name)
            found = await self._rehearsed(counters=counted, allowance=Allowance(own={name: 1}))
            if not self._refused(found, Reason.BUDGET_SPENT, f"the budget {name} "):
                return False
        budgets = self._policy.budgets
        if budgets.cost_micro is not None:
            found = await self._rehearsed(charge=Charge(write=True, cost_micro=MUCH))
            if not self._refused(found, Reason.BUDGET_SPENT, "the budget cost "):
                return False
        if budgets.unverified_writes is not None:
            found = await self._rehearsed(counters=self._counted("unverified_writes"))
            if not self._refused(found, Reason.DEBT_LIMIT):
                return False
        if budgets.error_streak is None:
            return True
        found = await self._rehearsed(counters=self._counted("error_streak"), result=_FAILED)
        return found.closing.run_state is RunState.PAUSED

    async def _limit(self) -> bool:
        charge = Charge(write=True, caps=(Cap(question=QUESTION, most=1, words="selftest"),))
        return self._refused(await self._rehearsed(charge=charge), Reason.BUDGET_SPENT, "selftest ")

    async def _repeats(self) -> bool:
        charge = Charge(write=True, repeats_most=1)
        return self._refused(await self._rehearsed(charge=charge), Reason.REPEAT_LIMIT)

    def _refused(self, found: Rehearsed, reason: Reason, about: str = "") -> bool:
        held = found.withheld
        if not isinstance(held, Refused):
            return False
        return self._shut or (held.failure.reason is reason and held.failure.summary.startswith(about))

    def _counted(self, counter: str = "calls", *, much: int = MUCH) -> Counters:
        """A run that was opened just now and has used up one thing."""
        return NOTHING_COUNTED._replace(opened_us=self._now_us)._replace(**{counter: much})

    async def _verify(self) -> bool:
        found = await self._rehearsed(dues=Dues(verify=(_BROKEN,)))
        broken = any(one.answer is Answer.BROKEN for one in found.verified.findings)
        return broken and found.verified.failure is not None

    async def _redact(self) -> bool:
        shown = (await self._rehearsed(obligations=(_HIDDEN,))).verified.shown
        return shown is not None and shown.raw is not None and SECRET.encode() not in shown.raw

    async def _large(self) -> bool:
        return (await self._rehearsed(large=LargeResults(over_bytes=1, keep_bytes=1))).verified.set_aside

    async def _on_failure(self) -> bool:
        table = {FailureClass.TOOL_ERROR.value: OnFailure.STOP}
        closing = (await self._rehearsed(on_failure=(table,), result=_FAILED)).closing
        return closing.next_step is NextStep.STOP and closing.run_state is RunState.STOPPED

    async def _rehearsed(
        self,
        *,
        effect: Effect = Effect.ALLOW,
        call: Call | None = None,
        counters: Counters | None = None,
        allowance: Allowance | None = None,
        result: JsonObject = _RESULT,
        charge: Charge = _WRITE,
        dues: Dues = NOTHING_DUE,
        obligations: tuple[Obligation, ...] = (),
        large: LargeResults | None = None,
        on_failure: tuple[dict[str, OnFailure], ...] = (),
    ) -> Rehearsed:
        decision = Decision(
            effect=effect,
            reason=None if effect is Effect.ALLOW else Reason.RULE_DENIED,
            rules=(),
            mode=Mode.ENFORCE,
            policy_digest=self._policy.digest,
            charge=charge,
            dues=dues,
            obligations=obligations,
            large=large,
            on_failure=on_failure,
        )
        run = Run(
            id=self._step.run_id,
            principal=self._step.principal,
            state=RunState.OPEN,
            version=0,
            counters=self._counted(much=0) if counters is None else counters,
            allowance=allowance,
        )
        standing = Standing(
            run=run,
            recall=_recall,
            held=self._store.held,
            now_us=self._now_us,
            repeat=Repeat(n=MUCH, since=0, at=self._now_us),
        )
        raw = compact({"jsonrpc": "2.0", "id": 1, "result": result})
        answer = Returned(raw=raw, result=result)
        decided = self._step.decided(decision)
        return await self._governor.rehearse(decided, call or Call(), standing, answer, self._receipt)


Touch: TypeAlias = Callable[[], Awaitable[bool]]


def _recall(_questions: Questions) -> Facts:
    return Facts(tallies={QUESTION: Tally(succeeded=1)})
