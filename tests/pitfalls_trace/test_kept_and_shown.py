"""What was said, from the wire to the record and to the terminal: exact, masked, and never by a side door."""

import hashlib
import json
import os
import sqlite3
from collections.abc import Callable, Generator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Final

import pytest

from fidelity.rig import Rig, at, call, notice, read, request
from proxy.stage import Stage
from recording import bind, make_step, opened
from recording import run as run_async
from soothsayer_mcp.__main__ import run
from soothsayer_mcp.adapters.store.sqlite import SqliteStore
from soothsayer_mcp.adapters.verifier import verify
from soothsayer_mcp.cli.exits import Exit
from soothsayer_mcp.model.json import JsonObject
from soothsayer_mcp.model.step import SupportedStep
from soothsayer_mcp.policy.detectors import marker
from soothsayer_mcp.ports import PortError, Standing
from soothsayer_mcp.run.close import close
from soothsayer_mcp.testing.servers import Script, error, line, result, tool
from soothsayer_mcp.wire.strict import MAX_DEPTH
from store.test_masking import jwt

POLICY: Final = """
soothsayer: policy/v1
name: keeping
default: {read: allow, other: allow, checked: allow}
arguments: {max_bytes: 20MB, max_depth: 128, undeclared: allow, no_schema: allow}
trace: {payloads: %s}
rules:
  - {deny: "Not this one.", id: never, tools: raw.denied}
  - {deny: "No keys.", id: keys, tools: raw.doubtful, args: {note: {under: "~/.ssh"}}}
  - {deny: "Not this text.", id: text, tools: raw.matched, args: {note: {matches: "can.*"}}}
"""


def keeping(folder: Path, script: Script, payloads: str, env: Mapping[str, str] | None = None) -> Rig:
    return Rig(folder, script, policy=POLICY % payloads, env=env)


def kept(state: Path, part: str) -> list[tuple[str, bytes, str]]:
    """Text, salt and digest of every kept payload of a sort, oldest first."""
    with closing(sqlite3.connect(state / "trace-000001.db")) as db:
        rows = db.execute(
            "SELECT p.text, p.salt, json_extract(e.body, '$.' || p.part || '.digest') FROM payloads p"
            " JOIN entries e ON e.writer = p.writer AND e.seq = p.seq WHERE p.part = ? ORDER BY p.id",
            (part,),
        )
        return [(str(text), bytes(salt), str(digest)) for text, salt, digest in rows]


def everything(folder: Path) -> bytes:
    """Every byte that lies in a folder, logs of the database and files of payloads included."""
    return b"\n".join(path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file())


Soothsay = Callable[..., str]


@pytest.fixture
def soothsay(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Soothsay:
    """What a command shows of a state folder, on both of its outputs."""
    for name in [name for name in os.environ if name.startswith("SOOTHSAYER_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("COLUMNS", "200")

    def shown(state: Path, *words: str) -> str:
        assert run(["--state", str(state), *words]) == Exit.DONE
        captured = capsys.readouterr()
        return captured.out + captured.err

    return shown


# -- the exact bytes

DEEP: Final = MAX_DEPTH - 3
ALIKE: Final = (
    '{"n":9007199254740992}',
    '{"n":9007199254740993}',
    '{"n":1.0}',
    '{"n":1}',
    '{"n":-0.0}',
    '{"n":0}',
    '{"n":0.0}',
    '{"n": 1}',
    '{"n":"\\u0041"}',
    '{"n":"A"}',
    '{"n":' + "[" * DEEP + "]" * DEEP + "}",
)
"""Arguments that a second spelling would make equal, or refuse."""


def test_what_reads_alike_is_kept_as_it_was_spelt_and_told_apart(tmp_path: Path) -> None:
    """P-TRACE-07, but for export and import."""
    with keeping(tmp_path, Script(tools=[tool("echo")]), "full") as rig:
        rig.host.initialize()
        for number, arguments in enumerate(ALIKE):
            rig.host.send(call("echo", arguments, f'"a{number}"'))
            assert "result" in read(rig.host.answer(f"a{number}"))
        state = rig.state
    rows = kept(state, "args")[-len(ALIKE) :]
    assert [text for text, _, _ in rows] == list(ALIKE)
    assert all(digest == "sha256:" + hashlib.sha256(salt + text.encode()).hexdigest() for text, salt, digest in rows)
    assert len({digest for _, _, digest in rows}) == len(ALIKE)
    with closing(sqlite3.connect(state / "trace-000001.db")) as db:
        bodies = db.execute("SELECT leaf, body FROM entries").fetchall()
    assert all(leaf == hashlib.sha256(b"\0" + body.encode()).digest() for leaf, body in bodies)
    assert len({leaf for leaf, _ in bodies}) == len(bodies)
    assert verify([state]).holds


# -- secrets

TOKEN: Final = "ghp_" + "a1B2" * 9
MARK: Final = marker("")[:-1]
TOKENS: Final = {"token": TOKEN, "HS256": jwt("HS256"), "RS256": jwt("RS256")}
ANSWERS: Final = {
    "text": result('{"content":[{"type":"text","text":"it is @, keep it"}]}'),
    "structured": result('{"content":[],"structuredContent":{"deep":[{"value":"@"}]}}'),
    "embedded": result('{"content":[{"type":"resource","resource":{"uri":"a:b","text":"@"}}]}'),
    "link": result('{"content":[{"type":"resource_link","uri":"https://h.test/@","name":"x"}]}'),
    "message": error('{"code":-32050,"message":"no: @"}'),
    "data": error('{"code":-32050,"message":"no","data":{"trace":["@"]}}'),
    "failure": result('{"content":[{"type":"text","text":"@"}],"isError":true}'),
}
ASIDE: Final = [
    line('{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":"@"}}'),
    line(
        '{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":"p","progress":1,"message":"@"}}'
    ),
]
PROMPT: Final = result('{"messages":[{"role":"user","content":{"type":"text","text":"@"}}]}')


@pytest.mark.parametrize("name", TOKENS)
def test_a_token_is_in_no_byte_of_the_record_wherever_it_stood(name: str, tmp_path: Path) -> None:
    """P-SECRET-05, as far as messages are recorded; definitions are kept whole, since people have to review them."""
    token = TOKENS[name]
    acts = {f"tool:{place}": [_with(act, token)] for place, act in ANSWERS.items()}
    acts["tool:text"] = [*(_with(act, token) for act in ASIDE), *acts["tool:text"]]
    acts |= {"prompts/get": [_with(PROMPT, token)], "resources/read": [_with(ANSWERS["data"], token)]}
    script = Script(
        tools=[tool(place) for place in ANSWERS], on=acts, capabilities='{"tools":{},"prompts":{},"resources":{}}'
    )
    with keeping(tmp_path, script, "redacted") as rig:
        rig.host.initialize()
        for place in ANSWERS:
            assert token in json.dumps(rig.host.call(place, {"given": token, "note": f"use {token} now"}))
        assert token in json.dumps(rig.host.request("prompts/get", {"name": token}))
        assert token in json.dumps(rig.host.request("resources/read", {"uri": f"a:{token}"}))
        assert token.encode() not in everything(rig.state)
        state = rig.state
    assert token.encode() not in everything(state)
    marked = [text for part in ("args", "result") for text, _, _ in kept(state, part) if MARK in text]
    assert len(marked) == 2 * len(ANSWERS)


def _with(act: JsonObject, token: str) -> JsonObject:
    return {**act, "text": str(act["text"]).replace("@", token)}


# -- side doors

CANARY: Final = "canary-7b1f-in-a-coal-mine"
IN_ENVIRONMENT: Final = "canary-9d42-in-the-air"


@pytest.mark.pitfall("P-SECRET-06")
@pytest.mark.parametrize("payloads", ["digest", "full"])
def test_what_was_said_is_found_where_policy_stores_it_and_nowhere_else(
    payloads: str, tmp_path: Path, soothsay: Soothsay
) -> None:
    says = result('{"content":[{"type":"text","text":"' + CANARY + '"}]}')
    schema: JsonObject = {"type": "object", "properties": {"note": {"type": "string", "enum": ["x"]}}}
    script = Script(
        tools=[tool("denied"), tool("doubtful"), tool("matched"), tool("plain"), tool("checked", inputSchema=schema)],
        on={"tool:plain": [says]},
    )
    with keeping(tmp_path, script, payloads, {"CANARY": IN_ENVIRONMENT}) as rig:
        rig.host.initialize()
        refused = [
            rig.host.call(name, {"note": {"in": CANARY} if name == "doubtful" else CANARY})
            for name in ("denied", "doubtful", "matched", "checked")
        ]
        for answer in refused:
            assert at(answer, "result", "isError") is True
            assert CANARY not in json.dumps(answer)
        assert CANARY in json.dumps(rig.host.call("plain", {"note": CANARY}))
        rig.host.send('{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"' + CANARY + '","name":""}}')
        assert CANARY.encode() not in rig.host.line()
        rig.host.send(request("x/unknown", '{"note":"' + CANARY + '"}', '"u"'))
        assert CANARY.encode() not in rig.host.answer("u")
        rig.host.send(notice("notifications/x", '{"note":"' + CANARY + '"}'))
        rig.host.send('{"note":"' + CANARY)
        assert CANARY.encode() not in rig.host.line()
        rig.host.rest()
        said, state = rig.host.stderr, rig.state
    assert "governs by policy" in said
    assert CANARY not in said
    stored = everything(state)
    assert (CANARY.encode() in stored) is (payloads == "full")
    with closing(sqlite3.connect(state / "trace-000001.db")) as db:
        bodies = " ".join(body for (body,) in db.execute("SELECT body FROM entries"))
        texts = " ".join(text or "" for (text,) in db.execute("SELECT text FROM payloads"))
    assert CANARY not in bodies
    assert texts.count(CANARY) == (6 if payloads == "full" else 0)
    for words in (("version",), ("stats",), ("run", "list"), ("trace", "verify"), ("log", "--entries", "-n0")):
        assert CANARY not in soothsay(state, *words)
    assert IN_ENVIRONMENT not in said
    assert IN_ENVIRONMENT.encode() not in stored


@pytest.mark.pitfall("P-SECRET-06")
@pytest.mark.parametrize("port", ["bind_run", "record_intent", "record_outcome", "note"])
def test_what_an_exception_of_ours_quotes_is_neither_logged_nor_answered(port: str) -> None:
    def fault() -> None:
        try:
            _ = dict[str, str]()[CANARY]
        except KeyError as cause:
            raise ValueError(CANARY) from cause

    async def body() -> tuple[list[str], list[bytes]]:
        async with Stage().playing() as stage:
            await stage.open()
            stage.world.before[port] = fault
            line = request("resources/read", '{"uri":"a:b"}', "7") if port == "note" else call("echo", "{}", "7")
            await stage.host.ask(line, 7)
            return stage.logged, stage.host.sent

    logged, sent = run_async(body)
    told = "\n".join(logged)
    assert CANARY not in told
    assert CANARY.encode() not in b"".join(sent)
    for words in ("ValueError", "KeyError", "in fault", Path(__file__).name):
        assert words in told


def test_what_an_exception_in_the_store_quotes_is_not_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def admit(_standing: Standing, _step: SupportedStep) -> None:
        raise ValueError(CANARY)

    async def body(store: SqliteStore) -> PortError:
        step = make_step(await bind(store))
        with pytest.raises(PortError) as caught:
            await store.record_intent(step, admit, close)
        return caught.value

    with opened(tmp_path) as store:
        told = run_async(lambda: body(store))
    assert CANARY not in f"{told} {told.summary} {caplog.text}"
    assert "ValueError" in caplog.text
    assert "in admit" in caplog.text


# -- the terminal

LINK: Final = "\x1b]8;;https://evil.test\x1b\\read me\x1b]8;;\x1b\\"
HOSTILE: Final = {
    "link": LINK,
    "markup": "<script>alert(1)</script>[bold]x[/bold]",
    "bidi": "a\u202eb",
    "csi": "\x9b31m",
}


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Generator[Path]:
    says = result(json.dumps({"content": [{"type": "text", "text": " ".join(HOSTILE.values())}], "isError": True}))
    named = f"see {LINK}"
    script = Script(tools=[tool("echo"), tool(named)], on={"tool:echo": [says]})
    with keeping(tmp_path_factory.mktemp("hostile"), script, "full") as rig:
        rig.host.initialize()
        rig.host.call("echo", dict(HOSTILE))
        rig.host.call(named)
        rig.host.call("no such " + LINK)
        yield rig.state


@pytest.mark.pitfall("P-SECRET-07")
@pytest.mark.parametrize(
    "words",
    [
        ("log",),
        ("log", "--entries"),
        ("log", "--oneline"),
        ("log", "--csv"),
        ("show", "STEP"),
        ("show", "STEP", "--payloads"),
        ("show", "STEP", "--entries"),
        ("show", "RUN"),
        ("run", "list"),
        ("run", "show", "RUN"),
        ("stats", "--by", "tool"),
        ("pins", "list"),
        ("policy", "explain", "STEP"),
    ],
    ids=" ".join,
)
@pytest.mark.parametrize("color", ["never", "always"])
def test_what_a_model_or_server_said_is_shown_and_never_obeyed(
    words: tuple[str, ...], color: str, hostile: Path, soothsay: Soothsay
) -> None:
    first = json.loads(soothsay(hostile, "log", "--json", "tool:echo"))["steps"][0]["step"]
    names = {"STEP": first, "RUN": first.split(".")[0]}
    shown = soothsay(hostile, *(names.get(word, word) for word in words), "--color", color, "--no-pager")
    assert not set(shown) & {"\u202e", "\x9b", "\x07"}
    assert "\x1b]" not in shown
    assert color == "always" or "\x1b" not in shown
    if words == ("show", "STEP", "--payloads"):
        assert "\\x1b]8;;https://evil.test\\x1b" in shown or "\\u001b]8;;https://evil.test\\u001b" in shown
        assert "<script>alert(1)</script>[bold]x[/bold]" in shown
