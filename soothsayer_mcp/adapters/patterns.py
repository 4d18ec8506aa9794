"""RE2 and IDNA behind late imports: paid only where a policy has an expression, or a host is not ASCII."""

from collections.abc import Callable
from typing import Protocol, cast

from soothsayer_mcp.adapters.lazy import resolve
from soothsayer_mcp.policy.scene import Pattern

MAX_EXPRESSION = 1_000
MAX_PROGRAM_BYTES = 1_048_576
MAX_HOST = 1_000


class _Options(Protocol):
    max_mem: int
    log_errors: bool
    never_capture: bool


class _Compiled(Protocol):
    def fullmatch(self, text: str) -> object: ...


def compile_pattern(expression: str) -> Pattern:
    """Compile an RE2 expression that has to fit the whole text, in time linear in the text.

    Raises `ValueError` when it is no expression of RE2, or too large.
    """
    if len(expression) > MAX_EXPRESSION:
        raise ValueError(f"an expression may have {MAX_EXPRESSION:,} characters")
    options = cast("Callable[[], _Options]", resolve("re2:Options"))()
    options.max_mem = MAX_PROGRAM_BYTES
    options.log_errors = False
    compile_ = cast("Callable[[str, _Options], _Compiled]", resolve("re2:compile"))
    error = cast("type[Exception]", resolve("re2:error"))
    try:
        compiled = compile_(expression, options)
    except error as failure:
        raise ValueError(_said(failure)) from failure
    fits = compiled.fullmatch
    return lambda text: fits(text) is not None


def _said(failure: Exception) -> str:
    said: object = failure.args[0] if failure.args else failure
    return said.decode(errors="replace") if isinstance(said, bytes) else str(said)


def to_ascii(name: str) -> str | None:
    """Spell an international host name in ASCII (UTS 46, non-transitional); `None` when IDNA refuses it."""
    if len(name) > MAX_HOST:
        return None
    encode = cast("Callable[..., bytes]", resolve("idna:encode"))
    error = cast("type[Exception]", resolve("idna:IDNAError"))
    try:
        return encode(name.removesuffix("."), uts46=True, std3_rules=True).decode("ascii")
    except (error, UnicodeError):
        return None
