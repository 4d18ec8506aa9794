"""A first policy for servers that were started once: their tools with a question each. Nothing is taken from hints."""

import os
from collections.abc import Mapping, Sequence

from soothsayer_mcp.adapters.hosts.probe import ProbeError, ask
from soothsayer_mcp.adapters.hosts.servers import Server
from soothsayer_mcp.adapters.hosts.table import Host
from soothsayer_mcp.adapters.launch import Launch
from soothsayer_mcp.cli.output import Output
from soothsayer_mcp.console.measures import count
from soothsayer_mcp.console.text import escape
from soothsayer_mcp.model.call import Does


def propose(output: Output, host: Host, servers: Sequence[Server], pass_env: Sequence[str]) -> dict[str, list[str]]:
    """List the tools of servers and print a policy to begin with; what could not be started is said."""
    tools: dict[str, list[str]] = {}
    for server in servers:
        if server.url:
            output.remark(f"{server.name}: it is remote; its tools are listed when a host calls it, not here")
            continue
        env = entry_env(server, host)
        waiting = [name for name, value in env.items() if "${" in value]
        if waiting or any("${" in word for word in server.argv):
            output.remark(f"{server.name}: not started: only the host can fill in what its entry leaves open")
            continue
        launch = Launch(name=server.name, argv=server.argv, env=env, pass_env=tuple(pass_env))
        output.remark(f"starting {server.name} once ...")
        try:
            listed = ask(server.argv, launch.environment(os.environ))
        except ProbeError as error:
            output.remark(f"{server.name}: not listed: it {error}")
            continue
        tools[server.name] = list(listed.tools)
        output.remark(f"{server.name}: {count(len(listed.tools), 'tool')}")
    if tools and not output.as_json:
        output.text(policy_text(tools))
        output.remark("to use it: answer its questions, save it as a file, and connect with --policy FILE")
    return tools


def entry_env(server: Server, host: Host) -> dict[str, str]:
    """The variables that a server's entry sets."""
    said = server.entry.value
    found = said.get(host.shape.env) if isinstance(said, dict) else None
    return {name: value for name, value in found.items() if isinstance(value, str)} if isinstance(found, dict) else {}


def policy_text(tools: Mapping[str, Sequence[str]]) -> str:
    """A policy that loads as it is and asks about every tool until its questions are answered."""
    words = ", ".join(does.value for does in Does)
    lines = [
        "# What does each tool do? Put the words in, and take away the # before the line and before `labels`.",
        f"# The words are {words}; several as [write, delete].",
        "# Nothing below comes from what the servers say of themselves. What has no label is asked about.",
        "soothsayer: policy/v1",
        "name: mine",
        'about: "Labelled reads pass, everything else is asked about."',
        "use: [guarded]",
        "default: {read: allow, other: ask, checked: allow}",
        "# labels:",
    ]
    for server, names in tools.items():
        lines.append(f"#   the tools of {escape(server)}")
        lines += [f"#   - {{tools: {_quoted(f'{server}.{name}')}, does: ?}}" for name in names]
    return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    shown = escape(text)
    return shown if shown == text and all(char.isalnum() or char in "._-" for char in text) else f'"{shown}"'
