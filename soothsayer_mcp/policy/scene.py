"""What the matchers of one call look at, and the libraries that they ask."""

from collections.abc import Callable, Mapping
from typing import TypeAlias

from soothsayer_mcp.model.call import Cause, Client, Principal, RunId
from soothsayer_mcp.model.condition import Condition, View
from soothsayer_mcp.model.decision import Risk
from soothsayer_mcp.model.facts import Facts, Seen, Tally, TallyQuestion, ValueQuestion
from soothsayer_mcp.model.json import Json
from soothsayer_mcp.model.message import Message
from soothsayer_mcp.model.run import Run
from soothsayer_mcp.model.step import ProposedStep
from soothsayer_mcp.model.value import dataclass
from soothsayer_mcp.policy.addresses import Target, ToAscii, read_target
from soothsayer_mcp.policy.answers import Answer, Unsure
from soothsayer_mcp.policy.commands import words
from soothsayer_mcp.policy.detectors import Compile
from soothsayer_mcp.policy.paths import Place, Readings, read

Pattern: TypeAlias = Callable[[str], bool]
"""Whether the whole text fits an expression; linear in the text."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lab:
    """Foreign libraries as callables, resolved by adapters at first use."""

    pattern: Callable[[str], Pattern]
    """Compiles an RE2 expression; raises `ValueError` for one that cannot be compiled."""
    to_ascii: ToAscii
    condition: Callable[[str], Condition]
    """Compiles a condition over the names of `sight.NAMES`; raises `ConditionError` for what is none."""
    term_condition: Callable[[str], Condition]
    """The same over `sight.TERM_NAMES`."""
    names_of: Callable[[str], frozenset[str]]
    """The names that a condition of either kind reads."""
    scan: Compile
    """Compiles RE2 expressions to be searched for together; raises `ValueError` as `pattern` does."""


_NOTHING: Mapping[ValueQuestion, Seen] = {}
NO_RUN = RunId("")
NOTHING_TOLD: Mapping[TallyQuestion, Tally] = {}


class Scene:
    """What the matchers of one call look at; readings are made once per text."""

    __slots__ = (
        "_readings",
        "_targets",
        "_words",
        "arguments",
        "cause",
        "client",
        "links",
        "now_us",
        "principal",
        "risks",
        "run",
        "run_id",
        "seen",
        "server",
        "tallies",
        "tool",
        "views",
    )

    def __init__(
        self,
        *,
        arguments: Mapping[str, Json] | None,
        principal: Principal,
        client: Client | None,
        cause: Cause,
        now_us: int | None,
        links: Mapping[str, str],
        run: Run | None = None,
        seen: Mapping[ValueQuestion, Seen] = _NOTHING,
        run_id: RunId = NO_RUN,
        server: str = "",
        tool: str = "",
        tallies: Mapping[TallyQuestion, Tally] = NOTHING_TOLD,
    ) -> None:
        """See a call; `None` stands for what is not known yet, as when a tool is only listed."""
        self.arguments = arguments
        self.principal = principal
        self.client = client
        self.cause = cause
        self.now_us = now_us
        self.links = links
        self.run = run
        self.seen = seen
        """What is known of where the values of the call stood before."""
        self.run_id = run_id
        self.server = server
        self.tool = tool
        self.tallies = tallies
        """What earlier steps add up to; what is absent is not known."""
        self._readings: dict[str, Readings] = {}
        self._targets: dict[str, Target | Unsure] = {}
        self._words: dict[str, tuple[str, ...] | Unsure] = {}
        self.risks: dict[int, Risk] = {}
        self.views: dict[int, View] = {}
        """What was summed up and put together already, by the sight it belongs to."""

    def readings(self, text: str, place: Place) -> Readings:
        """Read a text as a path; one scene has one place."""
        known = self._readings.get(text)
        if known is None:
            known = self._readings[text] = read(text, place, self.links)
        return known

    def target(self, text: str, lab: Lab) -> Target | Unsure:
        """Read a text as an address."""
        known = self._targets.get(text)
        if known is None:
            known = self._targets[text] = read_target(text, lab.to_ascii)
        return known

    def words(self, text: str, place: Place) -> tuple[str, ...] | Unsure:
        """Read a text as a command."""
        known = self._words.get(text)
        if known is None:
            known = self._words[text] = words(text, windows=place.windows)
        return known


MESSAGE = "@"
"""First character of what stands for a tool in rules about requests that are no tool calls."""
SceneTest: TypeAlias = Callable[[Scene], Answer]
"""One question about a call."""


def scene_of(step: ProposedStep, facts: Facts, run: Run | None = None) -> Scene:
    """A call as the matchers look at it."""
    return Scene(
        arguments=step.proposal.arguments,
        principal=step.principal,
        client=step.client,
        cause=step.cause,
        now_us=step.proposed_at_us,
        links=facts.links,
        run=run,
        seen=facts.values,
        run_id=step.run_id,
        server=step.proposal.server,
        tool=step.proposal.tool,
        tallies=facts.tallies,
    )


def scene_of_message(message: Message, facts: Facts) -> Scene:
    """A request that is no tool call, in the same way."""
    return Scene(
        arguments=message.params,
        principal=message.principal,
        client=message.client,
        cause=Cause.AGENT,
        now_us=message.at_us,
        links=facts.links,
        run=message.run,
        seen=facts.values,
        run_id=NO_RUN if message.run is None else message.run.id,
        server=message.server,
        tool=MESSAGE + message.method,
        tallies=facts.tallies,
    )
