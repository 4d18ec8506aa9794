from dataclasses import replace
from pathlib import Path

import pytest

from soothsayer_mcp.adapters.config import (
    Config,
    Remote,
    ServerSpec,
    default_name,
    find_config,
    load,
    server_identity,
    spec_of_command,
    spec_of_url,
)
from soothsayer_mcp.adapters.config_file import parse
from soothsayer_mcp.adapters.launch import Launch
from soothsayer_mcp.adapters.policy_files.problems import LoadErrors
from soothsayer_mcp.model.decision import Mode

ENVIRON = {"DOCS_TOKEN": "t0k", "EMPTY": ""}


def loaded(text: str, folder: Path) -> Config:
    path = folder / "soothsayer.yaml"
    path.write_text(text)
    return load(path, environ=ENVIRON)


def problems(text: str) -> list[str]:
    with pytest.raises(LoadErrors) as caught:
        parse(text.encode(), Path("/c/soothsayer.yaml"), environ=ENVIRON)
    return [str(each).removeprefix("/c/soothsayer.yaml:") for each in caught.value.problems]


def server_problems(line: str) -> list[str]:
    return problems(f"soothsayer: config/v1\nmcpServers:\n  one: {line}\n")


WHOLE = """\
# yaml-language-server: $schema=./.soothsayer/config.schema.json
soothsayer: config/v1
mode: observe
policy: [mine.yaml, guarded]
workspace: project
state: ~/state
run: {id: "4bf9", bind: explicit}
control_tools: true
trace: {durability: balanced, timeout: 500ms, blob_max: 1MiB}
limits: {max_frame: 10MB, in_flight: 32, call_timeout: 2m}
mcpServers:
  files:  {command: npx, args: [-y, "@modelcontextprotocol/server-filesystem", "${workspace}"]}
  github: {command: github-mcp, pass_env: [GITHUB_TOKEN], env: {LOG_LEVEL: warning, PORT: 80}, start_timeout: 30s}
  docs:   {type: http, url: "https://mcp.example.test/mcp", headers: {Authorization: "Bearer ${env:DOCS_TOKEN}"}}
  away:   {command: absent, disabled: true}
  local:  {command: ~/bin/x, cwd: sub}
"""


def test_every_key_arrives(tmp_path: Path) -> None:
    assert loaded(WHOLE, tmp_path) == Config(
        file=tmp_path / "soothsayer.yaml",
        mode=Mode.OBSERVE,
        policy=(str(tmp_path / "mine.yaml"), "guarded"),
        workspace=str(tmp_path / "project"),
        state=str(Path.home() / "state"),
        run_id="4bf9",
        explicit_run=True,
        control_tools=True,
        durability="balanced",
        trace_timeout_s=0.5,
        blob_max=1_048_576,
        max_frame=10_000_000,
        in_flight=32,
        call_timeout_s=120.0,
        servers=(
            ServerSpec(
                name="files",
                declared=True,
                reach=Launch(
                    name="files",
                    argv=("npx", "-y", "@modelcontextprotocol/server-filesystem", str(tmp_path / "project")),
                    label_stderr=True,
                ),
                spelled={"argv": ["npx", "-y", "@modelcontextprotocol/server-filesystem", "${workspace}"], "env": []},
            ),
            ServerSpec(
                name="github",
                declared=True,
                reach=Launch(
                    name="github",
                    argv=("github-mcp",),
                    env={"LOG_LEVEL": "warning", "PORT": "80"},
                    pass_env=("GITHUB_TOKEN",),
                    label_stderr=True,
                ),
                start_timeout_s=30.0,
            ),
            ServerSpec(
                name="docs",
                declared=True,
                reach=Remote(name="docs", url="https://mcp.example.test/mcp", headers={"Authorization": "Bearer t0k"}),
            ),
            ServerSpec(
                name="local",
                declared=True,
                reach=Launch(
                    name="local", argv=(str(Path.home() / "bin/x"),), cwd=str(tmp_path / "sub"), label_stderr=True
                ),
                spelled={"argv": ["~/bin/x"], "env": []},
            ),
        ),
    )


def test_an_almost_empty_file_has_the_defaults(tmp_path: Path) -> None:
    config = loaded("soothsayer: config/v1\n", tmp_path)
    assert config == Config(file=tmp_path / "soothsayer.yaml", workspace=str(tmp_path))
    assert config.mode is Mode.ENFORCE
    assert config.policy == ("guarded",)
    assert config.durability == "strict"


def test_a_block_pasted_from_a_host_loads_and_its_approvals_are_named_once(tmp_path: Path) -> None:
    path = tmp_path / "mcp.json"
    path.write_text(
        '{\n\t"mcpServers": {\n\t\t"files": {"type": "stdio", "command": "npx", "args": ["-y", "files"], "timeout": 60,'
        ' "autoApprove": ["read"], "alwaysAllow": []},\n\t\t"docs": {"serverUrl": "https://x.test/mcp"}\n\t}\n}\n'
    )
    config = load(path, environ=ENVIRON)
    assert [(each.name, each.reach) for each in config.servers] == [
        ("files", Launch(name="files", argv=("npx", "-y", "files"), label_stderr=True)),
        ("docs", Remote(name="docs", url="https://x.test/mcp")),
    ]
    assert len(config.warnings) == 1
    assert "3:3: alwaysAllow, autoApprove of server files is ignored" in config.warnings[0]


def test_the_only_server_needs_no_label_on_its_standard_error(tmp_path: Path) -> None:
    (spec,) = loaded("soothsayer: config/v1\nmcpServers: {one: {command: x}}\n", tmp_path).servers
    assert isinstance(spec.reach, Launch)
    assert not spec.reach.label_stderr


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "mode: enforce\n",
            ["1:1: the file does not say its format; begin it with `soothsayer: config/v1` [config-format]"],
        ),
        (
            "soothsayer: config/v2\n",
            ['1:13: this version reads config/v1 and nothing else; did you mean "config/v1"? [config-format]'],
        ),
        (
            "soothsayer: config/v1\nmcpservers: {}\n",
            ['2:1: there is no key "mcpservers" here; did you mean "mcpServers"? [config-key]'],
        ),
        (
            "soothsayer: config/v1\nmode: observ\nrun: {idd: a}\n",
            [
                '2:7: "observ" is none of enforce, observe; did you mean "observe"? [config-value]',
                '3:7: there is no key "idd" here; did you mean "id"? [config-key]',
            ],
        ),
        (
            "soothsayer: config/v1\nmode: observe\nmode: enforce\n",
            ['3:1: "mode" is already set in line 2 [config-duplicate-key]'],
        ),
        ("soothsayer: config/v1\nserve: {port: 1}\n", ["2:1: `serve` is not in this version [config-later]"]),
        ("soothsayer: config/v1\nserve: {}\n", ["2:1: `serve` is not in this version [config-later]"]),
        (
            "soothsayer: config/v1\npolicy: []\n",
            [
                "2:9: a list without a policy governs nothing; leave the key out for `guarded` [config-value]",
            ],
        ),
        (
            "soothsayer: config/v1\nlimits: {call_timeout: 30, max_frame: 0, in_flight: true}\n",
            [
                '2:24: "30" is not what has to stand here: a duration such as 500ms, 30s or 10m [config-value]',
                '2:39: "0" is not what has to stand here: a size such as 500kB, 8MiB or 64MB [config-value]',
                "2:53: a text has to stand here; quote it [config-type]",
            ],
        ),
        ("soothsayer: config/v1\nworkspace: ${workspace}\n", None),
        ("- a\n", ["1:1: the file holds no mapping of keys to values [config-type]"]),
        ("", ["1:1: the file is empty [config-yaml]"]),
    ],
)
def test_what_is_wrong_is_told_with_place_and_remedy(text: str, expected: list[str] | None) -> None:
    found = problems(text)
    if expected is None:
        assert len(found) == 1
        assert "[config-variable]" in found[0]
    else:
        assert found == expected


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("{comand: x}", ['3:9: there is no key "comand" here; did you mean "command"? [config-key]']),
        ("{args: [x]}", ["3:8: the server has neither `command` nor `url` [config-value]"]),
        ("{command: x, arg: [a]}", ['3:21: there is no key "arg" here; did you mean "args"? [config-key]']),
        (
            "{command: x, args: [no]}",
            ["3:28: no is read differently by different versions of YAML: quote it [config-ambiguous]"],
        ),
        ("{command: x, args: [true]}", ["3:28: a text has to stand here; quote it [config-type]"]),
        ("{command: x, url: 'https://a'}", ["3:8: `command` and `url` exclude each other [config-value]"]),
        ("{url: 'ftp://a'}", ["3:14: a url begins with https:// or http:// [config-value]"]),
        (
            "{type: sse, url: 'https://a'}",
            ["3:15: the transport sse is not spoken; use the server's streamable HTTP address [config-value]"],
        ),
        (
            "{command: x, args: ['${env:ABSENT}']}",
            ["3:28: the environment variable ABSENT is not set; set it where the proxy is started [config-variable]"],
        ),
        (
            "{command: x, args: ['${HOME}']}",
            ['3:28: ${HOME} is not filled in here; did you mean "${env:HOME}"? [config-variable]'],
        ),
        ("7", ["3:8: what starts or reaches the server has to stand here: `command` or `url` [config-type]"]),
    ],
)
def test_what_is_wrong_with_a_server_is_told_with_place_and_remedy(line: str, expected: list[str]) -> None:
    assert server_problems(line) == expected


def test_a_server_name_that_hosts_could_not_show_is_refused() -> None:
    (problem,) = problems("soothsayer: config/v1\nmcpServers: {My.Server: {command: x}}\n")
    assert problem == (
        '2:14: "My.Server" is no server name: 1 to 20 of a-z, 0-9 and "-"; did you mean "my-server"? [config-name]'
    )


def test_an_unreadable_file_is_a_load_error(tmp_path: Path) -> None:
    with pytest.raises(LoadErrors, match=r"cannot be read \(No such file or directory\)"):
        load(tmp_path / "absent.yaml")


def test_no_secret_stands_in_an_error() -> None:
    told = server_problems("{type: http, url: '${env:DOCS_TOKEN}', nokey: 1}")
    assert not any("t0k" in each for each in told)


def test_a_configuration_is_never_taken_from_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "home"))
    (tmp_path / "soothsayer.yaml").write_text("soothsayer: config/v1\n")
    assert find_config(None, environ={}) is None
    usual = tmp_path / "home" / "soothsayer" / "soothsayer.yaml"
    usual.parent.mkdir(parents=True)
    usual.write_text("soothsayer: config/v1\n")
    assert find_config(None, environ={}) == usual
    assert find_config(None, environ={"SOOTHSAYER_CONFIG": "/from/environment"}) == Path("/from/environment")
    assert find_config("typed.yaml", environ={"SOOTHSAYER_CONFIG": "/x"}) == tmp_path / "typed.yaml"


@pytest.mark.parametrize(
    ("command", "name"),
    [
        ("npx -y @modelcontextprotocol/server-filesystem .", "filesystem"),
        ("npx -y @modelcontextprotocol/server-sequential-thinking@2025.1.0", "sequential-thinking"),
        ("npx --yes --package=x @playwright/mcp@latest", "playwright"),
        ("npx @upstash/context7-mcp", "context7"),
        ("npm exec -- mcp-server-weather", "weather"),
        ("python -m mcp_server_git --repository .", "git"),
        ("python3.12 -u -m mcp_server_time", "time"),
        ("/usr/bin/python3 /srv/weather/server.py", "weather"),
        ("uvx mcp-server-time", "time"),
        ("uvx --from git+https://x.test/y mcp-server-fetch[all]==1.0", "fetch"),
        ("uv --directory /srv/notes run server.py", "server"),
        ("uv run --with mcp python -m notes_server", "notes"),
        ("uv tool run mcp-server-sqlite", "sqlite"),
        ("docker run -i --rm -e TOKEN ghcr.io/github/github-mcp-server:v1", "github"),
        ("node /opt/tools/dist/index.js", "tools"),
        ("cmd /c npx -y mcp-server-x", "x"),
        ("env A=b uvx mcp-server-time", "time"),
        (r"C:\Tools\My_Server.exe", "my"),
        ("github-mcp", "github"),
        ("./server", "server"),
        ("mcp", "mcp"),
        ("a-server-whose-name-is-longer-than-any-host-can-show", "a-server-whose-name"),
        ("日本", "server"),
    ],
)
def test_a_short_name_is_made_from_the_command(command: str, name: str) -> None:
    assert default_name(command.split()) == name


def test_an_identity_hangs_on_command_and_names_and_not_on_values() -> None:
    spec = spec_of_command(["npx", "x"], name="files", env={"LEVEL": "1"}, pass_env=["TOKEN"])
    assert spec.declared
    same = spec_of_command(["npx", "x"], name="files", env={"TOKEN": "2"}, pass_env=["LEVEL"])
    assert server_identity(spec) == server_identity(same)
    others = [
        spec_of_command(["npx", "y"], name="files", env={"LEVEL": "1"}, pass_env=["TOKEN"]),
        spec_of_command(["npx", "x"], name="files", env={"LEVEL": "1"}),
        spec_of_url("https://a.test/mcp", name="files"),
        spec_of_url("https://a.test/mcp2", name="files"),
    ]
    assert len({server_identity(each).digest for each in [spec, *others]}) == 5


def test_a_name_nobody_gave_is_known_as_such() -> None:
    spec = spec_of_command(["uvx", "mcp-server-time"])
    assert (spec.name, spec.declared, server_identity(spec).declared) == ("time", False, False)
    remote = spec_of_url("https://user@mcp.linear.app:443/sse?x=1", headers={"A": "b"})
    assert (remote.name, remote.declared) == ("linear", False)
    assert replace(remote, name="z").name == "z"
