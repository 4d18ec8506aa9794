"""A run as a picture: a lane for each server, a bar for each step, and what led from one to another.

Pure. Left to right is the order in time; lengths grow with the logarithm of time, so that a call of a millisecond is
seen beside a person's minute.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Final

from soothsayer_mcp.console import views
from soothsayer_mcp.console.measures import duration
from soothsayer_mcp.model.json import Json
from soothsayer_mcp.model.value import dataclass
from soothsayer_mcp.trace.rows import EntryRow, StepRow
from soothsayer_mcp.web.html import Html, el
from soothsayer_mcp.web.pages.frame import Frame

KINDS: Final = (
    "step.intent",
    "step.outcome",
    "step.refused",
    "step.asked",
    "approval.asked",
    "approval.answered",
    "evidence.gathered",
)
"""The entries that the picture is drawn from."""

LEFT: Final = 150
ROW: Final = 32
"""How high a row of a lane is; calls at the same time stand in rows of their own."""
LANE: Final = 18
"""How much higher than its rows a lane is."""
TOP: Final = 12
BAR: Final = 18
NAME_CHARS: Final = 18
STEP_PX: Final = 12.0
DECADE_PX: Final = 9.0
"""How much wider a stretch is that lasts ten times as long."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wait:
    """How long a step waited for a person."""

    no: int
    begin_us: int
    end_us: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Marks:
    """What the entries of a run say beyond its steps."""

    intents: Mapping[int, int]
    """Step -> when its intent was recorded."""
    ends: Mapping[int, int]
    """Step -> when its outcome was."""
    arrows: Sequence[tuple[int, int]]
    """From the step that gave evidence to the one that rests on it."""
    waits: Sequence[Wait]


def marks(run: str, entries: Sequence[EntryRow]) -> Marks:
    """Read the entries of a run, oldest first."""
    intents: dict[int, int] = {}
    ends: dict[int, int] = {}
    given: dict[str, int] = {}
    arrows: list[tuple[int, int]] = []
    asked: dict[str, int] = {}
    answered: dict[str, int] = {}
    asks_of: dict[str, int] = {}
    for entry in entries:
        ask = views.field(entry, "approval")
        if entry.kind == "approval.asked":
            asked[ask] = entry.at_us
        elif entry.kind == "approval.answered":
            answered[ask] = entry.at_us
        elif entry.kind == "evidence.gathered":
            source = _source(entry.fields.get("from"), run)
            if source is not None:
                given[views.field(entry, "evidence")] = source
        elif entry.no is not None:
            if entry.kind == "step.intent":
                intents[entry.no] = entry.at_us
                arrows += [(given[one], entry.no) for one in views.texts(entry.fields.get("cites")) if one in given]
            else:
                ends[entry.no] = entry.at_us
            if ask:
                asks_of.setdefault(ask, entry.no)
    waits = [Wait(no=no, begin_us=asked[ask], end_us=answered.get(ask)) for ask, no in asks_of.items() if ask in asked]
    return Marks(intents=intents, ends=ends, arrows=arrows, waits=waits)


def _source(source: Json, run: str) -> int | None:
    """The step of this run that evidence comes from."""
    step = source.get("step") if isinstance(source, Mapping) else None
    if not isinstance(step, str):
        return None
    of, _, no = step.rpartition(".")
    return int(no) if of == run and no.isascii() and no.isdigit() else None


def axis(times: Sequence[int]) -> dict[int, float]:
    """Where each moment lies: in their order, longer stretches wider by the logarithm."""
    found: dict[int, float] = {}
    at, before = float(LEFT), None
    for now in sorted(set(times)):
        if before is not None:
            at += STEP_PX + DECADE_PX * math.log10(1 + (now - before) / 1000)
        found[now] = at
        before = now
    return found


def picture(frame: Frame, run: str, steps: Sequence[StepRow], told: Marks) -> Html:
    """Draw the steps, oldest first."""
    shown = {step.no: step for step in steps}
    span = {step.no: _span(step, told, frame.now_us) for step in steps}
    waits = [
        (wait.no, wait.begin_us, frame.now_us if wait.end_us is None else wait.end_us)
        for wait in told.waits
        if wait.no in shown
    ]
    at = axis([time for pair in span.values() for time in pair] + [time for _, *pair in waits for time in pair])
    width = round(max(at.values(), default=LEFT) + 60)
    row = _rows(steps, span)
    tops, height = _lanes(steps, row)

    def middle(no: int) -> float:
        return tops[shown[no].server] + ROW * row[no] + 28

    parts: list[Html] = []
    for n, (server, y) in enumerate(tops.items()):
        high = [*tops.values(), height - TOP][n + 1] - y - 4
        parts.append(el("rect", x=0, y=y, width=width, height=high, rx=6, class_=f"lane {'even' if n % 2 else 'odd'}"))
        parts.append(el("text", _cut(server), x=12, y=y + 32, class_="server"))
    for no, begin, end in waits:
        x, wide = at[begin], max(4.0, at[end] - at[begin])
        title = el("title", f"waited for a person: {duration(end - begin)}")
        parts.append(el("rect", title, x=_px(x), y=_px(middle(no) - 4), width=_px(wide), height=8, class_="wait"))
    for step in steps:
        begin, end = span[step.no]
        parts.append(_bar(frame, run, step, at[begin], max(8.0, at[end] - at[begin]), middle(step.no), told))
    for source, target in told.arrows:
        if source in shown and target in shown:
            parts.append(_arrow(at[span[source][1]], middle(source), at[span[target][0]], middle(target), "gives"))
    for step in steps:
        undone = _number(step.of_step) if step.cause == "undo" else None
        if undone is not None and undone in shown:
            parts.append(_arrow(at[span[step.no][0]], middle(step.no), at[span[undone][0]], middle(undone), "undoes"))
    label = f"{len(steps)} steps on {len(tops)} servers, left to right in time"
    drawn = el("svg", parts, viewBox=f"0 0 {width} {height}", width=width, height=height, role="img", aria_label=label)
    return el("div", drawn, class_="timeline", tabindex=0)


def _rows(steps: Sequence[StepRow], span: Mapping[int, tuple[int, int]]) -> dict[int, int]:
    """In which row of its lane each step stands: the first that is free when it begins."""
    busy: dict[str, list[int]] = {}
    found: dict[int, int] = {}
    for step in sorted(steps, key=lambda step: (span[step.no][0], step.no)):
        begin, end = span[step.no]
        ends = busy.setdefault(step.server, [])
        free = next((n for n, until in enumerate(ends) if until < begin), len(ends))
        ends[free : free + 1] = [end]
        found[step.no] = free
    return found


def _lanes(steps: Sequence[StepRow], row: Mapping[int, int]) -> tuple[dict[str, int], int]:
    """Where the lane of each server begins, and how high all of them are."""
    tops: dict[str, int] = {}
    y = TOP
    for server in dict.fromkeys(step.server for step in steps):
        tops[server] = y
        y += LANE + ROW * (1 + max(row[step.no] for step in steps if step.server == server))
    return tops, y + TOP


def _bar(frame: Frame, run: str, step: StepRow, x: float, wide: float, y: float, told: Marks) -> Html:
    name = f"{frame.short(run)}.{step.no}"
    words = f"{name} {step.call}: {step.effect or '-'}, {views.ended_as(step)}, {duration(step.dur_us)}"
    parts = [
        el("title", words),
        el("rect", x=_px(x), y=_px(y - BAR / 2), width=_px(wide), height=BAR, rx=4, class_=f"bar {kind_of(step)}"),
        el("text", str(step.no), x=_px(x), y=_px(y - BAR / 2 - 5), class_="no"),
    ]
    if step.no in told.intents:
        parts.append(
            el("line", x1=_px(x), x2=_px(x), y1=_px(y - BAR / 2 - 3), y2=_px(y + BAR / 2 + 3), class_="intent")
        )
    if step.no in told.ends:
        parts.append(el("circle", cx=_px(x + wide), cy=_px(y), r=4, class_=f"end {kind_of(step)}"))
    return el("a", parts, href=frame.at(f"/steps/{run}.{step.no}"))


def kind_of(step: StepRow) -> str:
    """How a step ended, in the word that its colour goes by."""
    if not step.outcome:
        return "flight"
    if step.outcome == "unknown":
        return "odd"
    if step.failure:
        return "held" if step.acted == "no" else "bad"
    return "good"


def _span(step: StepRow, told: Marks, now_us: int) -> tuple[int, int]:
    if not step.outcome:
        return step.at_us, max(now_us, step.at_us)
    end = told.ends.get(step.no, step.at_us + (step.dur_us or 0))
    return min(told.intents.get(step.no, step.at_us), step.at_us), max(end, step.at_us)


def _arrow(x1: float, y1: float, x2: float, y2: float, kind: str) -> Html:
    """A curve with a head, from below one bar to another."""
    y1, y2 = y1 + BAR / 2, y2 + BAR / 2
    bend = max(y1, y2) + 16
    line = f"M{_px(x1)} {_px(y1)} C{_px(x1)} {_px(bend)} {_px(x2)} {_px(bend)} {_px(x2)} {_px(y2)}"
    head = f"M{_px(x2 - 4)} {_px(y2 + 7)} L{_px(x2)} {_px(y2)} L{_px(x2 + 4)} {_px(y2 + 7)}"
    return el("path", d=f"{line} {head}", class_=kind)


def _number(step: str) -> int | None:
    no = step.rpartition(".")[2]
    return int(no) if no.isascii() and no.isdigit() else None


def _px(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")


def _cut(text: str) -> str:
    return text if len(text) <= NAME_CHARS else f"{text[: NAME_CHARS - 1]}…"
