"""Why a step failed: five classes, their reasons, and the one table that explains every reason.

Docs, `soothsayer show` and the text an agent reads are rendered from `REASONS`. Names are never renamed.
"""

from enum import StrEnum

from soothsayer_mcp.model.value import dataclass


class FailureClass(StrEnum):
    """The closed list of failure classes. A failed step has exactly one; a step that succeeded has none."""

    POLICY_DENIED = "policy_denied"
    TOOL_ERROR = "tool_error"
    VERIFICATION_FAILED = "verification_failed"
    MISSING_EVIDENCE = "missing_evidence"
    TIMEOUT_OR_BUDGET_EXCEEDED = "timeout_or_budget_exceeded"


class Acted(StrEnum):
    """Whether the tool had its effect."""

    NO = "no"
    YES = "yes"
    MAYBE = "maybe"


class FixBy(StrEnum):
    """Who can mend it: the operator's rules and set-up, the agent's plan or the person directing it, or the server."""

    POLICY = "policy"
    PROMPT = "prompt"
    TOOL = "tool"


class Reason(StrEnum):
    """The fixed vocabulary beneath the classes."""

    RULE_DENIED = "rule_denied"
    NO_RULE = "no_rule"
    RULE_ERROR = "rule_error"
    NOBODY_TO_ASK = "nobody_to_ask"
    DECLINED = "declined"
    ARGUMENTS_INVALID = "arguments_invalid"
    DEFINITION_CHANGED = "definition_changed"
    TOOL_UNKNOWN = "tool_unknown"
    OUT_OF_SCOPE = "out_of_scope"
    RUN_UNKNOWN = "run_unknown"
    RUN_PAUSED = "run_paused"
    RUN_CLOSED = "run_closed"
    DUPLICATE_CALL = "duplicate_call"
    STATE_CHANGED = "state_changed"
    TRACE_UNAVAILABLE = "trace_unavailable"
    INTERNAL_ERROR = "internal_error"
    TOOL_FAILED = "tool_failed"
    PROTOCOL_ERROR = "protocol_error"
    NOT_OK = "not_ok"
    SERVER_UNREACHABLE = "server_unreachable"
    CONNECTION_LOST = "connection_lost"
    OUTCOME_LOST = "outcome_lost"
    ANSWER_UNREADABLE = "answer_unreadable"
    CONTRADICTED = "contradicted"
    SIGNATURE_INVALID = "signature_invalid"
    RESULT_SCHEMA = "result_schema"
    CHECK_BROKEN = "check_broken"
    SIDE_EFFECT = "side_effect"
    NOT_RESTORED = "not_restored"
    ABSENT = "absent"
    STALE = "stale"
    CONSUMED = "consumed"
    LEVEL_TOO_LOW = "level_too_low"
    APPROVAL_PENDING = "approval_pending"
    HELD = "held"
    APPROVAL_EXPIRED = "approval_expired"
    EVIDENCE_PENDING = "evidence_pending"
    UNREACHABLE = "unreachable"
    CAPTURE_FAILED = "capture_failed"
    UNCHECKED = "unchecked"
    NOT_MASKED = "not_masked"
    CALL_TIMEOUT = "call_timeout"
    CANCELLED = "cancelled"
    WITHDRAWN = "withdrawn"
    BUDGET_SPENT = "budget_spent"
    TOO_MANY_IN_FLIGHT = "too_many_in_flight"
    DEBT_LIMIT = "debt_limit"
    REPEAT_LIMIT = "repeat_limit"
    RESULT_TOO_BIG = "result_too_big"


@dataclass(frozen=True, slots=True, kw_only=True)
class Guidance:
    """What is known about a reason, for people and for the agent."""

    failure: FailureClass
    acted: Acted
    fix_by: FixBy
    meaning: str
    """One sentence for people."""
    first_line: str
    """What the agent reads first; `{summary}` is the failure's own summary."""
    do: str
    """What the agent should do next, one sentence; empty when the first line says it all."""
    remedy: str
    """What a person can do about it."""


def _denied(fix_by: FixBy, meaning: str, first_line: str, do: str, remedy: str) -> Guidance:
    return Guidance(
        failure=FailureClass.POLICY_DENIED,
        acted=Acted.NO,
        fix_by=fix_by,
        meaning=meaning,
        first_line=first_line,
        do=do,
        remedy=remedy,
    )


def _tool(acted: Acted, fix_by: FixBy, meaning: str, first_line: str, do: str, remedy: str) -> Guidance:
    return Guidance(
        failure=FailureClass.TOOL_ERROR,
        acted=acted,
        fix_by=fix_by,
        meaning=meaning,
        first_line=first_line,
        do=do,
        remedy=remedy,
    )


def _verify(acted: Acted, fix_by: FixBy, meaning: str, first_line: str, do: str, remedy: str) -> Guidance:
    return Guidance(
        failure=FailureClass.VERIFICATION_FAILED,
        acted=acted,
        fix_by=fix_by,
        meaning=meaning,
        first_line=first_line,
        do=do,
        remedy=remedy,
    )


def _missing(acted: Acted, fix_by: FixBy, meaning: str, first_line: str, do: str, remedy: str) -> Guidance:
    return Guidance(
        failure=FailureClass.MISSING_EVIDENCE,
        acted=acted,
        fix_by=fix_by,
        meaning=meaning,
        first_line=first_line,
        do=do,
        remedy=remedy,
    )


def _spent(acted: Acted, fix_by: FixBy, meaning: str, first_line: str, do: str, remedy: str) -> Guidance:
    return Guidance(
        failure=FailureClass.TIMEOUT_OR_BUDGET_EXCEEDED,
        acted=acted,
        fix_by=fix_by,
        meaning=meaning,
        first_line=first_line,
        do=do,
        remedy=remedy,
    )


_DO_NOT_REPEAT = "Do not repeat the call; first look, by a call that only reads, whether it took effect."

REASONS: dict[Reason, Guidance] = {
    Reason.RULE_DENIED: _denied(
        FixBy.POLICY,
        "A rule of the policy denies this call.",
        "Denied by policy rule {summary}. Nothing was sent.",
        "Go on without it, or tell the person why it is needed; do not look for another way to it.",
        "Choose another plan, or change the rule; `soothsayer policy explain` shows every rule and why it matched.",
    ),
    Reason.NO_RULE: _denied(
        FixBy.POLICY,
        "No rule allows this call and the policy's default denies.",
        "Denied: no rule allows this call ({summary}). Nothing was sent.",
        "Go on without it, or tell the person that no rule allows it.",
        "Add an allow rule for it; `soothsayer policy explain` shows the rules that came closest.",
    ),
    Reason.RULE_ERROR: _denied(
        FixBy.POLICY,
        "A rule could not be evaluated, and what cannot be evaluated counts as matched when it denies or asks.",
        "Denied: rule {summary} could not be evaluated. Nothing was sent.",
        "Check the arguments the rule looks at, or tell the person.",
        "Run `soothsayer policy explain` on the step: it names the rule and the cause.",
    ),
    Reason.NOBODY_TO_ASK: _denied(
        FixBy.POLICY,
        "Policy wants a person to approve this call and no person can be asked.",
        "Denied: a person must approve this and none can be asked ({summary}). Nothing was sent.",
        "Go on without it, or tell the person that it needs their approval: unless `--no-input` is set, calls wait"
        " while `soothsayer watch`, or a page of `soothsayer ui`, is open.",
        "Keep `soothsayer watch` or a page of `soothsayer ui` open while the agent works, or write an allow or a deny"
        " rule for it.",
    ),
    Reason.DECLINED: _denied(
        FixBy.PROMPT,
        "A person said no.",
        "A person declined this call: {summary}. Nothing was sent.",
        "Do not repeat it.",
        "Do not repeat it.",
    ),
    Reason.ARGUMENTS_INVALID: _denied(
        FixBy.PROMPT,
        "The arguments do not fit the tool's input schema.",
        "Denied: {summary}. Nothing was sent.",
        "Correct the argument and call again.",
        "Correct the argument.",
    ),
    Reason.DEFINITION_CHANGED: _denied(
        FixBy.TOOL,
        "The server defines this tool otherwise than when it was pinned.",
        "Denied: {summary} since it was pinned. Nothing was sent.",
        "Go on without this tool and tell the person that its definition has to be reviewed.",
        "Review the change with `soothsayer pins diff`, then `soothsayer pins accept`.",
    ),
    Reason.TOOL_UNKNOWN: _denied(
        FixBy.PROMPT,
        "No server behind this proxy offers a tool of that name.",
        "Denied: {summary}. Nothing was sent.",
        "List the tools and use one of those names.",
        "Check the tool's name, and that its server is running.",
    ),
    Reason.OUT_OF_SCOPE: _denied(
        FixBy.PROMPT,
        "The run was opened for less than this.",
        "Denied: this run is limited to {summary}. Nothing was sent.",
        "Stay within the run's scope, or ask the person to open another run.",
        "Open another run.",
    ),
    Reason.RUN_UNKNOWN: _denied(
        FixBy.PROMPT,
        "The named run does not exist or belongs to somebody else.",
        "Denied: no such run ({summary}). Nothing was sent.",
        "Use a run of your own.",
        "Check the run id with `soothsayer run list`.",
    ),
    Reason.RUN_PAUSED: _denied(
        FixBy.PROMPT,
        "The run is paused.",
        "Run {summary} is paused. Nothing was sent. Make no more calls.",
        "Tell the person that the run is paused.",
        "Resume the run, or open another one.",
    ),
    Reason.RUN_CLOSED: _denied(
        FixBy.PROMPT,
        "The run has ended.",
        "Run {summary}. Nothing was sent. Make no more calls.",
        "Tell the person that the run has ended.",
        "Open a new run.",
    ),
    Reason.DUPLICATE_CALL: _denied(
        FixBy.PROMPT,
        "An earlier step, whose outcome is not settled, may already have done this.",
        "Denied: {summary} may already have done this. Nothing was sent.",
        "First look, by a call that only reads, whether it was done.",
        "Look whether it happened, then say so with `soothsayer run settle STEP`.",
    ),
    Reason.STATE_CHANGED: _denied(
        FixBy.PROMPT,
        "What the decision rested on changed before the call could be sent.",
        "Not done: things changed meanwhile ({summary}). Nothing was sent.",
        "Call again.",
        "Call again.",
    ),
    Reason.TRACE_UNAVAILABLE: _denied(
        FixBy.POLICY,
        "The record could not be written, and nothing is forwarded without one.",
        "Not done: the record cannot be written ({summary}). Nothing was sent.",
        "Tell the person; calls work again once the record can be written.",
        "Look at the state folder: free space, permissions, a process holding its lock.",
    ),
    Reason.INTERNAL_ERROR: _denied(
        FixBy.POLICY,
        "A fault of Soothsayer's own; a fault never allows.",
        "Not done: Soothsayer failed before the call was sent. Nothing was sent.",
        "Tell the person; the log of the proxy holds the cause.",
        "Report the message in the proxy's log.",
    ),
    Reason.TOOL_FAILED: _tool(
        Acted.MAYBE,
        FixBy.TOOL,
        "The tool answered with `isError`.",
        "The tool reported an error.",
        "",
        "Read the tool's error.",
    ),
    Reason.PROTOCOL_ERROR: _tool(
        Acted.MAYBE,
        FixBy.TOOL,
        "The server answered with a JSON-RPC error.",
        "The server answered with an error.",
        "",
        "Read the server's error.",
    ),
    Reason.NOT_OK: _tool(
        Acted.MAYBE,
        FixBy.PROMPT,
        "The tool answered, and by the operator's own condition that answer is no success.",
        "It ran and did not succeed ({summary}). Its answer follows.",
        "Mend the cause.",
        "Mend the cause.",
    ),
    Reason.SERVER_UNREACHABLE: _tool(
        Acted.NO,
        FixBy.TOOL,
        "The tool server could not be reached, so the call was not sent.",
        "Not done: {summary}. Nothing was sent.",
        "Go on without this server, or tell the person.",
        "Look at the server's last words in the proxy's log; start its command by hand.",
    ),
    Reason.CONNECTION_LOST: _tool(
        Acted.MAYBE,
        FixBy.TOOL,
        "The connection ended after the call was sent and before an answer came.",
        "Unknown whether it happened: {summary}.",
        _DO_NOT_REPEAT,
        "Look whether it happened, then say so with `soothsayer run settle STEP`.",
    ),
    Reason.OUTCOME_LOST: _tool(
        Acted.MAYBE,
        FixBy.TOOL,
        "The call was sent and its outcome is not on record: the proxy ended, or could not write.",
        "The tool may have run, and its outcome is not on record ({summary}).",
        _DO_NOT_REPEAT,
        "Look whether it happened, then say so with `soothsayer run settle STEP`.",
    ),
    Reason.ANSWER_UNREADABLE: _tool(
        Acted.MAYBE,
        FixBy.TOOL,
        "The server's answer cannot be read in exactly one way.",
        "Unknown whether it happened: {summary}.",
        _DO_NOT_REPEAT,
        "Report it to the author of the server; look whether it happened, then `soothsayer run settle STEP`.",
    ),
    Reason.CONTRADICTED: _verify(
        Acted.NO,
        FixBy.PROMPT,
        "The evidence was obtained and says otherwise.",
        "Not done: {summary}. Nothing was sent.",
        "Make it true, then call again.",
        "Make it true.",
    ),
    Reason.SIGNATURE_INVALID: _verify(
        Acted.NO,
        FixBy.TOOL,
        "The attestation is not valid for this subject.",
        "Not done: the attestation is not valid for {summary}. Nothing was sent.",
        "Obtain a valid attestation.",
        "Obtain a valid attestation.",
    ),
    Reason.RESULT_SCHEMA: _verify(
        Acted.YES,
        FixBy.TOOL,
        "The tool ran, and its structured answer does not fit its own output schema.",
        "It ran; its answer does not fit its schema and is withheld ({summary}).",
        "Treat it as done; read the result back by another call before going on.",
        "Read the effect back; report it to the author of the server.",
    ),
    Reason.CHECK_BROKEN: _verify(
        Acted.YES,
        FixBy.TOOL,
        "The tool ran, and a check of its outcome contradicts it.",
        "It ran, but its check failed: {summary}.",
        "The effect may be in place; read it back before anything else.",
        "Read, repair or undo.",
    ),
    Reason.SIDE_EFFECT: _verify(
        Acted.YES,
        FixBy.TOOL,
        "The tool ran and changed more than it may.",
        "It ran and changed more than it may: {summary}.",
        "Stop and tell the person.",
        "Undo it.",
    ),
    Reason.NOT_RESTORED: _verify(
        Acted.YES,
        FixBy.TOOL,
        "The undo ran and the earlier state is not back.",
        "The undo ran; the earlier state is not back ({summary}).",
        "Stop and tell the person.",
        "A person has to look.",
    ),
    Reason.ABSENT: _missing(
        Acted.NO,
        FixBy.PROMPT,
        "Evidence that policy demands is not held by this run.",
        "Not done: {summary} needs evidence that this run does not hold. Nothing was sent.",
        "Take the listed action, then call again.",
        "Take the listed action.",
    ),
    Reason.STALE: _missing(
        Acted.NO,
        FixBy.PROMPT,
        "The evidence held is too old, or older than a write to its subject.",
        "Not done: {summary} needs evidence that this run does not hold. Nothing was sent.",
        "Take the listed action, then call again.",
        "Take the listed action.",
    ),
    Reason.CONSUMED: _missing(
        Acted.NO,
        FixBy.PROMPT,
        "The evidence held was already used.",
        "Not done: {summary} needs evidence that was not used yet. Nothing was sent.",
        "Take the listed action, then call again.",
        "Take the listed action.",
    ),
    Reason.LEVEL_TOO_LOW: _missing(
        Acted.NO,
        FixBy.POLICY,
        "The evidence is of a lower level than policy demands.",
        "Not done: {summary}. Nothing was sent.",
        "Tell the person that stronger evidence is needed.",
        "Provide stronger evidence.",
    ),
    Reason.APPROVAL_PENDING: _missing(
        Acted.NO,
        FixBy.PROMPT,
        "A person has not answered yet.",
        "Waiting for a person ({summary}). Nothing was sent.",
        "Tell them a question is open in Soothsayer; when it is answered, call again unchanged. You cannot answer it.",
        "Answer the question.",
    ),
    Reason.HELD: _missing(
        Acted.NO,
        FixBy.PROMPT,
        "The call is held until the run completes.",
        "Held: it is sent when the run completes ({summary}).",
        "Do not repeat it; complete the run.",
        "Complete the run.",
    ),
    Reason.APPROVAL_EXPIRED: _missing(
        Acted.NO,
        FixBy.PROMPT,
        "Nobody answered in time.",
        "Not done: nobody answered in time ({summary}). Nothing was sent.",
        "Call again unchanged if it is still needed.",
        "Call again.",
    ),
    Reason.EVIDENCE_PENDING: _missing(
        Acted.NO,
        FixBy.PROMPT,
        "A check before the call is still going on.",
        "Not done: checking goes on ({summary}). Nothing was sent.",
        "Call again unchanged.",
        "Call again.",
    ),
    Reason.UNREACHABLE: _missing(
        Acted.NO,
        FixBy.TOOL,
        "A probe that policy demands did not answer.",
        "Not done: {summary} did not answer. Nothing was sent.",
        "Call again later, or tell the person.",
        "Mend the probe.",
    ),
    Reason.CAPTURE_FAILED: _missing(
        Acted.NO,
        FixBy.POLICY,
        "The state before the call could not be kept, so it could not be undone.",
        "Not done: the state before could not be kept ({summary}). Nothing was sent.",
        "Tell the person.",
        "Look at the limits and roots of the capture.",
    ),
    Reason.UNCHECKED: _missing(
        Acted.YES,
        FixBy.TOOL,
        "The tool ran and its outcome could not be checked.",
        "It ran, but could not be checked: {summary}.",
        "Do not call it again; the run does not complete while it is unchecked.",
        "Look at the effect; mend what the check looks at.",
    ),
    Reason.NOT_MASKED: _missing(
        Acted.YES,
        FixBy.TOOL,
        "The tool ran, and its answer is withheld: it cannot be masked with certainty, or no longer fits its schema.",
        "It ran, but its answer is withheld: policy masks parts of it and {summary}.",
        "Do not call it again; go on without the answer, or tell the person.",
        "Report an answer that repeats a key to the server's author; else mask with a text that the schema allows.",
    ),
    Reason.CALL_TIMEOUT: _spent(
        Acted.MAYBE,
        FixBy.TOOL,
        "No answer came in the time that policy gives.",
        "Unknown whether it happened: {summary}.",
        _DO_NOT_REPEAT,
        "Look whether it happened, then `soothsayer run settle STEP`; more time: `limit: {timeout: ...}`.",
    ),
    Reason.CANCELLED: _spent(
        Acted.MAYBE,
        FixBy.TOOL,
        "The host cancelled the call after it was sent, and no answer came.",
        "Unknown whether it happened: it was cancelled after it was sent ({summary}).",
        _DO_NOT_REPEAT,
        "Look whether it happened, then say so with `soothsayer run settle STEP`.",
    ),
    Reason.WITHDRAWN: _spent(
        Acted.NO,
        FixBy.PROMPT,
        "The call was cancelled, or its host went away, before anything was sent.",
        "Not done: the call was withdrawn before anything was sent ({summary}).",
        "Call again if it is still needed.",
        "Call again.",
    ),
    Reason.BUDGET_SPENT: _spent(
        Acted.NO,
        FixBy.POLICY,
        "A budget of the run is used up.",
        "Not done: {summary} is used up. Nothing was sent.",
        "Tell the person that the budget is used up.",
        "Raise the budget, or open another run.",
    ),
    Reason.TOO_MANY_IN_FLIGHT: _spent(
        Acted.NO,
        FixBy.POLICY,
        "More calls are in flight for this server than the proxy holds.",
        "Not done: {summary}. Nothing was sent.",
        "Wait for earlier calls to end, then call again.",
        "Raise `limits.in_flight` in the configuration.",
    ),
    Reason.DEBT_LIMIT: _spent(
        Acted.NO,
        FixBy.PROMPT,
        "Too many writes of the run are not verified yet.",
        "Not done: {summary}. Nothing was sent.",
        "Verify the earlier writes first.",
        "Verify them.",
    ),
    Reason.REPEAT_LIMIT: _spent(
        Acted.NO,
        FixBy.PROMPT,
        "The same call got the same answer too many times.",
        "Not done: {summary}. Nothing was sent.",
        "Change the plan.",
        "Change the plan.",
    ),
    Reason.RESULT_TOO_BIG: _spent(
        Acted.YES,
        FixBy.TOOL,
        "The tool ran and its answer is larger than the limit.",
        "It ran; its answer is too big and is not shown ({summary}).",
        "Treat it as done; ask for less.",
        "Ask for less, or raise the limit.",
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why one step failed. The class follows from the reason."""

    reason: Reason
    summary: str
    """What goes into the reason's first line: fixed phrases, policy text, tool names and escaped values only."""
    certainly_not_acted: bool = False
    """Set where the facts are better than the table's `maybe`: nothing was sent, or a tool that only reads."""
    lines: tuple[str, ...] = ()
    """What follows the first line in place of the table's remedy; made of the same words as the summary."""

    @property
    def failure(self) -> FailureClass:
        """The class of the reason."""
        return REASONS[self.reason].failure

    @property
    def acted(self) -> Acted:
        """Whether the tool had its effect, as far as this failure tells."""
        return Acted.NO if self.certainly_not_acted else REASONS[self.reason].acted

    def agent_text(self, step: str) -> str:
        """The one text block an agent reads: a first line that stands alone, then what to do."""
        row = REASONS[self.reason]
        first = row.first_line.format(summary=self.summary)
        mark = f"[{self.failure}/{self.reason}, step {step}]" if step else f"[{self.failure}/{self.reason}]"
        if self.lines:
            return "\n".join((f"{first} {mark}", *self.lines))
        return f"{first} {mark}\nDo: {row.do}" if row.do else f"{first} {mark}"
