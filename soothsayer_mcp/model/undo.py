"""What undoes a step: the terms that policy states, and the state before and after that is kept for it."""

from collections.abc import Mapping
from dataclasses import field
from enum import StrEnum

from soothsayer_mcp.model.json import Json, compact
from soothsayer_mcp.model.subject import EVERYTHING, FILE, subject
from soothsayer_mcp.model.value import dataclass

ABSENT = "absent"
"""The state of a file that is not there; that of one that is, is its SHA-256 in hex."""


RESTORE = "restore"
"""The tool of ours that puts files back."""


class UndoClass(StrEnum):
    """How a step can be undone."""

    NONE = "none"
    """There is nothing to undo."""
    RESTORE = "restore"
    """The exact state before was kept and is put back."""
    COMPENSATE = "compensate"
    """An inverse call; traces of both remain."""
    NEVER = "never"


class UndoState(StrEnum):
    """What became of the wish to undo a step."""

    OPEN = "open"
    """Nobody has tried yet."""
    UNDONE = "undone"
    PARTLY = "undone_partially"
    CONFLICT = "conflict"
    FAILED = "failed"
    IRREVERSIBLE = "irreversible"
    NOT_NEEDED = "not_needed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """A call of a tool that only reads, which tells a state."""

    tool: str
    """`server.tool`."""
    args: Mapping[str, Json]
    """With `${...}` still in it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UndoTerms:
    """How one call is to be undone, as labels, rules and its arguments say."""

    kind: UndoClass
    rule: str
    """The rule, or `label`."""
    files: tuple[str, ...] = ()
    """Absolute paths whose bytes are kept."""
    vague: bool = False
    """Whether the files cannot be told from the arguments."""
    root: str = ""
    """What relative paths are relative to; empty where the server's files are not on this machine."""
    look: Look | None = None
    tool: str = ""
    """`server.tool` of the inverse call."""
    args: Mapping[str, Json] | None = None
    check: Mapping[str, Json] | None = None
    """A check by its kind, which shows that the inverse call put things back; else the look is taken again."""

    @property
    def tools(self) -> tuple[str, ...]:
        """What is called for it: the inverse, the look, and what a check reads."""
        found = [self.tool, "" if self.look is None else self.look.tool]
        read = None if self.check is None else self.check.get("readback")
        if isinstance(read, Mapping):
            found.append(str(read["tool"]))
        return tuple(dict.fromkeys(tool for tool in found if tool))

    @property
    def names_returned(self) -> bool:
        """Whether something of the structured result is named, so that it has to be kept."""
        return "returned" in compact({"args": dict(self.args or {}), "check": dict(self.check or {})}).decode()

    @property
    def must_keep(self) -> bool:
        """Whether the call may not go on when the state before cannot be kept. What a label says alone may fail."""
        return self.rule != "label"

    def subjects(self, opens: tuple[str, ...]) -> tuple[str, ...]:
        """What captures of are serial: the files that are kept, else what the call may write to, if that is named."""
        if self.files:
            return tuple(subject(FILE, (path,)) for path in self.files)
        return tuple(one for one in opens if one != EVERYTHING)

    @property
    def keeps(self) -> bool:
        """Whether anything is looked at for it."""
        return self.kind in {UndoClass.RESTORE, UndoClass.COMPENSATE}


@dataclass(frozen=True, slots=True, kw_only=True)
class FileBefore:
    """A file as it was."""

    path: str
    root: str
    """The folder that it was found below, part by part and without links."""
    state: str
    mode: int = 0
    content: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class Captured:
    """What was seen for the undo of a step: before the call with content, after it without."""

    files: tuple[FileBefore, ...] = ()
    seen: Json = None
    """What the look answered."""
    has_seen: bool = False
    returned: Json = None
    """The structured result, where the inverse call names something of it."""
    has_returned: bool = False
    began: int = 0
    """Where the record ended when the look began."""
    look_args: Mapping[str, Json] = field(default_factory=dict[str, Json])
    """With what the look was called."""
    names: Mapping[str, Json] = field(default_factory=dict[str, Json])
    """What an inverse call may name of the step, beside its arguments: `run`, `who`, `workspace`."""
    reach: Mapping[str, Json] = field(default_factory=dict[str, Json])
    """Server -> how it is reached again, for each that the undo calls."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """What became of one step."""

    no: int
    state: UndoState
    by_step: str = ""
    """`RUN.NO` of the step that undid it; empty where none did."""
    before: str = ""
    """The state that was to come back, where one digest tells it."""
    after: str = ""
    """The state that is there now, so far as it is known."""
    why: str = ""
