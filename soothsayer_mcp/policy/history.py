"""Matchers on earlier steps, and the marks under which steps are counted so that these find them.

Nothing is searched for: a step is counted under every pattern of the policy that it fits, and a matcher asks for a sum.
"""

from collections.abc import Callable, Mapping, Sequence
from decimal import ROUND_CEILING, Decimal, InvalidOperation
from enum import StrEnum
from math import isfinite
from typing import TypeAlias

from soothsayer_mcp.model.facts import Mark, Tally, TallyQuestion, holder_of_run
from soothsayer_mcp.model.json import Json, canonical, digest
from soothsayer_mcp.model.value import dataclass
from soothsayer_mcp.policy.answers import Answer, Unsure, opposite, some
from soothsayer_mcp.policy.match import ArgumentTest
from soothsayer_mcp.policy.scene import Scene

MICRO = 1_000_000
MOST_AMOUNT = 10**9
"""Above this an amount is taken for none that could be added up."""


class Per(StrEnum):
    """Whose steps are counted together."""

    RUN = "run"
    PRINCIPAL = "principal"
    SERVER = "server"
    TOOL = "tool"


class Counting(StrEnum):
    """What is counted."""

    CALLS = "calls"
    FAILURES = "failures"
    DENIALS = "denials"
    SUM = "sum"


Tie: TypeAlias = tuple[ArgumentTest, ArgumentTest]
"""An argument of the earlier step, and the one of this call that it has to equal."""

_NOT_TIED = Unsure("an argument that ties the call to earlier steps is absent")
_NOT_TOLD = Unsure("it is not known what the run did before")
_IN_FLIGHT = Unsure("a step that would decide it is in flight, or its outcome is not known")
_IN_DOUBT = Unsure("it is not known whether an earlier step fits")
_NO_ARGUMENTS = Unsure("arguments are not known yet")


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """Steps of one kind, counted together."""

    mark: str
    per: Per = Per.RUN
    window_us: int = 0
    ties: tuple[Tie, ...] = ()
    amount: ArgumentTest | None = None
    denials: bool = False

    def question(self, scene: Scene) -> TallyQuestion | Unsure:
        """What to ask the store for this call."""
        if not self.ties:
            key: str | None = ""
        elif scene.arguments is None:
            return _NO_ARGUMENTS
        else:
            key = _key([right for _, right in self.ties], scene.arguments)
        if key is None:
            return _NOT_TIED
        since_us = max(0, (scene.now_us or 0) - self.window_us) if self.window_us else 0
        return TallyQuestion(self.mark, self._holder(scene), key, since_us)

    def bearing(self, scene: Scene, answer: Answer = True) -> Mark | None:
        """What this call is counted under when it is admitted; `None` when it does not fit."""
        if answer is False:
            return None
        arguments = scene.arguments or {}
        key = _key([left for left, _ in self.ties], arguments) if self.ties else ""
        if key is None:
            return None
        return Mark(
            mark=self.mark,
            holder=self._holder(scene),
            key=key,
            window_us=self.window_us,
            sure=answer is True,
            amount_micro=0 if self.amount is None else amount_micro(self.amount.values(arguments)),
            denials=self.denials,
        )

    def _holder(self, scene: Scene) -> str:
        match self.per:
            case Per.RUN:
                return holder_of_run(scene.run_id)
            case Per.PRINCIPAL:
                return f"who:{scene.principal.id}"
            case Per.SERVER:
                return f"server:{scene.server}"
            case Per.TOOL:
                return f"tool:{scene.server}.{scene.tool}"


def _key(tests: Sequence[ArgumentTest], arguments: Mapping[str, Json]) -> str | None:
    values: list[Json] = []
    for test in tests:
        found = test.values(arguments)
        if not found:
            return None
        values.append(_as_one_value(found))
    return digest(canonical(values)).removeprefix("sha256:")[:32]


def _as_one_value(value: Json) -> Json:
    """Spell what JSON takes for equal in one way: `1.0` is `1`."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, Mapping):
        return {key: _as_one_value(held) for key, held in value.items()}
    if isinstance(value, list):
        return [_as_one_value(item) for item in value]
    return value


def amount_micro(values: Sequence[Json]) -> int | None:
    """Millionths of the one number that is there, rounded up; `None` when there is none that could be added up."""
    if len(values) != 1:
        return None
    value = values[0]
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if not isfinite(value) or not 0 <= value <= MOST_AMOUNT:
        return None  # what is below nothing would make room for more
    try:
        return int((Decimal(repr(value)) * MICRO).to_integral_value(rounding=ROUND_CEILING))
    except InvalidOperation:
        return None


def tally_of(counted: Counted, scene: Scene) -> Tally | Unsure:
    """What the store told of these steps."""
    question = counted.question(scene)
    if isinstance(question, Unsure):
        return question
    return scene.tallies.get(question, _NOT_TOLD)


@dataclass(frozen=True, slots=True, kw_only=True)
class PastTest:
    """Whether one earlier step fits a pattern."""

    counted: Counted
    ok: bool | None
    """Whether it must have succeeded; `None`: whatever became of it."""

    def answer(self, scene: Scene) -> Answer:
        """Yes, no, or in doubt because of what is in flight."""
        tally = tally_of(self.counted, scene)
        if isinstance(tally, Unsure):
            return tally
        sure = {True: tally.succeeded, False: tally.failed, None: tally.sent}[self.ok]
        if sure:
            return True
        if tally.open:
            return _IN_FLIGHT
        return _IN_DOUBT if tally.doubtful else False


def after_test(tests: tuple[PastTest, ...]) -> Callable[[Scene], Answer]:
    """Some earlier step fits one of the patterns."""
    return lambda scene: some(test.answer(scene) for test in tests)


def unless_test(tests: tuple[PastTest, ...]) -> Callable[[Scene], Answer]:
    """No earlier step fits any of the patterns."""
    return lambda scene: opposite(some(test.answer(scene) for test in tests))


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryTest:
    """Whether a count or a sum, this call included, is above a figure."""

    counted: Counted
    counting: Counting
    above_micro: int
    fits: Callable[[Scene], Answer] | None
    """Whether this call itself is counted; `None`: it certainly is not."""

    def answer(self, scene: Scene) -> Answer:
        """Compare the range in which the value lies with the figure."""
        found = self.range(scene)
        if isinstance(found, Unsure):
            return found
        low, high = found
        if low > self.above_micro:
            return True
        if high is not None and high <= self.above_micro:
            return False
        return Unsure("the value depends on steps in flight or on amounts that are no numbers")

    def range(self, scene: Scene) -> tuple[int, int | None] | Unsure:
        """The least and the most that the value can be, in millionths; `None` for a most that is not known."""
        tally = tally_of(self.counted, scene)
        if isinstance(tally, Unsure):
            return tally
        own: Answer = False if self.fits is None else self.fits(scene)
        certain, possible = own is True, own is not False
        match self.counting:
            case Counting.CALLS:
                low = tally.sent + certain
                return low * MICRO, (tally.sent + tally.doubtful + possible) * MICRO
            case Counting.FAILURES:
                return tally.failed * MICRO, (tally.failed + tally.open + tally.doubtful) * MICRO
            case Counting.DENIALS:
                return tally.denied * MICRO, (tally.denied + tally.doubtful) * MICRO
            case Counting.SUM:
                if scene.arguments is None:
                    return _NO_ARGUMENTS
                amount = 0
                if possible and self.counted.amount is not None:
                    found = amount_micro(self.counted.amount.values(scene.arguments))
                    if found is None:
                        return tally.sum_micro, None
                    amount = found
                low = tally.sum_micro + (amount if certain else 0)
                return low, None if tally.odd or tally.doubtful else tally.sum_micro + amount


def micro_below(figure: float) -> int:
    """A figure in whole millionths, rounded down: what is above it is above the figure."""
    return int(Decimal(repr(figure)) * MICRO // 1)


def mark_id(*parts: Json) -> str:
    """A name for what is counted, from what a policy says of it."""
    return digest(canonical(list(parts))).removeprefix("sha256:")[:24]
