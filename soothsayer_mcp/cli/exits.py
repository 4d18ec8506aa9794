"""The exit codes, one table for every command. Their meaning never changes."""

from enum import IntEnum


class Exit(IntEnum):
    """How a command ended."""

    DONE = 0
    NO = 1
    USAGE = 2
    NOT_AUTHORISED = 3
    UNREACHABLE = 4
    TOOL_ERROR = 5
    NOBODY_ANSWERED = 6
    STATE = 7
    BUG = 70
    INTERRUPTED = 130

    @property
    def meaning(self) -> str:
        """One line for people."""
        return MEANINGS[self]


MEANINGS: dict[Exit, str] = {
    Exit.DONE: "done; the answer is yes",
    Exit.NO: "the answer is no: refused, a check failed, a broken trace, nothing found",
    Exit.USAGE: "the command line, the configuration or a policy is wrong",
    Exit.NOT_AUTHORISED: "not authorised",
    Exit.UNREACHABLE: "a server or the database cannot be reached, or time or a budget ran out",
    Exit.TOOL_ERROR: "the tool reported an error",
    Exit.NOBODY_ANSWERED: "an ask expired, or there was nobody to ask",
    Exit.STATE: "the state folder cannot be used: full, locked, newer format, network disk, not yours",
    Exit.BUG: "a bug of ours",
    Exit.INTERRUPTED: "interrupted",
}
