"""Plans a change of a host's file: what it will say, what is left alone and why, and what undoes it. Writes nothing."""

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path

from soothsayer_mcp.adapters.hosts import documents
from soothsayer_mcp.adapters.hosts.edits import Edit, UneditableError, changed, splices
from soothsayer_mcp.adapters.hosts.files import BACKUPS, Held, Install, Touched, digest_of
from soothsayer_mcp.adapters.hosts.masking import difference
from soothsayer_mcp.adapters.hosts.servers import Server, Standing, Wrapping, names_of, servers, unwrap, wrap
from soothsayer_mcp.adapters.hosts.table import Host
from soothsayer_mcp.adapters.hosts.tree import Document, HostFileError, Splice, spliced
from soothsayer_mcp.model.json import Json
from soothsayer_mcp.model.value import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What a file will be."""

    held: Held
    raw: bytes
    diff: tuple[str, ...] = ()
    """What changes, masked."""
    touched: tuple[Touched, ...] = ()
    left: tuple[tuple[str, str], ...] = ()
    """Servers that stay as they are, and why."""

    @property
    def is_empty(self) -> bool:
        """Whether nothing would change."""
        return self.raw == self.held.raw


def read(held: Held, host: Host, raw: bytes | None = None) -> Document:
    """Read a file that is held, or other bytes in its place. Raises `HostFileError`."""
    return documents.read(held.raw if raw is None else raw, host.format, host.key, file=str(held.path))


def connect(
    held: Held,
    host: Host,
    wrapping: Callable[[Server], Wrapping],
    only: Sequence[str] = (),
    *,
    kept_keys: Collection[str] | None = None,
) -> Change:
    """Put us in front of the servers of a file, or of some. Raises `HostFileError`.

    An entry with a key beyond `kept_keys` is left alone: the application's own command would drop it.
    """
    document = read(held, host)
    found = servers(document, host)
    _known(found, only, held)
    names = names_of(found)
    edits: dict[str, Sequence[Edit]] = {}
    left: list[tuple[str, str]] = []
    for server in found:
        if only and server.name not in only:
            continue
        why = _why_not(server, named=server.name in only) or _why_dropped(server, host, kept_keys)
        if why:
            left.append((server.name, why))
            continue
        try:
            wanted = wrap(server, host, wrapping(server), name=names[server.name])
            splices(document, server.entry, wanted)
        except UneditableError as error:
            left.append((server.name, str(error)))
        else:
            edits[server.name] = wanted
    return _edited(held, host, document, edits, left)


def _why_not(server: Server, *, named: bool) -> str:
    if server.standing is Standing.GOVERNED:
        return "it is governed already"
    if server.standing is Standing.ALONE:
        return server.why
    if server.maybe_signed_in and not named:
        return f"the host may have signed in to it; if it needs no sign-in, name it with --only {server.name}"
    return ""


def _why_dropped(server: Server, host: Host, kept_keys: Collection[str] | None) -> str:
    said = server.entry.value
    dropped = [key for key in said if kept_keys is not None and key not in kept_keys] if isinstance(said, dict) else []
    return f"`{host.through} mcp` would drop its {', '.join(dropped)}" if dropped else ""


def disconnect(held: Held, host: Host, records: Sequence[Install], only: Sequence[str] = ()) -> Change:
    """Take us away from the servers of a file, or from some, keeping all else. Raises `HostFileError`."""
    document = read(held, host)
    found = servers(document, host)
    _known(found, only, held)
    originals = originals_of(held, records)
    edits: dict[str, Sequence[Edit]] = {}
    texts: dict[str, str] = {}
    left: list[tuple[str, str]] = []
    for server in found:
        if server.standing is not Standing.GOVERNED or (only and server.name not in only):
            if server.name in only:
                left.append((server.name, "it is not governed"))
            continue
        before = originals.get(server.name)
        entry = server.entry
        if before is not None and _is_ours(before, document, server, host):
            texts[server.name] = before.before
            continue
        original = before.original if before is not None and isinstance(before.original, dict) else None
        try:
            wanted = unwrap(server, host, original)
            splices(document, entry, wanted)
        except UneditableError as error:
            left.append((server.name, str(error)))
        else:
            edits[server.name] = wanted
    return _edited(held, host, document, edits, left, texts=texts)


def restore(held: Held, host: Host, records: Sequence[Install], backups: Path) -> Change:
    """The file as it was before us, byte for byte where nothing else changed it; else our entries as they were.

    Entries that were changed since are left, and said. Raises `HostFileError`.
    """
    raw = held.raw
    mine = [install for install in records if install.target == str(held.target) and install.backup]
    while True:
        digest = digest_of(raw)
        last = next((install for install in reversed(mine) if install.after == digest), None)
        if last is None:
            break
        try:
            earlier = (backups / last.backup).read_bytes()
        except OSError:
            break
        if digest_of(earlier) != last.before:
            break
        mine = mine[: mine.index(last)]
        raw = earlier
    document = read(held, host, raw)
    originals = originals_of(held, records)
    texts: dict[str, str] = {}
    left: list[tuple[str, str]] = []
    for server in servers(document, host):
        if server.standing is Standing.GOVERNED:
            before = originals.get(server.name)
            if before is not None and _is_ours(before, document, server, host):
                texts[server.name] = before.before
            else:
                left.append((server.name, "it was changed since, or not by us; `disconnect` takes us out of it"))
    made = _edited(held, host, document, {}, left, texts=texts)
    return _whole(held, host, made.raw, left)


def _whole(held: Held, host: Host, raw: bytes, left: Sequence[tuple[str, str]]) -> Change:
    """A change to other bytes, with the entries in which they differ."""
    before, after = read(held, host), read(held, host, raw)
    touched: list[Touched] = []
    for old in before.entries:
        new = after.entry(old.name)
        was, now = before.text[old.start : old.end], "" if new is None else after.text[new.start : new.end]
        if was != now:
            touched.append(Touched(name=old.name, before=was, after=now, original=old.value))
    diff = difference(before, after, str(held.path))
    return Change(held=held, raw=raw, diff=tuple(diff), touched=tuple(touched), left=tuple(left))


def _is_ours(before: Touched, document: Document, server: Server, host: Host) -> bool:
    """Whether an entry stands as we left it. An application that writes its file itself keeps values, not spelling."""
    if before.after == document.text[server.entry.start : server.entry.end]:
        return True
    if not host.through:
        return False
    try:
        return json.loads(before.after) == server.entry.value
    except ValueError:
        return False


def back_to(held: Held, host: Host, records: Sequence[Install], state: Path, backup: str) -> Change:
    """The file as it is in one backup. Raises `HostFileError`."""
    name = Path(backup).name
    known = [install.backup for install in records if install.target == str(held.target) and install.backup]
    if name not in known:
        listed = ", ".join(known[-5:]) or "none"
        raise HostFileError(f"{backup} is no backup of this file", id="host-backup", fix=f"the newest are {listed}")
    try:
        raw = (state / BACKUPS / name).read_bytes()
    except OSError as error:
        raise HostFileError(f"the backup cannot be read ({error.strerror})", id="host-backup", where=name) from error
    return _whole(held, host, raw, ())


def originals_of(held: Held, records: Sequence[Install]) -> Mapping[str, Touched]:
    """Server -> how it was written before we came, from the newest record."""
    found: dict[str, Touched] = {}
    for install in records:
        if install.target == str(held.target) and install.action == "connect":
            found.update({each.name: each for each in install.entries})
    return found


def _known(found: Sequence[Server], only: Sequence[str], held: Held) -> None:
    names = [server.name for server in found]
    for name in only:
        if name not in names:
            listed = ", ".join(names) or "none"
            raise HostFileError(
                f'there is no server "{name}"', id="not-found", where=str(held.path), fix=f"it has {listed}"
            )


def _edited(
    held: Held,
    host: Host,
    document: Document,
    edits: Mapping[str, Sequence[Edit]],
    left: Sequence[tuple[str, str]],
    *,
    texts: Mapping[str, str] | None = None,
) -> Change:
    """Make the new text, read it again, and compare: whatever is not one of these entries has to be as it was."""
    texts = texts or {}
    expected: dict[str, Json] = {}
    made: list[Splice] = []
    for entry in document.entries:
        if entry.name in edits:
            made += splices(document, entry, edits[entry.name])
            expected[entry.name] = changed(entry.value, edits[entry.name])
        elif entry.name in texts:
            made.append(Splice(entry.start, entry.end, texts[entry.name]))
    raw = documents.encode(document, spliced(document.text, made))
    if not made:
        return Change(held=held, raw=raw, left=tuple(left))
    after = read(held, host, raw)
    if not _same_outside(document, after, {*edits, *texts}, expected):
        text = "the change would reach beyond its own entries; nothing was written"
        raise HostFileError(text, id="host-edit", where=str(held.path), fix="change the file by hand, and report this")
    touched = [
        Touched(
            name=before.name,
            before=document.text[before.start : before.end],
            after=after.text[now.start : now.end],
            original=before.value,
        )
        for before, now in zip(document.entries, after.entries, strict=True)
        if before.name in edits or before.name in texts
    ]
    diff = difference(document, after, str(held.path))
    return Change(held=held, raw=raw, diff=tuple(diff), touched=tuple(touched), left=tuple(left))


def _same_outside(before: Document, after: Document, own: set[str], expected: Mapping[str, Json]) -> bool:
    if [entry.name for entry in before.entries] != [entry.name for entry in after.entries]:
        return False
    for old, new in zip(before.entries, after.entries, strict=True):
        if old.name not in own:
            if before.text[old.start : old.end] != after.text[new.start : new.end]:
                return False
        elif old.name in expected and _spelled(new.value) != _spelled(expected[old.name]):
            return False
    return _gaps(before) == _gaps(after)


def _spelled(value: Json) -> str:
    return json.dumps(value, sort_keys=True)


def _gaps(document: Document) -> list[str]:
    """The text between the entries."""
    gaps: list[str] = []
    at = 0
    for entry in sorted(document.entries, key=lambda one: one.start):
        gaps.append(document.text[at : entry.start])
        at = max(at, entry.end)
    return [*gaps, document.text[at:]]
