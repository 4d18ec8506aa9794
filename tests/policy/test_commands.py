from pathlib import Path

import pytest

from policy_kit import effect, policy_from
from soothsayer_mcp.policy.answers import Unsure
from soothsayer_mcp.policy.commands import flag_answer, words


def allows(folder: Path, matchers: str, command: str | list[str], *, extra: str = "") -> bool:
    policy = policy_from(f'{extra}rules: [{{allow: "It.", args: {{command: {matchers}}}}}]\n', folder)
    return effect(policy, "shell.run", {"command": list(command) if isinstance(command, list) else command}) == "allow"


def denies(folder: Path, matchers: str, command: str | list[str]) -> bool:
    policy = policy_from(f'default: allow\nrules: [{{deny: "It.", args: {{command: {matchers}}}}}]\n', folder)
    return effect(policy, "shell.run", {"command": list(command) if isinstance(command, list) else command}) == "deny"


GIT = "{argv0: git, no_shell_syntax: true}"


@pytest.mark.pitfall("P-POLICY-11")
@pytest.mark.parametrize(
    "command",
    [
        "git log; rm -rf x",
        "git log $(id)",
        "git log\nrm x",
        "git log\r\nrm x",
        "git log > f",
        "git log < f",
        "git log `id`",
        "git log | sh",
        "git log && rm x",
        "git log & rm x",
        "git log ${HOME}",
        "git log {a,b}",
        "git log *",
        "git log ~",
        "git log #x",
        "git log !x",
        "git log [a]",
        "git log \\x",
        "FOO=bar git log",
        "GIT_PAGER+=x git log",
        " \tFOO=bar git log",
        "git log 'a",
        "rm git",
        "",
        "git log\u2028rm x",
        "git log\0rm",
    ],
)
def test_one_plain_command_is_one_plain_command(tmp_path: Path, command: str) -> None:
    assert not allows(tmp_path, GIT, command)


@pytest.mark.parametrize(
    "command", ["git log", "git  log -n 3", "git log 'two words'", 'git log "--format=%h"', "'git' log"]
)
def test_quotes_are_no_syntax(tmp_path: Path, command: str) -> None:
    assert allows(tmp_path, GIT, command)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("a b  c", ("a", "b", "c")),
        ("a 'b c'd", ("a", "b cd")),
        ('a "b \\" c"', ("a", 'b " c')),
        ("a\\ b", ("a b",)),
        ("a '' b", ("a", "", "b")),
        ('"a\\x"', ("a\\x",)),
        ("", ()),
        ("a#b", ("a#b",)),
    ],
)
def test_text_is_cut_by_posix_rules(text: str, wanted: tuple[str, ...]) -> None:
    assert words(text) == wanted


@pytest.mark.parametrize(
    "text", ["a;b", "a|b", "a&", "(a)", "a>b", "a\nb", "$a", '"$a"', '"`a`"', "a '", 'a "', "a\\", "A=1 b"]
)
def test_what_is_not_one_command_has_no_words(text: str) -> None:
    assert isinstance(words(text), Unsure)


def test_a_deny_by_program_catches_what_cannot_be_read(tmp_path: Path) -> None:
    assert denies(tmp_path, "{argv0: rm}", "rm -rf x")
    assert denies(tmp_path, "{argv0: rm}", "ls; rm -rf x")
    assert denies(tmp_path, "{argv0: rm}", "r''m x")
    assert denies(tmp_path, "{argv0: rm}", "X=1 rm x")
    assert not denies(tmp_path, "{argv0: rm}", "ls rm")


def test_leading_words_are_compared_as_words(tmp_path: Path) -> None:
    matchers = '{argv: ["git status", pytest], no_shell_syntax: true}'
    assert allows(tmp_path, matchers, "git status -s")
    assert allows(tmp_path, matchers, "pytest")
    assert not allows(tmp_path, matchers, "git stat")
    assert not allows(tmp_path, matchers, "git statusx")
    assert not allows(tmp_path, matchers, "git -C x status")
    assert not allows(tmp_path, matchers, "'git status' x")


def test_a_list_of_words_is_taken_as_it_is(tmp_path: Path) -> None:
    matchers = '{argv: ["git status"], no_flags: ["-c"]}'
    assert allows(tmp_path, matchers, ["git", "status"])
    assert not allows(tmp_path, matchers, ["git status"])
    assert not allows(tmp_path, matchers, ["git", "status", "-c"])
    policy = policy_from('rules: [{allow: "It.", args: {command: {argv0: git}}}]\n', tmp_path)
    assert effect(policy, "shell.run", {"command": ["git", 5]}) == "ask"
    assert effect(policy, "shell.run", {"command": {"a": "git"}}) == "ask"


@pytest.mark.parametrize(
    ("word", "flag", "wanted"),
    [
        ("-c", "-c", True),
        ("-cX", "-c", True),
        ("-d", "-c", False),
        ("c", "-c", False),
        ("--output", "--output", True),
        ("--output=x", "--output", True),
        ("--outputs", "--output", False),
        ("--verbose", "--output", False),
        ("--", "--output", False),
    ],
)
def test_a_flag_is_found_with_its_value(word: str, flag: str, wanted: bool) -> None:
    assert flag_answer(word, flag) is wanted


@pytest.mark.parametrize(
    ("word", "flag"), [("--out", "--output"), ("--ou=x", "--output"), ("-xc", "-c"), ("-vcX", "-c")]
)
def test_what_some_programs_take_for_a_flag_is_a_doubt(tmp_path: Path, word: str, flag: str) -> None:
    assert isinstance(flag_answer(word, flag), Unsure)
    assert not allows(tmp_path, f'{{argv0: p, no_flags: ["{flag}"]}}', f"p {word}")


def test_under_windows_only_plain_words_are_read(tmp_path: Path) -> None:
    windows = "servers: {shell: {os: windows}}\n"
    assert allows(tmp_path, "{argv0: git}", "git log -n 3", extra=windows)
    assert not allows(tmp_path, "{argv0: git}", "git log ^& rm", extra=windows)
    assert not allows(tmp_path, "{argv0: git}", 'git "log"', extra=windows)
