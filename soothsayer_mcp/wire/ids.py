"""Ids and progress tokens of both sides: how they compare, and those we make."""

from typing import TypeAlias

from soothsayer_mcp.model.call import RequestId

IdKey: TypeAlias = tuple[type, object]


def key(id: object) -> IdKey:  # noqa: A002 - the member's name on the wire
    """Make an id fit to be looked up: `7`, `"7"`, `7.0` and `True` are four different keys."""
    return (type(id), id)


def legal(value: object) -> RequestId | None:
    """Give the value as an id when its type is one; `None` for `null`, numbers with a fraction, and booleans."""
    if isinstance(value, str):
        return value
    # A bool is an int in Python and no id on the wire.
    return value if isinstance(value, int) and not isinstance(value, bool) else None


class Mint:
    """Makes ids that cannot be a host's or a server's: `sth-<token>-<n>`."""

    __slots__ = ("_count", "_stem")

    def __init__(self, token: str) -> None:
        """`token` is random, and another one for each connection."""
        self._stem = f"sth-{token}-"
        self._count = 0

    def next(self) -> str:
        """Make an id that was not made before."""
        self._count += 1
        return f"{self._stem}{self._count}"

    def made(self, id: object) -> bool:  # noqa: A002 - the member's name on the wire
        """Whether this mint made an id."""
        if not isinstance(id, str) or not id.startswith(self._stem):
            return False
        number = id[len(self._stem) :]
        if not (number.isascii() and number.isdigit()) or len(number) > len(str(self._count)):
            return False
        return number[0] != "0" and int(number) <= self._count
