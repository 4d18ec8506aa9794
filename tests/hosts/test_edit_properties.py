"""For generated files of every format: an edit stays within its own entries, and taken back it leaves no trace."""

import json
import tomllib
from pathlib import Path
from typing import Any

import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from hosts.rig import PROGRAM, wrapping
from soothsayer_mcp.adapters.hosts import changes
from soothsayer_mcp.adapters.hosts.edits import spell
from soothsayer_mcp.adapters.hosts.files import Held, Install
from soothsayer_mcp.adapters.hosts.places import host_of
from soothsayer_mcp.adapters.hosts.servers import Standing, servers
from soothsayer_mcp.adapters.hosts.table import Host
from soothsayer_mcp.model.json import Json, JsonObject

FILE = Path("/nowhere/file")


def host(name: str) -> Host:
    found = host_of(name)
    assert found is not None
    return found


TEXT = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=12)
WORD = st.from_regex(r"[a-zA-Z][a-zA-Z0-9_-]{0,8}", fullmatch=True)
VALUE: st.SearchStrategy[Json] = st.recursive(
    st.booleans() | st.integers(-(2**31), 2**31) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORD, inner, max_size=3),
    max_leaves=5,
)
FOREIGN = st.dictionaries(WORD.map(lambda word: f"z{word}"), VALUE, max_size=3)
GAPS = ["", " ", "\n", "  \n\t", ' // a comment, with { and "\n', "/* one\n two */", "\t"]
BLANKS = ["", " ", "\n", "\n\n  ", "\t"]


@st.composite
def entries(draw: st.DrawFn, command: str = "command", args: str = "args", env: str = "env") -> dict[str, JsonObject]:
    """Servers by name, each a command with or without arguments and variables, among keys of the host's own."""
    found: dict[str, JsonObject] = {}
    for name in draw(st.lists(WORD, min_size=1, max_size=4, unique=True)):
        parts: list[tuple[str, Json]] = [*draw(FOREIGN).items(), (command, draw(TEXT.filter(bool)))]
        if draw(st.booleans()):
            parts.append((args, draw(st.lists(TEXT, max_size=3))))
        if draw(st.booleans()):
            parts.append((env, draw(st.dictionaries(WORD, TEXT, max_size=2))))
        found[name] = dict(draw(st.permutations(parts)))
    return found


def laid_out(draw: st.DrawFn, value: Json, gaps: list[str], *, trailing: bool) -> str:
    """JSON with whatever may stand between its tokens."""

    def gap() -> str:
        return draw(st.sampled_from(gaps))

    def text(one: Json) -> str:
        match one:
            case dict():
                parts = [
                    f"{gap()}{json.dumps(key, ensure_ascii=draw(st.booleans()))}{gap()}:{gap()}{text(each)}{gap()}"
                    for key, each in one.items()
                ]
                last = "," if parts and trailing and draw(st.booleans()) else ""
                return f"{{{','.join(parts)}{last}{gap()}}}"
            case list():
                parts = [f"{gap()}{text(each)}{gap()}" for each in one]
                last = "," if parts and trailing and draw(st.booleans()) else ""
                return f"[{','.join(parts)}{last}{gap()}]"
            case _:
                return json.dumps(one, ensure_ascii=False)

    return f"{gap()}{text(value)}{gap()}"


@st.composite
def json_files(draw: st.DrawFn) -> tuple[Host, str, dict[str, JsonObject]]:
    relaxed = draw(st.booleans())
    row = host("vscode" if relaxed else "claude-desktop")
    found = draw(entries())
    around = list(draw(FOREIGN).items())
    whole = dict(draw(st.permutations([*around, (row.key[0], dict[str, Json](found))])))
    text = laid_out(draw, whole, GAPS if relaxed else BLANKS, trailing=relaxed)
    return row, draw(st.sampled_from(["", "\ufeff"])) + text, found


@st.composite
def toml_files(draw: st.DrawFn) -> tuple[Host, str, dict[str, JsonObject]]:
    row = host("codex")
    found = draw(entries())
    note = st.sampled_from(["", "  # a comment", "\t# [not.a.table]"])
    blocks: list[str] = []
    inline: list[str] = []
    for name, entry in found.items():
        lines = [
            f"{draw(st.sampled_from(['', '  ']))}{key} = {toml_value(draw, value)}{draw(note)}"
            for key, value in entry.items()
        ]
        if draw(st.booleans()):
            blocks.append(
                "\n".join([f"[mcp_servers.{name}]{draw(note)}", *lines, draw(st.sampled_from(["", "# next", ""]))])
            )
        elif draw(st.booleans()):
            inline.append(f"{name} = {spell(entry, 'toml')}{draw(note)}")
        else:
            inline += [f"{name}.{line.strip()}" for line in lines]
    if inline:
        blocks.append("\n".join(["[mcp_servers]", *inline]))
    blocks.append(f"[other]{draw(note)}\nx = 1")
    head = draw(st.sampled_from(["", "# head\nmodel = 'x'\n", "when = 2026-01-01T00:00:00Z\n"]))
    return row, head + "\n".join(draw(st.permutations(blocks))) + draw(st.sampled_from(["", "\n"])), found


def toml_value(draw: st.DrawFn, value: Json) -> str:
    if isinstance(value, list) and draw(st.booleans()):
        inner = "".join(f"\n  {spell(each, 'toml')},{draw(st.sampled_from(['', ' # each']))}" for each in value)
        return f"[{inner}\n]"
    if isinstance(value, str) and "'" not in value and value.isprintable() and draw(st.booleans()):
        return f"'{value}'"
    return spell(value, "toml")


@st.composite
def yaml_files(draw: st.DrawFn) -> tuple[Host, str, dict[str, JsonObject]]:
    listed = draw(st.booleans())
    row = host("continue" if listed else "goose")
    found = draw(entries() if listed else entries("cmd", "args", "envs"))
    note = st.sampled_from(["", "  # a comment", " # - {"])
    lines = ["# head", f"{row.key[0]}:{draw(note)}"]
    for name, entry in found.items():
        shown: JsonObject = {"name": name, **entry} if listed else entry
        if draw(st.booleans()):
            spelled = spell(shown, "yaml")
            lines.append(f"  - {spelled}{draw(note)}" if listed else f"  {name}: {spelled}{draw(note)}")
            continue
        first = "  - " if listed else "    "
        if not listed:
            lines.append(f"  {name}:{draw(note)}")
        for number, (key, value) in enumerate(shown.items()):
            lead = first if number == 0 else "    "
            if isinstance(value, list) and value and draw(st.booleans()):
                indent = draw(st.sampled_from(["    ", "      "]))
                lines.append(f"{lead}{key}:{draw(note)}")
                lines += [f"{indent}- {spell(each, 'yaml')}{draw(note)}" for each in value]
            else:
                lines.append(f"{lead}{key}: {spell(value, 'yaml')}{draw(note)}")
    lines += draw(st.sampled_from([[], ["other: 1"], ["", "# the end", "other: {a: b}"]]))
    return row, "\n".join(lines) + draw(st.sampled_from(["", "\n"])), found


def held(raw: bytes) -> Held:
    return Held(path=FILE, target=FILE, raw=raw, mode=0o600)


def independent(row: Host, text: str) -> Any:
    """What a reader that is not ours makes of a text; `None` where there is none for the format."""
    match row.format:
        case "toml":
            return tomllib.loads(text)
        case "yaml":
            return yaml.safe_load(text)
        case "json":
            return json.loads(text.removeprefix("\ufeff"))
        case _:
            return None


def check(row: Host, text: str, found: dict[str, JsonObject], chosen: list[str]) -> None:
    raw = text.encode()
    change = changes.connect(held(raw), row, wrapping(), chosen)
    assert [name for name, _why in change.left] == []
    assert {each.name for each in change.touched} == set(chosen)
    _only_ours_changed(row, raw, change.raw, chosen)
    after = changes.read(held(change.raw), row)
    for server in servers(after, row):
        entry = found[server.name]
        said = server.entry.value
        assert isinstance(said, dict)
        own = {row.shape.command, row.shape.args, "name"}
        assert {key: said[key] for key in entry if key not in own} == {
            key: entry[key] for key in entry if key not in own
        }
        args = entry.get("args", [])
        assert isinstance(args, list)
        assert server.argv == (entry[row.shape.command], *args)
        assert server.standing is (Standing.GOVERNED if server.name in chosen else Standing.DIRECT)
        assert (said[row.shape.command] == PROGRAM) == (server.name in chosen)
    elsewhere = independent(row, change.raw.decode())
    if elsewhere is not None:
        assert json.dumps(elsewhere, default=lambda moment: moment.isoformat()) == json.dumps(after.root)
    install = Install(
        at="", host=row.id, action="connect", target=str(FILE), backup="", before="", after="", entries=change.touched
    )
    back = changes.disconnect(held(change.raw), row, [install])
    assert back.raw == raw
    # Without the record what stands there tells the same, up to spelling.
    blind = changes.disconnect(held(change.raw), row, [])
    values = {entry.name: entry.value for entry in changes.read(held(blind.raw), row).entries}
    for name, entry in found.items():
        value = values[name]
        assert isinstance(value, dict)
        assert {**value, "args": value.get("args", [])} == {**entry, **_name(row, name), "args": entry.get("args", [])}


def _name(row: Host, name: str) -> JsonObject:
    return {"name": name} if row.id == "continue" else {}


def _only_ours_changed(row: Host, before: bytes, after: bytes, chosen: list[str]) -> None:
    """What is left of a file without the text of the chosen entries is the same."""
    rests: list[str] = []
    for raw in (before, after):
        document = changes.read(held(raw), row)
        rest = document.text
        for entry in sorted(document.entries, key=lambda one: one.start, reverse=True):
            if entry.name in chosen:
                rest = rest[: entry.start] + rest[entry.end :]
        rests.append(rest)
    assert rests[0] == rests[1]


EXAMPLES = 60


@settings(max_examples=EXAMPLES, deadline=None)
@given(json_files(), st.data(), st.booleans())
def test_json_is_changed_within_its_entries_and_comes_back(
    made: tuple[Host, str, dict[str, JsonObject]], data: st.DataObject, crlf: bool
) -> None:
    row, text, found = made
    chosen = data.draw(st.lists(st.sampled_from(list(found)), min_size=1, unique=True))
    check(row, text.replace("\n", "\r\n") if crlf else text, found, chosen)


@settings(max_examples=EXAMPLES, deadline=None)
@given(toml_files(), st.data(), st.booleans())
def test_toml_is_changed_within_its_entries_and_comes_back(
    made: tuple[Host, str, dict[str, JsonObject]], data: st.DataObject, crlf: bool
) -> None:
    row, text, found = made
    chosen = data.draw(st.lists(st.sampled_from(list(found)), min_size=1, unique=True))
    check(row, text.replace("\n", "\r\n") if crlf else text, found, chosen)


@settings(max_examples=EXAMPLES, deadline=None)
@given(yaml_files(), st.data(), st.booleans())
def test_yaml_is_changed_within_its_entries_and_comes_back(
    made: tuple[Host, str, dict[str, JsonObject]], data: st.DataObject, crlf: bool
) -> None:
    row, text, found = made
    chosen = data.draw(st.lists(st.sampled_from(list(found)), min_size=1, unique=True))
    check(row, text.replace("\n", "\r\n") if crlf else text, found, chosen)


@settings(max_examples=EXAMPLES, deadline=None)
@given(VALUE)
def test_what_is_spelled_is_read_back_in_every_format(value: Json) -> None:
    assert json.loads(spell(value, "json")) == value
    assert yaml.safe_load(spell(value, "yaml")) == value
    assert tomllib.loads(f"v = {spell(value, 'toml')}")["v"] == value
