"""What the tour's host calls, and how each call must end."""

from soothsayer_mcp.model.decision import Effect
from soothsayer_mcp.model.failure import REASONS, Reason
from soothsayer_mcp.model.json import Json
from soothsayer_mcp.model.value import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """One call and its end."""

    server: str
    tool: str
    arguments: dict[str, Json]
    effect: Effect
    reason: Reason | None = None
    """Why it fails; `None` when it succeeds."""
    tell: str = ""
    """What to show of it: what the `model` reads, what the `record` keeps; `asked`: what a person reads as well."""

    @property
    def shown(self) -> str:
        """The call in one short line."""
        return f"{self.server}.{self.tool} {' '.join(str(value).strip() for value in self.arguments.values())}".strip()

    @property
    def ended_as(self) -> str:
        """How the trace has to name its end."""
        return "succeeded" if self.reason is None else REASONS[self.reason].failure.value


FIRST_ACT = (
    Scene(server="files", tool="read_file", arguments={"path": "version.txt"}, effect=Effect.ALLOW),
    Scene(
        server="files",
        tool="read_file",
        arguments={"path": "../.ssh/id_ed25519"},
        effect=Effect.DENY,
        reason=Reason.RULE_DENIED,
        tell="model",
    ),
    Scene(server="files", tool="read_file", arguments={"path": "settings.json"}, effect=Effect.ALLOW, tell="record"),
    Scene(
        server="release",
        tool="publish",
        arguments={"version": "1.5.0"},
        effect=Effect.ASK,
        reason=Reason.ABSENT,
        tell="model",
    ),
    Scene(
        server="files",
        tool="write_file",
        arguments={"path": "version.txt", "content": "1.5.0\n"},
        effect=Effect.ALLOW,
    ),
    Scene(
        server="files",
        tool="write_file",
        arguments={"path": "version.txt", "content": 150},
        effect=Effect.DENY,
        reason=Reason.ARGUMENTS_INVALID,
    ),
    Scene(
        server="ci",
        tool="run_tests",
        arguments={"suite": "gone"},
        effect=Effect.ALLOW,
        reason=Reason.TOOL_FAILED,
    ),
    Scene(
        server="ci",
        tool="run_tests",
        arguments={"suite": "slow"},
        effect=Effect.ALLOW,
        reason=Reason.CALL_TIMEOUT,
    ),
    Scene(server="release", tool="check", arguments={}, effect=Effect.ALLOW, reason=Reason.RESULT_SCHEMA),
)
"""On a proxy that sees its servers for the first time."""

SECOND_ACT = (
    Scene(
        server="ci",
        tool="lint",
        arguments={"suite": "all"},
        effect=Effect.DENY,
        reason=Reason.DEFINITION_CHANGED,
        tell="model",
    ),
    Scene(server="ci", tool="run_tests", arguments={"suite": "all"}, effect=Effect.ALLOW),
    Scene(
        server="release",
        tool="publish",
        arguments={"version": "1.5.0"},
        effect=Effect.ASK,
        reason=Reason.CHECK_BROKEN,
        tell="asked",
    ),
    Scene(
        server="files",
        tool="write_file",
        arguments={"path": "notes.md", "content": "done"},
        effect=Effect.ALLOW,
        reason=Reason.RUN_CLOSED,
    ),
)
"""After `ci` was updated and the host was started again."""
