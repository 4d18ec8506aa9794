"""The names that hosts see. One server: unchanged. Several: `<server>__<name>`, always: one more renames nothing.

Policy, pins and trace use (server, name), never the shown one.
"""

import unicodedata
from collections.abc import Iterable, Sequence

SEPARATOR = "__"


class Names:
    """How tools and prompts of the configured servers are called towards the host."""

    __slots__ = ("_only", "_servers")

    def __init__(self, servers: Sequence[str]) -> None:
        """With exactly one server nothing is prefixed."""
        self._servers = frozenset(servers)
        self._only = servers[0] if len(servers) == 1 else None

    @property
    def prefixed(self) -> bool:
        """Whether shown names carry their server's."""
        return self._only is None

    def shown(self, server: str, name: str) -> str:
        """The name that the host sees."""
        return name if self._only is not None else f"{server}{SEPARATOR}{name}"

    def own(self, shown: str) -> tuple[str, str] | None:
        """The server and its own name for what the host names; `None` when no server is named.

        Server names hold no underscore, so the first separator ends them and no name reads two ways.
        """
        if self._only is not None:
            return self._only, shown
        server, separator, name = shown.partition(SEPARATOR)
        return (server, name) if separator and server in self._servers else None


def shadowed(names: Iterable[str]) -> frozenset[str]:
    """The names that cannot be told from another by eye: equal after NFKC and case folding, or of mixed scripts."""
    looks: dict[str, set[str]] = {}
    for name in names:
        looks.setdefault(fold(name), set()).add(name)
    alike = {name for group in looks.values() if len(group) > 1 for name in group}
    return frozenset(alike | {name for group in looks.values() for name in group if _mixes_scripts(name)})


def fold(name: str) -> str:
    """Reduce a name to what an eye may take it for: NFKC and case folding. For look-alikes, never for rules."""
    if name.isascii():
        return name.casefold()
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())


def _mixes_scripts(name: str) -> bool:
    if name.isascii():
        return False
    # The first word of a letter's Unicode name is its script: LATIN, CYRILLIC, GREEK.
    scripts = {unicodedata.name(letter, "?").split()[0] for letter in name if letter.isalpha()}
    return len(scripts) > 1
