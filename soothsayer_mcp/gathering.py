"""Looking before and after the calls that owe something: which look, in which order, and what each comes to.

What is looked at is compared and never followed. What cannot be looked at in time is `unknown`: a gap before the call,
an unchecked step after it.
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import TypeAlias

import anyio

from soothsayer_mcp.capturing import Capturing
from soothsayer_mcp.evidence import checks
from soothsayer_mcp.evidence.admit import lapsed
from soothsayer_mcp.evidence.attestation import judge_statement
from soothsayer_mcp.evidence.checks import Conditions, Looked, unknown
from soothsayer_mcp.evidence.gap import Gap, refusal
from soothsayer_mcp.evidence.judge import OUTPUT_SCHEMA, is_final, judge_answer, unchecked
from soothsayer_mcp.evidence.scope import (
    AbsentError,
    fill,
    filled_text,
    parsed,
    plain,
    result_of,
    shown,
    take,
    values_of,
)
from soothsayer_mcp.evidence.settle import settling_of
from soothsayer_mcp.evidence.steps import crosses, judge_step, texts
from soothsayer_mcp.model.call import ArgumentFault
from soothsayer_mcp.model.condition import View
from soothsayer_mcp.model.decision import Mode
from soothsayer_mcp.model.dues import LOOK_BEFORE, Held, Item
from soothsayer_mcp.model.evidence import Evidence, Level, Support
from soothsayer_mcp.model.failure import Acted, Failure, Reason
from soothsayer_mcp.model.finding import Answer, Finding
from soothsayer_mcp.model.json import Json, canonical
from soothsayer_mcp.model.outcome import Returned
from soothsayer_mcp.model.settlement import SettleTerms
from soothsayer_mcp.model.settling import Settling, Unsettled
from soothsayer_mcp.model.step import AnsweredStep, DecidedStep, ProposedStep
from soothsayer_mcp.model.subject import FILE, relative, subject
from soothsayer_mcp.model.undo import Captured
from soothsayer_mcp.model.value import dataclass
from soothsayer_mcp.ports import Call, Clock, Ids, PortError, Probes

HOLD_S = 45.0
"""How long a call is held for what has to be known before it, or found after it."""
READS_PER_RUN = 50
"""Read-backs of one call: what polls longer has found out what it can."""

NOWHERE: Mapping[str, Json] = {}

SchemaCheck: TypeAlias = Callable[[Mapping[str, Json]], Callable[[Json], ArgumentFault | None] | None]
"""Compiles a JSON Schema of the policy's; `None` for one that cannot be used."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Site:
    """One step, and what its items may look at."""

    step: ProposedStep
    call: Call
    values: dict[str, Json]
    before: Mapping[str, Json]


class Inspection:
    """Implements `Inspector`."""

    def __init__(
        self,
        *,
        held: Callable[[], Held],
        probes: Probes,
        conditions: Conditions,
        schema: SchemaCheck,
        workspace: str,
        clock: Clock,
        ids: Ids,
        hold_s: float = HOLD_S,
        reach: Mapping[str, Json] = NOWHERE,
    ) -> None:
        """Look through `probes`, at what the record holds now, and evaluate conditions by `conditions`.

        `reach` says of each server how it is reached again, when what it did has to be undone.
        """
        self._held = held
        self._probes = probes
        self._conditions = conditions
        self._schema = schema
        self._workspace = workspace
        self._clock = clock
        self._ids = ids
        self._hold_s = hold_s
        self._reach = reach
        self._capturing = Capturing(held=held, probes=probes, workspace=workspace, reach=reach)

    # -- before -------------------------------------------------------------------------------------------------------

    async def gather(self, step: DecidedStep, call: Call) -> Support:
        """Look up or gather what policy demands before the call; a gap for each demand that is not met."""
        dues = step.decision.dues
        site = _Site(step=step, call=call, values=values_of(step, self._workspace), before={})
        found: list[Evidence] = []
        gaps: list[Gap] = []
        for item in dues.require:
            one = await self._required(item, site)
            if isinstance(one, Gap):
                gaps.append(one)
            else:
                found += one
        if gaps:
            return Support(gaps=(refusal(step, gaps),))
        files = await self._files(glob for sighting in dues.sightings for glob in sighting.unchanged)
        before: dict[str, Json] = {}
        for number, item in enumerate(dues.verify):
            await self._look_before(item, str(number), site, before)
        captured = await self._captured(step, call)
        if isinstance(captured, Failure):
            return Support(gaps=(captured,))
        settling = None if dues.settle is None else await self._settling(dues.settle, site, before, captured)
        return Support(evidence=tuple(found), files=files, before=before, captured=captured, settling=settling)

    async def _settling(
        self, terms: SettleTerms, site: _Site, before: Mapping[str, Json], captured: Captured | None
    ) -> Settling | None:
        """What tells whether the call took effect, should nobody know; the state before is left out if not seen."""
        values: dict[str, Json] = dict(site.values)
        if captured is not None and captured.has_seen:
            values["before"] = captured.seen
        elif terms.look_tool:
            with suppress(PortError, AbsentError):
                with anyio.move_on_after(self._hold_s):
                    facts = await self._read(terms.look_tool, dict(terms.look_args), site)
                    values["before"] = facts.text if facts.result is None else facts.result
        step = site.step
        assert isinstance(step, DecidedStep)
        servers = sorted({step.proposal.server, terms.tool.partition(".")[0]})
        reach = {server: self._reach.get(server) for server in servers}
        return settling_of(terms, values, verify=step.decision.dues.verify, before=before, reach=reach)

    async def _captured(self, step: DecidedStep, call: Call) -> Captured | Failure | None:
        """What an undo will need. A rule that promises one refuses the call without; what a label says may fail."""
        dues = step.decision.dues
        terms = dues.undo
        if terms is None or not terms.keeps:
            return None
        reason, why = Reason.CAPTURE_FAILED, f"no end within {self._hold_s:g} s"
        with anyio.move_on_after(self._hold_s):
            try:
                return await self._capturing.before(step, terms, dues.opens, call)
            except AbsentError as absent:
                why = str(absent)
            except PortError as error:
                why = error.summary
                if error.reason is Reason.STATE_CHANGED:
                    reason = Reason.STATE_CHANGED
        if not terms.must_keep or step.decision.mode is Mode.OBSERVE:
            return None
        return Failure(reason=reason, summary=why)

    async def look_after(self, step: AnsweredStep, call: Call) -> Captured | None:
        """See how what was kept before the call stands once its forward is over."""
        with anyio.move_on_after(PROBE_S):
            return await self._capturing.after(step, call)
        return Captured()

    async def _required(self, item: Item, site: _Site) -> Sequence[Evidence] | Gap:
        """What meets one demand, or why nothing does."""
        answer = self._applies(item, site)
        if answer is False:
            return ()
        title = _title(item, site)
        if item.kind == "any":
            gaps: list[Gap] = []
            for one in item.one_of:
                found = await self._required(one, site)
                if not isinstance(found, Gap):
                    return found
                gaps.append(found)
            why = "; ".join(f"{gap.title}: {gap.why}" for gap in gaps)
            do = " or ".join(gap.do for gap in gaps if gap.do)
            return Gap(reason=gaps[0].reason, title="one of several", why=why, do=do)
        if item.kind == "step":
            held = self._held()
            globs = texts(item.spec.get("unchanged"))
            files = await self._files(globs) if globs else {}
            seen = held.seen(site.step.run_id, item.pattern, across=crosses(item.spec))
            judged = judge_step(
                item,
                seen,
                held,
                id_=self._ids.token(),
                values=site.values,
                files=files,
                now_us=self._clock.now_us(),
                policy=site.step.decision.policy_digest if isinstance(site.step, DecidedStep) else "",
            )
            return judged if isinstance(judged, Gap) else (judged,)
        return await self._probed(item, site, title)

    async def _probed(self, item: Item, site: _Site, title: str) -> Sequence[Evidence] | Gap:
        do = item.spec.get("do")
        do = do if isinstance(do, str) else ""
        began = self._held().position()
        looked: Looked | None = None
        with anyio.move_on_after(self._hold_s):
            looked = await self._look(item, "", site)
        if looked is None:
            return Gap(reason=Reason.EVIDENCE_PENDING, title=title, why=f"no end within {self._hold_s:g} s", do=do)
        if looked.answer is not Answer.KEPT:
            broken = looked.answer is Answer.BROKEN
            reason = looked.reason or (Reason.CONTRADICTED if broken else Reason.UNREACHABLE)
            return Gap(reason=reason, title=title, why=looked.detail or "it is not so", do=do)
        least = item.spec.get("min_level")
        if isinstance(least, str) and looked.level < least:
            why = f"it is {looked.level}, {least} is needed"
            return Gap(reason=Reason.LEVEL_TOO_LOW, title=title, why=why, do=do)
        now_us = self._clock.now_us()
        evidence = Evidence(
            id=self._ids.token(),
            kind=item.kind,
            level=looked.level,
            subject=looked.subject,
            source=looked.source,
            began=began,
            at_us=now_us,
            spend=looked.spend,
            newer_than=item.newer_than,
            title=title,
            do=do,
            root=item.root,
        )
        gone = lapsed(evidence, self._held(), now_us)
        return (evidence,) if gone is None else Gap(reason=gone[0], title=title, why=gone[1], do=do)

    async def _look_before(self, item: Item, key: str, site: _Site, before: dict[str, Json]) -> None:
        """What a check after the call compares with; what cannot be seen is left out, and makes it unknown."""
        for number, one in enumerate(item.one_of):
            await self._look_before(one, f"{key}.{number}", site, before)
        if item.kind not in LOOK_BEFORE and "changed" not in item.spec:
            return
        try:
            with anyio.move_on_after(self._hold_s):
                before[key] = await self._state(item, site)
        except (PortError, AbsentError):
            return

    async def _state(self, item: Item, site: _Site) -> Json:
        match item.kind:
            case "count":
                return await self._counted(item, site)
            case "diff":
                return dict(await self._tree(item))
            case _:
                return checks.state_of(await self._probes.file(_path(item, site)))

    # -- after --------------------------------------------------------------------------------------------------------

    async def verify(self, step: AnsweredStep, call: Call) -> tuple[tuple[Finding, ...], Mapping[str, str]]:
        """Check an answer that came: a finding for each check that is owed, and the digests of files to be kept."""
        outcome, dues = step.outcome, step.decision.dues
        assert isinstance(outcome, Returned)
        files = await self._files(glob for sighting in dues.sightings for glob in sighting.unchanged)
        if outcome.result is None or outcome.is_error or step.decision.mode is Mode.OBSERVE or not is_final(outcome):
            return (), files
        if not outcome.strict:
            return unchecked(step, "its answer reads in more than one way"), files
        result, text = result_of(outcome)
        values = values_of(step, self._workspace)
        refused = self._not_ok(dues.ok_when, {**values, "result": result, "returned": result, "text": text})
        findings = [refused] if refused is not None else list(judge_answer(step))
        if refused is not None and refused.answer is Answer.BROKEN:
            return tuple(findings), files
        values = {**values, "returned": result, **step.names}
        site = _Site(step=step, call=call, values=values, before=step.support.before)
        asked = sorted(enumerate(dues.verify), key=lambda one: _ORDER.get(one[1].kind, 0))
        for number, item in asked:
            if (
                item.kind == "schema"
                and item.spec.get("schema") == "output"
                and any(found.check == OUTPUT_SCHEMA for found in findings)
            ):
                continue
            if item.kind in _POLLED and any(found.answer is Answer.BROKEN for found in findings):
                looked = unknown(Level.E3, item.kind, "not looked at, since another check is broken")
                findings.append(_finding(item, looked, 0))
                continue
            found = await self._checked(item, str(number), site, outcome)
            if found is not None:
                findings.append(found)
        return tuple(findings), files

    async def effects(self, step: ProposedStep, unsettled: Unsettled, call: Call) -> tuple[Finding, ...]:
        """Carry out the checks of a step that took effect and of which no answer came."""
        settling = unsettled.settling
        site = _Site(step=step, call=call, values=dict(settling.values), before=settling.before)
        found = [await self._checked(item, str(no), site, None) for no, item in enumerate(settling.verify)]
        return tuple(one for one in found if one is not None)

    def _not_ok(self, conditions: Sequence[str], values: Mapping[str, Json]) -> Finding | None:
        for text in conditions:
            answer, detail = checks.judge_condition(text, self._conditions, values)
            if answer is not Answer.KEPT:
                reason = Reason.NOT_OK if answer is Answer.BROKEN else Reason.UNCHECKED
                return Finding(
                    check="ok_when", answer=answer, level=Level.E1, reason=reason, detail=detail, rule="label"
                )
        return None

    async def _checked(self, item: Item, key: str, site: _Site, outcome: Returned | None) -> Finding | None:
        if self._applies(item, site) is False:
            return None
        began = self._clock.monotonic_ns()
        looked: Looked | None = None
        with anyio.move_on_after(max(self._hold_s, _within_s(item) + 1.0)):
            looked = await self._one(item, key, site, outcome)
        if looked is None:
            looked = unknown(Level.E3, item.kind, "no answer in time")
        return _finding(item, looked, (self._clock.monotonic_ns() - began) // 1000)

    async def _one(self, item: Item, key: str, site: _Site, outcome: Returned | None) -> Looked:
        if item.kind == "any":
            return await self._any(item, key, site, outcome)
        if item.kind != "schema":
            return await self._look(item, key, site)
        if outcome is None:
            return unknown(Level.E1, "schema", "no answer came")
        spec = item.spec.get("schema", item.spec)
        if not isinstance(spec, Mapping):
            return unknown(Level.E1, "schema:output", "the tool declares no output schema")
        if outcome.structured is None:
            return Looked(answer=Answer.BROKEN, level=Level.E1, subject="schema", detail="no structured content came")
        check = self._schema(spec)
        if check is None:
            return unknown(Level.E1, "schema", "the schema cannot be used")
        fault = check(outcome.structured)
        detail = "" if fault is None else f"{fault.path or 'the whole'} {fault.problem}"
        return Looked(
            answer=Answer.KEPT if fault is None else Answer.BROKEN, level=Level.E1, subject="schema", detail=detail
        )

    async def _any(self, item: Item, key: str, site: _Site, outcome: Returned | None) -> Looked:
        found: list[Looked] = []
        for number, one in enumerate(item.one_of):
            looked = await self._one(one, f"{key}.{number}", site, outcome)
            if looked.answer is Answer.KEPT:
                return looked
            found.append(looked)
        return next((one for one in found if one.answer is Answer.UNKNOWN), found[0])

    # -- looking ------------------------------------------------------------------------------------------------------

    def _applies(self, item: Item, site: _Site) -> bool:
        """Whether an item counts for this call: only a clear no leaves it out."""
        when = item.spec.get("when")
        if not isinstance(when, str):
            return True
        return self._conditions(when)(View(checks.named(site.values))) is not False

    async def _look(self, item: Item, key: str, site: _Site) -> Looked:
        """Look once, or as long as the item says; never raises."""
        try:
            return await _LOOKS[item.kind](self, item, key, site)
        except AbsentError as absent:
            return unknown(Level.E3, item.kind, str(absent))
        except PortError as error:
            return unknown(Level.E3, item.kind, error.summary)

    async def _artifact(self, item: Item, key: str, site: _Site) -> Looked:
        if "git" in item.spec:
            folder = _absolute(filled_text(item.spec["git"], site.values), item)
            return checks.judge_head(item, folder, await self._probes.head(folder), site.values)
        facts = await self._probes.file(_path(item, site))
        return checks.judge_file(item, facts, site.values, site.before.get(key))

    async def _readback(self, item: Item, _key: str, site: _Site) -> Looked:
        tool, until = str(item.spec["tool"]), str(item.spec["until"])

        async def once() -> Looked:
            if item.spec.get("independent") is True and tool.partition(".")[0] == site.step.proposal.server:
                raise PortError(Reason.UNREACHABLE, f"{tool} is of the server that is called", acted=_NO)
            facts = await self._read(tool, item.spec.get("args", {}), site)
            return checks.judge_read(until, tool, facts, self._conditions, site.values)

        return await self._polled(item, once, level=Level.E2, about=f"tool:{tool}")

    async def _command(self, item: Item, _key: str, site: _Site) -> Looked:
        name = str(item.spec["name"])
        given = item.spec.get("with")
        words = (
            {key: filled_text(text, site.values) for key, text in given.items()} if isinstance(given, Mapping) else {}
        )
        facts = await self._probes.command(name, words)
        values = {**site.values, "result": parsed(facts.stdout)}
        return checks.judge_command(item, name, facts, self._conditions, values)

    async def _http(self, item: Item, _key: str, site: _Site) -> Looked:
        template = str(item.spec["url"])
        method = str(item.spec.get("method", "GET"))

        async def once() -> Looked:
            url, facts = await self._probes.http(template, site.values, method)
            return checks.judge_http(item, url, facts, parsed(facts.body), self._conditions, site.values)

        return await self._polled(item, once, level=Level.E3, about="address")

    async def _attestation(self, item: Item, _key: str, site: _Site) -> Looked:
        envelope = take(str(item.spec["from"]), site.values)
        subject = take(str(item.spec["subject"]), site.values)
        statement = await self._probes.statement(envelope, texts(item.spec.get("keys")))
        return judge_statement(item, statement, subject, self._clock.now_us())

    async def _count(self, item: Item, key: str, site: _Site) -> Looked:
        of = item.spec["of"]
        tool = str(of["tool"]) if isinstance(of, Mapping) else ""
        if key not in site.before:
            return unknown(Level.E2, f"tool:{tool}", "it was not counted before the call")
        after = await self._counted(item, site)
        return checks.judge_count(
            item, tool, before=site.before[key], after=after, conditions=self._conditions, values=site.values
        )

    async def _diff(self, item: Item, key: str, site: _Site) -> Looked:
        before = site.before.get(key)
        if not isinstance(before, Mapping):
            return unknown(Level.E3, "diff", "the files were not seen before the call")
        return checks.judge_diff(item, before=before, after=await self._tree(item))

    async def _came_back(self, item: Item, site: _Site) -> Looked:
        """Whether the look that was taken before a step finds the same again."""
        tool, args = str(item.spec["look"]), item.spec["args"]
        assert isinstance(args, Mapping)
        if site.call.read is None:
            raise PortError(Reason.UNREACHABLE, f"{tool} cannot be called from here", acted=_NO)
        facts = await site.call.read(site.step, tool, dict(args))
        found = facts.text if facts.result is None else facts.result
        same = canonical(found) == canonical(item.spec["seen"])
        return Looked(
            answer=Answer.KEPT if same else Answer.BROKEN,
            level=Level.E2,
            subject=f"tool:{tool}",
            detail="" if same else f"{tool} does not find the state before",
        )

    async def _restored(self, item: Item, _key: str, site: _Site) -> Looked:
        """Whether an undo put back what was to come back."""
        files = item.spec.get("files", {})
        assert isinstance(files, Mapping)
        about = ""
        if "look" in item.spec:
            return await self._came_back(item, site)
        for path, state in files.items():
            found = checks.state_of(await self._probes.file(path))
            about = subject(FILE, (path,))
            if found != state:
                detail = f"{shown(path)} is not as it was"
                return Looked(answer=Answer.BROKEN, level=Level.E3, subject=about, detail=detail)
        return Looked(answer=Answer.KEPT, level=Level.E3, subject=about)

    async def _counted(self, item: Item, site: _Site) -> Json:
        of = item.spec["of"]
        assert isinstance(of, Mapping)
        facts = await self._read(str(of["tool"]), of.get("args", {}), site)
        return take(str(of["take"]), {"result": facts.result, "text": facts.text})

    async def _tree(self, item: Item) -> Mapping[str, str]:
        if not item.root:
            raise PortError(Reason.UNREACHABLE, "the server's files are not on this machine", acted=_NO)
        return await self._probes.files(texts(item.spec.get("of")), texts(item.spec.get("not")))

    async def _read(self, tool: str, arguments: Json, site: _Site) -> checks.ReadFacts:
        called = f"{site.step.proposal.server}.{site.step.proposal.tool}"
        if tool == called:
            raise PortError(Reason.UNREACHABLE, f"{tool} cannot speak for itself", acted=_NO)
        if site.call.read is None:
            raise PortError(Reason.UNREACHABLE, f"{tool} cannot be called from here", acted=_NO)
        filled = fill(arguments, site.values)
        assert isinstance(filled, Mapping)
        return await site.call.read(site.step, tool, dict(filled))

    async def _polled(self, item: Item, once: Callable[[], Awaitable[Looked]], *, level: Level, about: str) -> Looked:
        """Look again until it is kept or the time is over; the last well-formed answer holds."""
        within_s, every_s = _within_s(item), _seconds(item.spec.get("every"), 1.0)
        last: Looked | None = None
        why = "no answer in time"
        looks = 0
        with anyio.move_on_after(within_s or PROBE_S):
            while True:
                looks += 1
                try:
                    looked = await once()
                    if looked.answer is not Answer.UNKNOWN:
                        last = looked
                    why = looked.detail
                except PortError as error:
                    why = error.summary
                if (last is not None and last.answer is Answer.KEPT) or not within_s or looks >= READS_PER_RUN:
                    break
                await anyio.sleep(every_s)
        return unknown(level, about, why) if last is None else last

    async def _files(self, globs: Iterable[str]) -> dict[str, str]:
        """The digest of each set of files; one that cannot be seen whole is left out."""
        found: dict[str, str] = {}
        for glob in dict.fromkeys(globs):
            try:
                found[glob] = await self._probes.digest(glob)
            except PortError:
                continue
        return found


_NO = Acted.NO
PROBE_S = 30.0
"""How long one look may take where its item does not say."""
_POLLED = frozenset({"readback", "http", "command", "attestation"})
_ORDER = {"schema": 0, "artifact": 1, "diff": 2, "count": 3, "any": 4, "readback": 5, "http": 6, "command": 7}
"""What costs least comes first; what waits for others comes last."""

_LOOKS: Mapping[str, Callable[[Inspection, Item, str, _Site], Awaitable[Looked]]] = {
    "artifact": Inspection._artifact,  # noqa: SLF001 - the table of the class above
    "readback": Inspection._readback,  # noqa: SLF001 - the same
    "command": Inspection._command,  # noqa: SLF001 - the same
    "http": Inspection._http,  # noqa: SLF001 - the same
    "attestation": Inspection._attestation,  # noqa: SLF001 - the same
    "count": Inspection._count,  # noqa: SLF001 - the same
    "diff": Inspection._diff,  # noqa: SLF001 - the same
    "restored": Inspection._restored,  # noqa: SLF001 - the same
}


def _finding(item: Item, looked: Looked, took_us: int) -> Finding:
    reason = None
    if looked.answer is Answer.BROKEN:
        reason = {
            "diff": Reason.SIDE_EFFECT,
            "schema": Reason.RESULT_SCHEMA,
            "restored": Reason.NOT_RESTORED,
        }.get(item.kind, Reason.CHECK_BROKEN)
    elif looked.answer is Answer.UNKNOWN:
        reason = Reason.UNCHECKED
    return Finding(
        check=item.kind,
        answer=looked.answer,
        level=looked.level,
        reason=reason,
        detail=looked.detail,
        subject=looked.subject,
        rule=item.rule,
        took_us=took_us,
        look=_look_at(item, looked.subject),
    )


def _look_at(item: Item, about: str) -> str:
    """How an agent looks at what a check looked at."""
    kind, _, key = about.partition(":")
    if kind == "file":
        return f"read {plain(relative(key, item.root))}"
    return f"look with {plain(key)}" if kind == "tool" else ""


def _title(item: Item, site: _Site) -> str:
    """What an item wants to be shown, in words."""
    spec = item.spec
    match item.kind:
        case "artifact":
            return f"the state of {_said(spec.get('file', spec.get('git')), site)}"
        case "readback":
            return f"what {spec['tool']} says"
        case "command":
            return f"the command {spec['name']}"
        case "http":
            return f"the answer of {_said(spec['url'], site)}"
        case "attestation":
            return f"an attestation {shown(spec['predicate'])}"
        case kind:
            return kind


def _said(text: Json, site: _Site) -> str:
    try:
        return shown(fill(text, site.values))
    except AbsentError:
        return shown(text)


def _path(item: Item, site: _Site) -> str:
    return _absolute(filled_text(item.spec["file"], site.values), item)


def _absolute(path: str, item: Item) -> str:
    """A path as the server means it, where its files are on this machine."""
    if not item.root:
        raise PortError(Reason.UNREACHABLE, "the server's files are not on this machine", acted=_NO)
    return path if path.startswith("/") or path[1:3] in {":/", ":\\"} else f"{item.root.rstrip('/')}/{path}"


def _within_s(item: Item) -> float:
    return _seconds(item.spec.get("within"), 0.0)


def _seconds(milliseconds: Json, usual: float) -> float:
    return milliseconds / 1000 if isinstance(milliseconds, int) else usual
