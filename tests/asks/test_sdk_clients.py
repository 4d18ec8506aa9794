"""The same question through the clients that people use: both generations of the Python SDK, and the TypeScript one."""

import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal, TypeAlias, cast

import anyio
import pytest
from mcp import Client, StdioServerParameters
from mcp.client import ClientRequestContext
from mcp.types import ElicitRequestParams, ElicitResult, TextContent

from asks.test_answering_at_a_terminal import Ended
from asks.test_asking_a_host import ASKING, SCRIPT
from fidelity.rig import entries
from kept import keep
from needs import need, need_command
from pitfalls_e2e.remote import listing
from placing import put
from soothsayer_mcp.testing.hosts import RawHost
from soothsayer_mcp.testing.servers import tool, wait_until

ROOT = Path(__file__).parents[2]
CLIENTS = Path(__file__).parent / "clients"
Action: TypeAlias = Literal["accept", "decline", "cancel"]
Asks: TypeAlias = Callable[[Action, Sequence[str]], dict[str, Any]]
ARGUMENTS = '{"to":"ann"}'
DENYING = ASKING.replace('ask: "A person looks first.", id: look', 'deny: "Nothing leaves.", id: stays')
FIRST = "Denied by policy rule asking/stays: Nothing leaves. Nothing was sent. [policy_denied/rule_denied, step "
"""What the agent reads first; the step's name follows."""


async def meanwhile() -> None:
    """What the clients of other processes do, too: say that they are asked, and wait for what is to happen first."""
    folder = os.environ.get("MEANWHILE")
    if folder:
        Path(folder, "asked").touch()  # noqa: ASYNC240 - nothing else goes on here
        await anyio.to_thread.run_sync(wait_until, Path(folder, "go").exists, "what happens meanwhile")


def by_sdk(mode: str) -> Asks:
    def ask(action: Action, command: Sequence[str]) -> dict[str, Any]:
        asked: list[str] = []

        async def elicit(context: ClientRequestContext, params: ElicitRequestParams) -> ElicitResult:
            del context
            asked.append(params.message)
            await meanwhile()
            return ElicitResult(action=action, content={} if action == "accept" else None)

        async def run() -> dict[str, Any]:
            server = StdioServerParameters(command=command[0], args=list(command[1:]))
            async with Client(server, elicitation_callback=elicit, mode=mode) as client:
                result = await client.call_tool("send", json.loads(ARGUMENTS))
                (block,) = result.content
                assert isinstance(block, TextContent)
                blocks = [each.type for each in result.content]
                return {"asked": asked, "error": result.is_error or False, "text": block.text, "blocks": blocks}

        return anyio.run(run)

    return ask


class ByScript:
    """A client in a process of its own, which is asked again and again: to load an SDK costs more than a call."""

    def __init__(self, program: Sequence[str], env: dict[str, str]) -> None:
        self._program, self._env = program, env
        self._process: RawHost | None = None

    def __call__(self, action: Action, command: Sequence[str]) -> dict[str, Any]:
        process = self._process or RawHost(self._program, env={**os.environ, **self._env})
        self._process = None  # until it has answered: one that did not is asked nothing more
        wanted = {"action": action, "arguments": json.loads(ARGUMENTS), "command": [*command]}
        try:
            process.send({**wanted, "meanwhile": os.environ.get("MEANWHILE", "")})
            told = process.line()
        except BaseException:
            process.close()
            raise
        self._process = process
        return cast("dict[str, Any]", json.loads(told))

    def close(self) -> None:
        if self._process is not None:
            self._process.close()


@pytest.fixture(scope="module", params=["sdk 2, handshake", "sdk 2, stateless", "sdk 1", "typescript"])
def asks(request: pytest.FixtureRequest) -> Iterator[Asks]:
    servers = ROOT / ".servers"
    match request.param:
        case "sdk 2, handshake":
            yield by_sdk("legacy")
            return
        case "sdk 2, stateless":
            yield by_sdk("2026-07-28")
            return
        case "sdk 1":
            python = servers / "py1" / "bin" / "python"
            need("servers", found=python.exists(), remedy="make servers")
            script = ByScript([str(python), str(CLIENTS / "sdk1.py")], {})
        case _:
            sdk = servers / "npm" / "node_modules" / "@modelcontextprotocol" / "sdk" / "dist" / "esm"
            need("servers", found=sdk.exists(), remedy="make servers")
            script = ByScript([need_command("node"), str(CLIENTS / "typescript.mjs")], {"SDK": str(sdk)})
    yield script
    script.close()


ENDS: dict[Action, tuple[str, str]] = {
    "accept": ("sent", "yes"),
    "decline": ("policy_denied/declined", "no"),
    "cancel": ("policy_denied/nobody_to_ask", "withdrawn"),
}


@pytest.mark.parametrize("action", list(ENDS))
def test_a_question_ends_alike_in_every_client(tmp_path: Path, asks: Asks, action: Action) -> None:
    (tmp_path / "policy.yaml").write_text(ASKING, encoding="utf-8")
    state = tmp_path / "state"
    words = ["--name", "raw", "--policy", str(tmp_path / "policy.yaml"), "--state", str(state)]
    keep(tmp_path / "policy.yaml", state, servers=["raw"], workspace=tmp_path)
    command = [sys.executable, "-m", "soothsayer_mcp", "proxy", *words, "--", *SCRIPT.command(tmp_path)]
    told = asks(action, command)
    text, answer = ENDS[action]
    assert len(told["asked"]) == 1
    assert "raw.send" in told["asked"][0]
    assert text in told["text"]
    assert told["error"] is (action != "accept")
    assert [entry["answer"] for entry in entries(state, "approval.answered")] == [answer]
    assert len(SCRIPT.record(tmp_path).calls()) == (1 if action == "accept" else 0)


def expire(folder: Path) -> None:
    wait_until(lambda: time.time() > (folder / "meanwhile" / "asked").stat().st_mtime + 2.0, "the end of the question")


def answer_elsewhere(folder: Path) -> None:
    (ask,) = json.loads(Ended(folder, "asks", "--json").out)["asks"]
    assert Ended(folder, "deny", str(ask["id"]), "--digest", str(ask["digest"])).code == 0


def change_the_policy(folder: Path) -> None:
    put(folder / "policy.yaml", DENYING)
    wait_until(lambda: len(entries(folder / "state", "policy.loaded")) == 2, "the changed policy")


MEANWHILE: dict[Callable[[Path], None], str] = {
    expire: "missing_evidence/approval_expired",
    answer_elsewhere: "policy_denied/declined",
    change_the_policy: "policy_denied/",
}
"""What happens before a client says yes, and how the call ends."""


@pytest.mark.parametrize("happens", list(MEANWHILE), ids=lambda happens: happens.__name__)
def test_a_yes_that_comes_too_late_lets_no_call_through(
    tmp_path: Path, asks: Asks, happens: Callable[[Path], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = ASKING.replace('tools: "raw.send"', f'tools: "raw.send", expires: {"1s" if happens is expire else "5m"}')
    (tmp_path / "policy.yaml").write_text(policy, encoding="utf-8")
    folder, state = tmp_path / "meanwhile", tmp_path / "state"
    folder.mkdir()
    monkeypatch.setenv("MEANWHILE", str(folder))
    words = ["--name", "raw", "--policy", str(tmp_path / "policy.yaml"), "--state", str(state)]
    keep(tmp_path / "policy.yaml", state, servers=["raw"], workspace=tmp_path)
    command = [sys.executable, "-m", "soothsayer_mcp", "proxy", *words, "--", *SCRIPT.command(tmp_path)]
    with ThreadPoolExecutor(1) as beside:
        told = beside.submit(asks, "accept", command)
        try:
            wait_until((folder / "asked").exists, "the question")
            happens(tmp_path)
        finally:
            (folder / "go").touch()
        ended = told.result(timeout=60)
    answers = [entry["answer"] for entry in entries(state, "approval.answered")]
    if len(ended["asked"]) > 1:
        # A client of the stateless era comes again with its late answer, and is asked anew: that one it gave in time.
        assert (happens, answers) == (expire, ["expired", "yes"]), ended
        return
    assert (ended["error"], MEANWHILE[happens] in ended["text"]) == (True, True), ended
    assert "yes" not in answers or happens is change_the_policy
    assert SCRIPT.record(tmp_path).calls() == []


@pytest.mark.parametrize("reached", ["stdio", "http"])
def test_a_denial_is_one_text_that_every_client_shows_as_an_error(tmp_path: Path, asks: Asks, reached: str) -> None:
    """Hosts speak to the proxy over stdio only, so this is one of the two transports that the pitfall names."""
    (tmp_path / "policy.yaml").write_text(DENYING, encoding="utf-8")
    state = tmp_path / "state"
    words = ["--name", "raw", "--policy", str(tmp_path / "policy.yaml"), "--state", str(state)]
    keep(tmp_path / "policy.yaml", state, servers=["raw"], workspace=tmp_path)
    proxy = [sys.executable, "-m", "soothsayer_mcp", "proxy", *words]
    with listing([tool("send")]) as (url, called):
        told = asks("cancel", [*proxy, *(["--url", url] if reached == "http" else ["--", *SCRIPT.command(tmp_path)])])
    first, _, then = str(told["text"]).partition("\n")
    assert first.startswith(FIRST)
    assert then.startswith("Do: ")
    assert (told["error"], told["blocks"], told["asked"]) == (True, ["text"], [])
    [refused] = entries(state, "step.refused")[1:]
    assert (refused["effect"], refused["failure"], refused["reason"]) == ("deny", "policy_denied", "rule_denied")
    assert called == []
    assert reached == "http" or SCRIPT.record(tmp_path).calls() == []
