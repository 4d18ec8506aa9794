"""A rule and a risk term."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Annotated, Literal, Self, TypeAlias, cast

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from soothsayer_mcp.adapters.lab import CONDITIONS, TERM_CONDITIONS
from soothsayer_mcp.adapters.policy_files.documents.document import Document
from soothsayer_mcp.adapters.policy_files.documents.fields import (
    DURATION,
    WORD,
    AtLeastOne,
    DoesOrNot,
    Many,
    Role,
    Size,
    Subject,
    ToolGlobs,
    argument_key,
    bad,
    condition,
    cut,
    matching,
    milliseconds,
    reason,
    window_ms,
)
from soothsayer_mcp.adapters.policy_files.documents.history import HistoryDocument, Patterns
from soothsayer_mcp.adapters.policy_files.documents.items import RequireDocument, VerifyDocument
from soothsayer_mcp.adapters.policy_files.documents.masks import RedactDocument
from soothsayer_mcp.adapters.policy_files.documents.matchers import (
    FlowDocument,
    Matchers,
    RiskDocument,
    WhoMatcher,
    as_matchers,
)
from soothsayer_mcp.adapters.policy_files.documents.undo import CaptureDocument, SettleDocument, UndoDocument
from soothsayer_mcp.adapters.policy_files.problems import nearest
from soothsayer_mcp.model.failure import REASONS, FailureClass
from soothsayer_mcp.model.json import Json

_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")


def _end_of_day(value: object) -> int:
    """Microseconds since 1970 at which a day, in UTC, is over."""
    try:
        if not isinstance(value, str) or _DAY.fullmatch(value) is None:
            raise ValueError  # noqa: TRY301 - one message for all that is no date
        day = datetime.strptime(value, "%Y-%m-%d").replace(tzinfo=UTC)
    except ValueError as error:
        raise bad("value", f'{cut(value)} is no date; write "2027-01-31", with quotes') from error
    return int((day + timedelta(days=1)).timestamp()) * 1_000_000


def _expiry(value: object) -> int | str:
    """A day's end in microseconds; or, as text, the milliseconds that a question stays open."""
    if isinstance(value, str) and DURATION.fullmatch(value) is not None:
        return str(milliseconds(value))
    return _end_of_day(value)


def _points(add: int) -> int:
    if add == 0 or abs(add) > 100:  # noqa: PLR2004 - the sum is from 0 to 100
        raise bad("value", "a term adds 1 to 100, or -1 to -100")
    return add


class LimitDocument(Document):
    """Figures for the calls that a rule matches."""

    timeout: Annotated[int, BeforeValidator(milliseconds)] = 0
    args_bytes: Size = 0
    result_bytes: Size = 0
    calls: Annotated[int, Field(ge=1)] = 1
    window: Annotated[int, BeforeValidator(window_ms)] = 0
    per: Literal["run", "principal", "server", "tool"] = "run"

    @model_validator(mode="after")
    def _counts_something(self) -> Self:
        stated = self.model_fields_set
        if "calls" not in stated and stated & {"window", "per"}:
            raise bad("key", "`window` and `per` say how `calls` are counted, and there is no `calls`")
        if self.per != "run" and not self.window:
            raise bad("value", f"calls per {self.per} need a window, as `window: 1h`: they would never be forgotten")
        return self


class LargeResultsDocument(Document):
    """From what size on a result is stored instead of shown."""

    over: Size
    keep: Size

    @model_validator(mode="after")
    def _leaves_something_out(self) -> Self:
        if self.keep >= self.over:
            raise bad("value", "`keep` is less than `over`: else there would be nothing to read back")
        return self


_OnFailure: TypeAlias = Literal["continue", "undo", "pause", "stop", "fail"]


def _failure_name(text: str) -> str:
    """Refuse what is neither a failure class nor one of its reasons, as `class/reason`."""
    names = [*FailureClass, *(f"{row.failure}/{reason}" for reason, row in REASONS.items())]
    if text not in names:
        near = nearest(text, names)
        meant = f"; did you mean {cut(near)}?" if near else ""
        raise bad("key", f"{cut(text)} is no failure class, and no class/reason{meant}")
    return text


class ApproversDocument(Document):
    """Whose signed answers a rule that asks needs."""

    role: Role
    count: Annotated[int, Field(ge=1, le=9)] = 1
    not_: Literal["requester"] = Field(default="requester", alias="not")


class RuleDocument(Document):
    """One rule."""

    @model_validator(mode="after")
    def _can_be_undone(self) -> Self:
        undo = self.undo if isinstance(self.undo, UndoDocument) else None
        by_call = undo is not None and "tool" in undo.model_fields_set
        captures = "capture" in self.model_fields_set
        if captures and not by_call and "settle" not in self.model_fields_set:
            raise bad("key", "`capture` goes with an undo by a call, `undo: {tool: ...}`, or with `settle`")
        if (
            undo is not None
            and by_call
            and not captures
            and (undo.class_ == "restore" or "check" not in undo.model_fields_set)
        ):
            raise bad("key", "an undo by a call needs a `capture` that tells the state, or, to compensate, a `check`")
        return self

    @model_validator(mode="after")
    def _asks_another_tool(self) -> Self:
        if "settle" not in self.model_fields_set:
            return self
        asks = self.settle.readback
        if asks.tool in self.tools:
            raise bad("value", f"{asks.tool} cannot speak for itself: `settle` asks another tool")
        named = [asks.happened, asks.not_happened]
        if "capture" not in self.model_fields_set and any(re.search(r"\bbefore\b", text) for text in named):
            raise bad("value", "`before` is what `capture` saw, and there is no `capture`")
        return self

    @model_validator(mode="after")
    def _is_undone_at_once(self) -> Self:
        if not isinstance(self.undo, UndoDocument) and "undo" in self.on_failure.values():
            raise bad(
                "key",
                "`on_failure` says undo only in a rule that says what undoes it: `undo: {restore: file(...)}`,"
                " or `undo: {tool: ...}`",
            )
        return self

    @model_validator(mode="after")
    def _asks_about_what_may_go(self) -> Self:
        if "deny" in self.model_fields_set and any("human" in one.model_fields_set for one in self.require):
            raise bad("key", "nobody is asked about what is denied: `human` does not stand in a deny")
        return self

    deny: Annotated[str, AfterValidator(reason)] = ""
    ask: Annotated[str, AfterValidator(reason)] = ""
    allow: Annotated[str, AfterValidator(reason)] = ""
    also: Annotated[str, AfterValidator(reason)] = ""
    id: Annotated[str, matching(WORD, "rule id: small letters, digits and -")] = ""
    mode: Literal["observe"] = "observe"
    hard: Literal[True] = True
    expires: Annotated[int | str, BeforeValidator(_expiry)] = 0
    strong: Literal[True] = True
    remember: Literal["never", "once", "run"] = "run"
    approvers: Annotated[list[ApproversDocument], Many, AtLeastOne] = []
    tools: ToolGlobs = []
    except_: ToolGlobs = Field(default=[], alias="except")
    does: Annotated[list[DoesOrNot], Many, AtLeastOne] = []
    who: WhoMatcher = Field(default=cast("WhoMatcher", None))
    cause: Annotated[list[Literal["agent", "undo", "probe", "selftest", "control"]], Many, AtLeastOne] = []
    pin: Annotated[list[Literal["pinned", "new", "changed", "shadowed"]], Many, AtLeastOne] = []
    hidden_text: bool = False
    instructions: bool = False
    args: Annotated[
        dict[Annotated[str, AfterValidator(argument_key)], Annotated[Matchers, BeforeValidator(as_matchers)]],
        AtLeastOne,
    ] = {}
    only_args: Literal[True] = True
    after: Patterns = []
    unless_after: Patterns = []
    history: HistoryDocument = Field(default=cast("HistoryDocument", None))
    risk: RiskDocument = Field(default=cast("RiskDocument", None))
    when: Annotated[str, condition(CONDITIONS)] = ""
    tainted: bool = False
    suspect: bool = False
    flow: FlowDocument = Field(default=cast("FlowDocument", None))
    require: Annotated[list[RequireDocument], Many, AtLeastOne] = []
    verify: Annotated[list[VerifyDocument], Many, AtLeastOne] = []
    touches: Annotated[list[Subject], Many] = []
    on_broken: Literal["withhold", "note"] = "withhold"
    on_unknown: Literal["withhold", "note"] = "note"
    capture: CaptureDocument = Field(default=cast("CaptureDocument", None))
    settle: SettleDocument = Field(default=cast("SettleDocument", None))
    undo: Literal["none", "never"] | UndoDocument = "none"
    limit: LimitDocument = Field(default=cast("LimitDocument", None))
    redact: Annotated[list[RedactDocument], Many, AtLeastOne] = []
    on_failure: Annotated[
        dict[Annotated[str, AfterValidator(_failure_name)], _OnFailure],
        AtLeastOne,
    ] = {}
    large_results: LargeResultsDocument = Field(default=cast("LargeResultsDocument", None))


class TermDocument(Document):
    """What makes a call risky, and by how much."""

    add: Annotated[int, AfterValidator(_points)]
    because: Annotated[str, AfterValidator(reason)]
    tools: ToolGlobs = []
    except_: ToolGlobs = Field(default=[], alias="except")
    does: Annotated[list[DoesOrNot], Many, AtLeastOne] = []
    who: WhoMatcher = Field(default=cast("WhoMatcher", None))
    cause: Annotated[list[Literal["agent", "undo", "probe", "selftest"]], Many, AtLeastOne] = []
    pin: Annotated[list[Literal["pinned", "new", "changed", "shadowed"]], Many, AtLeastOne] = []
    hidden_text: bool = False
    instructions: bool = False
    args: Annotated[
        dict[Annotated[str, AfterValidator(argument_key)], Annotated[Matchers, BeforeValidator(as_matchers)]],
        AtLeastOne,
    ] = {}
    only_args: Literal[True] = True
    after: Patterns = []
    unless_after: Patterns = []
    history: HistoryDocument = Field(default=cast("HistoryDocument", None))
    tainted: bool = False
    suspect: bool = False
    flow: FlowDocument = Field(default=cast("FlowDocument", None))
    when: Annotated[str, condition(TERM_CONDITIONS)] = ""


def heads(rule: Mapping[str, Json]) -> list[str]:
    """The heads that a rule has; one is right."""
    return [head for head in ("deny", "ask", "allow", "also") if head in rule]
