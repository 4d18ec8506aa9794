"""The control tools: what the model may ask about its own run, and do about it. They go through the governed loop.

None of them approves, resumes, waives, undoes or widens anything, and none sees another run.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import field
from functools import cached_property
from typing import Final

from soothsayer_mcp.evidence.completion import unmet
from soothsayer_mcp.model.call import CONTROL, ArgumentFault, PinState, ToolDefinition
from soothsayer_mcp.model.failure import REASONS, Acted, Reason
from soothsayer_mcp.model.json import Json, JsonObject, canonical, compact, digest
from soothsayer_mcp.model.outcome import Returned
from soothsayer_mcp.model.run import Run, RunState
from soothsayer_mcp.model.step import RecordedStep
from soothsayer_mcp.model.value import dataclass
from soothsayer_mcp.policy.policy import Policy
from soothsayer_mcp.ports import Call, Clock, Desk, PortError, Tools
from soothsayer_mcp.proxy.shared import used_by_tools
from soothsayer_mcp.run.allowance import budgets_of
from soothsayer_mcp.run.gate import missing
from soothsayer_mcp.run.giving import refuse_to_give
from soothsayer_mcp.run.used import used
from soothsayer_mcp.wire import replies
from soothsayer_mcp.wire.parts import part

MOST_LISTED = 20
"""How many missing things are told one by one."""
INTENT_CHARS = 2_000
PART_BYTES = 8_000
MOST_PART_BYTES = 64_000
"""Of a stored result at a time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """What a control tool answers: lines to read, and the same for programs."""

    lines: tuple[str, ...]
    fields: JsonObject
    apart: tuple[str, ...] = ()
    """What others wrote, in blocks of its own before ours."""
    is_error: bool = False


@dataclass(frozen=True, kw_only=True)
class ControlTool:
    """One row of the table."""

    name: str
    title: str
    description: str
    takes: Mapping[str, str] = field(default_factory=dict[str, str])
    """Text argument -> what it is for; all of them are due."""
    counts: Mapping[str, str] = field(default_factory=dict[str, str])
    """Argument that is a number from 0 on -> what it is for; none of them is due."""

    @cached_property
    def definition(self) -> ToolDefinition:
        """The tool as hosts see it and as policy decides about it."""
        wire: JsonObject = {
            "name": self.name,
            "title": self.title,
            "description": self.description,
            "inputSchema": {
                "type": "object",
                "properties": {
                    **{name: {"type": "string", "description": about} for name, about in self.takes.items()},
                    **{
                        name: {"type": "integer", "minimum": 0, "description": about}
                        for name, about in self.counts.items()
                    },
                },
                "required": [*self.takes],
                "additionalProperties": False,
            },
            "annotations": {"destructiveHint": False, "openWorldHint": False},
        }
        return ToolDefinition(
            server=CONTROL,
            name=self.name,
            raw=compact(wire),
            digest=digest(canonical(wire)),
            pin=PinState.PINNED,
            properties=frozenset([*self.takes, *self.counts]),
            check_arguments=self._fault,
        )

    def _fault(self, arguments: Json) -> ArgumentFault | None:
        if not isinstance(arguments, Mapping):
            return ArgumentFault(path="", problem="is not an object")
        if not self.takes.keys() | self.counts.keys() >= arguments.keys():
            return ArgumentFault(path="", problem="has a member that is not declared")
        for name in self.takes:
            if not isinstance(arguments.get(name), str):
                return ArgumentFault(path=f"/{name}", problem="is not a text")
        for name in self.counts:
            value = arguments.get(name, 0)
            if isinstance(value, bool) or not isinstance(value, int) or value < 0:
                return ArgumentFault(path=f"/{name}", problem="is not a whole number from 0 on")
        return None


TABLE: Final[tuple[ControlTool, ...]] = (
    ControlTool(
        name="soothsayer_run",
        title="State of the run",
        description="Tells the state of the run that your calls belong to: what it is for, what it is limited to, what"
        " was counted, and what is missing before it can be completed.",
    ),
    ControlTool(
        name="soothsayer_open",
        title="Say what the run is for",
        description="Records in your own words what the run is for. It changes no rule and no limit. The first call"
        " opens a run by itself; this one needs to be called only if you want your intent on record.",
        takes={"intent": "What the work is for, in a sentence."},
    ),
    ControlTool(
        name="soothsayer_why",
        title="Why a step ended as it did",
        description="Tells why one of your calls was refused or failed, whether it may have had its effect, and what to"
        " do next.",
        takes={"step": "The step as a refusal names it, such as 4bf9.7."},
    ),
    ControlTool(
        name="soothsayer_result",
        title="Read on in a stored result",
        description="Gives a part of a result that was too large to be shown at once. What it gives counts as returned"
        " to you.",
        takes={"step": "The step whose result it is, such as 4bf9.7."},
        counts={
            "offset": "Where to begin, in bytes; 0 without it.",
            "size": f"How much, in bytes; {PART_BYTES} without it, {MOST_PART_BYTES} at most.",
        },
    ),
    ControlTool(
        name="soothsayer_complete",
        title="Ask to complete the run",
        description="Asks to complete the run. It is refused, with a list of what is missing, while calls are in flight"
        " or unsettled, questions are open, or checks that are owed are not kept.",
    ),
)
"""All of them. Who may use which is policy's, under the server name `soothsayer`; nothing here checks less."""

BY_NAME: Final[Mapping[str, ControlTool]] = {tool.name: tool for tool in TABLE}


def is_control_name(name: str) -> bool:
    """Whether a server's tool is shadowed by one of ours: equal, or equal after case folding."""
    return name.casefold() in BY_NAME


class ControlTools:
    """Answers the calls of control tools, and hands every other call on: a `Tools` for the governor."""

    def __init__(self, servers: Tools, desk: Desk, policy: Callable[[], Policy], clock: Clock) -> None:
        """Answer by the policy in force at each moment."""
        self._servers = servers
        self._desk = desk
        self._policy = policy
        self._clock = clock
        self._answers: Mapping[str, Callable[[RecordedStep], Awaitable[Said]]] = {
            "soothsayer_run": self._run,
            "soothsayer_open": self._open,
            "soothsayer_why": self._why,
            "soothsayer_result": self._result,
            "soothsayer_complete": self._complete,
        }

    async def forward(self, step: RecordedStep, call: Call) -> Returned:
        """Answer a control tool's call; any other goes to its server. Raises `PortError`."""
        proposal = step.proposal
        if proposal.server != CONTROL:
            return await self._servers.forward(step, call)
        answer = self._answers.get(proposal.tool)
        if answer is None or proposal.request_id is None:
            raise PortError(Reason.TOOL_UNKNOWN, f"no control tool {proposal.tool}", acted=Acted.NO)
        if call.withdrawn:
            raise PortError(Reason.WITHDRAWN, call.cancel_reason, acted=Acted.NO)
        call.sent = True
        said = await answer(step)
        result: JsonObject = {
            "content": [{"type": "text", "text": text} for text in (*said.apart, "\n".join(said.lines))],
            "structuredContent": said.fields,
        }
        if said.is_error:
            result["isError"] = True
        return Returned(raw=replies.result(proposal.request_id, result), result=result)

    async def _run(self, step: RecordedStep) -> Said:
        run = await self._desk.read_run(step.run_id)
        lacks = await self._missing(run)
        counted = run.counters
        lines = [f"Run {run.id[:4]} is {run.state}{f' ({run.why})' if run.why else ''}."]
        if run.intent is not None:
            lines.append(f"Its intent, said by the {run.intent.declared_by}: {run.intent.text[:INTENT_CHARS]!a}")
        if run.scope is not None:
            lines.append(f"It is limited to {run.scope.text}.")
        lines.append(
            f"{counted.calls} calls, of which {counted.errors} failed; {counted.denials} further ones were refused."
        )
        spent = used(counted, budgets_of(run, self._policy().budgets), self._clock.now_us())
        spent += used_by_tools(self._policy(), run.id, self._desk.recall)
        if spent:
            left = ", ".join(f"{name} {most - count:,} of {most:,}" for name, count, most in spent)
            lines.append(f"Left of its budgets: {left}.")
        lines += _owed(lacks)
        return Said(
            lines=tuple(lines),
            fields={
                **_of_run(run),
                "counted": {
                    "calls": counted.calls,
                    "errors": counted.errors,
                    "denials": counted.denials,
                    "bytes_returned": counted.bytes_returned,
                },
                "budgets": {name: {"used": count, "most": most} for name, count, most in spent},
                "missing": [*lacks],
            },
        )

    async def _open(self, step: RecordedStep) -> Said:
        text = " ".join(str(step.proposal.arguments.get("intent", "")).split())[:INTENT_CHARS]
        if not text:
            return Said(lines=("Say in the argument intent what the work is for.",), fields={}, is_error=True)
        run = await self._desk.read_run(step.run_id)
        if run.state is not RunState.OPEN:
            line = f"Run {run.id[:4]} is {run.state}; nothing was recorded. Tell the person."
            return Said(lines=(line,), fields=_of_run(run), is_error=True)
        run = await self._desk.declare_intent(step.run_id, text)
        lines = [f"Recorded as your own words, for run {run.id[:4]}. They change no rule and no limit."]
        if run.intent is not None and run.intent.text != text:
            lines.append(f"The intent of the run stays what the {run.intent.declared_by} said.")
        return Said(lines=tuple(lines), fields=_of_run(run))

    async def _why(self, step: RecordedStep) -> Said:
        named, no = _named_step(step)
        # Another run's step is told apart from no step by nothing.
        told = await self._desk.ended_step(step.run_id, no) if no else None
        if told is None:
            return Said(lines=(f"This run has no step {named[:40]!a}.",), fields={}, is_error=True)
        name = f"{step.run_id[:4]}.{no}"
        call = f"{told.server}.{told.tool}" if told.server else told.tool
        fields: JsonObject = {"step": name, "outcome": told.outcome, "acted": told.acted, "reason": told.reason}
        if not told.outcome:
            return Said(lines=(f"Step {name}, {call!a}, is still in flight.",), fields=fields)
        if told.reason is None:
            return Said(lines=(f"Step {name}, {call!a}, succeeded.",), fields=fields)
        guidance = REASONS[Reason(told.reason)]
        lines = [told.said or f"Step {name}, {call!a}: {guidance.meaning}"]
        lines.append(f"{guidance.failure}/{told.reason}: {guidance.meaning} Whether it had its effect: {told.acted}.")
        if guidance.do and not told.said:
            lines.append(f"Do: {guidance.do}")
        return Said(lines=tuple(lines), fields={**fields, "class": guidance.failure.value})

    async def _result(self, step: RecordedStep) -> Said:
        named, no = _named_step(step)
        principal = step.principal.id
        found = await self._desk.stored_result(step.run_id, no, principal=principal) if no else None
        if found is None:
            line = f"This run has no stored result of a step {named[:40]!a}."
            return Said(lines=(line,), fields={}, is_error=True)
        offset, size = (_count(step.proposal.arguments.get(name)) for name in ("offset", "size"))
        piece = part(found.text, offset, min(size or PART_BYTES, MOST_PART_BYTES))
        given = len(piece.text.encode())
        budgets, now_us = self._policy().budgets, self._clock.now_us()
        try:
            await self._desk.give_back(step.run_id, given, lambda run: refuse_to_give(run, given, budgets, now_us))
        except PortError as error:
            if error.reason is Reason.TRACE_UNAVAILABLE:
                raise
            return Said(lines=(f"Not given: {error.failure.agent_text('')}",), fields={}, is_error=True)
        name = f"{step.run_id[:4]}.{no}"
        rest = f'soothsayer_result {{"step": "{name}", "offset": {piece.end}}} reads on.'
        last = "That is its end." if piece.end == piece.of else rest
        fields: JsonObject = {"step": name, "offset": piece.offset, "end": piece.end, "of": piece.of}
        line = (
            f"These were bytes {piece.offset:,} to {piece.end:,} of {piece.of:,} of the result of step {name}. {last}"
        )
        return Said(lines=(line,), fields=fields, apart=(piece.text,))

    async def _complete(self, step: RecordedStep) -> Said:
        run = await self._desk.read_run(step.run_id)
        if run.state is not RunState.OPEN:
            line = f"Run {run.id[:4]} is {run.state}; only a person can change that."
            return Said(lines=(line,), fields=_of_run(run), is_error=True)
        done = await self._desk.complete_run(
            step.run_id, by=f"agent for {run.principal.id}", rules=self._policy().run_rules
        )
        fields: JsonObject = {**_of_run(run), "state": done.state.value, "missing": [*done.missing]}
        if done.missing:
            lines = (f"Not completed: run {run.id[:4]} still owes something.", *_owed(done.missing))
            return Said(lines=lines, fields=fields, is_error=True)
        lines = (f"Run {run.id[:4]} is completed.",)
        if done.unverified:
            names = ", ".join(f"{run.id[:4]}.{no}" for no in done.unverified[:MOST_LISTED])
            lines = (*lines, f"Nothing checked these steps, which did more than read: {names}.")
        return Said(lines=lines, fields=fields)

    async def _missing(self, run: Run) -> tuple[str, ...]:
        debts = await self._desk.debts_of(run.id)
        rules = self._policy().run_rules
        found = unmet(rules.required, run.id, self._desk.held, self._clock.now_us()) if rules.required else ()
        return missing(run.id[:4], debts, refuse_unverified=rules.refuse_unverified, unmet=found)


def _named_step(step: RecordedStep) -> tuple[str, int]:
    """The step that an argument names, as it was written, and its number; 0 where it is none of the caller's run."""
    named = str(step.proposal.arguments.get("step", ""))
    run, _, number = named.rpartition(".")
    no = int(number) if number.isascii() and number.isdigit() and len(number) < 10 else 0  # noqa: PLR2004 - digits of a step
    return named, no if step.run_id.startswith(run) else 0


def _count(value: Json) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) else 0


def _of_run(run: Run) -> JsonObject:
    intent: Json = None
    if run.intent is not None:
        intent = {"text": run.intent.text[:INTENT_CHARS], "declared_by": run.intent.declared_by.value}
    return {"run": run.id[:4], "state": run.state.value, "why": run.why or None, "intent": intent}


def _owed(lacks: tuple[str, ...]) -> tuple[str, ...]:
    if not lacks:
        return ("Nothing stands against completing it.",)
    more = len(lacks) - MOST_LISTED
    rest = (f"- and {more} more",) if more > 0 else ()
    return ("Missing before it can be completed:", *(f"- {what}" for what in lacks[:MOST_LISTED]), *rest)
