"""Least privilege from what was seen: rules that allow the shapes of past calls and nothing wider."""

from collections.abc import Iterator, Mapping, Sequence
from urllib.parse import urlsplit

from soothsayer_mcp.model.json import Json, JsonObject, canonical
from soothsayer_mcp.model.value import dataclass

MOST_VALUES = 20
"""More values than these are no list any more."""
FEWEST_IN_FOLDER = 3
"""Fewer paths than these make no folder."""
NEVER = frozenset({"pay", "delete", "admin", "unlabelled"})
"""What is never suggested to be allowed."""
_PATH_NAMES = frozenset(
    {"path", "paths", "file", "files", "filename", "file_path", "source", "destination", "folder", "dir", "directory"}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """A call that succeeded."""

    server: str
    tool: str
    does: tuple[str, ...]
    arguments: JsonObject
    run: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Suggested:
    """What is made of the calls of one tool."""

    tool: str
    does: tuple[str, ...]
    calls: int
    runs: int
    rule: JsonObject | None
    """As it is written; `None` when the tool stays with a person."""
    why_not: str = ""
    example: JsonObject | None = None


def suggest(seen: Sequence[Seen], root: str) -> tuple[Suggested, ...]:
    """Make a rule for every tool whose calls have a shape; `root` is the folder that paths lie below."""
    by_tool: dict[str, list[Seen]] = {}
    for call in seen:
        by_tool.setdefault(f"{call.server}.{call.tool}", []).append(call)
    return tuple(_of_tool(name, calls, root) for name, calls in sorted(by_tool.items()))


def _of_tool(name: str, calls: Sequence[Seen], root: str) -> Suggested:
    does = tuple(sorted({word for call in calls for word in call.does}))
    runs = len({call.run for call in calls})
    barred = sorted(NEVER.intersection(does)) or ([] if does else ["unlabelled"])
    why_not = f"it is {barred[0]}" if barred == ["unlabelled"] else f"it can {barred[0]}" if barred else ""
    matchers: dict[str, Json] = {}
    if not why_not:
        for key, values, always in _arguments(calls):
            spec = _shape(key, values, root)
            if spec is None:
                why_not = f"the argument {key} is too varied"
                break
            matchers[key] = spec if always else {**spec, "absent": "ok"}
    if why_not:
        return Suggested(tool=name, does=does, calls=len(calls), runs=runs, rule=None, why_not=why_not)
    times = "once" if len(calls) == 1 else f"{len(calls)} times"
    rule: JsonObject = {"allow": f"Seen {times} in {runs} run{'' if runs == 1 else 's'}.", "id": _word(name)}
    rule |= {"tools": name, **({"args": matchers} if matchers else {}), "only_args": True}
    return Suggested(tool=name, does=does, calls=len(calls), runs=runs, rule=rule, example=calls[0].arguments)


def _word(name: str) -> str:
    return "".join(letter if letter.isascii() and letter.isalnum() else "-" for letter in name.lower()).strip("-")[:60]


def _arguments(calls: Sequence[Seen]) -> Iterator[tuple[str, list[Json], bool]]:
    """Every argument with its values, and whether each call had it."""
    names = sorted({name for call in calls for name in call.arguments})
    for name in names:
        given = [call.arguments[name] for call in calls if name in call.arguments]
        yield name, given, len(given) == len(calls)


def _shape(key: str, given: Sequence[Json], root: str) -> JsonObject | None:
    """The narrowest matcher over these values; `None` when there is none that is narrow enough."""
    if not all(letter.isalnum() or letter in "_-" for letter in key) or not key:
        return None
    values: list[Json] = []
    for value in given:
        values += value if isinstance(value, list) else [value]
    if not values or any(isinstance(value, list | Mapping) for value in values):
        return None
    if any(isinstance(value, str) and "${" in value for value in values):
        return None
    texts = [value for value in values if isinstance(value, str)]
    if len(texts) == len(values) and key.lower() in _PATH_NAMES:
        folder = _folder(sorted(set(texts)), root)
        if folder:
            return {"under": folder}
    distinct = {canonical(value): value for value in values}
    if len(distinct) <= MOST_VALUES:
        return {"in": [_portable(distinct[form], root) for form in sorted(distinct)]}
    if all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
        numbers = [value for value in values if isinstance(value, int | float)]
        return {"min": min(numbers), "max": max(numbers)}
    hosts = {_host(text) for text in texts}
    if len(texts) == len(values) and "" not in hosts and len(hosts) <= MOST_VALUES:
        return {"host": sorted(hosts), "scheme": sorted({urlsplit(text).scheme for text in texts})}
    return None


def _portable(value: Json, root: str) -> Json:
    """A path in the workspace, whose ever that is, as what it is there."""
    inside = isinstance(value, str) and (value == root or value.startswith(root.rstrip("/") + "/"))
    return "${workspace}" + value.removeprefix(root.rstrip("/")) if inside and isinstance(value, str) else value


def _host(text: str) -> str:
    try:
        parts = urlsplit(text)
    except ValueError:
        return ""
    return "" if parts.username or not parts.scheme else parts.hostname or ""


def _folder(paths: Sequence[str], root: str) -> str:
    """The deepest folder in which at least three of these paths lie, all of them, and which is below the root."""
    if len(paths) < FEWEST_IN_FOLDER:
        return ""
    spelled: list[list[str]] = []
    for path in paths:
        whole = path if path.startswith("/") else f"{root.rstrip('/')}/{path}"
        parts = whole.split("/")[1:]
        if any(part in {"", ".", ".."} or "%" in part or "\\" in part for part in parts) or "~" in whole:
            return ""
        spelled.append(parts[:-1])
    common = [parts[0] for parts in zip(*spelled, strict=False) if len(set(parts)) == 1]
    first = spelled[0]
    depth = next((n for n, part in enumerate(common) if n >= len(first) or first[n] != part), len(common))
    folder = "/" + "/".join(first[:depth])
    below = root.rstrip("/") + "/"
    return "${workspace}/" + folder.removeprefix(below) if folder.startswith(below) else ""
