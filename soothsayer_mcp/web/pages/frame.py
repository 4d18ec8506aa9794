"""What every page has around it: the head, the places to go, what waits, and what became of the last answer."""

from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import Final

from soothsayer_mcp.console.measures import count
from soothsayer_mcp.model.value import dataclass
from soothsayer_mcp.web.access import FORM_TOKEN
from soothsayer_mcp.web.html import Child, Html, document, el

TABS: Final = (("/", "Live"), ("/asks", "Questions"), ("/runs", "Runs"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """What is the same for all that a request shows."""

    base: str
    """The path below which everything lies."""
    form: str = ""
    """The token of forms; empty for a browser that is not signed in."""
    open_asks: int = 0
    approver: str = ""
    notice: str = ""
    now_us: int = 0
    pos: int = 0
    """The position of the newest entry that is shown."""
    shorts: Mapping[str, str] = field(default_factory=dict[str, str])

    def at(self, path: str) -> str:
        """The address of a page."""
        return f"{self.base}{path}"

    def short(self, run: str) -> str:
        """A run as it is shown."""
        return self.shorts.get(run, run[:4])

    def token(self) -> Html:
        """What makes a form one of ours."""
        return el("input", type="hidden", name=FORM_TOKEN, value=self.form)


def page(frame: Frame, title: str, *body: Child, tab: str = "", reload: bool = False, wide: bool = False) -> str:
    """A whole page. With `reload` it comes anew by itself where nothing runs that would keep it current."""
    head = [
        el("meta", charset="utf-8"),
        el("meta", name="viewport", content="width=device-width, initial-scale=1"),
        el("meta", name="color-scheme", content="light dark"),
        el("title", f"{title} - Soothsayer"),
        el("link", rel="stylesheet", href=frame.at("/static/style.css")),
        el("link", rel="icon", type="image/svg+xml", href=frame.at("/static/mark.svg")),
    ]
    if reload:
        head.append(el("noscript", el("meta", http_equiv="refresh", content="10")))
    if frame.form:
        head.append(el("script", src=frame.at("/static/ui.js"), defer=True))
    return document(
        el(
            "html",
            el("head", head),
            el(
                "body",
                _header(frame, tab),
                el("main", _notice(frame), body, class_="wide" if wide else None),
            ),
            lang="en",
            data_base=frame.base,
            data_pos=frame.pos,
        )
    )


def _notice(frame: Frame) -> Html | None:
    return el("p", frame.notice, class_="notice", role="status") if frame.notice else None


def _header(frame: Frame, tab: str) -> Html:
    if not frame.form:
        return el("header", el("span", "Soothsayer", class_="name"))
    links = [
        el("a", words, _badge(frame) if path == "/asks" else None, href=frame.at(path), aria_current=_here(path, tab))
        for path, words in TABS
    ]
    leave = el(
        "form", frame.token(), el("button", "Sign out", class_="quiet"), method="post", action=frame.at("/logout")
    )
    who = el("span", f"signing as {frame.approver}", class_="who") if frame.approver else None
    said = f"{count(frame.open_asks, 'question')} open" if frame.open_asks else "no question is open"
    return el(
        "header",
        el("span", "Soothsayer", class_="name"),
        el("nav", links, aria_label="Pages"),
        el("p", said, id="said", class_="unseen", aria_live="polite"),
        who,
        leave,
    )


def _badge(frame: Frame) -> Html:
    return el("span", str(frame.open_asks) if frame.open_asks else "", class_="badge", id="badge")


def _here(path: str, tab: str) -> str | None:
    return "page" if path == tab else None


def facts(rows: Sequence[tuple[str, Child]]) -> Html:
    """Names and what belongs to them."""
    return el("dl", [(el("dt", name), el("dd", value)) for name, value in rows], class_="facts")


def trouble(frame: Frame, title: str, *words: Child) -> str:
    """A page that says why there is nothing else."""
    return page(frame, title, el("h1", title), [el("p", one) for one in words])


def signed_out(frame: Frame, path: str) -> str:
    """For a browser that is not signed in, or not any more."""
    return trouble(
        frame,
        "Not signed in",
        "Open the link that soothsayer ui printed in its terminal; each one signs one browser in.",
        ("Already signed in here? ", el("a", "Go on", href=frame.at(path)), "."),
    )


def login(frame: Frame, token: str, *, failed: bool = False) -> str:
    """The page that the printed link leads to. Opening it signs nobody in: what looks into links would use it up."""
    if failed:
        return trouble(
            frame, "This link was used", "It signs one browser in, once. The next one stands in the terminal."
        )
    return page(
        frame,
        "Sign in",
        el("h1", "Open questions and the record, on this machine"),
        el("p", "This browser may answer questions in your name until it was idle for eight hours."),
        el(
            "form",
            el("input", type="hidden", name="token", value=token),
            el("button", "Sign in", class_="main", id="first", autofocus=True),
            method="post",
            action=frame.at("/login"),
        ),
    )
