"""Makes a host's file fit to be shown: values of variables and headers, and whatever looks like a secret, are stars."""

import difflib
import re
from collections.abc import Sequence
from typing import Final

from soothsayer_mcp.adapters.hosts.tree import Document, Splice, spliced

STARS: Final = "***"

_VALUES: Final = frozenset({"env", "envs", "environment", "headers", "http_headers", "requestoptions"})
_NAMES: Final = re.compile(
    r"(?:pass(?:word|wd|phrase)?|secret|token|credential|auth(?:orization)?|cookie|bearer|(?:api|access|private)[-_]?key"
    r"|(?:^|[-_])(?:key|pat|pwd)$)",
    re.IGNORECASE,
)
_LOOKS: Final = re.compile(
    r"(?P<lead>[a-z][a-z0-9+.-]*://)[^\s/@\"']+@"
    r"|(?P<param>[?&](?:[\w-]*(?:token|key|secret|auth|sig|password|code)[\w-]*)=)[^\s&\"']+"
    r"|(?P<bearer>\b(?:Bearer|Basic|token)\s+)[\w.~+/=-]{8,}"
    r"|\b(?:sk|pk|rk|ghp|gho|ghu|ghs|ghr|github_pat|glpat|xox[a-z]|npm|pypi|hf|AKIA|ASIA|AIza|ya29|eyJ)[-_.]?[\w.-]{12,}",
    re.IGNORECASE,
)
_OPTION: Final = re.compile(r"-{1,2}(?P<name>[\w-]+)(?P<equals>=)?.*", re.DOTALL)
_DENSE: Final = re.compile(r"(?=[^/@.]*[0-9])(?=[^/@.]*[A-Za-z])[A-Za-z0-9_+=-]{24,}")


def masked(document: Document) -> str:
    """The text of a document as it may be shown."""
    text = document.text
    splices: list[Splice] = []
    before: tuple[str, ...] = ()
    said = ""
    for path, start, end in document.scalars:
        shown = _shown(path, text[start:end], said if path[:-1] == before[:-1] else "")
        before, said = path, _bare(text[start:end])
        if shown is not None:
            splices.append(Splice(start, end, shown))
    return mask_line(spliced(text, splices))


def mask_line(text: str) -> str:
    """Text without what looks like a secret wherever it stands."""

    def stars(found: re.Match[str]) -> str:
        kept = found.group("lead") or found.group("param") or found.group("bearer") or ""
        return f"{kept}{STARS}{'@' if found.group('lead') else ''}"

    return _LOOKS.sub(stars, text)


def difference(before: Document, after: Document, name: str) -> list[str]:
    """What changes, a line each, as it may be shown."""
    old, new = masked(before).expandtabs(4).splitlines(), masked(after).expandtabs(4).splitlines()
    return list(difflib.unified_diff(old, new, name, f"{name}, changed", lineterm="", n=2))


def _bare(spelled: str) -> str:
    return spelled.strip("\"'")


def _shown(path: Sequence[str], spelled: str, before: str) -> str | None:
    """What stands for a text; `None` when it may be shown."""
    inner = _bare(spelled)
    quote = spelled[:1] if spelled[:1] in {'"', "'"} else ""
    if not inner:
        return None
    if any(part.lower() in _VALUES for part in path[:-1]) or _NAMES.search(path[-1]):
        return f"{quote}{STARS}{quote}"
    option = _OPTION.fullmatch(inner)
    if option is not None and _NAMES.search(option.group("name")) and option.group("equals"):
        return f"{quote}{inner[: inner.index('=') + 1]}{STARS}{quote}"
    previous = _OPTION.fullmatch(before)
    if previous is not None and not previous.group("equals") and _NAMES.search(previous.group("name")):
        # Names of variables and headers are what a person has to see here.
        if previous.group("name") in {"header-env", "pass-env"}:
            return None
        return f"{quote}{STARS}{quote}"
    return f"{quote}{STARS}{quote}" if _DENSE.fullmatch(inner) else None
