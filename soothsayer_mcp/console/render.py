"""Tables and pages for people: values in, styled lines out. Pure: width, time and zone are arguments.

Every text that comes from outside goes through `escape`, and none is ever read as markup.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import tzinfo

from rich.cells import cell_len
from rich.text import Text

from soothsayer_mcp.console import views
from soothsayer_mcp.console.layout import BAD, BOLD, DIM, EFFECTS, GAP, ODD, Column, Page, table, visible
from soothsayer_mcp.console.measures import ago, clock_time, count, duration, full_time, size
from soothsayer_mcp.console.text import cut, escape, escape_lines
from soothsayer_mcp.model.failure import REASONS, Acted, FixBy, Reason
from soothsayer_mcp.model.json import Json
from soothsayer_mcp.model.undo import UndoClass
from soothsayer_mcp.model.value import dataclass
from soothsayer_mcp.trace.query import KEYS
from soothsayer_mcp.trace.rows import (
    EntryRow,
    Figures,
    Payload,
    RunRow,
    RunStory,
    Spread,
    StepRow,
    Story,
    Table,
)
from soothsayer_mcp.undo.kept import KEPT

ROOM = 44
"""With less room than this for reasons that need more, they stand on lines of their own."""

STATES = {"open": "green", "paused": "yellow", "stopped": "red", "failed": "red", "completed": ""}


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What a page is laid out for."""

    width: int
    now_us: int
    short: Mapping[str, str]
    """Run id -> the prefix it is shown by."""
    zone: tzinfo | None = None
    """`None`: the zone of the machine."""
    full: bool = False
    """Ids in full."""

    def run(self, run: str) -> str:
        """A run as it is shown."""
        return run if self.full else self.short.get(run, run[:4])

    def step(self, step: StepRow) -> str:
        """A step as it is shown."""
        return f"{self.run(step.run)}.{step.no}"


def steps(rows: Sequence[StepRow], look: Look, *, titles: bool = True) -> list[Text]:
    """The log: a line per step, two where the terminal is narrow and there is something to explain."""
    columns = [
        Column(title="TIME"),
        Column(title="STEP"),
        Column(title="CALL", least=14),
        Column(title="EFFECT"),
        Column(title="ENDED AS"),
        Column(title="TOOK", right=True),
        Column(title="BECAUSE", least=20),
    ]
    cells = [
        [
            visible(clock_time(row.at_us, look.now_us, look.zone), DIM),
            visible(look.step(row)),
            visible(row.call),
            _effect(row),
            _ended(row),
            visible(duration(row.dur_us), DIM),
            visible(views.because(row)),
        ]
        for row in rows
    ]
    below: dict[int, tuple[int, Text]] = {}
    others = sum(max(cell_len(line[n].plain) for line in [*cells, []] if line) for n in range(6)) if cells else 0
    longest = max((cell_len(line[6].plain) for line in cells), default=0)
    if look.width - others - 6 * len(GAP) < min(ROOM, longest):
        columns = columns[:-1]
        for n, row in enumerate(rows):
            because = cells[n].pop()
            if row.failure or row.would or row.next in {"stop", "compact"}:
                below[n] = (2, Text(because.plain, style=DIM))
    lines = table(columns, cells, look.width, below)
    return lines if titles else lines[1:]


def one_line(row: StepRow, look: Look) -> Text:
    """One step in the fewest words: `d3a0.8 bank.pay allow timeout_or_budget_exceeded call_timeout`."""
    parts = [look.step(row), row.call, row.effect or "-", views.ended_as(row).replace(", ", " ")]
    return visible(" ".join([*parts, *([row.reason] if row.reason else [])]))


def following(row: StepRow, look: Look) -> Text:
    """One step as `log --follow` prints it: columns of fixed width, since what comes next is not known."""
    widths = ((8, 0), (8, 0), (24, 0), (6, 0), (26, 0), (7, 1))
    cells = (
        visible(clock_time(row.at_us, look.now_us, look.zone), DIM),
        visible(look.step(row)),
        visible(row.call),
        _effect(row),
        _ended(row),
        visible(duration(row.dur_us), DIM),
    )
    line = Text()
    for cell, (width, right) in zip(cells, widths, strict=True):
        blank = " " * max(0, width - cell_len(cell.plain))
        line.append(blank if right else "").append_text(cell).append("" if right else blank).append(GAP)
    return line.append_text(visible(views.because(row)))


def _effect(row: StepRow) -> Text:
    if row.would and row.would != row.effect:
        return Text(f"({row.would})", style=EFFECTS.get(row.would, ""))
    return visible(row.effect or "-", EFFECTS.get(row.effect, ""))


def _ended(row: StepRow) -> Text:
    style = ODD if row.outcome == "unknown" else BAD if row.failure else "" if row.outcome else "cyan"
    return visible(views.ended_as(row), style)


def entries(rows: Sequence[EntryRow], look: Look) -> list[Text]:
    """Raw entries: where each stands, its kind, and its own fields cut to the line."""
    columns = [
        Column(title="POS", right=True),
        Column(title="TIME"),
        Column(title="KIND"),
        Column(title="STEP"),
        Column(title="FIELDS", least=20),
    ]
    cells = [
        [
            Text(str(row.pos)),
            visible(clock_time(row.at_us, look.now_us, look.zone), DIM),
            visible(row.kind),
            visible(_entry_name(row, look)),
            visible(own_fields(row)),
        ]
        for row in rows
    ]
    return table(columns, cells, look.width, {})


def entry_line(row: EntryRow, look: Look) -> Text:
    """One entry as `log --entries --follow` prints it."""
    return visible(
        f"{row.pos:>6}  {clock_time(row.at_us, look.now_us, look.zone)}  {row.kind:<18}"
        f"  {_entry_name(row, look):<8}  {own_fields(row)}"
    )


def _entry_name(row: EntryRow, look: Look) -> str:
    if not row.run:
        return ""
    return look.run(row.run) if row.no is None else f"{look.run(row.run)}.{row.no}"


_FIRST_FIELDS = frozenset({"v", "writer", "seq", "prev", "at", "kind", "run", "no"})


def own_fields(row: EntryRow) -> str:
    """What an entry says beyond what every entry says."""
    if not row.fields:
        return row.body
    shown = {name: value for name, value in row.fields.items() if name not in _FIRST_FIELDS}
    return " ".join(f"{name}={_brief(value)}" for name, value in shown.items())


def _brief(value: Json) -> str:
    if isinstance(value, Mapping):
        if {"digest", "bytes", "mode"} <= value.keys():
            length = value["bytes"]
            return f"<{size(length)}>" if isinstance(length, int) else "<?>"
        return "{" + " ".join(f"{name}={_brief(item)}" for name, item in value.items()) + "}"
    if isinstance(value, str):
        return f"{value[:18]}…" if value.startswith(("sha256:", "hmac:")) else value
    if isinstance(value, Sequence):
        return "[" + " ".join(map(_brief, value)) + "]"
    return views.summary(value)


def runs(rows: Sequence[RunRow], look: Look) -> list[Text]:
    """Runs, one line each."""
    columns = [
        Column(title="LAST STEP"),
        Column(title="RUN"),
        Column(title="STATE"),
        Column(title="STEPS", right=True),
        Column(title="FAILED", right=True),
        Column(title="UNKNOWN", right=True),
        Column(title="ASKED", right=True),
        Column(title="PRINCIPAL", least=10),
        Column(title="HOST", least=10),
    ]
    cells = [
        [
            visible(clock_time(row.last_us, look.now_us, look.zone), DIM),
            visible(look.run(row.run)),
            visible(row.state, STATES.get(row.state, "")),
            Text(f"{row.steps:,}"),
            Text(f"{row.failed:,}", style=BAD if row.failed else DIM),
            Text(f"{row.unknown:,}", style=ODD if row.unknown else DIM),
            Text(f"{row.asked:,}", style="" if row.asked else DIM),
            visible(row.principal),
            visible(row.host),
        ]
        for row in rows
    ]
    return table(columns, cells, look.width, {})


def story(told: Story, look: Look, *, with_payloads: bool, with_entries: bool) -> list[Text]:
    """One step: what was proposed, decided, sent and found, and how it ended, as recorded."""
    page = Page(look.width)
    step = told.step
    page.add("step", visible(look.step(step), BOLD), f"  {step.run}.{step.no}" if not look.full else "")
    _proposed(page, told, look)
    _decided(page, told)
    _evidence(page, told, look)
    _intent(page, told)
    for finding in views.findings_of(told):
        _finding(page, finding)
    _outcome(page, told)
    _settled(page, told)
    _undo(page, told)
    _guidance(page, step)
    _record(page, told)
    lines = page.lines
    if with_payloads:
        # What is kept for an undo, or to settle, is whole whatever the mode, so it is shown to nobody.
        for payload in (one for one in told.payloads if one.part not in KEPT):
            lines += [Text(), *_payload(payload)]
    if with_entries:
        lines += [Text(), *entries(told.entries, look)]
    return lines


def _proposed(page: Page, told: Story, look: Look) -> None:
    step = told.step
    args = told.payload("args")
    if args is None:
        shown = "no arguments"
    elif args.text is None:
        shown = f"{size(args.size_bytes)} of arguments"
    else:
        shown = views.arguments_line(views.parsed(args.text))
    note = views.kept_note(args) if args is not None else ""
    page.add("proposed", visible(step.call, BOLD), f" {shown}", f" ({note})" if note else "")
    who = f"{step.host or 'an unnamed host'} for {step.principal or 'nobody known'}"
    page.add("", Text(full_time(step.at_us, look.zone), style=DIM), visible(f", {who}", DIM))
    if step.cause != "agent" or step.continues:
        origin = [f"cause {step.cause}"] if step.cause != "agent" else []
        origin += [f"of step {step.of_step}"] if step.of_step else []
        origin += [f"continues {step.continues}"] if step.continues else []
        page.add("", "; ".join(origin))


def _decided(page: Page, told: Story) -> None:
    step = told.step
    rules = views.rules_of(told)
    named = views.decided_by([_rule(rule) for rule in rules], step.rule, step.reason if step.effect != "allow" else "")
    policy = step.policy.removeprefix("sha256:")[:6]
    name = f"{told.policy_name}@{policy}" if told.policy_name else policy
    risk = "" if step.risk is None else f"; risk {step.risk}"
    first = Text(step.effect or "-", style=EFFECTS.get(step.effect, ""))
    page.add("decided", first, f" {named}{risk}; policy {name}")
    for term in views.risk_terms_of(told):
        page.add("", term)
    tier = views.field(told.entry("step.intent", "step.refused", "step.asked"), "tier")
    if tier:
        page.add("", f"model tier for what follows: {tier}")
    if step.would:
        page.add("", f"observed only: enforcing would have said {step.would}")
    entry = told.entry("step.intent", "step.refused", "step.asked")
    owed = views.texts(entry.fields.get("obligations")) if entry is not None else []
    if owed:
        page.add("", f"owes {', '.join(owed)}")
    if step.does:
        page.add("", f"the tool {views.what_it_does(step.does)}")


def _rule(rule: Mapping[str, Json]) -> str:
    name, unknown = rule.get("id"), rule.get("unknown")
    text = name if isinstance(name, str) else "?"
    return f"{text} (could not be evaluated: {unknown})" if isinstance(unknown, str) and unknown else text


def _evidence(page: Page, told: Story, look: Look) -> None:
    for line in views.cited(told):
        page.add("evidence", line)
    for approval in told.approvals:
        waited = "" if approval.answered_us is None else f" after {duration(approval.answered_us - approval.asked_us)}"
        by = f" by {approval.answered_by}" if approval.answered_by else ""
        when = f", asked {ago(approval.asked_us, look.now_us)}" if approval.answered_us is None else ""
        page.add("asked", f"{approval.id[:6]} for rule {approval.rule}: {approval.state}{by}{waited}{when}")


def _intent(page: Page, told: Story) -> None:
    outcome = told.entry("step.outcome")
    if told.entry("step.intent") is None:
        return
    store = views.number(outcome.fields, "store_us") if outcome is not None else None
    tool = views.number(outcome.fields, "tool_us") if outcome is not None else None
    durable = f"durable in {duration(store)}" if store else "durable"
    if outcome is None:
        page.add("intent", f"{durable}; its outcome is not on record yet")
    elif tool:
        page.add("intent", f"{durable}; the server took {duration(tool)}")
    else:
        page.add("intent", durable)


def _finding(page: Page, finding: Mapping[str, Json]) -> None:
    words = {name: value for name, value in finding.items() if isinstance(value, str)}
    answer = words.get("finding", "")
    style = {"kept": "green", "broken": BAD, "unknown": ODD}.get(answer, "")
    page.add("check", Text(answer, style=style), f" {views.finding_line(words)}")


def _outcome(page: Page, told: Story) -> None:
    step = told.step
    if not step.outcome:
        page.add("outcome", Text("in flight", style="cyan"), "; nothing more is on record")
        return
    parts = [f"; {views.because(step)}" if step.failure else ""]
    ended = told.entry("step.outcome", "step.refused", "step.asked")
    why = views.field(ended, "why")
    if step.next:
        said = f" ({why})" if why else ""
        # A next step other than `continue` is named with the cause already.
        parts.append(f"; {step.next}" if step.next == "continue" else said)
    style = ODD if step.outcome == "unknown" else BAD if step.failure else "green"
    page.add("outcome", visible(views.ended_as(step), style), *parts)
    for name, text in (("masked", "before the host read it"), ("would_mask", "would have been, by rules that observe")):
        counts = None if ended is None else ended.fields.get(name)
        if isinstance(counts, Mapping) and counts:
            page.add("masked", f"{', '.join(f'{kind} {number}' for kind, number in counts.items())}; {text}")
    given = views.field(ended, "given")
    if given:
        page.add("given", f"the first {given} bytes of its result; the rest is stored and read back on demand")
    said = told.payload("said")
    if said is not None and said.text is not None:
        lines = escape_lines(_as_text(said.text))
        page.add("told", Text(f"the agent read: {lines[0]}"))
        for line in lines[1:]:
            page.add("", Text(line))
    result = told.payload("result")
    if result is not None:
        note = views.kept_note(result)
        page.add("result", f"{size(result.size_bytes)}{f' ({note})' if note else ''}")


def _as_text(stored: str) -> str:
    """What was said, whether it was stored as text or as a JSON string."""
    value = views.parsed(stored)
    return value if isinstance(value, str) else stored


def _settled(page: Page, told: Story) -> None:
    settled = told.entry("step.settled")
    if settled is not None:
        by = views.field(settled, "by")
        page.add(
            "settled",
            f"acted: {views.field(settled, 'acted')}, by {views.field(settled, 'how')}{f' ({by})' if by else ''}",
        )


_UNDO = {
    UndoClass.NONE: "nothing to undo",
    UndoClass.RESTORE: "possible: what was there before is kept",
    UndoClass.COMPENSATE: "possible by an inverse call",
    UndoClass.NEVER: "never",
}


def _undo(page: Page, told: Story) -> None:
    step = told.step
    if not step.undo:
        return
    if step.undo in set(UndoClass):
        page.add("undo", _UNDO[UndoClass(step.undo)])
        return
    tried = told.entry("step.undo")
    why = views.field(tried, "reason") if tried is not None else ""
    page.add("undo", f"{step.undo}{f', by {step.undone_by}' if step.undone_by else ''}{f': {why}' if why else ''}")


def _guidance(page: Page, step: StepRow) -> None:
    row = views.guidance(step.reason)
    if row is not None:
        page.add("means", f"{row.meaning} Whoever can mend it: {_FIX_BY[row.fix_by]}.")
        if step.outcome != "unknown" or step.acted == Acted.MAYBE:
            page.add("to do", row.remedy)  # what is settled needs nobody to look


_FIX_BY = {
    FixBy.POLICY: "who writes the policy",
    FixBy.PROMPT: "who directs the agent",
    FixBy.TOOL: "who runs the tool server",
}


def _record(page: Page, told: Story) -> None:
    positions = ", ".join(str(entry.pos) for entry in told.entries)
    covered = f"in checkpoint {told.checkpoint}" if told.checkpoint is not None else "not covered by a checkpoint yet"
    noun = "entry" if len(told.entries) == 1 else "entries"
    page.add("record", visible(f"{noun} {positions or 'none'}, {covered}; span {told.step.span}", DIM))


def _payload(payload: Payload) -> list[Text]:
    note = views.kept_note(payload)
    head = visible(f"{payload.part} ({size(payload.size_bytes)}{f', {note}' if note else ''})", BOLD)
    if payload.text is None:
        return [head]
    return [head, *(Text(f"  {line}") for line in escape_lines(payload.text))]


def run_story(told: RunStory, rows: Sequence[StepRow], look: Look, *, more: int) -> list[Text]:
    """One run and its newest steps."""
    page = Page(look.width)
    run = told.run
    page.add("run", visible(look.run(run.run), BOLD), f"  {run.run}" if not look.full else "")
    if told.intent or told.intent_by:
        page.add(
            "intent", f'"{told.intent}"' if told.intent else "kept as a digest only", f", said by {told.intent_by}"
        )
    if told.scope is not None and told.scope.text:
        page.add("limits", told.scope.text)
    page.add("state", visible(run.state, STATES.get(run.state, "")), f": {run.why}" if run.why else "")
    page.add("principal", f"{run.principal}, {run.host or 'an unnamed host'}")
    if run.workspace:
        page.add("workspace", run.workspace)
    policy = run.policy.removeprefix("sha256:")[:6]
    page.add("policy", f"{told.policy_name}@{policy}" if told.policy_name else policy or "not known")
    opened = f"opened {full_time(run.opened_us, look.zone)}, last step {ago(run.last_us, look.now_us)}"
    page.add("time", visible(opened, DIM))
    counts = [count(run.steps, "step"), f"{run.failed:,} failed", f"{run.unknown:,} unknown", f"{run.asked:,} asked"]
    page.add("steps", ", ".join(counts))
    for budget in told.budgets:
        page.add("budget", f"{budget.name}: {max(0, budget.cap - budget.used):,} of {budget.cap:,} left")
    lines = page.lines
    if rows:
        lines += [Text(), *steps(rows, look)]
    if more > 0:
        lines.append(Text(f"{count(more, 'earlier step')} not shown: soothsayer log run:{look.run(run.run)} -n 0", DIM))
    return lines


def reason(name: Reason, width: int) -> list[Text]:
    """What a reason means, who can mend it, and what the agent reads."""
    row = REASONS[name]
    page = Page(width)
    page.add("reason", Text(name, style=BOLD), f", one of the class {row.failure}")
    page.add("means", row.meaning)
    acted = {"no": "no", "yes": "yes", "maybe": "maybe: look before it is called again"}[row.acted]
    page.add("acted", f"whether the tool had its effect: {acted}")
    page.add("agent", f"reads: {row.first_line}")
    if row.do:
        page.add("", f"is told to: {row.do}")
    page.add("mended by", _FIX_BY[row.fix_by])
    page.add("to do", row.remedy)
    return page.lines


def figures(told: Figures, look: Look, *, by: str) -> list[Text]:
    """What `stats` shows: everything at once, then groups, failures and asks where there are any."""
    page = Page(look.width)
    total = told.all
    page.add("steps", f"{count(total.steps, 'step')} in {count(told.runs, 'run')}")
    page.add("effects", f"{total.allowed:,} allowed, {total.asked:,} asked about, {total.denied:,} denied")
    page.add(
        "ended", f"{total.failed:,} failed, ", Text(f"{total.unknown:,} unknown", style=ODD if total.unknown else "")
    )
    if total.open:
        page.add("", f"{total.open:,} in flight")
    if told.risk is not None:
        risk = told.risk
        page.add("risk", f"{risk.mean:.0f} on average over {count(risk.steps, 'step')}, {risk.most} at most")
    lines = page.lines
    timings = [("whole step", total.took), ("tool server", told.tool), ("added by Soothsayer", told.own)]
    if any(spread for _name, spread in timings):
        lines += [Text(), *_timings(timings, look.width)]
    if by:
        lines += [Text(), *_groups(told, look, by)]
    if told.failures:
        columns = [
            Column(title="STEPS", right=True),
            Column(title="FAILED AS"),
            Column(title="REASON"),
            Column(title="CALL", least=12),
            Column(title="RULE", least=10),
        ]
        cells = [
            [
                Text(f"{row.steps:,}"),
                visible(row.failure, BAD),
                visible(row.reason),
                visible(row.call),
                visible(row.rule),
            ]
            for row in told.failures
        ]
        lines += [Text(), *table(columns, cells, look.width, {})]
    if told.asks:
        columns = [
            Column(title="ASKS", right=True),
            Column(title="YES", right=True),
            Column(title="NO", right=True),
            Column(title="OPEN", right=True),
            Column(title="MEDIAN WAIT", right=True),
            Column(title="RULE", least=10),
        ]
        cells = [
            [
                Text(f"{row.asks:,}"),
                Text(f"{row.yes / row.asks:.0%}"),
                Text(f"{row.no / row.asks:.0%}"),
                Text(f"{row.open:,}"),
                Text(duration(row.median_wait_us)),
                visible(row.rule),
            ]
            for row in told.asks
        ]
        lines += [Text(), *table(columns, cells, look.width, {})]
        lines += [Text(), *_fatigue(told)]
    if told.export_dropped:
        lines += [Text(), Text(f"{count(told.export_dropped, 'span')} dropped by a slow collector; the trace has them")]
    return lines


def _fatigue(told: Figures) -> list[Text]:
    """What the questions cost, and those that are no control any more because nearly all are answered alike."""
    asked = sum(row.asks for row in told.asks)
    lines = [visible(f"{count(asked, 'question')}, {asked / max(1, told.runs):.1f} in a run")]
    lines += [
        visible(f"{row.rule}: approved {row.yes:,} of {row.answered:,} times; allow it with a check, or deny it", ODD)
        for row in told.asks
        if row.is_habit
    ]
    return lines


def _timings(rows: Sequence[tuple[str, Spread | None]], width: int) -> list[Text]:
    columns = [
        Column(title="TOOK"),
        *(Column(title=title, right=True) for title in ("MEDIAN", "95 %", "99 %", "MOST", "STEPS")),
    ]
    cells = [
        [
            Text(name),
            *(Text(duration(each)) for each in (spread.p50, spread.p95, spread.p99, spread.most)),
            Text(f"{spread.count:,}"),
        ]
        for name, spread in rows
        if spread is not None
    ]
    return table(columns, cells, width, {})


def _groups(told: Figures, look: Look, by: str) -> list[Text]:
    columns = [
        Column(title=by.upper(), least=12),
        *(
            Column(title=title, right=True)
            for title in ("STEPS", "ALLOWED", "ASKED", "DENIED", "FAILED", "UNKNOWN", "MEDIAN", "95 %")
        ),
    ]
    cells = [
        [
            visible(_group_name(row.key, look, by)),
            *(Text(f"{each:,}") for each in (row.steps, row.allowed, row.asked, row.denied, row.failed, row.unknown)),
            *(Text(duration(None if row.took is None else each)) for each in _ends(row.took)),
        ]
        for row in told.groups
    ]
    return table(columns, cells, look.width, {})


def _ends(spread: Spread | None) -> tuple[int | None, int | None]:
    return (None, None) if spread is None else (spread.p50, spread.p95)


def _group_name(key: str, look: Look, by: str) -> str:
    if by == "run":
        return look.run(key)
    if by == "policy" and not look.full:
        return key.removeprefix("sha256:")[:12] or "not known"
    return key


def keys(width: int) -> list[Text]:
    """The keys of the filter, and how its terms are written."""
    columns = [Column(title="KEY"), Column(title="WHAT", least=20), Column(title="VALUES", least=20)]
    rows = [
        [Text(f"{name}:", style=BOLD), Text(row.help), Text(", ".join(row.words), style=DIM)]
        for name, row in KEYS.items()
    ]
    return [
        Text("All terms must hold. A comma is or, a leading - is not, * and ? stand for anything, < and > compare."),
        Text('A bare word, or "quoted text", is looked for in the record.'),
        Text(),
        *table(columns, rows, width, {}),
    ]


def cells(answer: Table, width: int) -> list[Text]:
    """The answer of a SQL query."""
    columns = [
        Column(title=escape(name), right=_is_numeric(answer, n), least=8) for n, name in enumerate(answer.columns)
    ]
    rows = [[visible(_cell(cell)) for cell in row] for row in answer.rows]
    return table(columns, rows, width, {})


def _is_numeric(answer: Table, n: int) -> bool:
    return bool(answer.rows) and all(isinstance(row[n], int | float) or row[n] is None for row in answer.rows)


def _cell(cell: str | float | bytes | None) -> str:
    match cell:
        case None:
            return "-"
        case bytes():
            return cut(cell.hex(), 66)
        case float():
            return f"{cell:g}"
        case _:
            return str(cell)


def diff(lines: Iterable[str]) -> list[Text]:
    """A unified diff."""
    styles = {"+": "green", "-": "red", "@": "cyan"}
    return [visible(line, styles.get(line[:1], "")) for line in lines]


def card_page(lines: Iterable[str]) -> list[Text]:
    """The card of a question; its head stands out."""
    return [visible(line, "bold" if line.startswith("ASK ") else "") for line in lines]


@dataclass(frozen=True, slots=True, kw_only=True)
class PinRow:
    """One pinned definition, as a list shows it."""

    server: str
    tool: str
    state: str
    digest: str
    """Of what is defined now."""
    at_us: int
    signs: tuple[str, ...] = ()


def pins(rows: Sequence[PinRow], look: Look) -> list[Text]:
    """Pinned definitions: server, tool, state, digest of what is defined now, since when, and their signs."""
    columns = [
        Column(title="SERVER", least=10),
        Column(title="TOOL", least=14),
        Column(title="STATE"),
        Column(title="DEFINITION"),
        Column(title="SINCE"),
    ]
    signs = any(row.signs for row in rows)
    if signs:
        columns.append(Column(title="SIGNS"))
    styles = {"pinned": "green", "new": "yellow", "changed": BAD}
    cells = [
        [
            visible(row.server),
            visible(row.tool),
            visible(row.state, styles.get(row.state, "")),
            visible(row.digest if look.full else row.digest.removeprefix("sha256:")[:12], DIM),
            visible(clock_time(row.at_us, look.now_us, look.zone), DIM),
            *([visible(", ".join(row.signs), BAD)] if signs else []),
        ]
        for row in rows
    ]
    return table(columns, cells, look.width, {})
