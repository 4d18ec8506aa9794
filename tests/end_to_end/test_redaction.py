"""What a real server reads from a file is masked before a model reads it, and in the record."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from end_to_end.conftest import SOOTHSAYER, program
from needs import need
from soothsayer_mcp.policy.detectors import marker
from soothsayer_mcp.testing.hosts import RawHost

POLICY = """\
soothsayer: policy/v1
name: masked
default: {read: allow, other: ask, checked: allow}
labels: [{tools: "fs.read_*", does: read}]
rules:
  - {ask: "An argument holds a secret.", args: {"**": {find: secret}}}
  - {also: "Accounts and secrets are masked.", tools: "fs.*", redact: [{in: result, find: [secret, iban, email]}]}
"""
TOKEN = "ghp_" + "a1B2" * 9


@pytest.mark.pitfall("P-SECRET-05")
def test_a_secret_in_a_file_reaches_neither_the_model_nor_the_record(tmp_path: Path) -> None:
    server = program("npm", "mcp-server-filesystem")
    need("servers", found=Path(server).exists(), remedy="run `make servers`")
    (tmp_path / "p.yaml").write_text(POLICY, encoding="utf-8")
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "notes.txt").write_text(
        f"to DE02 1203 0000 0000 2020 51,\nTOKEN={TOKEN} of ann@acme.test\n", encoding="utf-8"
    )
    command = [
        SOOTHSAYER,
        "proxy",
        "--name",
        "fs",
        "--policy",
        tmp_path / "p.yaml",
        "--state",
        tmp_path / "state",
        "--",
    ]
    with RawHost([*map(str, command), server, str(folder)]) as host:
        host.initialize()
        answer = host.call("read_text_file", {"path": str(folder / "notes.txt")})
        refused = host.call("read_text_file", {"path": f"{folder}/{TOKEN}"})
    expected = f"to {marker('iban')},\nTOKEN={marker('token')} of {marker('email')}\n"
    assert answer["result"] == {
        "content": [{"type": "text", "text": expected}],
        "structuredContent": {"content": expected},
    }
    assert "nobody_to_ask" in str(refused)
    with closing(sqlite3.connect(tmp_path / "state" / "trace-000001.db")) as db:
        kept = [str(text) for (text,) in db.execute("SELECT text FROM payloads WHERE part = 'result'")]
    assert any(marker("iban") in text for text in kept)
    for file in (tmp_path / "state").rglob("*"):
        if file.is_file():
            assert TOKEN.encode() not in file.read_bytes(), file
            assert b"DE02 1203" not in file.read_bytes(), file
