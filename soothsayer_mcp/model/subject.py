"""Subjects: what can change. Writes open them and evidence is about them, both under the same canonical text.

`*` is everything, `name` all of a kind, `name:key,key` one thing. The key of `file` is an absolute path with `/`.
"""

from collections.abc import Sequence

EVERYTHING = "*"
FILE = "file"


def subject(name: str, keys: Sequence[str] = ()) -> str:
    """Spell a subject; a `file` has one key, its path."""
    if not keys:
        return name
    if name == FILE:
        return f"{FILE}:{keys[0].rstrip('/') or '/'}"
    return f"{name}:{','.join(map(_quoted, keys))}"


def _quoted(key: str) -> str:
    return key.replace("%", "%25").replace(",", "%2C")


def overlap(one: str, other: str) -> bool:
    """Whether a write to one may change the other."""
    if EVERYTHING in {one, other} or one == other:
        return True
    name, colon, key = one.partition(":")
    other_name, other_colon, other_key = other.partition(":")
    if name != other_name:
        return False
    if not colon or not other_colon:
        return True
    return name == FILE and (below(key, other_key) or below(other_key, key))


def covers(whole: str, part: str) -> bool:
    """Whether `part` lies within `whole`."""
    if whole in {EVERYTHING, part}:
        return True
    name, colon, key = whole.partition(":")
    part_name, part_colon, part_key = part.partition(":")
    if name != part_name:
        return False
    return not colon or (name == FILE and bool(part_colon) and below(part_key, key))


def below(path: str, folder: str) -> bool:
    """Whether a path is a folder, or lies below it."""
    return path == folder or path.startswith(folder.rstrip("/") + "/")


def relative(path: str, root: str) -> str:
    """A path as people name it in their folder; as it is where it lies elsewhere."""
    folder = root.rstrip("/") + "/"
    return path.removeprefix(folder) if root else path


def ancestors(path: str) -> list[str]:
    """A path and every folder above it."""
    found = [path]
    while "/" in path.rstrip("/") and path != "/":
        path = path.rstrip("/").rpartition("/")[0] or "/"
        found.append(path)
    return found
