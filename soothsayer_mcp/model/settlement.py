"""The end of an `unknown`: how it became known whether a step took effect."""

from collections.abc import Mapping
from dataclasses import field
from enum import StrEnum

from soothsayer_mcp.model.call import RunId
from soothsayer_mcp.model.failure import Acted
from soothsayer_mcp.model.json import Json
from soothsayer_mcp.model.value import dataclass


class How(StrEnum):
    """Where the knowledge is from."""

    LATE_ANSWER = "late_answer"
    """The server answered after all."""
    TASK_RESULT = "task_result"
    """It had answered with a task, and the task has ended."""
    READ_BACK = "read_back"
    """Another tool was asked."""
    CAPTURE = "capture"
    """What was kept of the state before, compared with the present."""
    PERSON = "person"
    """A person looked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settlement:
    """Whether a step took effect, as it became known after its end."""

    run: RunId
    no: int
    acted: Acted
    """`yes` or `no`."""
    how: How
    by: str = ""
    """The person, or the rule that says what is asked; empty for an answer."""
    told: bool = False
    """Whether the agent reads how it ended, so that it need not be told again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SettleTerms:
    """How a rule has a step settled of which nobody knows the outcome: by what another tool says."""

    rule: str
    tool: str
    """`server.tool`; one that only reads."""
    args: Mapping[str, Json]
    happened: str
    """A condition on its answer: the step took effect."""
    not_happened: str = ""
    """A condition on its answer: it did not, which is believed once it cannot happen any more; empty for never."""
    every_s: float = 1.0
    within_s: float = 30.0
    """How long it is asked again."""
    look_tool: str = ""
    """The tool that tells the state before, where a condition may name it."""
    look_args: Mapping[str, Json] = field(default_factory=dict[str, Json])


@dataclass(frozen=True, slots=True, kw_only=True)
class Twin:
    """An earlier step with the same call, of which the agent does not know how it ended."""

    step: str
    acted: Acted
    """`maybe` while it is not settled."""
    keyed: bool = False
    """Whether it had the same key, so that this one is a repetition whatever became known of it."""
