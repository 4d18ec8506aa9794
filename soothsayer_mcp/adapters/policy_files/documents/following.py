"""What follows a step: model tiers, and when a host is told to compact."""

from typing import Annotated, Literal, cast

from pydantic import AfterValidator, BeforeValidator, Field

from soothsayer_mcp.adapters.lab import CONDITIONS, NEXT_CONDITIONS
from soothsayer_mcp.adapters.policy_files.documents.document import Document
from soothsayer_mcp.adapters.policy_files.documents.fields import (
    WORD,
    AtLeastOne,
    DoesOrNot,
    Many,
    ToolGlobs,
    argument_key,
    condition,
    matching,
    reason,
    size,
)
from soothsayer_mcp.adapters.policy_files.documents.history import HistoryDocument, Patterns
from soothsayer_mcp.adapters.policy_files.documents.matchers import (
    FlowDocument,
    Matchers,
    RiskDocument,
    WhoMatcher,
    as_matchers,
)


class TierDocument(Document):
    """When a model tier is enough for what follows."""

    name: Annotated[str, matching(WORD, "tier: small letters, digits and -")]
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
    risk: RiskDocument = Field(default=cast("RiskDocument", None))
    tainted: bool = False
    suspect: bool = False
    flow: FlowDocument = Field(default=cast("FlowDocument", None))
    when: Annotated[str, condition(CONDITIONS)] = ""


class CompactDocument(Document):
    """After how much a host is told to compact."""

    calls: Annotated[int, Field(ge=1)] = 1
    bytes: Annotated[int, BeforeValidator(size), Field(ge=1)] = 1


class NextDocument(Document):
    """What follows a step."""

    tiers: list[TierDocument] = []
    compact_after: CompactDocument = Field(default=cast("CompactDocument", None))
    compact_when: Annotated[str, condition(NEXT_CONDITIONS)] = ""
