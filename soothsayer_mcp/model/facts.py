"""What a decision knows of the machine, looked up before it so that deciding stays pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """Facts that the candidate rules of one step need."""

    links: Mapping[str, str] = field(default_factory=dict[str, str])
    """Absolute path -> the path it leads to through links, resolved up to the nearest existing parent.

    A path that could not be resolved is absent, which makes matchers on it unknown.
    """


NO_FACTS = Facts()
