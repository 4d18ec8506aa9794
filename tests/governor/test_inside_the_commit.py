"""What holds inside the commit of an intent, whatever held before it, and what is looked at around a call."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import anyio
import pytest
import trio
import trio.testing

from policy_kit import policy_from
from soothsayer_mcp.governor import RECORD_BOUND_S, Governor, Unrecorded
from soothsayer_mcp.model.ask import Approval
from soothsayer_mcp.model.call import Cause, StepId
from soothsayer_mcp.model.decision import Mode
from soothsayer_mcp.model.evidence import Evidence, Level, Support
from soothsayer_mcp.model.facts import Facts, Questions, Tally
from soothsayer_mcp.model.failure import Acted, Failure, Reason
from soothsayer_mcp.model.finding import Answer, Finding
from soothsayer_mcp.model.outcome import Asked, Refused, Returned, Unknown
from soothsayer_mcp.model.run import RunScope, RunState
from soothsayer_mcp.model.settlement import Twin
from soothsayer_mcp.model.step import (
    AnsweredStep,
    ClosedStep,
    DecidedStep,
    ProposedStep,
    RecordedStep,
    VerifiedStep,
)
from soothsayer_mcp.model.undo import ABSENT, Captured, FileBefore
from soothsayer_mcp.policy.policy import Policy
from soothsayer_mcp.ports import Call, Close, PortError
from soothsayer_mcp.run.repeat import Repeat
from soothsayer_mcp.testing.factories import make_step
from soothsayer_mcp.testing.world import NothingHeld, World

T = TypeVar("T")
OPEN = "default: {read: allow, other: allow}\narguments: {undeclared: allow, no_schema: allow}\n"


class Flying(NothingHeld):
    """A record in which another step is writing right now."""

    def in_flight(self, subject: str, *, but: tuple[str, int] | None = None) -> str:
        del but
        return f"5555.9:{subject}"


class Waiting(World):
    """A world whose settling takes so many attempts."""

    attempts = 0

    async def settle(self, step: VerifiedStep, *, told: bool = False, close: Close | None = None) -> bool:

        self.attempts += 1
        if self.attempts < 3:
            return False
        return await super().settle(step, told=told, close=close)


class Governed:
    def __init__(self, policy: Policy, world: World | None = None) -> None:
        self.world = world or World()
        self.policy = policy
        self.call = Call()
        self.governor = Governor(
            policy=lambda: self.policy,
            store=self.world,
            tools=self.world,
            look=self.world.look,
            inspector=self.world,
            call_timeout_s=30,
        )

    def govern(self, step: ProposedStep | None = None) -> ClosedStep:
        async def scene() -> ClosedStep:
            closed = await self.governor.govern(step or make_step(), self.call)
            assert isinstance(closed, ClosedStep), closed
            return closed

        return jumping(scene)


def jumping(scene: Callable[[], Awaitable[T]]) -> T:
    return trio.run(scene, clock=trio.testing.MockClock(autojump_threshold=0))


def with_run(governed: Governed, **change: object) -> Governed:
    governed.world.run = replace(governed.world.run, **change)  # type: ignore[arg-type]  # a part of a run each
    return governed


def spent(closed: ClosedStep) -> str:
    assert closed.failure is None or isinstance(closed.outcome, Refused)
    return "" if closed.failure is None else f"{closed.failure.reason}: {closed.failure.summary}"


CALLS = OPEN + "budgets: {calls: 3}\n"


def test_what_a_budget_does_not_suffice_for_is_refused_and_an_undo_or_a_check_uses_none(tmp_path: Path) -> None:
    policy = policy_from(CALLS, tmp_path)
    governed = Governed(policy)
    counters = governed.world.run.counters._replace(calls=3)
    refused = "budget_spent: the budget calls (3 of 3)"
    assert spent(with_run(Governed(policy), counters=counters).govern()) == refused
    assert spent(with_run(Governed(policy), counters=counters._replace(calls=2)).govern()) == ""
    undo = replace(make_step(), cause=Cause.UNDO)
    assert spent(with_run(Governed(policy), counters=counters).govern(undo)) == ""
    watching = policy_from(CALLS, tmp_path, mode=Mode.OBSERVE)
    assert spent(with_run(Governed(watching), counters=counters).govern()) == ""


def test_the_same_call_with_the_same_answer_is_refused_once_it_came_too_often(tmp_path: Path) -> None:
    governed = Governed(policy_from(OPEN + "budgets: {same_call_repeats: 2}\n", tmp_path))
    governed.world.repeat = Repeat(n=1, since=0, at=0)
    assert spent(governed.govern()) == ""
    governed = Governed(governed.policy)
    governed.world.repeat = Repeat(n=2, since=0, at=0)
    assert spent(governed.govern()).startswith("repeat_limit: the same call got the same answer 2 times")


class Counting(World):
    """A world in which so many calls under each mark were sent; `None`: nobody knows."""

    sent: int | None = 0

    def recall(self, questions: Questions) -> Facts:
        self.log.append("recall")
        known = {} if self.sent is None else {question: Tally(succeeded=self.sent) for question in questions.tallies}
        return Facts(tallies=known)


@pytest.mark.parametrize(
    ("sent", "refused"),
    [
        (1, ""),
        (2, "budget_spent: the limit of rule t/it (2 of 2)"),
        (None, "budget_spent: the limit of rule t/it (what was used is not known)"),
    ],
)
def test_a_cap_is_compared_with_what_was_sent_when_the_intent_is_committed(
    sent: int | None, refused: str, tmp_path: Path
) -> None:
    rule = 'rules:\n  - {also: "It.", id: it, tools: "files.*", limit: {calls: 2}}\n'
    world = Counting()
    world.sent = sent
    assert spent(Governed(policy_from(OPEN + rule, tmp_path), world).govern()) == refused
    uncapped = Counting()
    Governed(policy_from(OPEN, tmp_path), uncapped).govern()
    assert "recall" not in uncapped.log


def test_the_same_call_is_not_sent_again_while_nobody_knows_how_the_earlier_one_ended(tmp_path: Path) -> None:
    twin = Twin(step="5555.3", acted=Acted.MAYBE)
    governed = Governed(policy_from(OPEN, tmp_path))
    governed.world.twin = twin
    assert spent(governed.govern()) == "duplicate_call: 5555.3"
    watching = Governed(policy_from(OPEN, tmp_path, mode=Mode.OBSERVE))
    watching.world.twin = twin
    assert spent(watching.govern()) == ""


@pytest.mark.parametrize("state", [RunState.STOPPED, RunState.PAUSED])
@pytest.mark.parametrize("cause", list(Cause))
def test_a_closed_run_takes_no_call_of_an_agent_and_its_checks_and_undos_outlast_it(
    state: RunState, cause: Cause, tmp_path: Path
) -> None:
    if cause is Cause.SELFTEST:
        return
    governed = with_run(Governed(policy_from(READS, tmp_path)), state=state)
    failure = governed.govern(replace(make_step(), cause=cause)).failure
    assert (failure is None) is (cause in {Cause.PROBE, Cause.UNDO, Cause.CONTROL})


READS = OPEN + "labels:\n  - {tools: files.read, does: read}\n"
KEEPS = (
    OPEN
    + "servers: {files: {files: local}}\nrules:\n"
    + '  - {allow: "edits", tools: files.read, undo: {restore: file(args.path)}}\n'
)
STEP = make_step(arguments={"path": "/w/a"})
OLD = Evidence(id="e", kind="step", level=Level.E1, subject="run:all", title="the tests", expires_us=5)


def test_what_a_call_rests_on_is_looked_at_once_more(tmp_path: Path) -> None:
    governed = Governed(policy_from(KEEPS, tmp_path))
    governed.world.support = Support(evidence=(OLD,))
    governed.world.now_us = 4
    assert governed.govern(STEP).failure is None
    late = Governed(governed.policy)
    late.world.support = Support(evidence=(OLD,))
    late.world.now_us = 5
    failure = late.govern(STEP).failure
    assert failure is not None
    assert (failure.reason, failure.lines[0]) == (Reason.STALE, "- the tests: it is too old.")
    late.world.support = Support(evidence=(OLD,), captured=Captured())
    closed = with_run(late, state=RunState.STOPPED).govern(replace(STEP, id=StepId("2" * 16))).failure
    assert closed is not None
    assert closed.reason is Reason.RUN_CLOSED


def test_what_was_kept_for_an_undo_is_no_use_where_another_step_is_writing(tmp_path: Path) -> None:
    governed = Governed(policy_from(KEEPS, tmp_path))
    governed.world.support = Support(captured=Captured())
    governed.world.held = Flying()
    failure = governed.govern(STEP).failure
    assert failure == Failure(reason=Reason.STATE_CHANGED, summary="5555.9:file:/w/a wrote to a meanwhile")
    nothing_kept = Governed(governed.policy)
    nothing_kept.world.held = Flying()
    assert nothing_kept.govern(STEP).failure is None


ASKS = KEEPS.replace('allow: "edits"', 'ask: "edits"')
YES = Approval(ask="a", digest="d", identity="i")


class Person:
    """Says yes, and counts the questions."""

    def __init__(self, support: Support) -> None:
        self.asked = 0
        self.support = support

    async def __call__(self, step: DecidedStep) -> Support:
        del step
        self.asked += 1
        return self.support


def test_people_are_asked_last_and_nobody_about_a_call_that_lacks_something_else(tmp_path: Path) -> None:
    question = Asked(failure=Failure(reason=Reason.APPROVAL_PENDING, summary=""), ask="a")
    lacking = Failure(reason=Reason.ABSENT, summary="files.read")
    gathered: list[tuple[tuple[Failure, ...], int]] = [((), 1), ((lacking,), 0)]
    for gaps, asked in gathered:
        governed = Governed(policy_from(ASKS, tmp_path))
        person = Person(Support(asked=question, ask="a"))
        governed.call = Call(person)
        governed.world.support = Support(gaps=gaps, evidence=(OLD,), files={"*": "d"}, before={"k": 1})
        closed = governed.govern(STEP)
        assert person.asked == asked
        assert governed.world.log[:2] == ["read_run", "gather"]
        assert closed.outcome == (question if asked else Refused(failure=lacking))
        support = closed.support
        assert (support.evidence, support.files, support.before) == ((OLD,), {"*": "d"}, {"k": 1})
        assert support.ask == ("a" if asked else "")


def test_where_nobody_can_be_asked_nothing_is_looked_at(tmp_path: Path) -> None:
    governed = Governed(policy_from(ASKS, tmp_path))
    failure = governed.govern(STEP).failure
    assert failure is not None
    assert failure.reason is Reason.NOBODY_TO_ASK
    assert "gather" not in governed.world.log


def test_an_allowed_call_asks_nobody_and_a_yes_that_is_not_on_record_lets_nothing_through(tmp_path: Path) -> None:
    allowed = Governed(policy_from(OPEN, tmp_path))
    person = Person(Support())
    allowed.call = Call(person)
    assert allowed.govern().failure is None
    assert person.asked == 0
    claimed = Governed(policy_from("default: ask\narguments: {undeclared: allow, no_schema: allow}\n", tmp_path))
    claimed.call = Call(Person(Support(approval=YES)))
    assert claimed.govern().failure == Failure(reason=Reason.STATE_CHANGED, summary="the question is no longer open")


@pytest.mark.parametrize(
    ("outcome", "looked"),
    [
        (Returned(raw=b"{}", result={"content": []}), True),
        (Unknown(failure=Failure(reason=Reason.CONNECTION_LOST, summary="s")), True),
        (Refused(failure=Failure(reason=Reason.SERVER_UNREACHABLE, summary="s")), False),
    ],
)
def test_what_may_have_to_be_undone_is_looked_at_after_a_call_that_may_have_left(
    outcome: Returned | Unknown | Refused, looked: bool, tmp_path: Path
) -> None:
    after = Captured(began=9)

    class Looking(World):
        async def forward(self, step: RecordedStep, call: Call) -> Returned:
            if isinstance(outcome, Returned):
                return await super().forward(step, call)
            raise PortError(
                outcome.failure.reason, "s", acted=Acted.MAYBE if isinstance(outcome, Unknown) else Acted.NO
            )

        async def look_after(self, step: AnsweredStep, call: Call) -> Captured | None:
            await super().look_after(step, call)
            return after

    for kept, times in [(Captured(), looked), (None, False)]:
        governed = Governed(policy_from(KEEPS, tmp_path), Looking())
        governed.world.support = Support(captured=kept)
        governed.govern(STEP)
        assert ("look_after" in governed.world.log) is times
        assert (governed.world.outcomes[0].after == after) is times


def test_a_look_that_fails_is_nothing_seen_and_the_call_ends_as_it_was_answered(tmp_path: Path) -> None:
    def fail() -> None:
        raise RuntimeError

    governed = Governed(policy_from(KEEPS, tmp_path))
    governed.world.support = Support(captured=Captured())
    governed.world.before["look_after"] = fail
    closed = governed.govern(STEP)
    assert closed.failure is None
    assert governed.world.outcomes[0].after is None


CHECKED = OPEN + (
    'servers: {files: {files: local}}\nrules:\n  - {allow: "edits", tools: files.read,'
    ' undo: {restore: file(args.path)}, verify: [{artifact: {file: "${args.path}", equals: args.path}}]}\n'
)


@pytest.mark.parametrize("stage", ["look_after", "verify"])
def test_a_call_that_is_cancelled_while_it_is_checked_is_on_record_as_unchecked(stage: str, tmp_path: Path) -> None:
    governed = Governed(policy_from(CHECKED, tmp_path))
    governed.world.support = Support(captured=Captured())
    governed.world.before[stage] = trio.sleep_forever

    async def slowly() -> None:
        await trio.sleep(RECORD_BOUND_S - 1)

    governed.world.before["record_outcome"] = slowly

    async def scene() -> None:
        with anyio.move_on_after(5) as scope:
            await governed.governor.govern(STEP, governed.call)
        assert scope.cancelled_caught

    jumping(scene)
    (left,) = governed.world.outcomes
    unchecked = Finding(
        check="artifact",
        answer=Answer.UNKNOWN,
        level=Level.E1,
        reason=Reason.UNCHECKED,
        detail="Soothsayer ended meanwhile",
    )
    assert left.findings == (unchecked,)


def test_a_cancelled_call_does_not_wait_for_its_record_for_ever(tmp_path: Path) -> None:
    governed = Governed(policy_from(CHECKED, tmp_path))
    governed.world.before["verify"] = trio.sleep_forever
    governed.world.before["record_outcome"] = trio.sleep_forever

    async def scene() -> float:
        began = anyio.current_time()
        with anyio.move_on_after(5):
            await governed.governor.govern(STEP, governed.call)
        return anyio.current_time() - began

    assert 5 + RECORD_BOUND_S <= jumping(scene) < 6 + RECORD_BOUND_S


def test_checks_that_break_leave_the_step_unchecked_and_say_so(tmp_path: Path) -> None:
    def fail() -> None:
        raise RuntimeError

    governed = Governed(policy_from(CHECKED, tmp_path))
    governed.world.before["verify"] = fail
    governed.govern(STEP)
    (finding,) = governed.world.outcomes[0].findings
    assert (finding.check, finding.answer, finding.detail) == (
        "artifact",
        Answer.UNKNOWN,
        "the checks failed inside Soothsayer",
    )


def test_a_late_answer_settles_its_step_once_its_end_is_committed(tmp_path: Path) -> None:
    governed = Governed(policy_from(OPEN, tmp_path), Waiting())
    governed.govern()
    recorded = governed.world.forwarded[0]
    jumping(lambda: governed.governor.settle(recorded, governed.call, governed.world.answer))
    assert [step.outcome for step in governed.world.settled] == [governed.world.answer]
    assert isinstance(governed.world, Waiting)
    assert governed.world.attempts == 3


@pytest.mark.parametrize(
    ("failed", "state", "paused"),
    [(True, RunState.OPEN, True), (False, RunState.OPEN, False), (True, RunState.STOPPED, False)],
)
def test_a_task_that_failed_pauses_its_run_where_policy_has_it_undone(
    failed: bool, state: RunState, paused: bool, tmp_path: Path
) -> None:
    text = KEEPS.replace("args.path)}", "args.path)}, on_failure: {tool_error: undo}")
    governed = Governed(policy_from(text, tmp_path))
    governed.world.support = Support(captured=Captured(files=(FileBefore(path="/w/a", root="/w", state=ABSENT),)))
    governed.govern(STEP)
    with_run(governed, state=state)
    result = Returned(raw=b"{}", result={"content": [], "isError": failed})

    async def scene() -> None:
        checked = await governed.governor.checked(governed.world.forwarded[0], governed.call, result)
        await governed.governor.settle_task(checked, told=True)

    jumping(scene)
    ((told, closing),) = governed.world.settled_as
    assert told
    assert closing is not None
    assert (closing.run_state is RunState.PAUSED) is paused
    assert ("has to undo it" in closing.why) is paused


class Linked(World):
    """A world whose paths lead where the test says, and which remembers what was looked up."""

    def __init__(self, links: dict[str, str]) -> None:
        super().__init__()
        self.links = links
        self.looked: list[str] = []

    def look(self, paths: Sequence[str]) -> Facts:
        self.looked += paths
        return Facts(links={path: self.links.get(path, path) for path in paths})


@pytest.mark.parametrize(("leads", "goes"), [("/srv/real", True), ("/etc", False)])
def test_a_run_opened_for_a_folder_follows_links_of_the_folder_and_of_the_file(
    leads: str, goes: bool, tmp_path: Path
) -> None:
    policy = policy_from(OPEN + "servers: {files: {files: local}}\n", tmp_path)
    world = Linked({"/srv/data": "/srv/real", "/srv/data/a": f"{leads}/a"})
    governed = with_run(Governed(policy, world), scope=RunScope(under=("/srv/data",)))
    failure = governed.govern(make_step(arguments={"path": "/srv/data/a"})).failure
    assert (failure is None) is goes
    assert {"/srv/data", "/srv/data/a"} <= set(world.looked)
    unlimited = Governed(policy, Linked({}))
    unlimited.govern(STEP)
    assert isinstance(unlimited.world, Linked)
    assert unlimited.world.looked == []


def test_what_the_store_is_asked_does_not_hide_what_paths_lead_to(tmp_path: Path) -> None:
    rules = (
        "servers: {files: {files: local}}\nrules:\n"
        '  - {deny: "Not twice.", id: twice, tools: files.read, history: {count: calls, above: 1}}\n'
        '  - {deny: "Not there.", id: there, tools: files.read, args: {path: {under: /etc}}}\n'
    )
    policy = policy_from(OPEN + rules, tmp_path)
    for leads, sent, refused in [("/w/a", 0, []), ("/etc/a", 0, ["t/there"]), ("/w/a", 1, ["t/twice"])]:

        class Both(Linked, Counting):
            """Both a world with links and one that counts."""

        world = Both({"/w/a": leads})
        world.sent = sent
        closed = Governed(policy, world).govern(STEP)
        assert [rule.id for rule in closed.decision.rules if rule.effect == "deny"] == refused


def test_a_call_whose_facts_changed_before_its_intent_is_decided_again(tmp_path: Path) -> None:
    rule = 'rules:\n  - {deny: "Not twice.", tools: files.read, history: {count: calls, above: 1}}\n'
    world = Counting()
    governed = Governed(policy_from(OPEN + rule, tmp_path), world)

    def somebody_calls() -> None:
        world.sent = 1

    world.before["record_intent"] = somebody_calls
    assert governed.govern().failure == Failure(reason=Reason.STATE_CHANGED, summary="what the decision rested on")


def test_an_end_that_is_not_on_record_says_whether_the_call_left(tmp_path: Path) -> None:
    def fail() -> None:
        raise PortError(Reason.TRACE_UNAVAILABLE, "the disk is full", acted=Acted.NO)

    for port, reason in [("record_intent", Reason.TRACE_UNAVAILABLE), ("record_outcome", Reason.OUTCOME_LOST)]:
        governed = Governed(policy_from(OPEN, tmp_path))
        governed.world.before[port] = fail
        ended = jumping(lambda governed=governed: governed.governor.govern(make_step(), governed.call))
        assert isinstance(ended, Unrecorded)
        assert (ended.failure.reason, ended.failure.summary) == (reason, "the disk is full")
