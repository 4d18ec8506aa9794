"""What a policy says of earlier steps."""

from typing import Annotated, ClassVar, Literal, Self, TypeAlias, cast

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from soothsayer_mcp.adapters.policy_files.documents.document import Document
from soothsayer_mcp.adapters.policy_files.documents.fields import (
    Argument,
    AtLeastOne,
    DoesOrNot,
    Many,
    ToolGlobs,
    argument_key,
    bad,
    listed,
    milliseconds,
    window_ms,
)
from soothsayer_mcp.adapters.policy_files.documents.matchers import Matchers, Number, as_matchers


def _same(value: object) -> object:
    if isinstance(value, dict):
        return cast("object", value)
    return {text: text for text in listed(value) if isinstance(text, str)}


def _as_pattern(value: object) -> object:
    return {"tools": value} if isinstance(value, str) else value


class PatternDocument(Document):
    """Which earlier steps are meant."""

    tools: ToolGlobs
    except_: ToolGlobs = Field(default=[], alias="except")
    does: Annotated[list[DoesOrNot], Many, AtLeastOne] = []
    args: Annotated[
        dict[Annotated[str, AfterValidator(argument_key)], Annotated[Matchers, BeforeValidator(as_matchers)]],
        AtLeastOne,
    ] = {}
    ok: Literal["any"] | bool = True
    within: Annotated[int, BeforeValidator(milliseconds)] = 0
    same: Annotated[dict[Argument, Argument], BeforeValidator(_same), AtLeastOne] = {}


Patterns: TypeAlias = Annotated[list[Annotated[PatternDocument, BeforeValidator(_as_pattern)]], Many, AtLeastOne]


class OfDocument(PatternDocument):
    """Which steps are counted."""

    later: ClassVar[frozenset[str]] = frozenset()

    @model_validator(mode="after")
    def _is_counted_otherwise(self) -> Self:
        stated = self.model_fields_set & {"ok", "within", "same"}
        if stated:
            raise bad("key", f"`{min(stated)}` has no place in `of`: write count, window or same beside it")
        return self


class HistoryDocument(Document):
    """A count or a sum over earlier steps."""

    count: Literal["calls", "failures", "denials"] = "calls"
    sum: Annotated[Argument, AfterValidator(str)] = ""
    of: Annotated[OfDocument, BeforeValidator(_as_pattern)] = Field(default=cast("OfDocument", None))
    window: Annotated[int, BeforeValidator(window_ms)] = 0
    per: Literal["run", "principal"] = "run"
    same: Annotated[dict[Argument, Argument], BeforeValidator(_same), AtLeastOne] = {}
    above: Number

    @model_validator(mode="after")
    def _is_one_figure(self) -> Self:
        if len(self.model_fields_set & {"count", "sum"}) != 1:
            raise bad("key", "history has one of count and sum")
        if self.per == "principal" and not self.window:
            raise bad("value", "what is counted per principal needs a window, as `window: 1h`")
        return self
