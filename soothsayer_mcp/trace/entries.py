"""Steps and notes as entries: the text that is hashed, with its fields in their fixed order.

Bodies are put together as text, not by a serialiser: this is the hottest code of the store, and the order of fields is
part of the format. There are no floats, and a field that says nothing is left out.
"""

from collections.abc import Mapping, Sequence
from json.encoder import encode_basestring as _quote_text  # the C one where there is one; keeps non-ASCII text
from json.encoder import encode_basestring_ascii as _quote_ascii

from soothsayer_mcp.model.ask import Approval, Ask, AskAnswer, AskState, NewAsk
from soothsayer_mcp.model.call import Does, RequestId, RunId
from soothsayer_mcp.model.decision import Decision, Obligation, ObligationKind, Risk
from soothsayer_mcp.model.entry import Kind
from soothsayer_mcp.model.evidence import Evidence
from soothsayer_mcp.model.failure import Acted, Failure, Reason
from soothsayer_mcp.model.finding import Answer, Finding
from soothsayer_mcp.model.json import Json, canonical, compact
from soothsayer_mcp.model.outcome import Returned, Unknown
from soothsayer_mcp.model.run import NextStep
from soothsayer_mcp.model.settlement import Settlement
from soothsayer_mcp.model.step import SupportedStep, VerifiedStep
from soothsayer_mcp.model.undo import UndoTerms
from soothsayer_mcp.model.value import dataclass

VERSION = 1
"""The format of the entries written here (`v`)."""

ORDER: dict[Kind, tuple[str, ...]] = {
    Kind.WRITER_OPENED: ("store", "segment", "version", "python", "sqlite", "pid", "durability", "about", "head"),
    Kind.WRITER_CLOSED: ("steps", "notes_lost"),
    Kind.WRITER_RECOVERED: ("of", "last_seq", "unknown", "withdrawn"),
    Kind.POLICY_LOADED: ("policy", "name", "scopes", "rules", "self_test", "named", "tiers", "machine", "source"),
    Kind.POLICY_REJECTED: ("path", "name", "errors", "kept", "source"),
    Kind.DEFINITION_PINNED: ("server", "tool", "digest", "by", "raw"),
    Kind.DEFINITION_CHANGED: ("server", "tool", "old", "new", "paths", "raw"),
    Kind.SERVER_CHANGED: ("server", "old", "new"),
    Kind.RUN_OPENED: (
        "principal",
        "host",
        "workspace",
        "automatic",
        "attached",
        "scope",
        "intent",
        "policy",
        "budgets",
    ),
    Kind.RUN_CHANGED: ("what", "from", "to", "reason", "by", "now", "missing", "text", "declared_by", "added"),
    Kind.GRANT_REVOKED: ("approval", "by"),
    Kind.MESSAGE_CHECKED: (
        "method",
        "from",
        "server",
        "effect",
        "rules",
        "reason",
        "bytes",
        "masked",
        "would_mask",
        "of_step",
        "result",
        "tier",
        "replaced",
        "read",
        "suspect",
    ),
    Kind.MESSAGE_DROPPED: ("method", "from", "server", "reason", "bytes", "answered", "why"),
}
"""The own fields of each kind that is written as a note, in order. Steps have functions below."""

ALWAYS_FULL = frozenset({"source", "raw"})
"""Payloads kept as they are whatever the mode: without them nobody could judge a decision again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """How a step ended, in the words of entries and rows."""

    outcome: str
    """`succeeded`, `failed` or `unknown`."""
    failure: Failure | None
    acted: Acted
    done: bool = True
    """Whether the tool was done with it; false where it succeeded in asking for something first."""


def quoted(value: str) -> str:
    """Spell a string in JSON. A lone surrogate, which UTF-8 cannot hold, becomes its escape."""
    if value.isascii():
        return _quote_ascii(value)
    try:
        value.encode()
    except UnicodeEncodeError:
        return _quote_ascii(value)
    return _quote_text(value)


def storable(value: str) -> str:
    """A string as a column can hold it: a lone surrogate is spelled out."""
    return value if value.isascii() else value.encode(errors="backslashreplace").decode()


def names(values: Sequence[str]) -> str:
    """Spell a list of strings."""
    return f"[{','.join([quoted(value) for value in values])}]"


def head(writer: str, seq: int, prev: str, at: str, kind: str) -> str:
    """The fields that begin every entry; `prev` in hex, `at` as RFC 3339."""
    return f'{{"v":{VERSION},"writer":"{writer}","seq":{seq},"prev":"{prev}","at":"{at}","kind":"{kind}"'


def payload(*, digest: str, size: int, mode: str, kept: str = "", masked: int = 0, cut: bool = False) -> str:
    """A payload field. Digests in hex; `kept` is left out where the bytes kept are the bytes that were said."""
    text = f'{{"digest":"sha256:{digest}","bytes":{size},"mode":"{mode}"'
    if kept:
        text += f',"kept":"sha256:{kept}"'
    if masked:
        text += f',"masked":{masked}'
    return text + (',"cut":true}' if cut else "}")


def note(kind: Kind, fields: Mapping[str, Json], payloads: Mapping[str, str]) -> str:
    """The own fields of an entry that is no step.

    Raises `ValueError` for a field that its kind does not have, and for a float.
    """
    order = ORDER.get(kind)
    if order is None or not set(order) >= fields.keys() | payloads.keys():
        msg = f"{kind} has no such field: {sorted(fields.keys() | payloads.keys())}"
        raise ValueError(msg)
    text = ""
    for name in order:
        if name in payloads:
            text += f',"{name}":{payloads[name]}'
        elif fields.get(name) is not None:
            text += f',"{name}":{_spelled(fields[name])}'
    return text


def run_opened(
    *,
    principal: tuple[str, str],
    host: tuple[str, str],
    declares: Sequence[str],
    workspace: str,
    automatic: bool,
    attached: bool,
    scope: str,
    intent: str,
    policy: str,
    budgets: Mapping[str, int],
) -> str:
    """The own fields of `run.opened`; `scope` and `intent` are whole JSON objects. What is empty is left out."""
    said = f',"declares":{names(declares)}' if declares else ""
    text = (
        f',"principal":{{"id":{quoted(principal[0])},"how":{quoted(principal[1])}}}'
        f',"host":{{"name":{quoted(host[0])},"version":{quoted(host[1])}{said}}}'
        f',"workspace":{quoted(workspace)},"automatic":{"true" if automatic else "false"}'
    )
    text += ',"attached":true' if attached else ""
    text += f',"scope":{scope}' if scope else ""
    text += f',"intent":{intent}' if intent else ""
    text += f',"policy":"{policy}"' if policy else ""
    return text + (f',"budgets":{_spelled(dict(budgets))}' if budgets else "")


def proposal(step: SupportedStep, args: str, match: str) -> str:
    """What was asked for: the first own fields of every step's first entry."""
    asked, tool = step.proposal, step.tool
    text = (
        f',"server":{quoted(asked.server)},"tool":{quoted(asked.tool)},"does":{names(step.decision.does)}'
        f',"cause":"{step.cause}"'
    )
    continues = step.continues or step.support.continues
    if continues:
        text += f',"continues":{quoted(continues)}'
    if step.of_step:
        text += f',"of_step":{quoted(step.of_step)}'
    if asked.request_id is not None:
        text += f',"request":{quoted(request_text(asked.request_id))}'
    if args:
        text += f',"args":{args}'
    text += f',"match":"hmac:{match}"'
    return text if tool is None else f'{text},"definition":"{tool.digest}"'


def decision(decided: Decision, context: str) -> str:
    """What policy answered; follows the proposal."""
    text = f',"effect":"{decided.effect}","mode":"{decided.mode}"'
    if decided.would is not None:
        text += f',"would":"{decided.would}"'
    rules: list[str] = []
    for rule in decided.rules:
        unknown = f',"unknown":{quoted(rule.unknown)}' if rule.unknown else ""
        rules.append(f'{{"id":{quoted(rule.id)},"effect":"{rule.effect}"{unknown}}}')
    text += f',"rules":[{",".join(rules)}]'
    if decided.obligations:
        text += f',"obligations":{names([_obligation(owed) for owed in decided.obligations])}'
    if decided.tier:
        text += f',"tier":{quoted(decided.tier)}'
    if decided.risk is not None:
        text += f',"risk":{_risk(decided.risk)}'
    return f'{text},"policy":"{decided.policy_digest}","context":{context}'


def deadline(timeout_s: float | None) -> str:
    """How long an allowed step may take; follows the decision."""
    return "" if timeout_s is None else f',"deadline_us":{round(timeout_s * 1_000_000)}'


def approved(approval: Approval | None) -> str:
    """The yes that an allowed step rests on; follows the deadline."""
    return "" if approval is None else f',"approval":"{approval.ask}"'


def terms(opens: Sequence[str], cites: Sequence[Evidence]) -> str:
    """What an intent opens and rests on; follows the decision."""
    text = f',"opens":{names(opens)}' if opens else ""
    return f'{text},"cites":{names([one.id for one in cites])}' if cites else text


def undoing(terms: UndoTerms | None, kept: Mapping[str, str]) -> str:
    """How an intent is to be undone, and what is kept for that and for settling it; follows the terms."""
    text = "" if terms is None else f',"undo":"{terms.kind}"'
    for name, payload in kept.items():
        text += f',"{name}":{payload}'
    return text


def undo_planned(*, plan: str, undo: Sequence[str], left: Sequence[str], by: str) -> str:
    """The own fields of `undo.planned`."""
    return f',"plan":"{plan}","undo":{names(undo)},"left":{names(left)},"by":{quoted(by)}'


def step_undo(*, plan: str, state: str, by_step: str, before: str, after: str, reason: str) -> str:
    """The own fields of `step.undo`: the states before and after the undo, where one digest tells them."""
    text = f',"plan":"{plan}","state":"{state}"'
    for name, value in (("by_step", by_step), ("before", before), ("after", after), ("reason", reason)):
        text += f',"{name}":{quoted(value)}' if value else ""
    return text


def gathered(one: Evidence, ended: int) -> str:
    """The own fields of `evidence.gathered`."""
    text = (
        f',"evidence":"{one.id}","type":"{one.kind}","level":"{one.level}","finding":"{Answer.KEPT}"'
        f',"subject":{quoted(one.subject)},"from":{_spelled(one.source)},"seen_us":{one.at_us}'
        f',"began":{one.began},"ended":{ended}'
    )
    if one.expires_us is not None:
        text += f',"expires_us":{one.expires_us}'
    return f'{text},"single_use":{"true" if one.spend else "false"}'


def consumed(key: str) -> str:
    """The own fields of `evidence.consumed`."""
    return f',"key":{quoted(key)}'


def trace_context(step: SupportedStep, run: RunId) -> str:
    """The W3C trace that the step belongs to: the host's where it gave a valid one, else the run's."""
    parent = step.proposal.meta.get("traceparent")
    host = _traceparent(parent) if isinstance(parent, str) else None
    if host is None:
        return f',"trace":"{run}","span":"{step.id}"'
    return f',"trace":"{host[0]}","parent":"{host[1]}","span":"{step.id}"'


def withheld(
    failure: Failure, *, said: str, next_step: NextStep, why: str, dur_us: int, trace: str, ask: str = ""
) -> str:
    """How a step ended that was refused or asked about; follows the decision. `trace` is its trace context."""
    approval = f',"approval":{quoted(ask)}' if ask else ""
    return f'{_failure(failure)}{approval},{said_and_next(said, next_step, why)},"dur_us":{dur_us}{trace}'


def approval_asked(ask: NewAsk, *, call: str, question: str) -> str:
    """The own fields of `approval.asked`; `call` is the keyed digest of the call, `question` the card as a payload."""
    return (
        f',"approval":"{ask.id}","about":"call","rule":{quoted(ask.rule)},"call":"{call}","shown":"sha256:{ask.shown}"'
        f',"question":{question},"channels":{names(ask.channels)},"strong":{"true" if ask.strong else "false"}'
        f',"expires_us":{ask.expires_at_us}'
        + (f',"roles":{names([need.role for need in ask.needs])}' if ask.needs else "")
    )


def approval_answered(ask: Ask, answer: AskAnswer, *, state: AskState, at: int, comment: str) -> str:
    """The own fields of `approval.answered`."""
    scope = "once" if answer.shape is None else "run"
    text = (
        f',"approval":"{ask.id}","answer":"{state}","by":{{"id":{quoted(answer.by.id)},"how":{quoted(answer.by.how)}}}'
        f',"channel":{quoted(answer.channel)},"wait_us":{max(0, at - ask.asked_at_us)},"scope":"{scope}"'
    )
    if answer.shape is not None:
        text += f',"shape":{canonical(answer.shape).decode()}'
    if answer.vote is not None:
        vote = answer.vote
        text += f',"signed":{{"key":{quoted(vote.key)},"at_us":{vote.at_us},"signature":{quoted(vote.signature)}}}'
    return text + (f',"comment":{comment}' if comment else "")


def finding(found: Finding) -> str:
    """The own fields of `step.finding`."""
    text = f',"check":{quoted(found.check)},"finding":"{found.answer}","level":"{found.level}"'
    if found.reason is not None:
        text += f',"reason":"{found.reason}"'
    if found.subject:
        text += f',"subject":{quoted(found.subject)}'
    if found.detail and found.reason is not None and found.subject:
        text += f',"detail":{quoted(found.detail[:200])}'
    if found.rule:
        text += f',"rule":{quoted(found.rule)}'
    return f'{text},"took_us":{found.took_us}'


def outcome(
    step: VerifiedStep,
    *,
    result: str,
    said: str,
    next_step: NextStep,
    why: str,
    dur_us: int,
    ending: Ending,
    beginning: int | None = None,
    capture: str = "",
) -> str:
    """The own fields of `step.outcome`; `beginning` is how much the agent was given of a result that is stored."""
    came = step.outcome
    text = f',"outcome":"{ending.outcome}"'
    if ending.failure is not None:
        text += _failure(ending.failure)
    text += f',"acted":"{ending.acted}"'
    tool_us = 0
    if isinstance(came, Returned):
        tool_us = came.tool_us
        text += _came(came)
    elif isinstance(came, Unknown):
        tool_us = came.tool_us
    for name, kept in (("result", result), ("capture", capture)):
        text += f',"{name}":{kept}' if kept else ""
    if step.shown is not None:
        for name, counts in (("masked", step.shown.masked), ("would_mask", step.shown.would)):
            text += f',"{name}":{_spelled(counts)}' if counts else ""
    if beginning is not None:
        text += f',"given":{beginning}'
    if step.findings:
        text += f',"findings":{_counts(step.findings)}'
    text += f",{said_and_next(said, next_step, why)}"
    return f'{text},"dur_us":{dur_us},"tool_us":{tool_us},"store_us":{step.intent.took_us}'


def _came(came: Returned) -> str:
    """What an outcome tells of the answer beside its bytes."""
    text = f',"is_error":{"true" if came.is_error else "false"}'
    code = None if came.error is None else came.error.get("code")
    if isinstance(code, int) and not isinstance(code, bool):
        text += f',"rpc_code":{code}'
    return f'{text},"task":{quoted(came.task)}' if came.task else text


def settled(settlement: Settlement, result: str) -> str:
    """The own fields of `step.settled`; `result` is the payload of an answer that came late."""
    by = f',"by":{quoted(settlement.by)}' if settlement.by else ""
    answer = f',"result":{result}' if result else ""
    return f',"how":"{settlement.how}","acted":"{settlement.acted}"{by}{answer}'


def lost_outcome(ending: Ending, next_step: NextStep) -> str:
    """The own fields of a `step.outcome` that nobody saw: of a dead process, or of a call that was given up."""
    failure = "" if ending.failure is None else _failure(ending.failure)
    return f',"outcome":"{ending.outcome}"{failure},"acted":"{ending.acted}","next":"{next_step}"'


def ending(step: VerifiedStep) -> Ending:
    """Tell how a step ended."""
    failure = step.failure
    if failure is None:
        came = step.outcome
        later = isinstance(came, Returned) and bool(came.task)
        done = not isinstance(came, Returned) or came.final
        return Ending(outcome="unknown" if later else "succeeded", failure=None, acted=step.acted, done=done)
    open_end = isinstance(step.outcome, Unknown) or failure.reason is Reason.ANSWER_UNREADABLE
    unknown = open_end and failure.acted is Acted.MAYBE
    return Ending(outcome="unknown" if unknown else "failed", failure=failure, acted=failure.acted)


def answer_is_ours(step: VerifiedStep) -> bool:
    """Whether the agent reads our text and not the tool's own bytes."""
    failure = step.failure
    return failure is not None and failure.reason not in {Reason.TOOL_FAILED, Reason.PROTOCOL_ERROR}


def context(step: SupportedStep) -> dict[str, Json]:
    """What `decide` read beside the arguments and the labels, for computing the decision again."""
    read: dict[str, Json] = {
        "principal": {"id": step.principal.id, "how": step.principal.how, "groups": list(step.principal.groups)},
        "client": {"name": step.client.name, "version": step.client.version},
    }
    if step.tool is not None:
        read["definition"] = step.tool.pin
    if step.flaws:
        read["flaws"] = [[flaw.reason, flaw.summary] for flaw in step.flaws]
    read.update(step.decision.context)
    return read


def only_reads(does: Sequence[str]) -> bool:
    """Whether a tool's labels say that it only reads."""
    return bool(does) and all(label == Does.READ for label in does)


def request_text(request_id: RequestId) -> str:
    """A request id as text."""
    return request_id if isinstance(request_id, str) else str(request_id)


def said_and_next(said: str, next_step: NextStep, why: str) -> str:
    """The fields `said`, `next` and `why`, without the comma before them."""
    text = f'"said":{said},' if said else ""
    text += f'"next":"{next_step}"'
    return f'{text},"why":{quoted(why)}' if why else text


def _failure(failure: Failure) -> str:
    return f',"failure":"{failure.failure}","reason":"{failure.reason}"'


def _obligation(owed: Obligation) -> str:
    if owed.kind is ObligationKind.REDACT:
        found = owed.spec.get("find", ("match",) if "matches" in owed.spec else ("value",))
        return f"{owed.kind}:{'+'.join(map(str, found)) if isinstance(found, list | tuple) else found}"
    for key in owed.spec:
        return f"{owed.kind}:{key}"
    return str(owed.kind)


def _risk(risk: Risk) -> str:
    """The sum and every term that counts; one that could not be evaluated says why, and makes the sum a range."""
    terms = [
        f"[{quoted(term.because)},{term.add}{f',{quoted(term.unknown)}' if term.unknown else ''}]"
        for term in risk.terms
    ]
    low = "" if risk.low == risk.high else f'"low":{risk.low},'
    return f'{{"score":{risk.high},{low}"terms":[{",".join(terms)}]}}'


def _counts(findings: Sequence[Finding]) -> str:
    count = dict.fromkeys(Answer, 0)
    for found in findings:
        count[found.answer] += 1
    return "{" + ",".join(f'"{answer}":{number}' for answer, number in count.items()) + "}"


_TRACEPARENT_CHARS = 55
_HEX = frozenset("0123456789abcdef")


def _traceparent(text: str) -> tuple[str, str] | None:
    """Read a version 00 `traceparent`: trace id and parent id. Source: W3C Trace Context, section 3.2."""
    if len(text) != _TRACEPARENT_CHARS or not text.startswith("00-"):
        return None
    version, trace, parent, flags = text.split("-", 3)
    wanted = (2, 32, 16, 2)
    for part, length in zip((version, trace, parent, flags), wanted, strict=True):
        if len(part) != length or not _HEX.issuperset(part):
            return None
    return (trace, parent) if trace.strip("0") and parent.strip("0") else None


def _spelled(value: Json) -> str:
    if isinstance(value, bool | int | str) or value is None:
        return quoted(value) if isinstance(value, str) else compact(value).decode()
    if isinstance(value, float):
        msg = "an entry holds no floats"
        raise ValueError(msg)  # noqa: TRY004 - the type is legal JSON; the value has no place here
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{quoted(key)}:{_spelled(item)}" for key, item in value.items()) + "}"
    return "[" + ",".join([_spelled(item) for item in value]) + "]"
