"""Questions: the list of those that wait, and the card of one, on which it is answered."""

from collections.abc import Sequence
from typing import Final

from soothsayer_mcp.console.against import against_last
from soothsayer_mcp.console.card import Pieces, pieces, roles_of, shape_lines, still_due, vote_names
from soothsayer_mcp.console.less import Less
from soothsayer_mcp.console.measures import ago
from soothsayer_mcp.console.text import escape
from soothsayer_mcp.console.tui.desk import Card
from soothsayer_mcp.evidence.grants import why_no_rule
from soothsayer_mcp.model.ask import Ask, AskState
from soothsayer_mcp.web.desk import RuleChange
from soothsayer_mcp.web.html import Child, Html, el
from soothsayer_mcp.web.pages.frame import Frame, facts, page

ID_CHARS: Final = 6
DIGEST_CHARS: Final = 8
COMMENT_MAX: Final = 500


def decided(ask: Ask) -> str:
    """How a question ended."""
    match ask.state:
        case AskState.OPEN:
            return f"answered by you already; {still_due(ask)}"
        case AskState.EXPIRED:
            return "expired: nobody answered in time"
        case AskState.WITHDRAWN:
            return "withdrawn: the call was given up"
        case AskState.YES | AskState.NO:
            return f"already decided: {ask.state}, by {ask.answered_by} in {ask.channel}"


def list_page(frame: Frame, asks: Sequence[Ask]) -> str:
    """Open questions, oldest first."""
    if asks:
        shown: Child = el("ol", [_line(frame, ask) for ask in asks], class_="asks")
    else:
        shown = el(
            "div",
            el("p", "No question is open.", class_="large"),
            el("p", "Calls that are asked about wait for you while this page is open."),
            class_="empty",
        )
    body = el("div", shown, id="asks", data_live="asks")
    return page(frame, "Questions", el("h1", "Questions"), body, tab="/asks", reload=True)


def _line(frame: Frame, ask: Ask) -> Html:
    of = pieces(ask.card)
    named = "" if of.args is None else ", ".join(f"{name} {value}" for name, value in of.args)
    return el(
        "li",
        el(
            "a",
            el("span", of.call, class_="call"),
            _marks(ask),
            el("span", _left(frame, ask), " left", class_="left"),
            el("span", named, class_="args"),
            el("span", f"{of.client}, run {frame.short(ask.run)}, {ago(ask.asked_at_us, frame.now_us)}", class_="dim"),
            href=frame.at(f"/asks/{ask.id}"),
        ),
    )


def _marks(ask: Ask) -> list[Html]:
    found: list[Html] = []
    if ask.strong:
        found.append(el("span", "strong", class_="mark strong"))
    if ask.needs:
        found.append(el("span", f"for {roles_of(ask)}", class_="mark role"))
    return found


def _left(frame: Frame, ask: Ask) -> Html:
    left_s = max(0, ask.expires_at_us - frame.now_us) // 1_000_000
    return el("time", f"{left_s // 60}:{left_s % 60:02d}", data_until=ask.expires_at_us // 1000)


def card_page(frame: Frame, card: Card, *, coded: bool, trouble: str = "") -> str:
    """One question: what would be sent, exactly, why it is asked, and, while it is open, how to answer.

    `coded`: a yes wants what stands in the terminal. `trouble` is why the last try to answer it did not count.
    """
    ask, of = card.ask, pieces(card.ask.card)
    short = ask.id[:ID_CHARS]
    is_open = ask.state is AskState.OPEN and ask.expires_at_us >= frame.now_us
    if not ask.card:
        return page(
            frame,
            f"Question {short}",
            el(
                "article",
                el("h1", f"Question {short}"),
                el("p", f"{short}: {decided(ask)}.", class_="ended", role="status"),
                el("p", el("a", "Other questions", href=frame.at("/asks"))),
                id="card",
                data_live="card",
            ),
            tab="/asks",
        )
    status = el("p", trouble, class_="trouble", role="alert") if trouble else None
    if not is_open:
        status = el("p", f"{short}: {decided(ask)}.", class_="ended", role="status")
    body = [
        el(
            "p",
            "Question ",
            el("span", short, class_="id"),
            ", asked ",
            ago(ask.asked_at_us, frame.now_us),
            class_="dim",
        ),
        el("h1", of.call, " ", _marks(ask), class_="call"),
        el("p", of.wants, class_="wants"),
        status,
        facts(
            [
                *(("why", one) for one in of.why),
                *([("risk", of.risk)] if of.risk else []),
                *([("role", _roles(ask))] if ask.needs else []),
                ("from", f"{of.client}, run {frame.short(ask.run)}"),
                ("open for", _left(frame, ask)),
            ]
        ),
        el("h2", "What would be sent"),
        _arguments(of),
        _against(frame, card),
        _less(card) if is_open else None,
        _answers(frame, card, coded=coded) if is_open else el("p", el("a", "Other questions", href=frame.at("/asks"))),
    ]
    return page(frame, f"{of.call} - question {short}", el("article", body, id="card", data_live="card"), tab="/asks")


def _roles(ask: Ask) -> str:
    return still_due(ask) + (f"; signed by {vote_names(ask)}" if ask.votes else "")


def _arguments(of: Pieces) -> Html:
    if of.args is None:
        return el("p", "The arguments are shown to those who may answer: soothsayer ui --as NAME.", class_="dim")
    if not of.args:
        return el("p", "No arguments.", class_="dim")
    rows = [el("tr", el("th", name, scope="row"), el("td", el("code", value))) for name, value in of.args]
    note = "Hidden characters are shown as escapes." if of.hidden else ""
    return el("div", el("table", el("tbody", rows), class_="values"), el("p", note, class_="warn") if note else None)


def _against(frame: Frame, card: Card) -> Html | None:
    """How the call differs from the last of its tool that a person allowed."""
    args = card.ask.card.get("args")
    if card.last is None or not isinstance(args, dict):
        return None
    name = f"{frame.short(card.last.run)}.{card.last.no}"
    head, *lines = against_last(args, card.last, name=name, now_us=frame.now_us)
    rows = [el("li", _changed(line.removeprefix("      "))) for line in lines]
    return el(
        "section",
        el("h2", "Against the last one"),
        el("p", head.removeprefix("last  ").capitalize(), ":" if rows else "."),
        el("ul", rows, class_="changes") if rows else None,
    )


def _less(card: Card) -> Html | None:
    """What would ask less, after many yeses."""
    less = card.less
    if less is None:
        return None
    told = f"{card.yeses:,} yeses to {less.call} under {escape(card.ask.rule)} so far; {less.way}."
    return el("section", el("h2", "Asked often"), el("p", told), _proposed(less))


def _proposed(less: Less) -> Html | None:
    if not less.rule:
        return None
    return el("p", "For good it would be ", el("code", less.rule), ": see Ask less, below.")


def _changed(line: str) -> Html:
    match line[:3]:
        case "  +":
            return el("ins", line[2:])
        case "  -":
            return el("del", line[2:])
        case _:
            return el("code", line)


def _answers(frame: Frame, card: Card, *, coded: bool) -> Html:
    ask = card.ask
    if ask.needs and not frame.approver:
        text = f"It needs the signed answer of {roles_of(ask)}: soothsayer ui --as NAME, or soothsayer approve."
        return el("p", text, class_="ended")
    code = None
    if coded:
        code = el(
            "label",
            "To allow it, type the six characters that stand in the terminal of soothsayer ui",
            el("input", name="code", maxlength=12, autocomplete="off", spellcheck="false", class_="code"),
        )
    buttons = [
        el("button", "Deny", el("kbd", "d"), name="answer", value="no", class_="deny", id="deny"),
        el("button", "Allow once", el("kbd", "a"), name="answer", value="yes", class_="allow", id="allow"),
    ]
    return el(
        "form",
        _hidden(frame, ask),
        el(
            "label",
            "Comment; the agent reads that of a no",
            el("input", name="comment", maxlength=COMMENT_MAX, autocomplete="off"),
        ),
        code,
        el("div", buttons, class_="buttons"),
        _further(frame, card),
        method="post",
        action=frame.at(f"/asks/{ask.id}/answer"),
        class_="answer",
    )


def _hidden(frame: Frame, ask: Ask) -> list[Html]:
    return [frame.token(), el("input", type="hidden", name="shown", value=ask.shown)]


def _further(frame: Frame, card: Card) -> Html | None:
    """How a yes may cover more than this call, as far as it may."""
    ask = card.ask
    if card.why_once:
        return el("p", f"Only once: {card.why_once}.", class_="dim")
    lines = [el("li", el("code", line.strip())) for line in shape_lines(card.shape)]
    always: Child = None
    if not why_no_rule(ask):
        always = el("p", el("a", "Allow for good, by a rule of your policy", href=frame.at(f"/asks/{ask.id}/always")))
    return el(
        "details",
        el("summary", "Ask less"),
        el("p", "Further calls of this run that would not be asked about:"),
        el("ul", el("li", el("code", pieces(ask.card).call)), lines, class_="shape"),
        el("button", "Allow all of these in this run", name="answer", value="run", class_="allow"),
        always,
    )


def always_page(frame: Frame, ask: Ask, change: RuleChange) -> str:
    """The change of policy that a yes for good is, as a diff."""
    short = ask.id[:ID_CHARS]
    kinds = {"+": "ins", "-": "del"}
    rows = [el("li", el(kinds.get(line[:1], "code"), line or " ")) for line in change.lines]
    return page(
        frame,
        f"Rule for question {short}",
        el("h1", "Allow for good"),
        el("p", "This call is allowed, and ", el("code", change.file), " is changed so:"),
        el("ul", rows, class_="changes diff"),
        el(
            "form",
            _hidden(frame, ask),
            el("input", type="hidden", name="change", value=change.digest),
            el("input", type="hidden", name="answer", value="always"),
            el("button", "Allow, and change the policy so", class_="allow"),
            el("a", "Back to the question", href=frame.at(f"/asks/{ask.id}"), class_="back"),
            method="post",
            action=frame.at(f"/asks/{ask.id}/answer"),
            class_="answer",
        ),
        tab="/asks",
    )


def answered(ask: Ask, reach: str) -> str:
    """What the next page says of an answer."""
    short = ask.id[:ID_CHARS]
    if ask.state is AskState.OPEN:
        return f"{short}: signed; {still_due(ask)}"
    if ask.state is AskState.NO:
        return f"{short}: denied"
    covers = {"run": "for calls of this shape in the run", "always": "and the rule is in the policy"}
    return f"{short}: allowed, {covers.get(reach, 'once')}"
