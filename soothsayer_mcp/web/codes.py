"""What a yes to a reserved question wants: six characters that stand where no page, and no program in it, can look."""

import hmac
import secrets
from collections.abc import Callable
from typing import Final

LENGTH: Final = 6
TRIES: Final = 3
"""After so many wrong ones there is a new code."""
_ALPHABET: Final = "abcdefghjkmnpqrstuvwxyz23456789"
"""Nothing in it looks like another."""


class Codes:
    """A code for each reserved question, told in the terminal when its card is first looked at."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        """`tell` writes a line to the terminal of whoever started us."""
        self._tell = tell
        self._codes: dict[str, tuple[str, int]] = {}

    def want(self, ask_id: str, call: str) -> None:
        """See to it that the terminal tells the code of a question; once, however often its card is looked at."""
        if ask_id not in self._codes:
            code = "".join(secrets.choice(_ALPHABET) for _ in range(LENGTH))
            self._codes[ask_id] = (code, 0)
            self._tell(f"{ask_id[:6]} {call}: to allow it, type {code} on the page")

    def is_right(self, ask_id: str, call: str, typed: str) -> bool:
        """Whether the code of a question was typed."""
        code, wrong = self._codes.get(ask_id, ("", 0))
        if code and hmac.compare_digest(typed.strip().lower().encode(errors="replace"), code.encode()):
            return True
        if code and typed.strip():
            self._codes[ask_id] = (code, wrong + 1)
            if wrong + 1 >= TRIES:
                del self._codes[ask_id]
        self.want(ask_id, call)
        return False

    def drop(self, ask_id: str) -> None:
        """The question is settled."""
        self._codes.pop(ask_id, None)
