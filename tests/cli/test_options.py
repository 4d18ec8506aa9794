import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from soothsayer_mcp.cli.everywhere import given_of
from soothsayer_mcp.cli.options import (
    GLOBAL,
    PROXY,
    Given,
    ProxyOptions,
    Settings,
    parse_proxy,
    proxy_argv,
    settings,
)
from soothsayer_mcp.cli.problems import Problem
from soothsayer_mcp.cli.start import ProxyCommand, read_proxy

VALID: list[tuple[list[str], ProxyOptions]] = [
    ([], ProxyOptions()),
    (["--", "npx", "-y", "server", "--name", "x"], ProxyOptions(command=("npx", "-y", "server", "--name", "x"))),
    (["--"], ProxyOptions()),
    (["--", "a", "--", "b"], ProxyOptions(command=("a", "--", "b"))),
    (["--name", "files", "--", "cmd"], ProxyOptions(name="files", command=("cmd",))),
    (["--name=files-2", "--", "cmd"], ProxyOptions(name="files-2", command=("cmd",))),
    (["--name", "a", "--name", "b"], ProxyOptions(name="b")),
    (["--intent", "--policy", "--", "cmd"], ProxyOptions(intent="--policy", command=("cmd",))),
    (["--policy", "guarded", "--policy=./p.yaml"], ProxyOptions(policy=("guarded", "./p.yaml"))),
    (["--mode", "observe"], ProxyOptions(mode="observe")),
    (["-c", "soothsayer.yaml"], ProxyOptions(config="soothsayer.yaml")),
    (["-csoothsayer.yaml"], ProxyOptions(config="soothsayer.yaml")),
    (["-qvc", "x.yaml"], ProxyOptions(config="x.yaml", quiet=True, verbose=1)),
    (["-vv", "-v"], ProxyOptions(verbose=3)),
    (["--pass-env", "A", "--pass-env", "B", "--", "cmd"], ProxyOptions(pass_env=("A", "B"), command=("cmd",))),
    (["--unsafe-pass-all-env", "--", "cmd"], ProxyOptions(unsafe_pass_all_env=True, command=("cmd",))),
    (["--intent", "tidy up", "--run", "4bf9"], ProxyOptions(intent="tidy up", run="4bf9")),
    (
        ["--url", "https://x.test/mcp", "--header-env", "Authorization=TOKEN"],
        ProxyOptions(url="https://x.test/mcp", header_env=(("Authorization", "TOKEN"),)),
    ),
    (
        ["--url", "https://x.test/mcp", "--allow-address", "private"],
        ProxyOptions(url="https://x.test/mcp", allow_address=("private",)),
    ),
    (["--durability", "balanced"], ProxyOptions(durability="balanced")),
    (
        ["--json", "--no-input", "--debug", "--state", "-"],
        ProxyOptions(json=True, no_input=True, debug=True, state="-"),
    ),
]

INVALID: list[list[str]] = [
    ["npx"],
    ["npx", "--", "x"],
    ["--polcy", "x"],
    ["--name"],
    ["--name", "--", "x"],
    ["--no-input=1"],
    ["-z"],
    ["-qz"],
    ["-c"],
    ["-qc"],
    ["--mode", "watch"],
    ["--durability", "none"],
    ["--header-env", "Authorization", "--url", "https://x.test"],
    ["--header-env", "A=B"],
    ["--allow-address", "private"],
    ["--url", "https://x.test", "--", "cmd"],
    ["--url", "x.test/mcp"],
    ["--url", "https://x.test", "--pass-env", "A"],
    ["--name="],
    ["--name", "soothsayer", "--", "cmd"],
    *([["--name", name, "--", "cmd"] for name in ("A B", "a b", "Files", "a.b", "a_b", "*", "x" * 21, "\x00", "ä")]),
    ["--color", "never"],
    ["-"],
    ["--pass-env", "A", "x"],
]


def by_click(argv: list[str]) -> ProxyOptions | None:
    """What click makes of the same words; `None` when it refuses them."""
    command = ProxyCommand()
    try:
        with command.make_context("proxy", list(argv), obj=Given()) as ctx:
            spelled, options = read_proxy(ctx)
    except (click.UsageError, Problem):
        return None
    assert parse_proxy(spelled, {}) == options
    return options


def by_hand(argv: list[str]) -> ProxyOptions | None:
    try:
        return parse_proxy(argv, {})
    except Problem:
        return None


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for option in (*GLOBAL, *PROXY):
        if option.variable:
            monkeypatch.delenv(option.variable, raising=False)


@pytest.mark.parametrize(("argv", "options"), VALID, ids=[" ".join(argv) for argv, _options in VALID])
def test_both_parsers_of_proxy_read_the_same(argv: list[str], options: ProxyOptions) -> None:
    assert by_hand(argv) == options
    assert by_click(argv) == options


@pytest.mark.parametrize("argv", INVALID, ids=[" ".join(argv) for argv in INVALID])
def test_both_parsers_of_proxy_refuse_the_same(argv: list[str]) -> None:
    assert by_hand(argv) is None
    assert by_click(argv) is None


WORDS = sorted({name for option in PROXY for name in option.names} | {"--", "x", "=", "-", "", "--name=", "-qv", "-cx"})


@given(argv=st.lists(st.sampled_from(WORDS), max_size=7))
def test_both_parsers_of_proxy_agree_on_whatever_is_typed(argv: list[str]) -> None:
    assert by_click(argv) == by_hand(argv)


def test_every_row_of_the_proxy_table_reaches_its_field() -> None:
    """An option that is read and lost would be worse than none."""
    plain = parse_proxy([], {})
    for option in PROXY:
        wanted = {"url": "https://x.test", "name": "files"}
        value = wanted.get(option.field) or (option.choices or ("A=B",))[-1]
        argv = [option.names[0]] if option.is_flag else [option.names[0], value]
        if option.field in {"header_env", "allow_address"}:
            argv += ["--url", "https://x.test"]
        if option.field == "pass_env":
            argv += ["--", "cmd"]
        assert getattr(parse_proxy(argv, {}), option.field) != getattr(plain, option.field), option.names


def test_every_row_of_the_global_table_reaches_its_field() -> None:
    plain = settings(Given(), {})
    for option in GLOBAL:
        given_ = Given()
        given_.take(option, None if option.is_flag else (option.choices or ("x",))[-1])
        assert getattr(settings(given_, {}), option.field) != getattr(plain, option.field), option.names


def test_the_environment_stands_in_for_what_is_not_typed() -> None:
    environ = {
        "SOOTHSAYER_STATE": "/s",
        "SOOTHSAYER_NO_INPUT": "1",
        "SOOTHSAYER_VERBOSE": "2",
        "SOOTHSAYER_JSON": "off",
    }
    assert parse_proxy([], environ) == ProxyOptions(state="/s", no_input=True, verbose=2)
    assert parse_proxy(["--state", "/t"], environ).state == "/t"
    assert settings(Given(), environ) == Settings(state="/s", no_input=True, verbose=2)


@pytest.mark.parametrize(
    ("variable", "value"),
    [("SOOTHSAYER_NO_INPUT", "maybe"), ("SOOTHSAYER_COLOR", "green"), ("SOOTHSAYER_VERBOSE", "many")],
)
def test_a_variable_that_says_nothing_clear_is_an_error(variable: str, value: str) -> None:
    with pytest.raises(Problem) as caught:
        settings(Given(), {variable: value})
    assert variable in caught.value.text


def test_an_empty_variable_is_as_good_as_none() -> None:
    assert settings(Given(), {option.variable: "" for option in GLOBAL}) == Settings()


def test_the_command_of_the_server_is_not_looked_at() -> None:
    argv = ["--", "cmd", "--policy", "x", "--unknown", "-z", "--", "--json"]
    options = parse_proxy(argv, {})
    assert options == ProxyOptions(command=("cmd", "--policy", "x", "--unknown", "-z", "--", "--json"))


def test_what_was_typed_is_spelled_so_that_it_reads_the_same_again() -> None:
    for argv, options in VALID:
        with ProxyCommand().make_context("proxy", list(argv), obj=Given()) as ctx:
            given_ = given_of(ctx)
            read_proxy(ctx)
            assert parse_proxy(proxy_argv(given_, options.command), {}) == options


def test_an_unknown_option_names_the_nearest() -> None:
    with pytest.raises(Problem) as caught:
        parse_proxy(["--polcy", "x"], {})
    assert caught.value.near == "--policy"


def test_a_name_that_a_configuration_refuses_is_refused_with_the_nearest_one() -> None:
    with pytest.raises(Problem) as caught:
        parse_proxy(["--name", "My Files", "--", "cmd"], {})
    assert caught.value.text == '--name: "My Files" is no server name: 1 to 20 of a-z, 0-9 and "-"'
    assert caught.value.near == "my-files"
