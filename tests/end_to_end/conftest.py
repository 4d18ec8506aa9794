"""Real tool servers, installed by `make servers`, and the proxy in front of them."""

import http.server
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from end_to_end.install import NODE, PYTHON, SERVERS
from needs import need
from soothsayer_mcp.model.json import JsonObject

SOOTHSAYER = Path(sys.executable).with_name("soothsayer")

OPEN_POLICY = """\
soothsayer: policy/v1
name: open
default: {read: ask, other: ask, checked: allow}
rules:
  - {allow: "Every tool of the server under test.", id: all, tools: "real.*"}
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class RealServer:
    """A server as it is started twice: once alone, once behind the proxy."""

    name: str
    folder: str
    """The environment under `.servers/` that it is installed in."""
    argv: Callable[[Path, str], list[str]]
    """Its command line, from a folder of its own and the address of a page to fetch."""
    tool: str
    arguments: Callable[[Path, str], JsonObject]
    answer: str
    """Part of the answer's text, so that two equal errors do not pass."""
    speaks_stateless: bool
    env: dict[str, str] = field(default_factory=dict[str, str])
    """Variables, `{folder}` filled in."""


def program(folder: str, name: str) -> str:
    return str(SERVERS / ("npm/node_modules/.bin" if folder == "npm" else f"{folder}/bin") / name)


REAL_SERVERS = (
    RealServer(
        name="git",
        folder="py",
        argv=lambda folder, _page: [program("py", "mcp-server-git"), "--repository", str(folder / "repository")],
        tool="git_log",
        arguments=lambda folder, _page: {"repo_path": str(folder / "repository")},
        answer="The first commit",
        speaks_stateless=True,
    ),
    RealServer(
        name="time",
        folder="py",
        argv=lambda _folder, _page: [program("py", "mcp-server-time"), "--local-timezone", "UTC"],
        tool="convert_time",
        arguments=lambda _folder, _page: {
            "source_timezone": "Asia/Kolkata",
            "time": "12:00",
            "target_timezone": "Asia/Tokyo",
        },
        answer="T15:30:00+09:00",
        speaks_stateless=True,
    ),
    RealServer(
        name="fetch",
        folder="py",
        argv=lambda _folder, _page: [program("py", "mcp-server-fetch"), "--ignore-robots-txt", "--allow-private-ips"],
        tool="fetch",
        # Raw: to simplify a page, the server starts node or looks for it, which costs as much as its own start.
        arguments=lambda _folder, page: {"url": page, "raw": True},
        answer="A page on loopback",
        speaks_stateless=True,
    ),
    RealServer(
        name="sqlite",
        folder="py1",
        argv=lambda folder, _page: [program("py1", "mcp-server-sqlite"), "--db-path", str(folder / "data.db")],
        tool="read_query",
        arguments=lambda _folder, _page: {"query": "SELECT 9007199254740993 AS big, NULL AS missing"},
        answer="9007199254740993",
        speaks_stateless=False,
    ),
    RealServer(
        name="filesystem",
        folder="npm",
        argv=lambda folder, _page: [program("npm", "mcp-server-filesystem"), str(folder)],
        tool="read_text_file",
        arguments=lambda folder, _page: {"path": str(folder / "notes.txt")},
        answer="caf\u00e9 \u2028 end",
        speaks_stateless=False,
    ),
    RealServer(
        name="memory",
        folder="npm",
        argv=lambda _folder, _page: [program("npm", "mcp-server-memory")],
        tool="create_entities",
        arguments=lambda _folder, _page: {
            "entities": [{"name": "Ada", "entityType": "person", "observations": ["writes programs"]}]
        },
        answer="writes programs",
        speaks_stateless=False,
        env={"MEMORY_FILE_PATH": "{folder}/memory.jsonl"},
    ),
    RealServer(
        name="everything",
        folder="npm",
        argv=lambda _folder, _page: [program("npm", "mcp-server-everything")],
        tool="echo",
        arguments=lambda _folder, _page: {"message": "hello \U0001f30d"},
        answer="hello \U0001f30d",
        speaks_stateless=False,
    ),
    RealServer(
        name="sequential-thinking",
        folder="npm",
        argv=lambda _folder, _page: [program("npm", "mcp-server-sequential-thinking")],
        tool="sequentialthinking",
        arguments=lambda _folder, _page: {
            "thought": "one",
            "nextThoughtNeeded": False,
            "thoughtNumber": 1,
            "totalThoughts": 1,
        },
        answer="thoughtNumber",
        speaks_stateless=False,
    ),
)


@pytest.fixture(params=REAL_SERVERS, ids=lambda server: server.name)
def real_server(request: pytest.FixtureRequest) -> RealServer:
    server: RealServer = request.param
    remedy = "make servers"
    packages = NODE if server.folder == "npm" else PYTHON[server.folder]
    need("servers", found=(SERVERS / server.folder / "ready").exists(), remedy=f"{remedy} ({', '.join(packages)})")
    if server.folder == "npm":
        need("servers", found=shutil.which("node") is not None, remedy="install node")
    return server


@pytest.fixture
def page() -> Iterator[str]:
    """The address of a page that never changes, on loopback."""

    class Page(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = b"<html><body><h1>A page on loopback</h1><p>It never changes.</p></body></html>"
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's name
            """Say nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/page"
        server.shutdown()


def furnish(folder: Path) -> Path:
    """Make what the servers look at; the same for both, so that their answers are."""
    folder.mkdir()
    (folder / "notes.txt").write_text("caf\u00e9 \u2028 end\n", encoding="utf-8")
    repository = folder / "repository"
    repository.mkdir()
    (repository / "file.txt").write_text("one\n", encoding="utf-8")
    env = {
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "HOME": str(folder),
        "GIT_CONFIG_NOSYSTEM": "1",
        **{f"GIT_{who}_{what}": value for who in ("AUTHOR", "COMMITTER") for what, value in _IDENTITY.items()},
    }
    for argv in (["init", "--quiet", "-b", "main"], ["add", "."], ["commit", "--quiet", "-m", "The first commit"]):
        subprocess.run(["git", *argv], cwd=repository, env=env, check=True)
    return folder


_IDENTITY = {"NAME": "Ada", "EMAIL": "ada@example.test", "DATE": "2026-01-01T00:00:00Z"}
