"""The one way in which these pages are written: elements whose every text and attribute is escaped.

What came from servers and models is spelt as the terminal spells it, too: no hidden or direction-changing character.
"""

import html
from collections.abc import Sequence
from typing import Final, TypeAlias

from soothsayer_mcp.console.text import escape
from soothsayer_mcp.model.value import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Html:
    """A finished piece of a page. Only `el` and `join` make one."""

    text: str


Child: TypeAlias = "str | Html | Sequence[Child] | None"
"""What an element holds; a text is escaped, `None` is nothing."""

Value: TypeAlias = str | int | bool | None


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


TAGS: Final = _words(
    "a article body button caption code dd details div dl dt fieldset footer form h1 h2 h3 head header html input ins"
    " del kbd label li link main meta nav noscript ol p pre script section span strong summary svg table tbody td"
    " textarea th thead time title tr ul g rect line path circle text"
)
ATTRIBUTES: Final = _words(
    "action aria-current aria-hidden aria-label aria-live autocomplete autofocus charset checked class colspan content"
    " cx cy d data-base data-key data-live data-pos data-until datetime defer disabled for height href http-equiv id"
    " lang maxlength method name open placeholder r rel required role rows rx scope spellcheck src tabindex type value"
    " viewBox width x x1 x2 y y1 y2"
)
"""None of these runs anything. Styles and scripts stand in files of ours."""
LOCAL: Final = frozenset({"href", "src", "action"})
"""These lead to a page of ours, or to a place of the same page."""
VOID: Final = frozenset({"input", "link", "meta"})


def el(tag: str, *children: Child, **attributes: Value) -> Html:
    """An element. In names of attributes `_` stands for `-`, and one at the end is left out: `class_`, `data_key`.

    Raises `ValueError` for what these pages have no use for: other elements, other attributes, addresses elsewhere.
    """
    if tag not in TAGS:
        raise ValueError(tag)
    parts = [f"<{tag}"]
    for key, value in attributes.items():
        name = key.rstrip("_").replace("_", "-")
        if name not in ATTRIBUTES:
            raise ValueError(name)
        if value is None or value is False:
            continue
        said = "" if value is True else str(value)
        if name in LOCAL and (said[:1] not in {"/", "#"} or said.startswith(("//", "/\\"))):
            raise ValueError(said)
        parts.append(f' {name}="{html.escape(escape(said))}"')
    if tag == "script" and children:
        raise ValueError(tag)
    parts.append(">")
    if tag not in VOID:
        parts += [_spelt(children), f"</{tag}>"]
    return Html(text="".join(parts))


def document(root: Html) -> str:
    """A whole page."""
    return f"<!doctype html>\n{root.text}\n"


def _spelt(child: Child) -> str:
    match child:
        case None:
            return ""
        case Html():
            return child.text
        case str():
            return html.escape(escape(child))
        case _:
            return "".join(map(_spelt, child))
