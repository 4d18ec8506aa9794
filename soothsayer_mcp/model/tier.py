"""Model tiers: names that a policy chooses by, and what each means to a host that picks a model."""

from collections.abc import Mapping

from soothsayer_mcp.model.json import Json
from soothsayer_mcp.model.value import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Tier:
    """One tier of the configuration, which lists them from weakest to strongest."""

    name: str
    hints: tuple[str, ...] = ()
    """Names of models or families, the preferred one first."""
    cost: float | None = None
    """From 0 to 1, as `costPriority` of MCP; so are the two below."""
    speed: float | None = None
    intelligence: float | None = None

    @property
    def preferences(self) -> Mapping[str, Json]:
        """The tier as `modelPreferences` of `sampling/createMessage`."""
        shares = {
            "costPriority": self.cost,
            "speedPriority": self.speed,
            "intelligencePriority": self.intelligence,
        }
        said: dict[str, Json] = {name: share for name, share in shares.items() if share is not None}
        return {"hints": [{"name": hint} for hint in self.hints], **said} if self.hints else said
