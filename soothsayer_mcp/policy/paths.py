"""The normal forms in which rules compare paths. Text in, components out; nothing is looked up here.

A path has several readings, because it is not known how the server will read it. Links are facts that arrive from
outside (`model.facts.Facts`).
"""

import re
import unicodedata
from collections.abc import Callable, Iterator, Mapping
from dataclasses import field
from enum import StrEnum
from typing import TypeAlias

from soothsayer_mcp.model.value import dataclass
from soothsayer_mcp.policy.answers import Answer, Unsure

Components: TypeAlias = tuple[str, ...]
"""A resolved absolute path, cut at its separators; on Windows the drive is the first."""

MAX_DECODINGS = 3
MAX_SPELLINGS = 64
"""How many texts one text may stand for before it cannot be read."""
MAX_BRACES = 64
"""How many patterns one glob with braces may stand for."""


class Case(StrEnum):
    """Whether two spellings that differ in case name one file."""

    EXACT = "exact"
    FOLDED = "folded"
    UNKNOWN = "unknown"
    """The system is not known: an allow compares exactly, everything else folded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """How the paths and commands of one server are read."""

    root: str
    """What relative paths are relative to."""
    home: str
    case: Case = Case.UNKNOWN
    windows: bool = False
    local: bool = False
    """Whether the paths are on this machine, so that links count."""
    links: Mapping[str, str] = field(default_factory=dict[str, str])
    """What the folders that rules name lead to, where that differs from their names; looked up at load."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Readings:
    """All the ways one text may be read as a path."""

    exact: tuple[Components, ...]
    folded: tuple[Components, ...]
    doubt: Unsure | None = None
    """Set when there may be a reading that is not listed."""

    def answer(self, *, every: bool, fold: bool, test: Callable[[Components], bool]) -> Answer:
        """Whether every reading, or one, passes the test."""
        paths = self.folded if fold else self.exact
        if every:
            if not all(map(test, paths)):
                return False
            return True if self.doubt is None else self.doubt
        if any(map(test, paths)):
            return True
        return False if self.doubt is None else self.doubt


def fold(components: Components) -> Components:
    """Spell components as a system that ignores case compares them."""
    return tuple(part.casefold() if part.isascii() else _folded(part) for part in components)


def _folded(part: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", part).casefold())


_VARIABLE = re.compile(r"%[A-Za-z_][A-Za-z0-9_()]*%")
_PERCENT = re.compile(r"(?:%[0-9A-Fa-f]{2})+")
_DRIVE = re.compile(r"[A-Za-z]:/")
_SHORT_NAME = re.compile(r"~[0-9]")
_DEVICES = frozenset(
    {"con", "prn", "aux", "nul", "conin$", "conout$"}
    | {f"{port}{n}" for port in ("com", "lpt") for n in "0123456789¹²³"}
)

_NUL = Unsure("the path holds a NUL")
_DOLLAR = Unsure("the path holds a variable ($)")
_PERCENT_NAME = Unsure("the path holds a variable (%NAME%)")
_OTHER_HOME = Unsure("the path begins with the home of another account")
_NO_HOME = Unsure("the path begins with ~ and no home is known")
_DEEP_PERCENT = Unsure("the path is encoded too often to read")
_BAD_PERCENT = Unsure("the path's percent-encoding is no UTF-8")
_OTHER_HOST = Unsure("the file URL names another host")
_WINDOWS = Unsure("the path has a form that Windows reads in its own way")
_NO_LINK = Unsure("what the path leads to could not be looked up")


def spellings(text: str) -> tuple[tuple[str, ...], Unsure | None]:
    """Tell what a server may take this text for: as written, as file URL, decoded, with `/` for a backslash."""
    if "%" not in text and "\\" not in text and text[:5].lower() != "file:":
        return (text,), None
    found: dict[str, int] = {text: 0}
    doubt: Unsure | None = None
    waiting = [text]
    while waiting:
        spelling = waiting.pop()
        decodings = found[spelling]
        for further, cost in _further(spelling):
            if isinstance(further, Unsure):
                doubt = further
            elif decodings + cost > MAX_DECODINGS or len(found) >= MAX_SPELLINGS:
                doubt = doubt or _DEEP_PERCENT
            elif further not in found:
                found[further] = decodings + cost
                waiting.append(further)
    return tuple(found), doubt


def _further(spelling: str) -> Iterator[tuple[str | Unsure, int]]:
    """One more way to read a spelling, each with how often it decodes: any of them may follow any other."""
    if spelling[:5].lower() == "file:":
        yield _strip_file(spelling[5:]), 0
    if "%" in spelling:
        decoded = _decode(spelling)
        if decoded != spelling:
            yield decoded, 1
    if "\\" in spelling:
        yield spelling.replace("\\", "/"), 0


def _strip_file(rest: str) -> str | Unsure:
    rest = rest.replace("\\", "/")
    if not rest.startswith("//"):
        return rest
    host, slash, path = rest[2:].partition("/")
    if host.lower() not in {"", "localhost"}:
        return _OTHER_HOST
    path = slash + path
    return path[1:] if _DRIVE.match(path[1:]) else path


def _decode(text: str) -> str | Unsure:
    if "%" not in text:
        return text
    try:
        return _PERCENT.sub(lambda run: bytes.fromhex(run.group().replace("%", "")).decode(), text)
    except UnicodeDecodeError:
        return _BAD_PERCENT


def complete(spelling: str, place: Place) -> str | Unsure:
    """Make one spelling absolute; `.` and `..` still stand."""
    if "\0" in spelling:
        return _NUL
    if "$" in spelling:
        return _DOLLAR
    if "%" in spelling and _VARIABLE.search(spelling):
        return _PERCENT_NAME
    if place.windows:
        spelling = spelling.replace("\\", "/")
    if spelling[:1] == "~":
        if spelling[1:2] not in {"", "/"}:
            return _OTHER_HOME
        if not place.home:
            return _NO_HOME
        spelling = place.home + spelling[1:]
    if place.windows:
        return _complete_windows(spelling, place)
    return spelling if spelling[:1] == "/" else f"{place.root}/{spelling}"


def _complete_windows(spelling: str, place: Place) -> str | Unsure:
    if spelling.startswith("/"):
        return _WINDOWS
    absolute = spelling if _DRIVE.match(spelling) else f"{place.root}/{spelling}".replace("\\", "/")
    for number, part in enumerate(absolute.split("/")):
        if part in {"", ".", ".."} or (number == 0 and _DRIVE.match(part + "/")):
            continue
        stem = part.split(".", 1)[0].rstrip(" ").lower()
        if ":" in part or part[-1] in ". " or stem in _DEVICES or _SHORT_NAME.search(part):
            return _WINDOWS
    return absolute


def resolve(absolute: str) -> Components:
    """Resolve `.`, `..` and `//` by component, never above the root."""
    if "/." not in absolute and "//" not in absolute:
        parts = absolute.split("/")
        return tuple(part for part in parts if part)
    kept: list[str] = []
    for part in absolute.split("/"):
        if part in {"", "."}:
            continue
        if part == "..":
            if kept and not (len(kept) == 1 and _DRIVE.match(kept[0] + "/")):
                kept.pop()
        else:
            kept.append(part)
    return tuple(kept)


def spell(components: Components, place: Place) -> str:
    """Write components as one absolute path."""
    return "/".join(components) if place.windows else "/" + "/".join(components)


def questions(text: str, place: Place) -> tuple[str, ...]:
    """Tell the paths whose links have to be looked up before this text can be read."""
    asked: dict[str, None] = {}
    for spelling in spellings(text)[0]:
        absolute = complete(spelling, place)
        if isinstance(absolute, str):
            # Both orders: some servers drop `..` first and open then, others leave it to the system, which follows
            # the link first.
            asked[spell(resolve(absolute), place)] = None
            if "/.." in absolute:
                asked[absolute] = None
    return tuple(asked)


def read(text: str, place: Place, links: Mapping[str, str]) -> Readings:
    """Read a text as a path in every way it may be meant."""
    texts, doubt = spellings(text)
    found: dict[Components, None] = {}
    for spelling in texts:
        absolute = complete(spelling, place)
        if isinstance(absolute, Unsure):
            doubt = absolute
            continue
        found[resolve(absolute)] = None
    if place.local:
        for path in questions(text, place):
            target = links.get(path)
            if target is None:
                doubt = _NO_LINK
            else:
                found[resolve(target.replace("\\", "/") if place.windows else target)] = None
    exact = tuple(found)
    folded = exact if place.case is Case.EXACT else tuple(fold(path) for path in exact)
    return Readings(exact=exact, folded=folded, doubt=doubt)


def bases(folder: str, place: Place) -> tuple[Components, ...]:
    """Read a folder that a rule names: by its name, and as what it leads to. Empty when it cannot be read."""
    absolute = complete(folder, place)
    if isinstance(absolute, Unsure):
        return ()
    lexical = resolve(absolute)
    target = place.links.get(spell(lexical, place))
    return (lexical,) if target is None else (lexical, resolve(target))


@dataclass(frozen=True, slots=True, kw_only=True)
class Glob:
    """One compiled path pattern."""

    parts: tuple[Callable[[str], bool] | None, ...]
    """A test for each component; `None` stands for `**`."""

    def matches(self, path: Components) -> bool:
        """Whether the whole path fits."""
        parts = self.parts
        at, here, star, resume = 0, 0, -1, 0
        while here < len(path):
            if at < len(parts) and parts[at] is None:
                star, resume = at, here
                at += 1
                continue
            part = parts[at] if at < len(parts) else None
            if part is not None and part(path[here]):
                at += 1
                here += 1
                continue
            if star < 0:
                return False
            resume += 1
            at, here = star + 1, resume
        return all(part is None for part in parts[at:])


def globs(pattern: str, place: Place, *, folded: bool) -> tuple[Glob, ...]:
    """Compile a path pattern; braces make several. Raises `ValueError` for one that cannot be read."""
    return tuple(_glob(one, place, folded=folded) for one in expand_braces(pattern))


def _glob(pattern: str, place: Place, *, folded: bool) -> Glob:
    if pattern.startswith("**/") or pattern == "**":
        parts = tuple(part for part in pattern.split("/") if part)
    else:
        wild = _WILD.search(pattern)
        fixed = pattern if wild is None else pattern[: pattern.rfind("/", 0, wild.start()) + 1]
        absolute = complete(fixed, place)
        if isinstance(absolute, Unsure):
            raise ValueError(absolute.why)
        rest = pattern[len(fixed) :]
        parts = resolve(absolute) + tuple(part for part in rest.split("/") if part)
    if ".." in parts or "." in parts:
        raise ValueError("`.` and `..` have no place behind a wildcard")
    if folded:
        parts = fold(parts)
    return Glob(parts=tuple(None if part == "**" else component(part) for part in parts))


_WILD = re.compile(r"[*?\[]")


def expand_braces(pattern: str) -> tuple[str, ...]:
    """Write out `{a,b}`; nothing nests. Raises `ValueError` for a brace without partner, or too many results."""
    results = [""]
    rest = pattern
    while "{" in rest or "}" in rest:
        before, opened, after = rest.partition("{")
        inside, closed, rest = after.partition("}")
        if not opened or not closed or "}" in before or "{" in inside:
            raise ValueError("a brace has no partner, or braces nest")
        results = [f"{head}{before}{choice}" for head in results for choice in inside.split(",")]
        if len(results) > MAX_BRACES:
            raise ValueError(f"the braces stand for more than {MAX_BRACES} patterns")
    return tuple(head + rest for head in results)


Token: TypeAlias = str | tuple[bool, frozenset[str]] | None
"""A character, a set of characters (and whether it is meant to hold), or `None` for `*`; `""` stands for `?`."""


def component(pattern: str) -> Callable[[str], bool]:
    """Compile a pattern for one component, or for a tool's name: `*`, `?`, `[ab]`, `[!ab]`, `[a-z]`.

    Raises `ValueError` for a bracket without partner.
    """
    if _WILD.search(pattern) is None:
        return lambda name: name == pattern
    inner = pattern[1:]
    if pattern[0] == "*" and _WILD.search(inner) is None:
        return (lambda _: True) if not inner else (lambda text: text.endswith(inner))
    start = pattern[:-1]
    if pattern[-1] == "*" and _WILD.search(start) is None:
        return lambda text: text.startswith(start)
    tokens = _tokens(pattern)
    return lambda text: _fits(tokens, text)


def _tokens(pattern: str) -> tuple[Token, ...]:
    tokens: list[Token] = []
    at = 0
    while at < len(pattern):
        char = pattern[at]
        at += 1
        if char == "*":
            if not tokens or tokens[-1] is not None:
                tokens.append(None)
        elif char == "?":
            tokens.append("")
        elif char == "[":
            end = pattern.find("]", at + 1)
            if end < 0:
                raise ValueError("a bracket has no partner")
            tokens.append(_characters(pattern[at:end]))
            at = end + 1
        else:
            tokens.append(char)
    return tuple(tokens)


def _characters(inside: str) -> tuple[bool, frozenset[str]]:
    wanted = inside[:1] not in {"!", "^"}
    inside = inside if wanted else inside[1:]
    members: set[str] = set()
    at = 0
    while at < len(inside):
        if inside[at + 1 : at + 2] == "-" and at + 2 < len(inside):
            low, high = ord(inside[at]), ord(inside[at + 2])
            if high < low or high - low > 255:  # noqa: PLR2004 - no honest range is wider
                raise ValueError("a range of characters runs backwards, or is too wide")
            members.update(map(chr, range(low, high + 1)))
            at += 3
        else:
            members.add(inside[at])
            at += 1
    return wanted, frozenset(members)


def _fits(tokens: tuple[Token, ...], text: str) -> bool:
    at, here, star, resume = 0, 0, -1, 0
    while here < len(text):
        if at < len(tokens):
            token = tokens[at]
            if token is None:
                star, resume = at, here
                at += 1
                continue
            if _is_one(token, text[here]):
                at += 1
                here += 1
                continue
        if star < 0:
            return False
        resume += 1
        at, here = star + 1, resume
    return all(token is None for token in tokens[at:])


def _is_one(token: str | tuple[bool, frozenset[str]], char: str) -> bool:
    if isinstance(token, str):
        return token in {"", char}
    wanted, members = token
    return (char in members) is wanted
