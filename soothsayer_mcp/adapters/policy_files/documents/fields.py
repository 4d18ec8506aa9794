"""What a single value in a policy file may be: sizes, durations, tools, texts and conditions."""

import re
from collections.abc import Callable
from typing import Annotated, Literal, TypeAlias, cast

from pydantic import AfterValidator, BeforeValidator, Field
from pydantic_core import PydanticCustomError

from soothsayer_mcp.adapters.conditions import Conditions
from soothsayer_mcp.adapters.policy_files.build import fill_words
from soothsayer_mcp.model.condition import ConditionError
from soothsayer_mcp.policy.answers import Unsure
from soothsayer_mcp.policy.history import MOST_AMOUNT
from soothsayer_mcp.policy.match import parse_key
from soothsayer_mcp.policy.paths import Place, complete, globs
from soothsayer_mcp.policy.subjects import template

ANY_PLACE = Place(root="/workspace", home="/home/somebody")
_ANY_WORDS = {"workspace": "/workspace", "home": "/home/somebody", "temp": "/tmp", "state": "/state"}  # noqa: S108 - only read as text


def bad(kind: str, text: str) -> PydanticCustomError:
    """What a validator raises: one of our problems, `policy-KIND`, and its text."""
    # The message is a template to pydantic; ours is none.
    return PydanticCustomError(f"policy-{kind}", "{said}", {"said": text})  # type: ignore[arg-type]  # a literal is asked for, to save memory


def listed(value: object) -> list[object]:
    """Take one value for a list of one."""
    return cast("list[object]", value) if isinstance(value, list) else [value]


def read_by(check: Callable[[str], object], kind: str = "value") -> AfterValidator:
    """Refuse a text that a function of ours cannot read."""

    def validate(text: str) -> str:
        try:
            check(fill_words(text, _ANY_WORDS))
        except ValueError as error:
            raise bad(kind, f"{cut(text)}: {error}") from error
        return text

    return AfterValidator(validate)


def cut(value: object) -> str:
    """A value in quotes, as long as a line of an error bears."""
    text = value if isinstance(value, str) else str(value)
    return f'"{text[:60]}…"' if len(text) > 60 else f'"{text}"'  # noqa: PLR2004 - as much as an error line bears


DURATION = re.compile(r"([1-9][0-9]{0,5})(ms|s|m|h|d)")
_SECONDS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86_400}
_SIZE = re.compile(r"(0|[1-9][0-9]{0,8})(B|kB|MB|GB)?")
_BYTES = {None: 1, "B": 1, "kB": 1_000, "MB": 1_000_000, "GB": 1_000_000_000}
WORD = re.compile(r"[a-z0-9][a-z0-9-]{0,59}")


def milliseconds(value: object) -> int:
    """Read a duration."""
    found = DURATION.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        raise bad("value", f"{cut(value)} is no duration; write 30s, 15m, 2h or 7d")
    return round(int(found.group(1)) * _SECONDS[found.group(2)] * 1000)


def size(value: object) -> int:
    """Read a size in bytes."""
    found = _SIZE.fullmatch(value if isinstance(value, str) else str(value))
    if found is None or isinstance(value, bool):
        raise bad("value", f"{cut(value)} is no size; write 500, 64kB or 20MB")
    return int(found.group(1)) * _BYTES[found.group(2)]


def reason(text: str) -> str:
    """Refuse what is no reason."""
    if not text.strip() or len(text) > 200 or "\n" in text or "\r" in text:  # noqa: PLR2004 - policy/v1 says 200
        raise bad("value", "a reason is one line of 1 to 200 characters")
    return text


def matching(pattern: re.Pattern[str], what: str) -> AfterValidator:
    """Refuse a text that does not fit an expression."""

    def validate(text: str) -> str:
        if pattern.fullmatch(text) is None:
            raise bad("value", f"{cut(text)} is no {what}")
        return text

    return AfterValidator(validate)


def condition(conditions: Conditions) -> AfterValidator:
    """Refuse a text that is no condition over those names."""

    def _condition(text: str) -> str:
        if "${" in text:
            raise bad("when", "in a condition `${...}` has no place: its names are written as they are, as workspace")
        try:
            conditions.compile(text)
        except ConditionError as error:
            faults = "; ".join(f"at {line}:{column} of the condition: {said}" for line, column, said in error.faults)
            raise bad("when", faults) from error
        return text

    return AfterValidator(_condition)


def _tools(value: object) -> object:
    texts: list[object] = []
    for item in listed(value):
        texts.extend(item.split("|") if isinstance(item, str) else [item])
    return [text.strip(" ") if isinstance(text, str) else text for text in texts]


TOOL = re.compile(r"[^\s.\[\]|]+\.[^\s\[\]|]+")


def _tool(text: str) -> str:
    if text.startswith("mcp__"):
        return text
    if TOOL.fullmatch(text) is None:
        raise bad("value", f"{cut(text)} names no tool; write server.tool, with * and ? where you like")
    return text


def a_path(text: str) -> None:
    """Raise `ValueError` for what is no path."""
    absolute = complete(text, ANY_PLACE)
    if isinstance(absolute, Unsure):
        raise ValueError(absolute.why)  # noqa: TRY004 - the text is wrong, not its type
    if not text:
        raise ValueError("a path is due")


def some_text(text: str) -> None:
    """Raise `ValueError` for an empty text."""
    if not text.strip():
        raise ValueError("the text is empty")


def value_path(text: str) -> None:
    """Raise `ValueError` for what is no path to a value."""
    if VALUE_PATH.fullmatch(text) is None:
        raise ValueError("a dotted path is due, such as args.content, returned.id or before.state")


def file_glob(text: str) -> None:
    """Raise `ValueError` for what names no files."""
    globs(text, ANY_PLACE, folded=False)
    if text.startswith("*"):
        raise ValueError("begin with a folder, such as ${workspace}/src/**")


def one_tool(text: str) -> str:
    """Refuse what is no tool, or several."""
    if TOOL.fullmatch(text) is None or set("*?") & set(text):
        raise bad("value", f"{cut(text)} is no tool: write server.tool")
    return text


VALUE_PATH = re.compile(r"(args|returned|before|run|who)(\.[A-Za-z0-9_-]+)+|workspace")
Subject: TypeAlias = Annotated[str, read_by(template)]
Filled: TypeAlias = Annotated[str, read_by(some_text)]
Many = BeforeValidator(listed)
AtLeastOne = Field(min_length=1)
Role: TypeAlias = Annotated[str, matching(WORD, "role: small letters, digits and -")]
Texts: TypeAlias = Annotated[list[Filled], Many, AtLeastOne]
Size: TypeAlias = Annotated[int, BeforeValidator(size)]
Count: TypeAlias = Annotated[int, Field(ge=0)]
ToolGlobs: TypeAlias = Annotated[list[Annotated[str, AfterValidator(_tool)]], BeforeValidator(_tools), AtLeastOne]
Detector: TypeAlias = Literal["secret", "email", "iban", "card_number", "phone"]
DoesOrNot: TypeAlias = Literal["read", "write", "send", "share", "delete", "pay", "exec", "admin", "unlabelled"]


def argument_key(key: str) -> str:
    """Refuse what is no key of `args`."""
    try:
        ways = parse_key(key)
    except ValueError as error:
        raise bad("value", str(error)) from error
    if key != "**" and not all(way and way[0] for way in ways):
        raise bad("value", f"{cut(key)} is no path to an argument")
    return key


def window_ms(value: object) -> int:
    """Read a duration, or 0 for as long as the run."""
    return 0 if value == "run" else milliseconds(value)


def tied(text: str) -> str:
    """Refuse what does not name one argument."""
    if text.startswith("result."):
        raise bad("value", f"{cut(text)} is not supported yet: this version ties arguments only")
    if not text.startswith("args.") or "|" in text:
        raise bad("value", f"{cut(text)} names no argument; write args.NAME")
    argument_key(text.removeprefix("args."))
    return text


Argument: TypeAlias = Annotated[str, AfterValidator(tied)]


def cost_figure(value: object) -> object:
    """Refuse what is no amount of cost."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= MOST_AMOUNT:
        raise bad("value", f"{cut(value)} is no amount; write a number from 0 to {MOST_AMOUNT:,}")
    return value
