"""What a rollback does, for every face that offers one: look around, plan, and carry out what a person confirmed."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import anyio
from anyio.abc import TaskGroup

from soothsayer_mcp.adapters import schemas
from soothsayer_mcp.adapters.config import Config, ServerSpec, server_identity
from soothsayer_mcp.adapters.lab import EVIDENCE_CONDITIONS
from soothsayer_mcp.adapters.launch import Child, Launch, launch
from soothsayer_mcp.adapters.orphans import Orphans
from soothsayer_mcp.adapters.probes.probes import LocalProbes
from soothsayer_mcp.adapters.probes.restoring import Restoring
from soothsayer_mcp.adapters.probes.settings import ProbeSettings
from soothsayer_mcp.adapters.store.reader import Reader
from soothsayer_mcp.adapters.store.sqlite import SqliteStore
from soothsayer_mcp.adapters.system import RandomIds, SystemClock, account, look
from soothsayer_mcp.cli.exits import Exit
from soothsayer_mcp.cli.options import Settings
from soothsayer_mcp.cli.problems import Problem
from soothsayer_mcp.cli.reach import servers_of
from soothsayer_mcp.cli.recorded import recall
from soothsayer_mcp.cli.state import open_reader, state_dir
from soothsayer_mcp.cli.wiring import connects_of
from soothsayer_mcp.gathering import NOWHERE, Inspection
from soothsayer_mcp.governor import Governor
from soothsayer_mcp.model.call import Cause, RunId
from soothsayer_mcp.model.failure import Acted
from soothsayer_mcp.model.run import RunState
from soothsayer_mcp.model.settling import Unsettled
from soothsayer_mcp.model.undo import Done
from soothsayer_mcp.model.value import dataclass
from soothsayer_mcp.policy.policy import Policy
from soothsayer_mcp.ports import PortError
from soothsayer_mcp.proxy.alone import Alone
from soothsayer_mcp.proxy.downstream import ServerEntry
from soothsayer_mcp.proxy.fleet import Fleet
from soothsayer_mcp.proxy.pins import Schemas
from soothsayer_mcp.rollback import CLIENT, Restorer, Rollback, look_around, look_at_calls
from soothsayer_mcp.settling import ReadBacks
from soothsayer_mcp.trace.query import Filter, term
from soothsayer_mcp.undo.plan import Past, Plan, Present, plan

ABOUT = "soothsayer rollback"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What is to be undone."""

    run: RunId
    to: int = 0
    left: Collection[int] = ()
    config: Path | None = None
    """By which configuration servers are reached, where not by the recorded one."""


def calls(pasts: Sequence[Past]) -> bool:
    """Whether servers are called to undo these steps, or asked about them, so that their plan is made with them."""
    return any(
        (one.unsettled and one.settling is not None)
        or (one.kept is not None and one.kept.terms.tool and one.has_effect)
        for one in pasts
    )


def planned(reader: Reader, run: RunId, *, to: int = 0, left: Collection[int] = ()) -> Plan:
    """Work out how a run comes back to the state after step `to`, as its files stand now. Changes and calls nothing."""
    pasts = reader.pasts(run)
    return plan(pasts, anyio.run(_present, pasts, run), to=to, skip=left)


def held(reader: Reader, store: SqliteStore, run: RunId, *, by: str) -> bool:
    """Pause a run that is open, so that nothing comes to what is undone. Whether it was open."""
    was_open = reader.run(run).run.state == RunState.OPEN
    if was_open:
        store.change_run(run, RunState.PAUSED, by=by, reason="it is rolled back")
    return was_open


def seen(settings: Settings, reader: Reader, wish: Wish) -> Plan:
    """The plan as things stand now; where servers are called for it, they are read, which is on record.

    So is what they say of steps of which it was not known whether they took effect.
    """
    if not calls(reader.pasts(wish.run)):
        return planned(reader, wish.run, to=wish.to, left=wish.left)
    store = SqliteStore.open(state_dir(settings), about=ABOUT)
    try:
        session = Session.of(settings, store, reader, wish, _say_nothing)
        made, _ = anyio.run(session.go, _never, account().id)
    finally:
        store.close()
    return made


def carried_out(settings: Settings, store: SqliteStore, wish: Wish, confirmed: str, *, by: str) -> list[Done] | None:
    """Carry out the plan of this digest, a governed step for each; `None`, and nothing done, where it is another."""
    with open_reader(settings) as reader:
        held(reader, store, wish.run, by=by)
        session = Session.of(settings, store, reader, wish, _say_nothing)

    def is_same(again: Plan) -> bool:
        return again.digest == confirmed

    _, done = anyio.run(session.go, is_same, by)
    return done


def _never(made: Plan) -> bool:
    del made
    return False


def _say_nothing(text: str) -> None:
    del text


async def _present(pasts: Sequence[Past], run: RunId) -> Present:
    return await look_around(pasts, Restoring(_roots(pasts)), run)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Fixed:
    """The policy that the record holds; its files are not looked at."""

    policy: Policy

    def current(self) -> Policy:
        """The policy."""
        return self.policy

    def check(self) -> None:
        """Nothing changes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """One connection to all that an undo needs, for as long as it takes to plan and to carry out."""

    settings: Settings
    store: SqliteStore
    wish: Wish
    pasts: Sequence[Past]
    policy: Policy | None
    workspace: str
    say: Callable[[str], None]
    """Tells a person what is started."""

    @classmethod
    def of(
        cls, settings: Settings, store: SqliteStore, reader: Reader, wish: Wish, say: Callable[[str], None]
    ) -> "Session":
        """Read what is on record of the run."""
        pasts = reader.pasts(wish.run)
        policy, workspace = None, ""
        if any(one.has_effect or one.asks is not None for one in pasts):
            policy, workspace = _policy(settings, reader, wish.run)
        return cls(settings=settings, store=store, wish=wish, pasts=pasts, policy=policy, workspace=workspace, say=say)

    async def go(self, agreed: Callable[[Plan], bool], by: str) -> tuple[Plan, list[Done] | None]:
        """Make the plan as things stand, and carry it out if it is agreed to."""
        if self.policy is None:
            return Plan(moves=()), None
        specs, without = servers_of(self.pasts, self.wish.config)
        orphans = Orphans(state_dir(self.settings))
        if specs:
            orphans.end_left()  # What a rollback that was killed left running could still act.
        alone = self._alone(specs, without, orphans, self.policy)
        found: list[tuple[Plan, list[Done] | None]] = []
        async with anyio.create_task_group() as tasks:
            try:
                found.append(await self._gone(alone, tasks, agreed, self.policy, by))
            finally:
                await alone.aclose()
                tasks.cancel_scope.cancel()
        return found[0]

    async def _gone(
        self, alone: Alone, tasks: TaskGroup, agreed: Callable[[Plan], bool], policy: Policy, by: str
    ) -> tuple[Plan, list[Done] | None]:
        run, clock, ids = self.wish.run, SystemClock(), RandomIds()
        files = Restoring(_roots(self.pasts))
        restorer = Restorer(files, alone)
        inspection = Inspection(
            held=lambda: self.store.held,
            probes=LocalProbes(ProbeSettings(roots=tuple(_roots(self.pasts)))),
            conditions=EVIDENCE_CONDITIONS.compile,
            schema=schemas.compile_output,
            workspace=self.workspace,
            clock=clock,
            ids=ids,
        )
        governor = Governor(
            policy=lambda: policy,
            store=self.store,
            tools=restorer,
            look=look,
            inspector=inspection,
            call_timeout_s=60.0,
        )
        alone.govern_by(governor)
        await alone.start(tasks)
        pasts = await self._settled(alone, inspection)
        present = await look_around(pasts, files, run)
        present = await look_at_calls(pasts, run, alone, present)
        made = plan(pasts, present, to=self.wish.to, skip=self.wish.left)
        if not agreed(made):
            return made, None
        undoing = Rollback(
            run=run,
            governor=governor,
            restorer=restorer,
            files=files,
            book=self.store.undo_log,
            principal=account(),
            workspace=self.workspace,
            clock=clock,
            ids=ids,
            servers=alone,
        )
        return made, await undoing.carry_out(made, pasts, by=by)

    async def _settled(self, alone: Alone, inspection: Inspection) -> Sequence[Past]:
        """The same steps, once another tool was asked about those of which it is not known whether they took effect."""
        run, asked = self.wish.run, False
        asking = ReadBacks(
            book=self.store,
            effects=inspection,
            conditions=EVIDENCE_CONDITIONS.compile,
            principal=account(),
            reach=NOWHERE,
        )
        for past in self.pasts:
            if past.asks is None or past.no <= self.wish.to or past.no in self.wish.left:
                continue
            # What it owes stays owed: it is to be undone.
            settling = replace(past.asks, verify=())
            one = Unsettled(run=run, no=past.no, server=past.server, tool=past.tool, settling=settling)
            known = await asking.settle(one, alone.ask, partial(bool, past.is_over), looks=1)
            if known is not Acted.MAYBE:
                asked = True
                became = "took effect" if known is Acted.YES else "did not happen"
                self.say(f"{run[:4]}.{past.no} {became}, says {settling.terms.tool}")
        if not asked:
            return self.pasts
        with open_reader(self.settings) as reader:
            return reader.pasts(run)

    def _alone(
        self, specs: Sequence[ServerSpec], without: Mapping[str, str], orphans: Orphans, policy: Policy
    ) -> Alone:
        clock, ids = SystemClock(), RandomIds()
        config = Config(workspace=self.workspace, servers=tuple(specs))
        started: dict[str, Child | PortError] = {}
        for spec in specs:
            self.say(f"starting {spec.name}")
            if isinstance(spec.reach, Launch):
                try:
                    started[spec.name] = launch(replace(spec.reach, label_stderr=True))
                except PortError as error:
                    started[spec.name] = error
        for child in started.values():
            if isinstance(child, Child):
                orphans.note(child)
        connects = connects_of(config, started, orphans.note)
        entries = [
            ServerEntry(
                name=spec.name,
                connect=connects[spec.name],
                identity=server_identity(spec),
                start_timeout_s=spec.start_timeout_s,
            )
            for spec in specs
        ]
        return Alone(
            Fleet(entries, clock=clock, ids=ids),
            unreachable=without,
            policies=_Fixed(policy=policy),
            store=self.store,
            schemas=Schemas(arguments=schemas.compile_input, result=schemas.compile_output),
            principal=account(),
            client=CLIENT,
            clock=clock,
            ids=ids,
            log=self.say,
        )


def _roots(pasts: Sequence[Past]) -> list[str]:
    """The folders that files were found below when they were kept."""
    return sorted({one.root for past in pasts if past.kept is not None for one in past.kept.before.files if one.root})


def _policy(settings: Settings, reader: Reader, run: RunId) -> tuple[Policy, str]:
    """The policy of the run's newest step, from the record: what it denies is not done, by nobody."""
    for step in reader.steps(Filter(terms=(term("run", run),)), reader.now(), limit=200):
        if step.cause != Cause.AGENT:
            continue
        told = recall(reader, step)
        policy = told.load_policy(state_dir(settings), mode=None)
        if policy is None:
            break
        return policy, told.workspace
    raise Problem("the policy of the run cannot be loaded from the record", id="not-kept", exit=Exit.NO)
