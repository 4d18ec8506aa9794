"""What a run may use up, how long it lives, and what has to be shown before it is completed."""

from typing import Annotated, ClassVar, Literal, Self, cast

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from soothsayer_mcp.adapters.policy_files.documents.document import Document
from soothsayer_mcp.adapters.policy_files.documents.fields import (
    TOOL,
    AtLeastOne,
    Count,
    Many,
    Size,
    bad,
    cost_figure,
    cut,
    milliseconds,
)
from soothsayer_mcp.adapters.policy_files.documents.items import OneKind, StepItem
from soothsayer_mcp.policy.subjects import last_write


def _server_tool(text: str) -> str:
    if TOOL.fullmatch(text) is None or text.startswith("mcp__"):
        raise bad("value", f"{cut(text)} names no tool; write server.tool, with * and ? where you like")
    return text


class ToolBudgetDocument(Document):
    """What the calls of some tools may use up, counted together."""

    calls: Annotated[int, Field(ge=1)] = 1


class CeilingDocument(Document):
    """How far a person may raise budgets of a run."""

    calls: Annotated[int, Field(ge=1)] = 1
    writes: Count = 0
    minutes: Annotated[int, Field(ge=1)] = 1
    bytes_returned: Size = 0
    denials: Annotated[int, Field(ge=1)] = 1


class BudgetsDocument(Document):
    """What one run may use up."""

    calls: Annotated[int, Field(ge=1)] = 1
    writes: Count = 0
    minutes: Annotated[int, Field(ge=1)] = 1
    bytes_returned: Size = 0
    denials: Annotated[int, Field(ge=1)] = 1
    unverified_writes: Annotated[int, Field(ge=1)] = 1
    error_streak: Annotated[int, Field(ge=1)] = 1
    cost: Annotated[object, AfterValidator(cost_figure)] = 0
    asks: Count = 0
    tools: Annotated[dict[Annotated[str, AfterValidator(_server_tool)], ToolBudgetDocument], AtLeastOne] = {}
    same_call_repeats: Annotated[int, Field(ge=2)] = 2
    ceiling: CeilingDocument = Field(default=cast("CeilingDocument", None))

    @model_validator(mode="after")
    def _rises(self) -> Self:
        if "ceiling" in self.model_fields_set:
            for name in self.ceiling.model_fields_set:
                if name not in self.model_fields_set:
                    raise bad("value", f"a ceiling for `{name}` needs a budget `{name}` below it")
                if getattr(self.ceiling, name) <= getattr(self, name):
                    raise bad("value", f"the ceiling of `{name}` has to be above its budget")
        return self


class RunDocument(Document):
    """How long runs live."""

    idle: Annotated[int, BeforeValidator(milliseconds)] = 0
    abandon_after: Annotated[int, BeforeValidator(milliseconds)] = 0
    unsettled: Literal["continue", "pause"] = "continue"


class CompletionDocument(OneKind):
    """What has to be shown before a run is completed."""

    later: ClassVar[frozenset[str]] = frozenset(
        {"artifact", "readback", "command", "http", "human", "attestation", "any"}
    )

    step: StepItem = Field(default=cast("StepItem", None))

    @model_validator(mode="after")
    def _needs_no_call(self) -> Self:
        for key in ("when", "match", "unchanged", "single_use", "cross_run"):
            if key in self.step.model_fields_set:
                raise bad("key", f"`{key}` is about a call, so it does not stand in `complete`")
        for text in self.step.not_before:
            if any(key.startswith("args.") for key in last_write(text).keys):
                raise bad("value", f"there are no arguments when a run is completed: {cut(text)}")
        return self


class CompleteDocument(Document):
    """What has to hold before a run is completed, beside its own checks."""

    unverified: Literal["list", "refuse"] = "list"
    require: Annotated[list[CompletionDocument], Many, AtLeastOne] = []
