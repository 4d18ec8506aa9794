"""Every host we know: where it keeps its servers, how an entry is written, and what the host does with a call.

`hosts`, `connect`, `doctor` and the page docs/reference/hosts.md read this table. What a host declares on the wire
decides how it is asked; the columns about asking and limits only word messages.
"""

from collections.abc import Mapping
from dataclasses import field
from typing import Final, Literal, TypeAlias

from soothsayer_mcp.adapters.hosts.tree import Format
from soothsayer_mcp.model.value import dataclass

System: TypeAlias = Literal["darwin", "linux", "win32"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """How a host writes one server."""

    command: str = "command"
    args: str | None = "args"
    """`None` where the program and its arguments are one list under `command`."""
    env: str = "env"
    env_names: str = ""
    """The key that lists variables by name only."""
    env_file: str = ""
    """The key that names a file with variables."""
    urls: tuple[str, ...] = ("url",)
    headers: str = "headers"
    url_types: tuple[str, ...] = ()
    """What `type` has to say for an address to be streamable HTTP, where an address alone is not."""
    local_type: str = "stdio"
    """What `type` says of a command."""
    opaque: tuple[str, ...] = ()
    """Keys by which the host signs in itself or sends what we cannot hand on: such an entry is left alone."""
    off: tuple[str, bool] = ("disabled", True)
    """The key that switches a server off, and its value then."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """One host."""

    id: str
    title: str
    format: Format
    key: tuple[str, ...]
    personal: Mapping[System, tuple[str, ...]]
    """Candidates; `~` is the home, `{config}` the XDG configuration folder, `%NAME%` a variable that has to be set."""
    several: Literal["first", "ask"] = "first"
    """What counts when more than one candidate is there: the first, or what the person says."""
    project: tuple[str, ...] = ()
    """Candidates relative to the project; the first that exists counts."""
    shape: Shape = field(default_factory=Shape)
    through: str = ""
    """The application's own command that changes the personal file, where it rewrites that file all the time."""
    asks: str = "?"
    limit_s: float | None = None
    """After how many seconds the host gives up a call, as far as known."""
    endless: bool = False
    """Whether it is known to set no limit of its own."""
    limit_key: str = ""
    """The key of an entry that raises it."""
    limit_unit: Literal["s", "ms"] = "s"
    clients: tuple[str, ...] = ()
    """What it calls itself on the wire."""
    desktop: bool = True
    """Whether it is started from a desktop, and so without the shell's PATH."""
    restart: str = "restart it"
    beside: str = ""
    """What it reaches without this file."""


def _everywhere(*candidates: str) -> Mapping[System, tuple[str, ...]]:
    return {"darwin": candidates, "linux": candidates, "win32": candidates}


def _code(folder: str, tail: str) -> Mapping[System, tuple[str, ...]]:
    return {
        "darwin": (f"~/Library/Application Support/{folder}/User/{tail}",),
        "linux": (f"{{config}}/{folder}/User/{tail}",),
        "win32": (f"%APPDATA%/{folder}/User/{tail}",),
    }


_LOGIN: Final = ("oauth", "auth", "authProviderType", "headersHelper")
_CLINE: Final = "globalStorage/saoudrizwan.claude-dev/settings/cline_mcp_settings.json"
_CLINE_OWN: Final = "~/.cline/data/settings/cline_mcp_settings.json"

MSIX: Final = "%LOCALAPPDATA%/Packages/Claude_*/LocalCache/Roaming/Claude/claude_desktop_config.json"
"""Where Claude Desktop reads as a Windows package. It silently ignores the other folder then."""

_VSCODE_SHAPE: Final = Shape(env_file="envFile", opaque=_LOGIN)

HOSTS: Final[tuple[Host, ...]] = (
    Host(
        id="claude-desktop",
        title="Claude Desktop",
        format="json",
        key=("mcpServers",),
        personal={
            "darwin": ("~/Library/Application Support/Claude/claude_desktop_config.json",),
            "linux": ("{config}/Claude/claude_desktop_config.json",),
            "win32": (MSIX, "%APPDATA%/Claude/claude_desktop_config.json"),
        },
        several="ask",
        shape=Shape(urls=()),
        asks="no",
        limit_s=240,
        clients=("claude-ai",),
        restart="quit Claude Desktop wholly and start it again",
        beside="its extensions and connectors",
    ),
    Host(
        id="claude-code",
        title="Claude Code",
        format="json",
        key=("mcpServers",),
        personal=_everywhere("~/.claude.json"),
        project=(".mcp.json",),
        shape=Shape(opaque=_LOGIN),
        through="claude",
        asks="form and URL, both eras",
        endless=True,
        clients=("claude-code",),
        desktop=False,
        restart="start a new session of claude",
        beside="its plugins and connectors",
    ),
    Host(
        id="cursor",
        title="Cursor",
        format="json",
        key=("mcpServers",),
        personal=_everywhere("~/.cursor/mcp.json"),
        project=(".cursor/mcp.json",),
        shape=Shape(env_file="envFile", opaque=_LOGIN),
        asks="form",
        clients=("cursor-vscode",),
        restart="switch the server off and on in Cursor's settings, or restart Cursor",
        beside="its extensions",
    ),
    Host(
        id="vscode",
        title="VS Code",
        format="jsonc",
        key=("servers",),
        personal=_code("Code", "mcp.json"),
        project=(".vscode/mcp.json",),
        shape=_VSCODE_SHAPE,
        asks="form; may answer itself",
        clients=("Visual Studio Code",),
        restart="restart the server from `MCP: List Servers`",
        beside="its extensions",
    ),
    Host(
        id="vscode-insiders",
        title="VS Code Insiders",
        format="jsonc",
        key=("servers",),
        personal=_code("Code - Insiders", "mcp.json"),
        project=(".vscode/mcp.json",),
        shape=_VSCODE_SHAPE,
        asks="form; may answer itself",
        clients=("Visual Studio Code - Insiders",),
        restart="restart the server from `MCP: List Servers`",
        beside="its extensions",
    ),
    Host(
        id="windsurf",
        title="Windsurf",
        format="json",
        key=("mcpServers",),
        personal=_everywhere("~/.codeium/windsurf/mcp_config.json"),
        shape=Shape(urls=("serverUrl", "url"), opaque=_LOGIN),
        restart="press Refresh in Windsurf's list of servers",
        beside="its plugins",
    ),
    Host(
        id="zed",
        title="Zed",
        format="jsonc",
        key=("context_servers",),
        personal={
            "darwin": ("~/.config/zed/settings.json", "~/Library/Application Support/Zed/settings.json"),
            "linux": ("{config}/zed/settings.json",),
            "win32": ("%APPDATA%/Zed/settings.json",),
        },
        project=(".zed/settings.json",),
        shape=Shape(opaque=_LOGIN, off=("enabled", False)),
        asks="no",
        limit_s=60,
        limit_key="timeout",
        clients=("Zed",),
        restart="Zed reads its settings again by itself",
        beside="servers of extensions",
    ),
    Host(
        id="cline",
        title="Cline",
        format="json",
        key=("mcpServers",),
        personal={
            "darwin": (*_code("Code", _CLINE)["darwin"], _CLINE_OWN),
            "linux": (*_code("Code", _CLINE)["linux"], _CLINE_OWN),
            "win32": (*_code("Code", _CLINE)["win32"], _CLINE_OWN),
        },
        several="ask",
        shape=Shape(url_types=("streamableHttp",), opaque=_LOGIN),
        asks="no",
        limit_s=60,
        limit_key="timeout",
        clients=("Cline",),
        restart="press Restart Server in Cline's list of servers",
    ),
    Host(
        id="continue",
        title="Continue",
        format="yaml",
        key=("mcpServers",),
        personal=_everywhere("~/.continue/config.yaml"),
        shape=Shape(url_types=("streamable-http",), opaque=(*_LOGIN, "requestOptions", "apiKey")),
        clients=("continue-client",),
        restart="reload the window",
        beside="the files in .continue/mcpServers/ of each project",
    ),
    Host(
        id="gemini",
        title="Gemini CLI",
        format="commented",
        key=("mcpServers",),
        personal=_everywhere("~/.gemini/settings.json"),
        project=(".gemini/settings.json",),
        shape=Shape(urls=("httpUrl", "url"), url_types=("http",), opaque=_LOGIN),
        asks="no",
        limit_s=600,
        limit_key="timeout",
        limit_unit="ms",
        clients=("gemini-cli-mcp-client",),
        desktop=False,
        restart="start a new session of gemini",
        beside="its extensions",
    ),
    Host(
        id="codex",
        title="Codex CLI",
        format="toml",
        key=("mcp_servers",),
        personal=_everywhere("%CODEX_HOME%/config.toml", "~/.codex/config.toml"),
        project=(".codex/config.toml",),
        shape=Shape(
            headers="http_headers",
            env_names="env_vars",
            opaque=(*_LOGIN, "bearer_token_env_var", "env_http_headers", "oauth_resource"),
            off=("enabled", False),
        ),
        asks="form and URL; the timer pauses",
        limit_s=60,
        limit_key="tool_timeout_sec",
        clients=("codex-mcp-client",),
        desktop=False,
        restart="start a new session of codex",
        beside="its apps",
    ),
    Host(
        id="goose",
        title="Goose",
        format="yaml",
        key=("extensions",),
        personal={
            "darwin": ("~/.config/goose/config.yaml",),
            "linux": ("{config}/goose/config.yaml",),
            "win32": ("%APPDATA%/Block/goose/config/config.yaml",),
        },
        project=(".goose/config.yaml",),
        shape=Shape(
            command="cmd",
            env="envs",
            env_names="env_keys",
            urls=("uri",),
            url_types=("streamable_http",),
            opaque=_LOGIN,
            off=("enabled", False),
        ),
        asks="form, shown late",
        limit_s=300,
        limit_key="timeout",
        clients=("goose",),
        desktop=False,
        restart="start a new session of goose",
        beside="its built-in extensions",
    ),
    Host(
        id="lmstudio",
        title="LM Studio",
        format="json",
        key=("mcpServers",),
        personal=_everywhere("~/.lmstudio/mcp.json"),
        shape=Shape(opaque=_LOGIN),
        limit_s=60,
        restart="switch the server off and on in LM Studio",
    ),
    Host(
        id="opencode",
        title="opencode",
        format="jsonc",
        key=("mcp",),
        personal=_everywhere("{config}/opencode/opencode.jsonc", "{config}/opencode/opencode.json"),
        project=("opencode.jsonc", "opencode.json"),
        shape=Shape(args=None, env="environment", local_type="local", opaque=_LOGIN, off=("enabled", False)),
        asks="no",
        clients=("opencode",),
        desktop=False,
        restart="start opencode again",
    ),
    Host(
        id="junie",
        title="Junie",
        format="json",
        key=("mcpServers",),
        personal=_everywhere("~/.junie/mcp/mcp.json"),
        project=(".junie/mcp/mcp.json",),
        shape=Shape(opaque=_LOGIN),
        restart="restart the IDE",
    ),
)

ASSUMED_S: Final = 60.0
"""How long a host is taken to let a call take where nothing is known."""
ENDLESS_S: Final = 3_600.0
"""How long a call is let take by a host that sets no limit."""

LIMITS_S: Final[Mapping[str, float]] = {
    client: ENDLESS_S if host.endless else host.limit_s or ASSUMED_S for host in HOSTS for client in host.clients
}


def limit_of(client: str) -> float:
    """How long the host that calls itself so lets a call take."""
    return LIMITS_S.get(client, ASSUMED_S)
