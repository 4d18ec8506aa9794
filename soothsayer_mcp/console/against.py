"""A call that is asked about, against the last call of the same tool that a person allowed."""

import difflib
import json
from collections.abc import Mapping
from typing import Final

from soothsayer_mcp.console.measures import ago
from soothsayer_mcp.console.text import escape
from soothsayer_mcp.model.json import Json, canonical
from soothsayer_mcp.trace.rows import LastYes

_LONG = 60
_INDENT = "      "
_MASKED: Final = "\u2039masked:"


def against_last(args: Mapping[str, Json], last: LastYes, *, name: str, now_us: int) -> list[str]:
    """What the call that was allowed last had otherwise, one argument a line; `name` is how that step is shown."""
    when = f"{ago(last.at_us, now_us)} ({escape(name)})"
    lines: list[str] = []
    for key in [*args, *(key for key in last.args if key not in args)]:
        if key not in last.args:
            lines.append(f"{_INDENT}{escape(key)}  was not there")
        elif key not in args:
            lines.append(f"{_INDENT}{escape(key)}  was {_value(last.args[key])}, and is not there now")
        elif canonical(args[key]) != canonical(last.args[key]):
            lines += _changed(key, args[key], last.args[key])
    if not lines:
        return [f"last  the same was allowed {when}"]
    if _MASKED in json.dumps(last.args, ensure_ascii=False):
        lines.append(f"{_INDENT}(what is masked in the record cannot be compared)")
    return [f"last  allowed {when}, where", *lines]


def _changed(key: str, now: Json, then: Json) -> list[str]:
    if not (isinstance(now, str) and isinstance(then, str) and ("\n" in then or "\n" in now) and len(now) > _LONG):
        return [f"{_INDENT}{escape(key)}  was {_value(then)}"]
    changes = [
        line
        for line in difflib.unified_diff(then.split("\n"), now.split("\n"), n=1, lineterm="")
        if line[:3] not in _HEAD
    ]
    return [f"{_INDENT}{escape(key)}  differs in lines", *(f"{_INDENT}  {escape(line)}" for line in changes)]


_HEAD = frozenset({"---", "+++"})


def _value(value: Json) -> str:
    return escape(json.dumps(value, ensure_ascii=False))
