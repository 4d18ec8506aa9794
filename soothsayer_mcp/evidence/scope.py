"""What the items of one step may name: values by dotted path, in `${...}` and in conditions."""

import json
import re
from collections.abc import Mapping

from soothsayer_mcp.model.condition import Names, Sort
from soothsayer_mcp.model.json import Json
from soothsayer_mcp.model.outcome import Returned
from soothsayer_mcp.model.step import ProposedStep

NAMES: Names = {
    "args": Sort.OBJECT,
    "returned": Sort.ANY,
    "result": Sort.ANY,
    "text": Sort.TEXT,
    "body": Sort.ANY,
    "before": Sort.ANY,
    "after": Sort.ANY,
    "workspace": Sort.TEXT,
    "run.id": Sort.TEXT,
    "who.sub": Sort.TEXT,
    "who.groups": Sort.TEXTS,
    "who.client": Sort.TEXT,
}
"""Every name of a condition in an obligation. One without a value makes the condition that needs it unsure."""

ROOTS = ("args", "returned", "before", "run", "who", "workspace")
"""What a `${...}` may begin with in an obligation."""

SHOWN = 80
"""As much of a value as the agent is shown."""

_USE = re.compile(r"\$\{([a-z]+(?:\.[^{}]*)?)\}")


class AbsentError(Exception):
    """A value that an item names is not there. The text says which."""


Values = Mapping[str, Json]


def values_of(step: ProposedStep, workspace: str) -> dict[str, Json]:
    """What is known before a call."""
    return {
        "args": step.proposal.arguments,
        "workspace": workspace,
        "run": {"id": step.run_id},
        "who": {
            "sub": step.principal.id,
            "groups": list(step.principal.groups),
            "client": step.client.name,
        },
        **step.names,
    }


def named(values: Values) -> dict[str, Json]:
    """The same as the names of conditions."""
    flat: dict[str, Json] = {}
    for name, value in values.items():
        if isinstance(value, Mapping) and name in {"run", "who"}:
            flat.update({f"{name}.{key}": held for key, held in value.items()})
        else:
            flat[name] = value
    return flat


def take(path: str, values: Values) -> Json:
    """The value at a dotted path. Raises `AbsentError`."""
    value: Json = values
    for part in path.split("."):
        if isinstance(value, Mapping) and part in value:
            value = value[part]
        elif isinstance(value, list) and part.isascii() and part.isdigit() and int(part) < len(value):
            value = value[int(part)]
        else:
            raise AbsentError(f"there is no {path}")
    return value


def fill(value: Json, values: Values) -> Json:
    """Put values into texts; a `${...}` alone in its text keeps its JSON type. Raises `AbsentError`."""
    if isinstance(value, str):
        alone = _USE.fullmatch(value)
        if alone is not None:
            return take(alone.group(1), values)
        return _USE.sub(lambda use: _text(take(use.group(1), values), use.group(1)), value) if "${" in value else value
    if isinstance(value, Mapping):
        return {key: fill(held, values) for key, held in value.items()}
    if isinstance(value, list):
        return [fill(item, values) for item in value]
    return value


def uses(value: Json, root: str) -> bool:
    """Whether a `${...}` within a value begins with this name."""
    if isinstance(value, str):
        return any(use.split(".")[0] == root for use in _USE.findall(value))
    if isinstance(value, Mapping):
        return any(uses(held, root) for held in value.values())
    return isinstance(value, list) and any(uses(item, root) for item in value)


def filled_text(value: Json, values: Values) -> str:
    """Fill in a text. Raises `AbsentError` when what comes of it is none."""
    found = fill(value, values)
    if not isinstance(found, str):
        raise AbsentError(f"{shown(value)} is no text")
    return found


def _text(value: Json, path: str) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    raise AbsentError(f"{path} is no text or number")


def result_of(returned: Returned) -> tuple[Json, str]:
    """What an answer says: its structured content, or its text where that is a JSON object or list; and its text."""
    result = returned.result or {}
    blocks = result.get("content")
    texts = [
        text
        for block in (blocks if isinstance(blocks, list) else ())
        if isinstance(block, Mapping) and block.get("type") == "text" and isinstance(text := block.get("text"), str)
    ]
    text = "\n".join(texts)
    if "structuredContent" in result:
        return result["structuredContent"], text
    return parsed(text), text


def parsed(text: str) -> Json:
    """A text as the JSON object or list that it is; `None` for anything else."""
    if text.lstrip()[:1] not in {"{", "["}:
        return None
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def plain(text: str) -> str:
    """A text as the agent may read it without quotes: escaped, and its end where it is long."""
    return ascii(text)[1:-1][-SHOWN:]


def shown(value: Json) -> str:
    """A value as the agent may read it: quoted, escaped, and cut."""
    text = json.dumps(value, ensure_ascii=True)
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 3]}..."
