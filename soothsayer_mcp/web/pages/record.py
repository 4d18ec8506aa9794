"""The record: steps as they happen, runs, one run, one step."""

from collections.abc import Sequence
from typing import Final

from rich.text import Text

from soothsayer_mcp.console import render, views
from soothsayer_mcp.console.measures import ago, clock_time, count, duration, full_time, size
from soothsayer_mcp.console.text import escape_lines
from soothsayer_mcp.console.tui.desk import Key, RunPage
from soothsayer_mcp.model.run import TRANSITIONS, RunState
from soothsayer_mcp.trace.rows import RunRow, StepRow, Story
from soothsayer_mcp.undo.kept import KEPT
from soothsayer_mcp.web.html import Child, Html, el
from soothsayer_mcp.web.pages.frame import Frame, facts, page
from soothsayer_mcp.web.pages.lines import block, labelled
from soothsayer_mcp.web.pages.timeline import Marks, kind_of, picture

MOST: Final = 100
"""How many steps or runs a page shows."""
_WIDE: Final = 100_000
"""Lines are not broken here; the browser does that."""

EFFECTS: Final = {"allow": "good", "ask": "ask", "deny": "bad"}
_ARROWS: Final = (
    "Arrows lead from the step that gave evidence to the one that rests on it; dashed ones from an undo to what it"
    " undid. Lengths grow with the logarithm of time."
)
STATES: Final = {"open": "good", "paused": "ask", "stopped": "bad", "failed": "bad"}


def live_page(frame: Frame, steps: Sequence[StepRow], query: str, *, older: Key | None, trouble: str = "") -> str:
    """Steps, the newest first; more come by themselves."""
    search = el(
        "form",
        el("label", "Filter", for_="query", class_="unseen"),
        el(
            "input",
            id="query",
            name="q",
            value=query,
            placeholder="server:files effect:deny since:1h",
            autocomplete="off",
            spellcheck="false",
        ),
        method="get",
        action=frame.at("/"),
        class_="search",
    )
    body = [
        el("h1", "Steps"),
        search,
        el("p", trouble, class_="trouble", role="alert") if trouble else None,
        el("div", None if trouble else _steps(frame, steps), id="steps", data_live="steps"),
        _older(frame, query, older),
    ]
    return page(frame, "Steps", body, tab="/", reload=True, wide=True)


def _older(frame: Frame, query: str, older: Key | None) -> Html | None:
    if older is None:
        return None
    fields = [
        el("input", type="hidden", name=name, value=value) for name, value in (("q", query), ("before", _place(older)))
    ]
    return el("form", fields, el("button", "Earlier steps"), method="get", action=frame.at("/"), class_="older")


def _place(key: Key) -> str:
    return f"{key[0]}.{key[1]}"


def _steps(frame: Frame, steps: Sequence[StepRow]) -> Html:
    if not steps:
        return el("div", el("p", "No step is on record here.", class_="large"), class_="empty")
    heads = ("Time", "Step", "Call", "Effect", "Ended as", "Took", "Because")
    return el(
        "table",
        el("thead", el("tr", [el("th", head, scope="col") for head in heads])),
        el("tbody", [_step_line(frame, step) for step in steps]),
        class_="list",
    )


def _step_line(frame: Frame, step: StepRow) -> Html:
    effect = f"({step.would})" if step.would and step.would != step.effect else step.effect or "-"
    return el(
        "tr",
        el("td", clock_time(step.at_us, frame.now_us), class_="dim"),
        el("td", el("a", f"{frame.short(step.run)}.{step.no}", href=frame.at(f"/steps/{step.step}")), class_="id"),
        el("td", step.call, class_="call"),
        el("td", effect, class_=EFFECTS.get(step.effect)),
        el("td", views.ended_as(step), class_=kind_of(step)),
        el("td", duration(step.dur_us), class_="right dim"),
        el("td", views.because(step), class_="because"),
    )


def runs_page(frame: Frame, runs: Sequence[RunRow]) -> str:
    """Runs, the one with the newest step first."""
    shown: Child = el("div", el("p", "No run is on record here.", class_="large"), class_="empty")
    if runs:
        heads = ("Last step", "Run", "State", "Steps", "Failed", "Unknown", "Asked", "Principal", "Host")
        shown = el(
            "table",
            el("thead", el("tr", [el("th", head, scope="col") for head in heads])),
            el("tbody", [_run_line(frame, run) for run in runs]),
            class_="list",
        )
    body = el("div", shown, id="runs", data_live="steps")
    return page(frame, "Runs", el("h1", "Runs"), body, tab="/runs", reload=True, wide=True)


def _run_line(frame: Frame, run: RunRow) -> Html:
    return el(
        "tr",
        el("td", clock_time(run.last_us, frame.now_us), class_="dim"),
        el("td", el("a", frame.short(run.run), href=frame.at(f"/runs/{run.run}")), class_="id"),
        el("td", run.state, class_=STATES.get(run.state)),
        el("td", f"{run.steps:,}", class_="right"),
        el("td", f"{run.failed:,}", class_="right bad" if run.failed else "right dim"),
        el("td", f"{run.unknown:,}", class_="right odd" if run.unknown else "right dim"),
        el("td", f"{run.asked:,}", class_="right" if run.asked else "right dim"),
        el("td", run.principal),
        el("td", run.host),
    )


def run_page(frame: Frame, told: RunPage, marks: Marks) -> str:
    """One run: what it came to, its newest steps as a picture and as a table, and what can be done with it."""
    run, story, tally = told.story.run, told.story, told.tally
    short = frame.short(run.run)
    state = el("span", run.state, class_=STATES.get(run.state))
    said = f'"{story.intent}", said by {story.intent_by}' if story.intent else "kept as a digest only"
    budgets = [f"{one.name}: {max(0, one.cap - one.used):,} of {one.cap:,} left" for one in story.budgets]
    rows: list[tuple[str, Child]] = [
        ("state", [state, f": {run.why}" if run.why else ""]),
        *([("intent", said)] if story.intent or story.intent_by else []),
        *([("limits", story.scope.text)] if story.scope is not None and story.scope.text else []),
        ("principal", f"{run.principal}, {run.host or 'an unnamed host'}"),
        *([("workspace", run.workspace)] if run.workspace else []),
        (
            "policy",
            f"{story.policy_name}@{run.policy.removeprefix('sha256:')[:6]}" if story.policy_name else "not known",
        ),
        ("time", f"opened {full_time(run.opened_us)}, last step {ago(run.last_us, frame.now_us)}"),
        ("steps", f"{count(run.steps, 'step')}, {run.failed:,} failed, {run.unknown:,} unknown, {run.asked:,} asked"),
        *(
            [("failed as", ", ".join(f"{kind} {number:,}" for kind, number in tally.failures))]
            if tally.failures
            else []
        ),
        *([("unverified", count(tally.unverified_writes, "write"))] if tally.unverified_writes else []),
        *([("in flight", count(tally.in_flight, "call"))] if tally.in_flight else []),
        *([("budgets", [el("p", line) for line in budgets])] if budgets else []),
    ]
    drawn = [el("h2", "In time"), picture(frame, run.run, told.steps, marks), _legend()] if told.steps else None
    newest_first = list(reversed(told.steps))
    body = [
        el("p", el("a", "Runs", href=frame.at("/runs")), class_="up"),
        el("h1", "Run ", el("span", short, class_="id")),
        el("div", facts(rows), drawn, el("h2", "Steps"), _steps(frame, newest_first), id="run", data_live="steps"),
        el("p", f"{count(run.steps - len(told.steps), 'earlier step')} not shown.", class_="dim")
        if run.steps > len(told.steps)
        else None,
        _changes(frame, run),
    ]
    return page(frame, f"Run {short}", body, tab="/runs", reload=True, wide=True)


def _legend() -> Html:
    words = (
        ("good", "succeeded"),
        ("bad", "failed"),
        ("odd", "unknown"),
        ("held", "nothing was sent"),
        ("flight", "in flight"),
        ("waits", "waited for a person"),
    )
    return el(
        "p",
        [el("span", el("span", "", class_=f"dot {kind}"), text, class_="key") for kind, text in words],
        el("span", _ARROWS),
        class_="legend",
    )


def _changes(frame: Frame, run: RunRow) -> Html | None:
    """What a person may do with the run as it stands."""
    if run.state not in set(RunState):
        return None
    legal = TRANSITIONS[RunState(run.state)]
    words = {RunState.PAUSED: "Pause", RunState.OPEN: "Resume"}
    buttons = [el("button", word, name="to", value=to) for to, word in words.items() if to in legal]
    stop = None
    if RunState.STOPPED in legal:
        stop = el(
            "details",
            el("summary", "Stop it"),
            el("p", "A stopped run takes no more calls, ever."),
            el("button", "Stop this run", name="to", value=RunState.STOPPED, class_="stop"),
        )
    if not buttons and stop is None:
        return None
    return el(
        "form",
        frame.token(),
        el("div", buttons, class_="buttons"),
        stop,
        method="post",
        action=frame.at(f"/runs/{run.run}/state"),
        class_="answer",
    )


def step_page(frame: Frame, story: Story) -> str:
    """All that is known about one step."""
    step = story.step
    name = f"{frame.short(step.run)}.{step.no}"
    look = render.Look(width=_WIDE, now_us=frame.now_us, short=frame.shorts)
    _, *lines = render.story(story, look, with_payloads=False, with_entries=False)
    said = [
        el(
            "details",
            el(
                "summary", f"{one.part}, {size(one.size_bytes)}", f" ({note})" if (note := views.kept_note(one)) else ""
            ),
            el("div", [el("p", line or " ") for line in escape_lines(one.text or "")], class_="lines"),
            open=one.part == "args",
        )
        for one in story.payloads
        if one.part not in KEPT and one.text is not None
    ]
    entries = [
        el("tr", el("td", str(entry.pos), class_="right dim"), el("td", entry.kind), el("td", el("code", entry.body)))
        for entry in story.entries
    ]
    body = [
        el("p", el("a", f"Run {frame.short(step.run)}", href=frame.at(f"/runs/{step.run}")), class_="up"),
        el("h1", el("span", name, class_="id"), " ", el("span", step.call, class_="call")),
        el("div", labelled(lines), id="step", data_live="steps"),
        el("p", el("a", "Every rule, and why it did or did not match", href=frame.at(f"/steps/{step.step}/why"))),
        [el("h2", "What was said"), said] if said else None,
        el("h2", "On record"),
        el(
            "details",
            el("summary", count(len(entries), "entry", "entries")),
            el("table", el("tbody", entries), class_="list"),
        ),
    ]
    return page(frame, f"Step {name}", body, tab="/")


def why_page(frame: Frame, step: StepRow, lines: Sequence[Text]) -> str:
    """Every rule that could have concerned a step."""
    name = f"{frame.short(step.run)}.{step.no}"
    back = el("p", el("a", f"Step {name}", href=frame.at(f"/steps/{step.step}")), class_="up")
    return page(
        frame,
        f"Rules for step {name}",
        back,
        el("h1", "Every rule, and why it did or did not match"),
        block(lines),
        tab="/",
        wide=True,
    )
