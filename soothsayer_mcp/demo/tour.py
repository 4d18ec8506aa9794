"""The tour: a scripted host drives the real proxy, and every line shown is read back from the trace."""

import json
import shutil
import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import field
from pathlib import Path

import anyio
from mcp import Client, StdioServerParameters
from mcp.client import ClientRequestContext
from mcp.types import CallToolResult, ElicitRequestParams, ElicitResult, TextContent
from rich.text import Text

from soothsayer_mcp.adapters.store.reader import Reader
from soothsayer_mcp.adapters.verifier import Report, verify
from soothsayer_mcp.console.render import Look, steps
from soothsayer_mcp.console.text import cut, escape
from soothsayer_mcp.console.views import because, ended_as
from soothsayer_mcp.demo.script import FIRST_ACT, SECOND_ACT, Scene
from soothsayer_mcp.demo.servers import SERVERS
from soothsayer_mcp.model.json import Json
from soothsayer_mcp.model.value import dataclass
from soothsayer_mcp.trace.query import Moment, parse
from soothsayer_mcp.trace.rows import StepRow

Show = Callable[[Text], None]

SECRET = "ghp_" + "Zq3kT9vLx2Rb8WnYc5Jd1FhG7PsMa4Ue0Ki6"
"""What the record must not hold: made up, in the form of a code host's token."""

CALL_BOUND_S = 20.0
LOG_LINES = 3
LOG_WIDTH = 132
_COLORS = {"allow": "green", "ask": "yellow", "deny": "red"}


@dataclass(slots=True)
class Tour:
    """What came of it."""

    steps: list[dict[str, Json]] = field(default_factory=list[dict[str, Json]])
    """Call, effect, end and cause of each step, as the trace has them."""
    faults: list[str] = field(default_factory=list[str])
    """Each difference from the script; none when all went as it should."""
    folder: str = ""
    """Where everything lies, when it was kept."""


def play(show: Show, *, keep: bool) -> Tour:
    """Play the tour in a temporary folder, removed afterwards unless `keep`; each line is shown once it is true.

    Opens no network connection and touches no file outside that folder.
    """
    folder = Path(tempfile.mkdtemp(prefix="soothsayer-demo-")).resolve()
    try:
        tour = _Player(folder, show).play()
    finally:
        if not keep:
            shutil.rmtree(folder, ignore_errors=True)
    if keep:
        tour.folder = str(folder)
    return tour


class _Player:
    def __init__(self, folder: Path, show: Show) -> None:
        self._work = folder / "work"
        self._state = folder / "state"
        self._config = folder / "soothsayer.yaml"
        self._show = show
        self._tour = Tour()
        self._began = time.monotonic()
        self._no = 0
        self._question = ""
        """What a person was asked last."""

    def play(self) -> Tour:
        self._set_the_stage()
        self._line("soothsayer", "demo: offline, no model, no account: the calls are scripted, everything else is real")
        anyio.run(self._act, FIRST_ACT)
        (self._work / "updated").touch()
        self._line("restart", "the ci server was updated, and now describes its tool otherwise; same host, same run")
        anyio.run(self._act, SECOND_ACT)
        self._log()
        self._verify()
        self._tamper()
        self._line(
            "next", "soothsayer proxy -- CMD ARGS  |  soothsayer policy explain  |  make test", took=self._since_start()
        )
        return self._tour

    def _set_the_stage(self) -> None:
        self._work.mkdir(parents=True)
        (self._work / "version.txt").write_text("1.4.0\n")
        (self._work / "settings.json").write_text(json.dumps({"registry": "https://registry.test", "token": SECRET}))
        keys = self._work.parent / ".ssh"
        keys.mkdir()
        (keys / "id_ed25519").write_text("not a key; nobody should ever see this line\n")
        policy = Path(__file__).with_name("policy.yaml")
        servers = {
            name: {"command": sys.executable, "args": ["-m", "soothsayer_mcp.demo.servers", name, str(self._work)]}
            for name in SERVERS
        }
        # JSON is YAML too, and quotes every path for us.
        self._config.write_text(
            json.dumps(
                {
                    "soothsayer": "config/v1",
                    "policy": [str(policy)],
                    "workspace": str(self._work),
                    "probes": {"files": {"roots": [str(self._work)]}},
                    "asks": {"notify": []},
                    "mcpServers": servers,
                }
            )
        )

    async def _act(self, scenes: Sequence[Scene]) -> None:
        began = time.monotonic()
        proxy = StdioServerParameters(
            command=sys.executable,
            args=["-m", "soothsayer_mcp", "proxy", "-q", "-c", str(self._config), "--state", str(self._state)],
            cwd=str(self._work),
        )
        async with Client(proxy, read_timeout_seconds=CALL_BOUND_S, elicitation_callback=self._answer) as host:
            tools = {tool.name for tool in (await host.list_tools()).tools}
            if self._no == 0:
                names = ", ".join(SERVERS)
                ready = f"{names}: {len(SERVERS)} tool servers behind one proxy, {len(tools)} tools"
                self._line("ready", ready, took=time.monotonic() - began)
                self._titles()
            for scene in scenes:
                answer = await host.call_tool(f"{scene.server}__{scene.tool}", dict(scene.arguments))
                assert isinstance(answer, CallToolResult)
                self._check(scene, answer)

    async def _answer(self, context: ClientRequestContext, params: ElicitRequestParams) -> ElicitResult:
        """Answer a question as a person would who reads it."""
        del context
        self._question = params.message
        return ElicitResult(action="accept", content={})

    def _check(self, scene: Scene, answer: CallToolResult) -> None:
        """Compare what the trace says of the newest step with the script, and show it."""
        self._no += 1
        with Reader(self._state) as reader:
            step = next(reader.steps(parse("cause:agent"), Moment(now_us=time.time_ns() // 1000), limit=1))
            kept = {payload.part: payload.text or "" for payload in reader.story(step).payloads}
        self._tour.steps.append(
            {
                "no": self._no,
                "call": f"{scene.server}.{scene.tool}",
                "arguments": dict(scene.arguments),
                "effect": step.effect,
                "ended_as": ended_as(step),
                "reason": step.reason,
                "because": because(step),
            }
        )
        self._show_step(scene, step)
        read = "\n".join(block.text for block in answer.content if isinstance(block, TextContent))
        if scene.tell == "asked":
            self._block(
                "what the host showed a person, who is played by the script and said yes:", self._question.splitlines()
            )
        if scene.tell in {"model", "asked"}:
            self._block("what the model read:", read.splitlines())
        if scene.tell == "record":
            self._block("what the record keeps of the answer:", [_text_of(kept.get("result", ""))])
        expected = (scene.effect.value, scene.ended_as, "" if scene.reason is None else scene.reason.value)
        found = (step.effect, ended_as(step).partition(",")[0], step.reason)
        if (step.server, step.tool) != (scene.server, scene.tool) or found != expected:
            self._fault(f"step {self._no} is {step.call} {found}, the script says {expected}")
        if answer.is_error != (scene.reason is not None):
            self._fault(f"step {self._no}: the host was told otherwise than the record says")
        if any(SECRET in text for text in kept.values()):
            self._fault(f"step {self._no}: a secret stands in the record")

    def _log(self) -> None:
        """Show the newest steps the way `soothsayer log` does."""
        with Reader(self._state) as reader:
            rows = list(reader.steps(parse("cause:agent"), reader.now(), limit=LOG_LINES))
            short = reader.short_runs(row.run for row in rows)
            look = Look(width=LOG_WIDTH, now_us=reader.now().now_us, short=short)
        self._line("log", f"the newest {len(rows)} of {self._no} steps, as `soothsayer log` shows them")
        for line in steps(rows, look):
            self._show(Text("  ").append_text(line))

    def _verify(self) -> None:
        report = verify([self._state])
        if not report.holds:
            self._fault("the trace does not verify")
        self._line("verify", _headline(report))

    def _tamper(self) -> None:
        """Flip one bit of one entry in a copy of the file, past every trigger, and see that it is found."""
        copy = self._state.parent / "copy"
        shutil.copytree(self._state, copy)
        segment = next(copy.glob("trace-*.db"))
        with sqlite3.connect(segment) as db:
            (body,) = db.execute(
                "SELECT body FROM entries WHERE kind = 'step.outcome' ORDER BY pos LIMIT 1 OFFSET 1"
            ).fetchone()
        db.close()
        raw = bytearray(segment.read_bytes())
        raw[raw.index(body.encode()) + body.index('"dur_us":') + len('"dur_us":')] ^= 1
        segment.write_bytes(raw)
        report = verify([copy])
        if report.holds:
            self._fault("a flipped bit was not found")
        self._line("tamper", f"one bit flipped in a copy: {_headline(report)}")

    # -- what is shown ------------------------------------------------------------------------------------------------

    def _since_start(self) -> float:
        return time.monotonic() - self._began

    def _fault(self, text: str) -> None:
        self._tour.faults.append(text)
        self._show(Text(f"  NOT AS SCRIPTED: {escape(text)}", style="bold red"))

    def _line(self, label: str, text: str, *, took: float | None = None) -> None:
        line = Text()
        line.append(f"{label:<11} ", style="bold")
        line.append(escape(text))
        if took is not None:
            line.append(f"   {took:.1f} s", style="dim")
        self._show(line)

    def _titles(self) -> None:
        self._show(Text(f" {'#':>2}  {'call':<38}{'effect':<8}{'ended as':<28}because", style="dim"))

    def _show_step(self, scene: Scene, step: StepRow) -> None:
        line = Text(f" {self._no:>2}  {cut(scene.shown, 37):<38}")
        line.append(f"{step.effect:<8}", style=_COLORS.get(step.effect, ""))
        line.append(f"{ended_as(step):<28}", style="" if step.reason else "green")
        line.append(escape(because(step)))
        self._show(line)

    def _block(self, title: str, lines: Sequence[str]) -> None:
        self._show(Text(f"     {title}", style="dim"))
        for line in lines:
            self._show(Text(f"       {escape(line)}", style="cyan"))


def _headline(report: Report) -> str:
    if not report.holds:
        return f"found: {report.problems[0]}"
    return (
        f"{report.entries} entries of {report.writers} writers: hashes and chains hold; no checkpoint covers them yet"
    )


def _text_of(stored: str) -> str:
    """The text of a stored answer."""
    result: Json = json.loads(stored)["result"]
    return CallToolResult.model_validate(result).content[0].model_dump()["text"]
