"""Lines that the terminal shows, as elements: the words and styles of one face serve the others."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Final

from rich.text import Text

from soothsayer_mcp.web.html import Child, Html, el
from soothsayer_mcp.web.pages.frame import facts

LABEL: Final = 10
"""How wide the column of labels is on a page of labelled lines."""
CLASSES: Final[Mapping[str, str]] = {
    "green": "good",
    "red": "bad",
    "bold magenta": "odd",
    "yellow": "ask",
    "cyan": "flight",
    "dim": "dim",
    "bold": "strong",
}


def spans(text: Text, *, bare: bool = False) -> list[Child]:
    """A styled line; `bare` without the style of the whole of it."""
    cuts = sorted({0, len(text.plain), *(at for span in text.spans for at in (span.start, span.end))})
    found: list[Child] = []
    for begin, end in pairwise(cuts):
        piece = text.plain[begin:end]
        styles = [
            "" if bare else str(text.style),
            *(str(span.style) for span in text.spans if span.start <= begin < span.end),
        ]
        names = " ".join(dict.fromkeys(CLASSES[style] for style in styles if style in CLASSES))
        found.append(el("span", piece, class_=names) if names else piece)
    return found


def labelled(lines: Sequence[Text]) -> Html:
    """A page of labelled lines as names and what belongs to them."""
    rows: list[tuple[str, list[Child]]] = []
    for line in lines:
        label, body = line.plain[:LABEL].strip(), spans(line[LABEL:], bare=True)
        if label or not rows:
            rows.append((label, [el("p", body)]))
        else:
            rows[-1][1].append(el("p", body))
    return facts([(label, body) for label, body in rows])


def block(lines: Sequence[Text]) -> Html:
    """Lines as they stand."""
    return el("div", [el("p", spans(line, bare=True) or " ") for line in lines], class_="lines")
