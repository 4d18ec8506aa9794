"""What one proxy process is going to do: options and configuration brought together, and its servers started.

Imports little, because servers boot while the rest of the proxy is still being imported.
"""

import dataclasses
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeAlias, cast

from soothsayer_mcp.adapters.config import (
    Config,
    ServerSpec,
    find_config,
    load,
    spec_of_command,
    spec_of_url,
    workspace_without_config,
)
from soothsayer_mcp.adapters.launch import Child, Launch, launch
from soothsayer_mcp.adapters.lazy import resolve
from soothsayer_mcp.adapters.system import state_folder
from soothsayer_mcp.cli.exits import Exit
from soothsayer_mcp.cli.options import ProxyOptions
from soothsayer_mcp.cli.problems import Problem
from soothsayer_mcp.model.decision import Mode
from soothsayer_mcp.model.run import DeclaredBy, Intent
from soothsayer_mcp.model.value import dataclass
from soothsayer_mcp.ports import PortError

Started: TypeAlias = Mapping[str, Child | PortError]
"""Server name -> its first process, or why there is none. Remote servers have neither."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What one proxy process is going to do."""

    config: Config
    state: Path
    run: str = ""
    intent: Intent | None = None
    """What the work is for: a person's words, or else the host's."""
    quiet: bool = False
    no_input: bool = False
    """Whether nobody is ever asked."""


def plan(options: ProxyOptions, environ: Mapping[str, str] = os.environ) -> Plan:
    """Bring options and configuration together; options win. Starts nothing. Raises `Problem` or `LoadErrors`."""
    config = _config(options, environ)
    changes: dict[str, object] = {}
    if options.policy:
        changes["policy"] = options.policy
    if options.mode is not None:
        changes["mode"] = Mode(options.mode)
    if options.durability is not None:
        changes["durability"] = options.durability
    if options.control_tools:
        changes["control_tools"] = True
    config = dataclasses.replace(config, **changes)
    return Plan(
        config=config,
        state=state_folder(options.state, configured=config.state, environ=environ),
        run=options.run or environ.get("SOOTHSAYER_RUN", "") or config.run_id or "",
        intent=_intent(options, environ),
        quiet=options.quiet,
        no_input=options.no_input,
    )


def _intent(options: ProxyOptions, environ: Mapping[str, str]) -> Intent | None:
    if options.intent:
        return Intent(text=options.intent, declared_by=DeclaredBy.HUMAN)
    said = environ.get("SOOTHSAYER_INTENT", "").strip()
    return Intent(text=said, declared_by=DeclaredBy.HOST) if said else None


def _config(options: ProxyOptions, environ: Mapping[str, str]) -> Config:
    if options.command:
        spec = spec_of_command(
            options.command,
            name=options.name,
            pass_env=options.pass_env,
            unsafe_pass_all_env=options.unsafe_pass_all_env,
        )
        return _around(options, environ, spec)
    if options.url is not None:
        spec = spec_of_url(
            options.url,
            name=options.name,
            headers=_headers(options, environ),
            addresses=tuple(_network(text) for text in options.allow_address),
        )
        return _around(options, environ, spec)
    file = find_config(options.config, environ=environ)
    if file is None and options.control_tools:
        return Config(workspace=workspace_without_config())
    if file is None:
        text = "there is nothing to govern: no command after `--`, no --url and no configuration"
        raise Problem(text, id="usage", fix="try `soothsayer proxy -- CMD ARGS...` or `-c soothsayer.yaml`")
    config = load(file, environ=environ)
    if not config.servers and not (options.control_tools or config.control_tools):
        raise Problem("the configuration names no servers", id="config-servers", where=str(file))
    return config


def _around(options: ProxyOptions, environ: Mapping[str, str], spec: ServerSpec) -> Config:
    """One server from the command line; what an explicitly named configuration says of all else holds too."""
    if options.config is None:
        return Config(workspace=workspace_without_config(), servers=(spec,))
    file = find_config(options.config, environ=environ)
    assert file is not None
    return dataclasses.replace(load(file, environ=environ), servers=(spec,), servers_of_file=False)


def _network(text: str) -> str:
    read = cast("Callable[[str], object]", resolve("soothsayer_mcp.adapters.addresses:networks"))
    try:
        read(text)
    except ValueError as error:
        raise Problem(f"--allow-address wants private, loopback or a network, not {text!r}", id="usage") from error
    return text


def _headers(options: ProxyOptions, environ: Mapping[str, str]) -> dict[str, str]:
    headers: dict[str, str] = {}
    for header, name in options.header_env:
        if name not in environ:
            raise Problem(f"--header-env {header}={name}: the variable {name} is not set", id="usage")
        headers[header] = environ[name]
    return headers


def spawn(config: Config) -> Started:
    """Start the servers. They get no byte yet.

    Raises `Problem` when the only server cannot be started; beside others it is left out until it can.
    """
    started: dict[str, Child | PortError] = {}
    several = len(config.servers) > 1
    for spec in config.servers:
        if not isinstance(spec.reach, Launch):
            continue
        try:
            started[spec.name] = launch(dataclasses.replace(spec.reach, label_stderr=several))
        except PortError as error:
            if not several:
                raise Problem(error.summary, id="server-start", exit=Exit.UNREACHABLE) from error
            started[spec.name] = error
    return started
