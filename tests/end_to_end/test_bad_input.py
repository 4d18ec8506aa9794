"""Bad input on the real command: one clear message of where and how, the exit code of the table, nothing forwarded."""

import resource
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from end_to_end.conftest import SOOTHSAYER
from fidelity.rig import ALLOWING, call, notice, request
from soothsayer_mcp.cli.exits import Exit
from soothsayer_mcp.testing.servers import Script, tool

SCRIPT = Script(tools=[tool("send")])
SMALLEST_FILE = 64 * 1024
"""A trace does not fit into it: what a full disk does to the file."""
INITIALIZE = '{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"t","version":"1"}}'
CONFIG = "soothsayer: config/v1\npolicy: [open.yaml]\nmcpServers:\n"

FILES: Mapping[str, str] = {
    "unclosed.yaml": 'soothsayer: policy/v1\nname: x\nrules:\n  - {allow: "a", tools: "x.*"\n',
    "key.yaml": "soothsayer: policy/v1\nname: x\nrulez: []\n",
    "effect.yaml": 'soothsayer: policy/v1\nname: x\nrules:\n  - {alow: "a", tools: "raw.*"}\n',
    "twice.yaml": "soothsayer: policy/v1\nname: x\nname: z\n",
    "server.yaml": 'soothsayer: policy/v1\nname: x\nrules:\n  - {deny: "n", tools: "rwa.*"}\n',
    "empty.yaml": "",
    "other.yaml": CONFIG + "  raw: {comand: cat}\n",
    "flow.yaml": CONFIG + "  raw: {command: cat\n",
    "a-file": "",
}
CASES: Sequence[tuple[str, list[str], Exit, list[str]]] = (
    (
        "malformed YAML",
        ["--policy", "unclosed.yaml"],
        Exit.USAGE,
        ["/unclosed.yaml:5:1: ", "what is not closed here begins in line 4 [policy-yaml]"],
    ),
    (
        "an unknown key",
        ["--policy", "key.yaml"],
        Exit.USAGE,
        ['/key.yaml:3:1: unknown key "rulez"; did you mean "rules"? [policy-key]'],
    ),
    (
        "a typo in a rule",
        ["--policy", "effect.yaml"],
        Exit.USAGE,
        ['/effect.yaml:4:6: unknown key "alow"; did you mean "allow"? [policy-key]'],
    ),
    ("a key twice", ["--policy", "twice.yaml"], Exit.USAGE, ['/twice.yaml:3:1: "name" is already set in line 2']),
    (
        "a rule for no server",
        ["--policy", "server.yaml"],
        Exit.USAGE,
        ['/server.yaml:4:24: no server is called "rwa"; did you mean "raw"? [policy-server]'],
    ),
    ("an empty policy", ["--policy", "empty.yaml"], Exit.USAGE, ["/empty.yaml:1:1: the file is empty"]),
    (
        "no such policy",
        ["--policy", "gone.yaml"],
        Exit.USAGE,
        ["/gone.yaml:1:1: there is no such policy file [policy-file]"],
    ),
    (
        "a shipped policy misspelt",
        ["--policy", "gaurded"],
        Exit.USAGE,
        ['no policy called "gaurded" is shipped', 'did you mean "guarded"? [policy-file]'],
    ),
    (
        "an unknown key of a configuration",
        ["-c", "other.yaml"],
        Exit.USAGE,
        ['/other.yaml:4:9: there is no key "comand" here; did you mean "command"? [config-key]'],
    ),
    (
        "a malformed configuration",
        ["-c", "flow.yaml"],
        Exit.USAGE,
        ["/flow.yaml:5:1: ", "begins in line 4 [config-yaml]"],
    ),
    ("an unknown option", ["--polcy", "open.yaml"], Exit.USAGE, ['"--polcy"; did you mean "--policy"? [usage]']),
    ("no address", ["--url", "files.test"], Exit.USAGE, ["--url files.test: a url begins with https:// or http://"]),
    (
        "no command",
        ["--", "no-such-server"],
        Exit.UNREACHABLE,
        ["`no-such-server` is not on PATH", "Give its full path"],
    ),
    ("a folder for a command", ["--", "/usr"], Exit.UNREACHABLE, ["its command /usr is a folder: name the program"]),
    (
        "a file for a state folder",
        ["--state", "a-file"],
        Exit.STATE,
        ["/a-file: the state folder cannot be made", "name another with --state DIR [state]"],
    ),
    (
        "a state folder nobody can make",
        ["--state", "/proc/soothsayer"],
        Exit.STATE,
        ["/proc/soothsayer: the state folder cannot be made", "name another with --state DIR [state]"],
    ),
    (
        "no room for a trace",
        ["--state", "full"],
        Exit.STATE,
        ["/full: the trace cannot be opened: file too large; check free space", "--state DIR [state]"],
    ),
)


def started(folder: Path, words: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """A proxy that is given bad input and, on its standard input, a call."""
    for name, text in FILES.items():
        (folder / name).write_text(text, encoding="utf-8")
    (folder / "open.yaml").write_text(ALLOWING, encoding="utf-8")
    bare = {"--", "-c", "--url"} & set(words)
    server = [] if bare else ["--", *SCRIPT.command(folder)]
    usual = [] if "--policy" in words or "-c" in words else ["--policy", "open.yaml"]
    state = [] if "--state" in words else ["--state", "state"]
    name = [] if bare else ["--name", "raw"]

    def bound() -> None:
        if "full" in words:
            resource.setrlimit(resource.RLIMIT_FSIZE, (SMALLEST_FILE, SMALLEST_FILE))

    said = [request("initialize", INITIALIZE, "0"), notice("notifications/initialized"), call("send")]
    return subprocess.run(
        [str(SOOTHSAYER), "proxy", *name, *usual, *state, *words, *server],
        input="\n".join(said) + "\n",
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        preexec_fn=bound,
    )


@pytest.mark.parametrize(("words", "code", "parts"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_bad_input_is_one_clear_message_and_nothing_is_forwarded(
    tmp_path: Path, words: list[str], code: Exit, parts: list[str]
) -> None:
    ended = started(tmp_path, words)
    assert ended.returncode == code, ended.stderr
    [line] = ended.stderr.splitlines()
    assert line.startswith("soothsayer: ")
    for part in parts:
        assert part in line
    assert ended.stdout == ""
    assert SCRIPT.record(tmp_path).lines == []
