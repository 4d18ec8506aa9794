"""Programs, addresses and signatures that checks look at: bounded, listed, and never followed anywhere else."""

import base64
import json
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import anyio
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from soothsayer_mcp.adapters.probes.commands import run
from soothsayer_mcp.adapters.probes.http import Asking, address_of
from soothsayer_mcp.adapters.probes.settings import Command
from soothsayer_mcp.adapters.probes.signatures import open_envelope
from soothsayer_mcp.evidence.attestation import PAYLOAD_TYPE, judge_statement
from soothsayer_mcp.model.dues import Item
from soothsayer_mcp.model.finding import Answer
from soothsayer_mcp.model.json import JsonObject
from soothsayer_mcp.ports import PortError


def command(code: str, *words: str, timeout_s: float = 10.0) -> Command:
    return Command(argv=(sys.executable, "-c", code, *words), cwd="/", timeout_s=timeout_s)


def test_a_program_ends_with_its_code_and_its_words_are_whole_arguments() -> None:
    facts = anyio.run(run, command("import sys; print(sys.argv[1]); sys.exit(3)", "${file}"), {"file": "a b;c"})
    assert (facts.exit, facts.stdout) == (3, "a b;c\n")


ECHO = "import json, sys; print(json.dumps(sys.argv[1:]))"


@pytest.mark.pitfall("P-POLICY-11")
def test_a_value_that_looks_like_an_option_arrives_after_two_dashes_as_one_item() -> None:
    facts = anyio.run(run, command(ECHO, "--", "${a}", "${b}"), {"a": "--pre=sh", "b": "-x y"})
    assert json.loads(facts.stdout) == ["--", "--pre=sh", "-x y"]


@pytest.mark.parametrize("words", [("${a}",), ("--", "rg", "${a}"), ("--x", "${a}")])
def test_a_value_that_looks_like_an_option_starts_nothing_where_an_option_may_stand(words: tuple[str, ...]) -> None:
    with pytest.raises(PortError):
        anyio.run(run, command(ECHO, *words), {"a": "--pre=sh"})


@pytest.mark.parametrize("value", ["-x", "", "a\nb", "a\0b"])
def test_a_word_that_could_be_an_option_starts_nothing(value: str) -> None:
    with pytest.raises(PortError):
        anyio.run(run, command("", "${file}"), {"file": value})


@pytest.mark.parametrize("code", ["import time; time.sleep(60)", "while True: print('x' * 100000)"])
def test_a_program_that_hangs_or_says_too_much_is_no_answer(code: str) -> None:
    nothing: dict[str, str] = {}
    with pytest.raises(PortError):
        anyio.run(run, command(code, timeout_s=1.0), nothing)


class Site(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        if self.path == "/moved":
            self.send_response(302)
            self.send_header("Location", "/")
            self.end_headers()
            return
        self.send_response(200)
        self.end_headers()
        try:
            self.wfile.write(b"x" * (2_000_000 if self.path == "/big" else 2))
        except OSError:
            return

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name of the base class
        """Say nothing."""


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with HTTPServer(("127.0.0.1", 0), Site) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


def test_a_listed_address_answers_and_redirects_and_floods_are_no_answer(port: int) -> None:
    hosts = frozenset({f"127.0.0.1:{port}"})
    facts = Asking(f"http://127.0.0.1:{port}/", "GET", hosts).ask()
    assert (facts.status, facts.body) == (200, "xx")
    for path in ("moved", "big"):
        with pytest.raises(PortError):
            Asking(f"http://127.0.0.1:{port}/{path}", "GET", hosts).ask()


def test_a_name_that_leads_to_a_private_address_is_not_connected_to(port: int) -> None:
    with pytest.raises(PortError):
        Asking(f"http://localhost:{port}/", "GET", frozenset({f"localhost:{port}"})).ask()
    with pytest.raises(PortError):
        Asking(f"http://127.0.0.1:{port}/", "GET", frozenset({"ci.example.test"}))


def test_values_stay_within_their_part_of_an_address() -> None:
    values: JsonObject = {"args": {"id": "a/../b?c#d", "host": "evil.test/x", "up": ".."}}
    assert address_of("https://ci.test/b/${args.id}", values) == "https://ci.test/b/a%2F..%2Fb%3Fc%23d"
    for template in ("https://${args.host}.ci.test/", "https://ci.test/${args.up}/x", "file:///etc/passwd"):
        with pytest.raises(PortError):
            address_of(template, values)


def test_an_attestation_counts_by_its_key_type_and_subject_only(tmp_path: Path) -> None:
    key, subject = Ed25519PrivateKey.generate(), "c" * 64
    (tmp_path / "k.pem").write_bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    payload = json.dumps(
        {"_type": "https://in-toto.io/Statement/v1", "predicateType": "t", "subject": [{"digest": {"sha256": subject}}]}
    ).encode()
    signed = b"DSSEv1 %d %s %d %s" % (len(PAYLOAD_TYPE), PAYLOAD_TYPE.encode(), len(payload), payload)
    envelope: JsonObject = {
        "payloadType": PAYLOAD_TYPE,
        "payload": base64.b64encode(payload).decode(),
        "signatures": [{"sig": base64.b64encode(key.sign(signed)).decode()}],
    }
    keys = {"k": str(tmp_path / "k.pem")}

    def judged(envelope: JsonObject, predicate: str = "t", about: str = subject) -> Answer:
        item = Item(kind="attestation", spec={"predicate": predicate}, rule="r")
        return judge_statement(item, open_envelope(envelope, keys), about, 0).answer

    assert judged(envelope) is Answer.KEPT
    assert judged(envelope, predicate="other") is Answer.BROKEN
    assert judged(envelope, about="d" * 64) is Answer.BROKEN
    other = base64.b64encode(payload.replace(b'"t"', b'"u"')).decode()
    assert judged({**envelope, "payload": other}, predicate="u") is Answer.BROKEN
