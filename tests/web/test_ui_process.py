"""The real `ui` beside a real proxy: a held call is answered through its socket, as a browser does it."""

import html
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Self
from urllib.parse import urlencode, urlsplit

import httpx2
import pytest

import warm
from asks.test_asking_a_host import ASKING, SCRIPT, answer, send
from commands import start
from fidelity.rig import Rig, at, quickest_s
from soothsayer_mcp.adapters.faces import is_watched
from soothsayer_mcp.testing.servers import LIMIT_S, wait_until

HIDDEN = re.compile(r'<input type="hidden" name="(\w+)" value="([^"]*)">')


class Ui:
    """`soothsayer ui` as somebody else's terminal started it: it belongs to no host of ours."""

    def __init__(self, folder: Path, *words: str) -> None:
        self._out, self._err = (folder / f"ui.{name}" for name in ("out", "err"))
        with self._out.open("wb") as out, self._err.open("wb") as err, Path(os.devnull).open("rb") as nothing:
            streams = [nothing.fileno(), out.fileno(), err.fileno()]
            argv = ["ui", *words, "--state", str(folder / "state")]
            self._process = start(argv, streams, kind=warm.PAGES)
        wait_until(lambda: "\n" in self.out, "the link")
        self.link = self.out.strip()
        said = urlsplit(self.link)
        self.origin = f"{said.scheme}://{said.netloc}"
        self.port = said.port
        self.base = said.path.removesuffix("/login")
        self.browser = httpx2.Client(base_url=self.origin, timeout=60, trust_env=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.browser.close()
        self.end()

    @property
    def out(self) -> str:
        return self._out.read_text(encoding="utf-8")

    @property
    def err(self) -> str:
        return self._err.read_text(encoding="utf-8")

    def end(self, number: int = signal.SIGTERM) -> int:
        """How it ended."""
        self._process.send_signal(number)
        return self._process.wait(LIMIT_S)

    def get(self, path: str, **headers: str) -> httpx2.Response:
        return self.browser.get(f"{self.base}{path}", headers=headers)

    def post(self, path: str, fields: dict[str, str], **headers: str) -> httpx2.Response:
        said = {"content-type": "application/x-www-form-urlencoded", "origin": self.origin, **headers}
        return self.browser.post(f"{self.base}{path}", content=urlencode(fields), headers=said)

    def sign_in(self) -> None:
        opened = self.browser.get(self.link)
        assert self.post("/login", dict(HIDDEN.findall(opened.text))).status_code == 303

    def open_ask(self) -> str:
        """The one question that is open, once there is one."""
        found: list[str] = []

        def looked() -> bool:
            found[:] = re.findall(r"/asks/([0-9a-f]{16})", self.get("/asks").text)
            return bool(found)

        wait_until(looked, "a question on the page")
        (ask,) = found
        return ask

    def fields(self, ask: str) -> dict[str, str]:
        page = self.get(f"/asks/{ask}").text
        return dict(HIDDEN.findall(page.rpartition("<form")[2]))


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    with Rig(tmp_path, SCRIPT, policy=ASKING) as made:
        made.host.initialize()
        yield made


@pytest.mark.pitfall("P-ASK-08")
def test_a_held_call_goes_on_within_a_second_of_the_answer_on_the_page_and_of_nothing_less(rig: Rig) -> None:
    with Ui(rig.folder) as ui:
        ui.sign_in()
        ui.get("/asks")
        assert is_watched(rig.state)
        name = send(rig, to="ann", note="<b>\u202e")
        ask = ui.open_ask()
        pages = [ui.get(f"/asks/{ask}").text for _ in range(10)]
        assert all('"ann"' in html.unescape(page) for page in pages)
        assert "<b>" not in pages[0]
        good = {**ui.fields(ask), "answer": "yes"}
        where = f"/asks/{ask}/answer"
        without = {key: value for key, value in good.items() if key != "form"}
        assert ui.post(where, without).status_code == 403
        assert ui.post(where, good, host="evil.test").status_code == 421
        assert ui.post(where, good, origin="http://evil.test").status_code == 403
        assert ui.get(f"/asks/{ask}", origin="http://evil.test").status_code == 403
        assert ui.post(where, {**good, "shown": "0" * 64}).status_code == 412
        with httpx2.Client(base_url=ui.origin, trust_env=False) as stranger:
            assert stranger.get(f"{ui.base}/asks/{ask}").status_code == 401
        assert (rig.entries("approval.answered"), rig.record.calls()) == ([], [])
        assert ui.post(where, good).status_code == 303
        assert at(answer(rig, name), "result", "content", 0, "text") == "sent"
        assert quickest_s(rig.state) < 1.0
        assert ui.post(where, {**good, "answer": "no"}).status_code == 409
        (told,) = rig.entries("approval.answered")
        assert (told["answer"], told["channel"]) == ("yes", "page")
        # What lets a browser in stands in the terminal alone.
        assert ui.link.rpartition("=")[2] not in ui.err
        assert ui.end() == 128 + signal.SIGTERM
        assert not is_watched(rig.state)


def test_a_host_opens_the_page_of_a_strong_question_which_wants_what_stands_in_the_terminal(tmp_path: Path) -> None:
    with Rig(tmp_path, SCRIPT, policy=ASKING) as rig, Ui(tmp_path) as ui:
        rig.host.initialize(capabilities={"elicitation": {"url": {}}})
        name = rig.host.ask("tools/call", {"name": "pay", "arguments": {"sum": 3}})
        invited = json.loads(rig.host.message("elicitation/create"))
        address = str(at(invited, "params", "url"))
        ask = address.rpartition("/")[2]
        assert address == f"{ui.origin}{ui.base}/asks/{ask}"
        assert ui.browser.get(address).status_code == 401  # A link is no authority.
        ui.sign_in()
        rig.host.send({"jsonrpc": "2.0", "id": invited["id"], "result": {"action": "accept"}})
        good = {**ui.fields(ask), "answer": "yes"}
        assert ui.post(f"/asks/{ask}/answer", {**good, "code": ask[:6]}).status_code == 403
        (code,) = re.findall(rf"{ask[:6]} raw\.pay: to allow it, type (\w+) on the page", ui.err)
        assert ui.post(f"/asks/{ask}/answer", {**good, "code": code}).status_code == 303
        answer(rig, name)
        assert len(rig.record.calls()) == 1


def test_a_yes_for_good_lets_the_held_call_go_and_writes_the_rule_that_was_shown(tmp_path: Path) -> None:
    policy = ASKING.partition("rules:")[0].replace("other: allow", "other: ask")
    with Rig(tmp_path, SCRIPT, policy=policy) as rig, Ui(tmp_path, "--policy", str(tmp_path / "policy.yaml")) as ui:
        rig.host.initialize()
        ui.sign_in()
        ui.get("/asks")
        name = send(rig, to="ann")
        ask = ui.open_ask()
        file = tmp_path / "policy.yaml"
        page = html.unescape(ui.get(f"/asks/{ask}/always").text)
        assert file.read_text(encoding="utf-8") == policy
        shown = [line for line in re.findall(r"<ins>\+(.*?)</ins>", page) if not line.startswith("++")]
        assert any("raw.send" in line for line in shown)
        good = {**dict(HIDDEN.findall(page.rpartition("<form")[2])), "answer": "always"}
        other = ui.post(f"/asks/{ask}/answer", {**good, "change": "0" * 64})
        assert (other.status_code, file.read_text(encoding="utf-8")) == (412, policy)
        assert ui.post(f"/asks/{ask}/answer", good).status_code == 303
        assert at(answer(rig, name), "result", "content", 0, "text") == "sent"
        after = file.read_text(encoding="utf-8").splitlines()
        assert [line for line in after if line not in policy.splitlines()] == [line for line in shown if line in after]
        assert set(shown) - {""} <= set(after)


def test_it_listens_at_this_machine_alone_and_ends_at_once_while_a_page_listens(tmp_path: Path) -> None:
    with Ui(tmp_path) as ui:
        listening = Path("/proc/net/tcp").read_text(encoding="ascii") + Path("/proc/net/tcp6").read_text(
            encoding="ascii"
        )
        at_port = re.findall(rf"^\s*\d+: ([0-9A-F]+):{ui.port:04X} \S+ 0A", listening, re.MULTILINE)
        assert at_port == ["0100007F"]
        ui.sign_in()
        with ui.browser.stream("GET", f"{ui.base}/live") as events:
            assert events.status_code == 200
            next(events.iter_lines())
            assert ui.end(signal.SIGINT) == 128 + signal.SIGINT
        assert ui.err.count("\n") == 2, ui.err  # Nothing but what it had to say.


def test_a_taken_port_is_told_and_a_browser_is_opened_without_its_link_in_sight(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = tmp_path / "seen"
    browser = tmp_path / "browser"
    browser.write_text(f'#!/bin/sh\necho "$1" >{seen}.new\ncat "${{1#file://}}" >>{seen}.new\nmv {seen}.new {seen}\n')
    browser.chmod(0o700)
    monkeypatch.setenv("BROWSER", str(browser))
    with Ui(tmp_path, "--open") as ui:
        wait_until(seen.exists, "the browser")
        where, page = seen.read_text(encoding="utf-8").split("\n", 1)
        assert (ui.link in html.unescape(page), ui.link in where) == (True, False)
        words = [
            sys.executable,
            "-m",
            "soothsayer_mcp",
            "ui",
            "--port",
            str(ui.port),
            "--state",
            str(tmp_path / "state"),
        ]
        ended = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
        assert (ended.returncode, "cannot be used" in ended.stderr) == (4, True)
    assert list((tmp_path / "state").glob("ui-*")) == []
