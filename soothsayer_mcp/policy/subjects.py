"""Subjects as policy writes them, `name` or `name(key, ...)`, and what they stand for in one call."""

import re
from collections.abc import Mapping, Sequence

from soothsayer_mcp.model.answer import Unsure
from soothsayer_mcp.model.json import Json
from soothsayer_mcp.model.subject import FILE, subject
from soothsayer_mcp.model.value import dataclass
from soothsayer_mcp.policy.paths import Case, Place, complete, fold, questions, read, resolve, spell

_SUBJECT = re.compile(r"([a-z][a-z0-9_-]*)(?:\(\s*(.*?)\s*\))?")
_KEY = re.compile(r"""(args(?:\.[A-Za-z0-9_-]+)+|workspace|"[^"]*"|'[^']*')\s*(?:,\s*|$)""")
_LAST_WRITE = re.compile(r"last_write\(\s*(.+?)\s*\)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Template:
    """A subject whose keys are looked up in each call."""

    name: str
    keys: tuple[str, ...] = ()
    """`args.path`, `workspace`, or a quoted text."""

    @property
    def varies(self) -> bool:
        """Whether it hangs on the arguments of a call; else where its path leads is looked up at load."""
        return any(key.startswith("args.") for key in self.keys)

    @property
    def quoted(self) -> bool:
        """Whether it is a file whose path policy writes out."""
        return self.name == FILE and self.keys[:1] != () and self.keys[0][0] in "\"'"


def template(text: str) -> Template:
    """Read a subject. Raises `ValueError` for what is none."""
    found = _SUBJECT.fullmatch(text.strip())
    if found is None:
        raise ValueError("a subject is a name, or a name with keys: file(args.path), remote(args.branch)")
    name, inside = found.group(1), found.group(2)
    if inside is None:
        return Template(name=name)
    keys: list[str] = []
    while inside:
        key = _KEY.match(inside)
        if key is None:
            raise ValueError(f"{inside!r} is no key: args.NAME, workspace, or a text in quotes")
        keys.append(key.group(1))
        inside = inside[key.end() :]
    if not keys or (name == FILE and len(keys) > 1):
        raise ValueError("a subject has at least one key in its brackets, and a file has one")
    return Template(name=name, keys=tuple(keys))


def last_write(text: str) -> Template:
    """Read `last_write(SUBJECT)`. Raises `ValueError` for what is none."""
    found = _LAST_WRITE.fullmatch(text.strip())
    if found is None:
        raise ValueError("write last_write(SUBJECT), such as last_write(file(workspace))")
    return template(found.group(1))


def subjects_of(
    wanted: Template,
    arguments: Mapping[str, Json],
    place: Place,
    links: Mapping[str, str],
    workspace: str,
    *,
    folds: bool = False,
) -> tuple[str, ...]:
    """What a subject stands for in one call. A key that cannot be read makes it stand for all of its name.

    `folds` where other servers do not tell two spellings apart that this one does: then a file stands under both.
    """
    if not wanted.keys:
        return (subject(wanted.name),)
    values = [_value(key, arguments, workspace) for key in wanted.keys]
    if wanted.name == FILE:
        return _files(values[0], place, links, folds=folds)
    keys = [_key(value) for value in values]
    if any(key is None for key in keys):
        return (subject(wanted.name),)
    return (subject(wanted.name, [key for key in keys if key is not None]),)


def fixed_folders(wanted: Template, workspace: str) -> tuple[str, ...]:
    """The path of a file subject that is the same for every call."""
    if wanted.name != FILE or not wanted.keys or wanted.keys[0].startswith("args."):
        return ()
    value = _value(wanted.keys[0], {}, workspace)
    return (value,) if isinstance(value, str) else ()


def subject_questions(
    wanted: Sequence[Template], arguments: Mapping[str, Json], place: Place, workspace: str
) -> tuple[str, ...]:
    """The paths whose links have to be looked up before these subjects can be read."""
    asked: dict[str, None] = {}
    for one in wanted:
        if one.name == FILE and one.keys:
            value = _value(one.keys[0], arguments, workspace)
            for text in value if isinstance(value, list) else (value,):
                if isinstance(text, str):
                    asked.update(dict.fromkeys(questions(text, place)))
    return tuple(asked)


def _value(key: str, arguments: Mapping[str, Json], workspace: str) -> Json:
    if key == "workspace":
        return workspace
    if key[0] in "\"'":
        return key[1:-1]
    value: Json = arguments
    for part in key.split(".")[1:]:
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def _key(value: Json) -> str | None:
    if isinstance(value, str):
        return value
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else None


def _files(value: Json, place: Place, links: Mapping[str, str], *, folds: bool) -> tuple[str, ...]:
    found: dict[str, None] = {}
    for text in value if isinstance(value, list) else (value,):
        if not isinstance(text, str):
            return (FILE,)
        readings = read(text, place, links)
        if not readings.exact:
            return (FILE,)
        for path in readings.exact if place.case is Case.EXACT else map(fold, readings.exact):
            found[subject(FILE, (spell(path, place),))] = None
        if folds and place.case is Case.EXACT:
            for path in readings.exact:
                found[subject(FILE, (spell(fold(path), place),))] = None
    return tuple(found) or (FILE,)


def absolute(text: str, place: Place) -> str:
    """A path that policy or a call names, relative to the server's root. Raises `ValueError`."""
    whole = complete(text, place)
    if isinstance(whole, Unsure):
        raise ValueError(whole.why)  # noqa: TRY004 - the text is wrong, not its type
    return spell(resolve(whole), place)
