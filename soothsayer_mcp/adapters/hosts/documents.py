"""Reads a host's file of any format: its servers, each with the text that is its own. What is in doubt is refused."""

from collections.abc import Sequence
from typing import Final

from soothsayer_mcp.adapters.hosts import json_spans, toml_spans, yaml_spans
from soothsayer_mcp.adapters.hosts.tree import (
    Document,
    Entry,
    Format,
    HostFileError,
    Node,
    SyntaxFault,
    gather_scalars,
    place,
)

BOM: Final = "\ufeff"
BYTES_MAX: Final = 16 * 1024 * 1024


def read(raw: bytes, format: Format, key: Sequence[str], *, file: str) -> Document:  # noqa: A002 - the word of the table
    """Read a file whose servers stand under `key`, by name, or as a list with their names inside.

    Raises `HostFileError` with line and column for what does not parse, and for a server that is named twice.
    """
    text = _decode(raw, file)
    lead = BOM if text.startswith(BOM) else ""
    body = text[len(lead) :]
    try:
        return _read(body, format, tuple(key), lead)
    except SyntaxFault as fault:
        line, column, source = place(body, fault.at)
        where = f"{file}:{line}:{column}"
        fix = "mend it first; nothing was written"
        raise HostFileError(fault.text, id="host-syntax", where=where, fix=fix, source=source, column=column) from fault


def encode(document: Document, text: str) -> bytes:
    """The bytes of a document with another text."""
    return (document.lead + text).encode()


def _decode(raw: bytes, file: str) -> str:
    if len(raw) > BYTES_MAX:
        raise HostFileError(f"the file is larger than {BYTES_MAX} bytes", id="host-file", where=file)
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        column = error.start - raw.rfind(b"\n", 0, error.start)
        where = f"{file}:{line}:{column}"
        raise HostFileError("the file is not UTF-8", id="host-syntax", where=where) from error


def _read(body: str, format: Format, key: tuple[str, ...], lead: str) -> Document:  # noqa: A002 - see read
    if format == "toml":
        root = toml_spans.load(body)
        scalars = [spot for names, node in toml_spans.scalars(body) for spot in gather_scalars(node, names)]
        return Document(
            format=format,
            lead=lead,
            text=body,
            root=root,
            entries=tuple(toml_spans.entries(body, key)),
            scalars=tuple(scalars),
        )
    tree = (
        yaml_spans.read(body)
        if format == "yaml"
        else json_spans.read(body, comments=format != "json", commas=format == "jsonc")
    )
    return Document(
        format=format,
        lead=lead,
        text=body,
        root=tree.value,
        entries=tuple(_entries(body, tree, key)),
        scalars=tuple(gather_scalars(tree)),
    )


def _entries(text: str, tree: Node, key: Sequence[str]) -> list[Entry]:
    node = tree
    for part in key:
        _refuse_doubles(node, {part})
        found = node.member(part)
        if found is None:
            return []
        node = found.value
    if node.items:
        entries = [_entry(text, _name(item), item) for item in node.items]
        names = [entry.name for entry in entries]
        for entry in entries:
            if names.count(entry.name) > 1:
                raise SyntaxFault(f'a second server is called "{entry.name}"', entries[names.index(entry.name)].start)
    else:
        _refuse_doubles(node)
        entries = [_entry(text, member.key, member.value) for member in node.members]
    for entry in entries:
        _refuse_doubles(entry.node)
        for member in entry.node.members:
            _refuse_doubles(member.value)
    return entries


def _name(item: Node) -> str:
    found = item.member("name")
    if found is None or not isinstance(found.value.value, str):
        raise SyntaxFault("a server without a name", item.start)
    return found.value.value


def _entry(text: str, name: str, node: Node) -> Entry:
    end = node.end
    if node.block:
        line_end = text.find("\n", end)
        end = len(text) if line_end < 0 else line_end - text[:line_end].endswith("\r")
        end = max(end, node.end)
    return Entry(name=name, node=node, start=node.start, end=end)


def _refuse_doubles(node: Node, only: set[str] | None = None) -> None:
    seen: set[str] = set()
    for member in node.members:
        if member.key in seen and (only is None or member.key in only):
            raise SyntaxFault(f'"{member.key}" stands here a second time', member.start)
        seen.add(member.key)
