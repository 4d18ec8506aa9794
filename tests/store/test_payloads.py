"""Payloads: salted, in the mode of the moment, in rows or files, and never guessable from their digest."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from recording import bind, opened, run, whole_step
from soothsayer_mcp.adapters.store import masking
from soothsayer_mcp.adapters.store.payloads import ROW_BYTES, Payload, Payloads
from soothsayer_mcp.adapters.verifier import verify
from soothsayer_mcp.model.entry import PayloadMode

WRITER = "a1f0c2d97be34c55"


def payloads(folder: Path, mode: PayloadMode) -> Payloads:
    (folder / "blobs").mkdir(exist_ok=True)
    return Payloads(lambda: mode, folder / "blobs", WRITER)


def field(payload: Payload) -> dict[str, Any]:
    return json.loads(payload.field)


def digest(payload: Payload, raw: bytes) -> str:
    return "sha256:" + hashlib.sha256(payload.salt + raw).hexdigest()


def test_full_keeps_the_bytes_and_one_digest(tmp_path: Path) -> None:
    raw = b'{"password":"hunter2"}'
    kept = payloads(tmp_path, PayloadMode.FULL).ready(raw)
    assert kept.text == raw.decode()
    assert field(kept) == {"digest": digest(kept, raw), "bytes": len(raw), "mode": "full"}


def test_redacted_names_the_digest_of_what_was_said_and_of_what_is_kept(tmp_path: Path) -> None:
    raw = b'{"password":"hunter2"}'
    kept = payloads(tmp_path, PayloadMode.REDACTED).ready(raw)
    assert isinstance(kept.text, str)
    assert "hunter2" not in kept.text
    assert field(kept) == {
        "digest": digest(kept, raw),
        "bytes": len(raw),
        "mode": "redacted",
        "kept": digest(kept, kept.text.encode()),
        "masked": 1,
    }


def test_digest_keeps_only_what_confirms(tmp_path: Path) -> None:
    raw = b'{"path":"a"}'
    kept = payloads(tmp_path, PayloadMode.DIGEST).ready(raw)
    assert (kept.text, kept.file) == (None, None)
    assert field(kept) == {"digest": digest(kept, raw), "bytes": len(raw), "mode": "digest"}


def test_what_cannot_be_masked_is_kept_as_a_digest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(masking, "LIMIT_S", -1.0)
    kept = payloads(tmp_path, PayloadMode.REDACTED).ready(b'{"password":"hunter2"}')
    assert (kept.text, kept.file, field(kept)["mode"]) == (None, None, "digest")


def test_always_full_is_full_whatever_the_mode(tmp_path: Path) -> None:
    kept = payloads(tmp_path, PayloadMode.DIGEST).ready(b"token: abc", always_full=True)
    assert kept.text == "token: abc"


@pytest.mark.parametrize(("size", "in_row"), [(ROW_BYTES, True), (ROW_BYTES + 1, False)])
def test_up_to_a_limit_a_payload_lies_in_its_row(tmp_path: Path, size: int, in_row: bool) -> None:
    kept = payloads(tmp_path, PayloadMode.FULL).ready(b"x" * size)
    assert (kept.text is not None, kept.file is None) == (in_row, in_row)
    if kept.file is not None:
        assert (tmp_path / "blobs" / kept.file).stat().st_size == size
        assert (tmp_path / "blobs" / kept.file).stat().st_mode & 0o777 == 0o600
        assert kept.file.startswith(f"{WRITER}-")


def test_a_file_that_cannot_be_written_leaves_none_behind(tmp_path: Path) -> None:
    made = payloads(tmp_path, PayloadMode.FULL)
    (tmp_path / "blobs").rmdir()
    with pytest.raises(OSError, match="blobs"):
        made.ready(b"x" * (ROW_BYTES + 1))


@pytest.mark.pitfall("P-TRACE-10")
def test_a_digest_cannot_be_guessed_without_its_salt_and_erasing_breaks_no_check(tmp_path: Path) -> None:
    raw = b'{"pin":"1234"}'
    with opened(tmp_path) as store:
        run_id = run(lambda: bind(store))
        run(lambda: whole_step(store, run_id, raw_arguments=raw))
        db = store._writer._db
        [(body,)] = db.execute("SELECT body FROM entries WHERE kind = 'step.intent'").fetchall()
        [(salt, text)] = db.execute("SELECT salt, text FROM payloads WHERE part = 'args'").fetchall()
        said = json.loads(body)["args"]["digest"]
        guesses = {"sha256:" + hashlib.sha256(b'{"pin":"%04d"}' % pin).hexdigest() for pin in range(10_000)}
        assert said not in guesses
        assert "sha256:" + hashlib.sha256(salt + text.encode()).hexdigest() == said
        assert verify([tmp_path]).erased == 0
        db.execute("DELETE FROM payloads WHERE part IN ('args', 'result')")
        report = verify([tmp_path])
    assert report.holds, report.lines()
    assert report.erased == 2
    assert "2 payloads are erased" in report.lines()


def test_equal_payloads_have_different_digests(tmp_path: Path) -> None:
    made = payloads(tmp_path, PayloadMode.FULL)
    assert len({made.ready(b"same").field for _ in range(200)}) == 200


def test_files_of_a_dead_writer_that_no_row_names_are_removed(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        run_id = run(lambda: bind(store))
        big = b'"' + b"a" * (ROW_BYTES + 1) + b'"'
        run(lambda: whole_step(store, run_id, arguments={}, raw_arguments=big))
        dead = store.writer_id
    blobs = tmp_path / "blobs"
    [named] = blobs.iterdir()
    (blobs / f"{dead}-stray").write_bytes(b"x")
    (blobs / "feedfeedfeedfeed-other").write_bytes(b"x")
    with opened(tmp_path) as store:
        store._writer._db.execute("UPDATE writers SET closed_at = NULL WHERE id = ?", (dead,))
    with opened(tmp_path):
        left = {path.name for path in blobs.iterdir()}
    assert left == {named.name, "feedfeedfeedfeed-other"}
