"""Runs the programs that the configuration names: never a shell, a clean environment, and the whole group ended."""

import asyncio
import contextlib
import os
import re
import signal
import sys
from collections.abc import Mapping
from typing import Final

from soothsayer_mcp.adapters.probes.files import doubt
from soothsayer_mcp.adapters.probes.settings import Command
from soothsayer_mcp.evidence.checks import CommandFacts

MOST_OUTPUT: Final = 1_000_000
CPU_S: Final = 15 * 60
MEMORY: Final = 4 * 1024 * 1024 * 1024
_USE: Final = re.compile(r"\$\{([a-z][a-z0-9_-]*)\}")
_ALWAYS: Final = ("PATH", "LANG", "LC_ALL", "TZ", "SYSTEMROOT")


def argv_of(command: Command, words: Mapping[str, str]) -> list[str]:
    """Fill in the words of a check. Raises `PortError` for one that could be taken for an option."""
    argv: list[str] = []
    # After `--` no word is an option; after anything else that follows it, another program may begin.
    options_ended = False
    for word in command.argv:
        use = _USE.fullmatch(word)
        if use is None:
            options_ended = word == "--"
            argv.append(word)
            continue
        value = words.get(use.group(1))
        if value is None:
            raise doubt(f"the command wants a value for {use.group(1)}")
        as_option = value.startswith("-") and not options_ended
        if not value or as_option or any(char in value for char in "\0\r\n"):
            raise doubt(f"the value for {use.group(1)} could be read as something else")
        argv.append(value)
    return argv


async def run(command: Command, words: Mapping[str, str]) -> CommandFacts:
    """Run one program to its end. Raises `PortError` when it does not end in time, or says too much."""
    argv = argv_of(command, words)
    env = {name: value for name in _ALWAYS if (value := os.environ.get(name)) is not None} | dict(command.env)
    try:
        process = await asyncio.create_subprocess_exec(
            *_limited(argv),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            cwd=command.cwd,
            env=env,
            start_new_session=True,
        )
    except OSError as error:
        raise doubt(f"the command cannot be started ({error.strerror})") from error
    assert process.stdout is not None
    try:
        async with asyncio.timeout(command.timeout_s):
            output = await _read(process.stdout)
            code = await process.wait()
    except TimeoutError as error:
        raise doubt(f"the command did not end within {command.timeout_s:g} s") from error
    finally:
        _end_group(process.pid)
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
    return CommandFacts(exit=code, stdout=output.decode("utf-8", "replace"))


async def _read(stream: asyncio.StreamReader) -> bytes:
    output = b""
    while chunk := await stream.read(65_536):
        output += chunk
        if len(output) > MOST_OUTPUT:
            raise doubt(f"the command said more than {MOST_OUTPUT:,} bytes")
    return output


def _limited(argv: list[str]) -> list[str]:
    """The same with limits on processor and memory, where the system has a program that sets them."""
    if sys.platform != "linux" or not os.access("/usr/bin/prlimit", os.X_OK):
        return argv
    return ["/usr/bin/prlimit", f"--cpu={CPU_S}", f"--as={MEMORY}", "--", *argv]


def _end_group(pid: int) -> None:
    if sys.platform == "win32":
        return
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)
