"""The one place where ports meet adapters: a relay between the host and the servers that a plan has started."""

import dataclasses
import gc
import os
import sys
from collections.abc import Awaitable, Callable, Mapping
from typing import cast

import anyio

from soothsayer_mcp import __version__
from soothsayer_mcp.adapters import schemas
from soothsayer_mcp.adapters.config import Config, Remote, server_identity
from soothsayer_mcp.adapters.faces import is_watched, open_pages
from soothsayer_mcp.adapters.lab import EVIDENCE_CONDITIONS
from soothsayer_mcp.adapters.launch import Child, Launch
from soothsayer_mcp.adapters.lazy import resolve
from soothsayer_mcp.adapters.lock_file import Locked, LockWatch, lock_path
from soothsayer_mcp.adapters.notify import find as find_desktop
from soothsayer_mcp.adapters.orphans import Orphans
from soothsayer_mcp.adapters.pipes import PipeLeg, take_stdio
from soothsayer_mcp.adapters.policy_files.load import load_standing as load_policy
from soothsayer_mcp.adapters.policy_files.problems import LoadErrors
from soothsayer_mcp.adapters.policy_files.reload import PolicyWatch
from soothsayer_mcp.adapters.policy_files.signed import is_signed
from soothsayer_mcp.adapters.probes.probes import LocalProbes
from soothsayer_mcp.adapters.processes import ServerProcess
from soothsayer_mcp.adapters.sealing import Sealer
from soothsayer_mcp.adapters.signals import on_signals
from soothsayer_mcp.adapters.store.folder import prepare
from soothsayer_mcp.adapters.store.masking import cleaned
from soothsayer_mcp.adapters.store.sqlite import SqliteStore
from soothsayer_mcp.adapters.system import RandomIds, SystemClock, account, look
from soothsayer_mcp.cli.exits import Exit
from soothsayer_mcp.cli.plan import Plan, Started
from soothsayer_mcp.cli.problems import Problem
from soothsayer_mcp.cli.reach import reach_of
from soothsayer_mcp.console.card import card
from soothsayer_mcp.console.text import escape
from soothsayer_mcp.gathering import Inspection
from soothsayer_mcp.governor import Governor
from soothsayer_mcp.model.decision import Mode
from soothsayer_mcp.model.entry import Durability, Kind
from soothsayer_mcp.model.json import Json, canonical
from soothsayer_mcp.model.step import ClosedStep
from soothsayer_mcp.model.undo import Done
from soothsayer_mcp.policy.callers import MEND, NOBODY, looks_at_groups
from soothsayer_mcp.policy.policy import Policy
from soothsayer_mcp.ports import Connect, Note, ServerIdentity, Servers
from soothsayer_mcp.proxy.connection import Surroundings
from soothsayer_mcp.proxy.control import ControlTools
from soothsayer_mcp.proxy.downstream import Limits, ServerEntry
from soothsayer_mcp.proxy.fleet import Fleet
from soothsayer_mcp.proxy.people import AskSettings, Seals
from soothsayer_mcp.proxy.pins import Schemas
from soothsayer_mcp.proxy.relay import Relay
from soothsayer_mcp.selftest import self_test
from soothsayer_mcp.settling import ReadBacks

SHOWN_RULES = 5
"""Of rules that match no caller, how many a start names; `policy check` names all."""


def serve(prepared: Plan, started: Started) -> None:
    """Relay until the host is gone. Raises `Problem`, `LoadErrors` or `StoreError` before anything is forwarded."""
    config = prepared.config
    host = take_stdio(max_frame=config.max_frame)
    news = _News(prepared)
    prepare(prepared.state)  # Before anything of ours is kept in it, so that it is private from the start.
    orphans = Orphans(prepared.state)
    for child in started.values():
        if isinstance(child, Child):
            orphans.note(child)
    connects = connects_of(config, started, orphans.note)
    for line in orphans.end_left():
        say(line)
    locked = _locks(config)
    policies = PolicyWatch(_loader(prepared), on_change=news.changed, on_problem=news.rejected)
    store = SqliteStore.open(
        prepared.state,
        durability=Durability(config.durability),
        payload_mode=lambda: policies.current().payload_mode,
        about=f"soothsayer proxy {' '.join(spec.name for spec in config.servers)}",
        timeout_s=config.trace_timeout_s,
        blob_max=config.blob_max,
        keeper=lambda masks: policies.current().keeper(masks),
    )
    store.pin_by(locked)
    try:
        for warning in store.warnings:
            say(warning)
        anyio.run(_relay, prepared, connects, host, policies, store, news)
    finally:
        store.close()


def _locks(config: Config) -> Callable[[ServerIdentity], Locked | None]:
    """What the lock beside a configuration has of a server. Raises `LoadErrors`."""
    if config.file is None or not config.servers_of_file:
        return lambda _server: None
    return LockWatch(lock_path(config.file), log=say).of


def connects_of(config: Config, started: Started, note: Callable[[Child], None]) -> dict[str, Connect]:
    """How each server is reached: by the process that was started, or over HTTP."""
    connects: dict[str, Connect] = {}
    several = len(config.servers) > 1
    for spec in config.servers:
        match spec.reach:
            case Launch() as launch:
                how = dataclasses.replace(launch, label_stderr=several)
                connects[spec.name] = ServerProcess(
                    how, max_frame=config.max_frame, first=started[spec.name], started=note
                )
            case Remote() as remote:
                make = cast("Callable[..., Connect]", resolve("soothsayer_mcp.adapters.http_client:HttpServer"))
                connects[spec.name] = make(remote, max_frame=config.max_frame)
    return connects


def _loader(prepared: Plan) -> Callable[[], Policy]:
    config = prepared.config
    # Observing is asked for by a person or a configuration; enforcing never lifts what a policy says of itself.
    mode = Mode.OBSERVE if config.mode is Mode.OBSERVE else None
    return lambda: load_policy(
        config.policy,
        config.organisation,
        mode_override=mode,
        workspace=config.workspace,
        state=prepared.state,
        known_servers=[spec.name for spec in config.servers],
        tiers=[tier.name for tier in config.tiers],
    )


async def _relay(
    prepared: Plan,
    connects: Mapping[str, Connect],
    host: PipeLeg,
    policies: PolicyWatch,
    store: SqliteStore,
    news: "_News",
) -> None:
    config = prepared.config
    clock, ids, principal = SystemClock(), RandomIds(), account()
    limits = Limits(in_flight=config.in_flight, max_frame=config.max_frame)
    entries = [
        ServerEntry(
            name=spec.name,
            connect=connects[spec.name],
            identity=server_identity(spec),
            start_timeout_s=spec.start_timeout_s,
            ends=isinstance(spec.reach, Launch),
        )
        for spec in config.servers
    ]
    fleet = Fleet(entries, clock=clock, ids=ids, limits=limits)
    tools = ControlTools(fleet, store, policies.current, clock) if config.control_tools else fleet
    reach = reach_of(config)
    inspection = Inspection(
        held=lambda: store.held,
        probes=LocalProbes(config.probes),
        conditions=EVIDENCE_CONDITIONS.compile,
        schema=schemas.compile_output,
        workspace=config.workspace,
        clock=clock,
        ids=ids,
        reach=reach,
    )
    governor = Governor(
        policy=policies.current,
        store=store,
        tools=tools,
        look=look,
        inspector=inspection,
        call_timeout_s=config.call_timeout_s,
    )
    sealer = Sealer(prepared.state)
    around = Surroundings(
        store=store,
        shelf=store,
        policies=policies,
        look=look,
        principal=principal,
        workspace=config.workspace,
        clock=clock,
        ids=ids,
        log=say,
        cleaned=cleaned,
        named_run=prepared.run,
        control_tools=config.control_tools,
        explicit_run=config.explicit_run,
        intent=prepared.intent,
        limits=limits,
        tiers={tier.name: tier for tier in config.tiers},
        seals=Seals(seal=sealer.seal, unseal=sealer.unseal),
        asks=None if prepared.no_input else _asks(prepared, store, sealer),
        undo=_undoing(policies.current, store, inspection, config.workspace),
        settling=ReadBacks(
            book=store,
            effects=inspection,
            conditions=EVIDENCE_CONDITIONS.compile,
            principal=principal,
            reach=reach,
        ),
    )
    made = Schemas(arguments=schemas.compile_input, result=schemas.compile_output)
    relay = Relay(host, fleet, governor, schemas=made, around=around)
    store.expect(lambda: relay.calls_under_way)
    restore = on_signals(lambda _name: relay.stop())
    try:
        policy = policies.current()
        not_live = await self_test(
            governor,
            store,
            principal=principal,
            workspace=config.workspace,
            policy=policy,
            clock=clock,
            ids=ids,
        )
        if not_live is not None:
            text = f"the self-test failed, so nothing is forwarded: {not_live}"
            raise Problem(text, id="selftest", exit=Exit.BUG)
        await store.note(loaded_note(policy))
        news.follow(store)
        news.started(policy)
        gc.freeze()  # what the start made stays, and need not be looked at again and again
        gc.enable()
        await relay.run()
    finally:
        restore()


def _undoing(
    policy: Callable[[], Policy], store: SqliteStore, inspection: Inspection, workspace: str
) -> Callable[[ClosedStep, Servers], Awaitable[Done]]:
    """Undoes a step that has just ended; what that takes is loaded with the first one."""

    async def undo(closed: ClosedStep, servers: Servers) -> Done:
        undo = cast("Callable[..., Awaitable[Done]]", resolve("soothsayer_mcp.cli.at_once:undo"))
        return await undo(closed, servers, policy=policy, store=store, inspector=inspection, workspace=workspace)

    return undo


def _asks(prepared: Plan, store: SqliteStore, sealer: Sealer) -> AskSettings:
    config = prepared.config
    desktop = find_desktop() if config.ask_notify else None
    return AskSettings(
        book=store.asks,
        write=card,
        seal=sealer.seal,
        unseal=sealer.unseal,
        watched=lambda: is_watched(prepared.state),
        page=lambda: open_pages(prepared.state),
        notify=None if desktop is None else desktop.tell_soon,
        expires_s=config.ask_expires_s,
        hold_s=config.ask_hold_s,
        limit_s=host_limit_s,
        host_pid=os.getppid(),
        verify=lambda key, signed, signature: is_signed(key, signature, signed),
    )


def host_limit_s(client: str) -> float:
    """How long a host lets a call take; the table of hosts is read when the first question is put."""
    return cast("Callable[[str], float]", resolve("soothsayer_mcp.adapters.hosts.table:limit_of"))(client)


def loaded_note(policy: Policy) -> Note:
    """The entry that a policy is in force; its sources go with it, so that each decision can be explained later."""
    sources: dict[str, Json] = dict(policy.sources)
    return Note(
        kind=Kind.POLICY_LOADED,
        fields={
            "policy": policy.digest,
            "name": policy.name,
            "scopes": [scope.kind.value for scope in policy.scopes],
            "rules": policy.rule_count,
            "self_test": "passed",
            "named": {scope: [*files] for scope, files in policy.named.items()},
            "tiers": [*policy.tiers],
            "machine": dict(policy.machine),
        },
        payloads={"source": canonical(sources)},
        budgets={
            **{name: most for name, most in dataclasses.asdict(policy.budgets).items() if most not in (None, {})},
            **(
                {"tools": [[one.name, one.mark, one.calls] for one in policy.tool_budgets]}
                if policy.tool_budgets
                else {}
            ),
        },
        marks=policy.marks,
    )


def say(text: str) -> None:
    """Tell a person at the host's log, escaped, on standard error."""
    for line in text.splitlines():
        sys.stderr.write(f"soothsayer: {escape(line)}\n")
    sys.stderr.flush()


class _News:
    """What a person at the host's log reads, and what the trace keeps, when the policy changes."""

    def __init__(self, prepared: Plan) -> None:
        self._quiet = prepared.quiet
        self._tells = not prepared.no_input and prepared.config.ask_notify and find_desktop() is not None
        self._untold = (
            "--no-input lets nobody be asked: they are denied"
            if prepared.no_input
            else "nobody is told of it here: they are denied unless the host can ask, or soothsayer watch or ui is open"
        )
        self._store: SqliteStore | None = None

    def follow(self, store: SqliteStore) -> None:
        """Record changes from here on."""
        self._store = store

    def started(self, policy: Policy) -> None:
        """Say under which policy calls are governed; an observing one is always said."""
        if policy.mode is Mode.OBSERVE:
            say(f"OBSERVING: policy {policy.name} only records what it would deny or ask; hard denies hold")
        elif not self._quiet:
            say(f"{__version__} governs by policy {policy.name} ({policy.rule_count} rules)")
        self._grouped(policy)
        if policy.mode is Mode.ENFORCE and policy.can_ask and not self._tells and not self._quiet:
            say(f"policy {policy.name} asks about some calls, and {self._untold}")

    def changed(self, policy: Policy) -> None:
        """A changed policy is in force."""
        say(f"policy {policy.name} was loaded again ({policy.rule_count} rules) and is in force")
        if policy.mode is Mode.OBSERVE:
            self.started(policy)
        else:
            self._grouped(policy)
        if self._store is not None:
            self._store.note_soon(loaded_note(policy))

    @staticmethod
    def _grouped(policy: Policy) -> None:
        """Rules that match no caller here are told, never silent: a deny among them holds nobody back."""
        for rule in looks_at_groups(policy)[:SHOWN_RULES]:
            say(f"{rule} looks at groups: {NOBODY}; {MEND} [policy-groups]")

    def rejected(self, errors: LoadErrors) -> None:
        """A changed policy does not load: the old one stays."""
        say(f"{errors}\nthe policy files changed and do not load; the policy before stays in force")
        if self._store is not None:
            found: list[Json] = [str(problem) for problem in errors.problems]
            self._store.note_soon(Note(kind=Kind.POLICY_REJECTED, fields={"errors": found}))
