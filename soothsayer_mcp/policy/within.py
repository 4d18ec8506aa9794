"""The lowest scope: whether a call lies within what its run was opened for. It only tightens."""

import re
from collections.abc import Iterator, Mapping
from itertools import chain

from soothsayer_mcp.model.call import Does
from soothsayer_mcp.model.facts import Facts
from soothsayer_mcp.model.json import Json
from soothsayer_mcp.model.run import RunScope
from soothsayer_mcp.policy.paths import Place, bases, component, fold, questions, read

_PATH_WORDS = frozenset(
    {"cwd", "dest", "destination", "dir", "directory", "dst", "file", "filename", "filepath", "files", "folder"}
    | {"from", "path", "paths", "pathname", "repo", "repository", "root", "source", "src", "target", "to", "uri"}
)
"""Words of argument names that stand for a file. Any other text counts too where it begins like an absolute path."""
_ONLY_READ = frozenset({Does.READ.value})
_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")
_LIKE_A_PATH = re.compile(r"(?:[/~]|\.\.?(?:[/\\]|$)|[A-Za-z]:[/\\]|\\\\|(?i:file:))[^\r\n]*")


def paths_of(arguments: Mapping[str, Json]) -> tuple[str, ...]:
    """The texts of a call that may name files: by the name of their argument, or by how they begin."""
    return tuple(
        dict.fromkeys(chain.from_iterable(_paths(value, named=_names(key)) for key, value in arguments.items()))
    )


def scope_questions(scope: RunScope, arguments: Mapping[str, Json], place: Place) -> tuple[str, ...]:
    """The paths whose links have to be looked up before a call is compared with the scope."""
    if not scope.under or not place.local:
        return ()
    texts = (*scope.under, *paths_of(arguments))
    return tuple(dict.fromkeys(path for text in texts for path in questions(text, place)))


def is_outside(
    scope: RunScope,
    server: str,
    tool: str,
    *,
    does: frozenset[str],
    arguments: Mapping[str, Json],
    place: Place,
    facts: Facts,
) -> bool:
    """Whether a call goes beyond what its run was opened for; what cannot be told counts as beyond it.

    Under folders, every file that a call names has to lie below one of them, and a call that does more than read has
    to name one: else nothing shows where it writes.
    """
    if scope.only and not any(_fits(pattern, server, tool) for pattern in scope.only):
        return True
    if not scope.under:
        return False
    paths = paths_of(arguments)
    if not paths:
        return does != _ONLY_READ
    return not all(_lies_under(scope.under, text, place, facts) for text in paths)


def _fits(pattern: str, server: str, tool: str) -> bool:
    of_server, dot, of_tool = pattern.partition(".")
    return component(of_server)(server) and (not dot or component(of_tool)(tool))


def _lies_under(folders: tuple[str, ...], text: str, place: Place, facts: Facts) -> bool:
    named = [base for folder in folders for base in bases(folder, place)]
    for folder in folders:
        # What a folder leads to counts as the folder.
        named += read(folder, place, facts.links).exact if place.local else ()
    known = {fold(base) for base in named} if place.windows else set(named)

    def test(path: tuple[str, ...]) -> bool:
        return any(path[: len(base)] == base for base in known)

    return read(text, place, facts.links).answer(every=True, fold=place.windows, test=test) is True


def _names(key: str) -> bool:
    return any(word.lower() in _PATH_WORDS for word in _WORD.findall(key))


def _paths(value: Json, *, named: bool) -> Iterator[str]:
    if isinstance(value, str):
        if named or _LIKE_A_PATH.fullmatch(value):
            yield value
    elif isinstance(value, Mapping):
        for key, held in value.items():
            yield from _paths(held, named=named or _names(key))
    elif isinstance(value, list):
        for item in value:
            yield from _paths(item, named=named)
