"""What a policy says of taking a call back, and of settling one of which nobody knows whether it took effect."""

import re
from typing import Annotated, Literal, Self, cast

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from soothsayer_mcp.adapters.lab import EVIDENCE_CONDITIONS
from soothsayer_mcp.adapters.policy_files.documents.document import Document
from soothsayer_mcp.adapters.policy_files.documents.fields import (
    AtLeastOne,
    Many,
    Subject,
    bad,
    condition,
    milliseconds,
    one_tool,
)
from soothsayer_mcp.adapters.policy_files.documents.items import ReadbackItem
from soothsayer_mcp.evidence.scope import uses
from soothsayer_mcp.model.json import Json
from soothsayer_mcp.policy.subjects import template


class CaptureDocument(Document):
    """What tells the state before a call: the answer of a tool that reads."""

    as_: Literal["before"] = Field(default="before", alias="as")
    tool: Annotated[str, AfterValidator(one_tool)]
    args: dict[str, object] = {}

    @model_validator(mode="after")
    def _is_before(self) -> Self:
        if uses(cast("Json", self.args), "before") or uses(cast("Json", self.args), "returned"):
            raise bad("value", "before the call there is neither `before` nor `returned`")
        return self


class SettleReadbackDocument(Document):
    """What another tool, one that reads, is asked when nobody knows whether a call took effect."""

    tool: Annotated[str, AfterValidator(one_tool)]
    args: dict[str, object] = {}
    happened: Annotated[str, condition(EVIDENCE_CONDITIONS)]
    not_happened: Annotated[str, condition(EVIDENCE_CONDITIONS)] = ""
    every: Annotated[int, BeforeValidator(milliseconds), Field(ge=1_000)] = 1_000
    within: Annotated[int, BeforeValidator(milliseconds), Field(le=600_000)] = 30_000

    @model_validator(mode="after")
    def _knows_no_answer(self) -> Self:
        if uses(cast("Json", self.args), "returned") or uses(cast("Json", self.args), "before"):
            raise bad("value", "what is asked may name arguments of the call alone, not `returned` or `before`")
        if any(re.search(r"\breturned\b", text) for text in (self.happened, self.not_happened)):
            raise bad("value", "where a call has to be settled it returned nothing, so nothing names `returned`")
        return self


class SettleDocument(Document):
    """How a call is settled of which nobody knows whether it took effect."""

    readback: SettleReadbackDocument


class UndoCheckDocument(Document):
    """What shows that an undo put things back."""

    readback: ReadbackItem


class UndoDocument(Document):
    """What undoes a call: the bytes of files that are put back, or a call that takes it back."""

    restore: Annotated[list[Subject], Many, AtLeastOne] = []
    class_: Literal["restore", "compensate"] = Field(default="compensate", alias="class")
    tool: Annotated[str, AfterValidator(one_tool)] = ""
    args: dict[str, object] = {}
    check: UndoCheckDocument = Field(default=cast("UndoCheckDocument", None))

    @model_validator(mode="after")
    def _is_one_way(self) -> Self:
        said = self.model_fields_set
        if ("restore" in said) is ("tool" in said):
            raise bad("key", "an undo has one of `restore`, for files, and `tool`, for a call")
        if "restore" in said and len(said) > 1:
            raise bad("key", "`restore` stands alone: class, tool, args and check are those of an undo by a call")
        if any(template(text).name != "file" or not template(text).keys for text in self.restore):
            raise bad("value", "only files are restored: write file(args.path)")
        return self
