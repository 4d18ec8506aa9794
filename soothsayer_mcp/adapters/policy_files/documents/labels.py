"""A label: what the operator knows about some tools."""

from typing import Annotated, Literal, Self, TypeAlias

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from soothsayer_mcp.adapters.lab import EVIDENCE_CONDITIONS
from soothsayer_mcp.adapters.policy_files.documents.document import Document
from soothsayer_mcp.adapters.policy_files.documents.fields import (
    Argument,
    AtLeastOne,
    Many,
    Subject,
    ToolGlobs,
    bad,
    condition,
    cost_figure,
    milliseconds,
    read_by,
    tied,
)
from soothsayer_mcp.adapters.policy_files.documents.items import VerifyDocument
from soothsayer_mcp.adapters.policy_files.documents.matchers import SinkDocument, as_sink
from soothsayer_mcp.policy.redact import Part, read_place

_Does: TypeAlias = Literal["read", "write", "send", "share", "delete", "pay", "exec", "admin"]


def _argument_place(text: str) -> None:
    if read_place(text, Part.TRACE)[0] != "args":
        raise ValueError("a secret is an argument; write args.name")


def _cost(value: object) -> object:
    """An argument that says what a call costs, or a figure for each."""
    return tied(value) if isinstance(value, str) else cost_figure(value)


class LabelDocument(Document):
    """What the operator knows about some tools."""

    tools: ToolGlobs
    except_: ToolGlobs = Field(default=[], alias="except")
    does: Annotated[list[_Does], Many, AtLeastOne] = []
    trust: Literal["first_party", "untrusted"] = "untrusted"
    sinks: Annotated[list[Annotated[SinkDocument, BeforeValidator(as_sink)]], Many, AtLeastOne] = []
    secret: Annotated[list[Annotated[str, read_by(_argument_place)]], Many, AtLeastOne] = []
    touches: Annotated[list[Subject], Many] = []
    ok_when: Annotated[str, condition(EVIDENCE_CONDITIONS)] = ""
    polling: Annotated[int, BeforeValidator(milliseconds)] = 0
    cost: Annotated[object, AfterValidator(_cost)] = 0
    idempotency: Argument = ""
    verify: Literal["none"] | Annotated[list[VerifyDocument], Many, AtLeastOne] = []
    undo: Literal["none", "restore", "never"] = "none"

    @model_validator(mode="after")
    def _labels_something(self) -> Self:
        if self.model_fields_set <= {"tools", "except_"}:
            raise bad("key", "the label says nothing about its tools: write does, trust or secret")
        return self
