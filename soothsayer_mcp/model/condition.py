"""Conditions that people write, as callables, and the names that they read. Who compiles them is an adapter."""

from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import TypeAlias

from soothsayer_mcp.model.answer import Answer
from soothsayer_mcp.model.json import Json


class Sort(StrEnum):
    """What stands behind a name."""

    TEXT = "text"
    TEXTS = "texts"
    """A list of texts."""
    WHOLE = "whole"
    """A whole number below 2^63."""
    FRACTION = "fraction"
    """A number in floating point."""
    TRUTH = "truth"
    TIME = "time"
    """Given in microseconds since 1970, UTC."""
    OBJECT = "object"
    """A JSON object."""
    ANY = "any"
    """Any JSON value."""


Names: TypeAlias = Mapping[str, Sort]
"""Every name that a condition may use; a dotted one is a name of its own."""


class View:
    """What the conditions of one decision see: a value per name, converted at the first condition that reads it.

    The values may not change afterwards. A name without a value makes a condition that needs it unsure.
    """

    __slots__ = ("converted", "values")

    def __init__(self, values: Mapping[str, Json]) -> None:
        """Show some values; those of sort `time` as microseconds."""
        self.values = values
        self.converted: object = None
        """Kept by whoever evaluates."""


Condition: TypeAlias = Callable[[View], Answer]
"""Evaluates to exactly yes or no, else to a doubt with its cause; never raises."""


class ConditionError(ValueError):
    """A text is no condition: every fault, each as line and column inside the text, and what is wrong there."""

    def __init__(self, faults: tuple[tuple[int, int, str], ...]) -> None:
        """Gather the faults; lines and columns count from 1."""
        self.faults = faults
        super().__init__("; ".join(f"{line}:{column}: {text}" for line, column, text in faults))
