import click
import pytest

from commands import Soothsayer
from soothsayer_mcp.__main__ import PEOPLE_ROW
from soothsayer_mcp.adapters.lazy import resolve
from soothsayer_mcp.cli.exits import MEANINGS, Exit
from soothsayer_mcp.cli.main import root
from soothsayer_mcp.cli.problems import FOREIGN
from soothsayer_mcp.cli.table import COMMANDS, GROUPS, Row


@pytest.mark.parametrize("row", COMMANDS, ids=lambda row: row.words)
def test_every_row_names_a_command_of_that_name(row: Row) -> None:
    command = resolve(row.runs)
    assert isinstance(command, click.Command)
    assert command.name == row.words.split()[-1]


def test_the_first_word_of_every_two_word_command_has_a_line_of_help() -> None:
    assert {row.words.split()[0] for row in COMMANDS if " " in row.words} == set(GROUPS)


def test_help_lists_exactly_the_table(soothsayer: Soothsayer) -> None:
    ended = soothsayer("--help")
    assert ended.code == Exit.DONE
    listed = ended.out[ended.out.index("Start:") : ended.out.index("Exit codes:")]
    found = [line[2:].split("  ")[0].strip() for line in listed.splitlines() if line[:2] == "  " and line[2:3] != " "]
    assert found == [row.words for row in COMMANDS]


def test_the_help_of_a_group_lists_its_commands(soothsayer: Soothsayer) -> None:
    for group in GROUPS:
        ended = soothsayer(group, "--help")
        assert ended.code == Exit.DONE
        for row in COMMANDS:
            assert (f"  {row.words}  " in ended.out) == row.words.startswith(f"{group} ")


@pytest.mark.parametrize("row", COMMANDS, ids=lambda row: row.words)
def test_every_command_explains_itself(row: Row, soothsayer: Soothsayer) -> None:
    ended = soothsayer(*row.words.split(), "-h")
    assert ended.code == Exit.DONE
    assert row.help in " ".join(ended.out.split())
    assert ended.err == ""


def test_every_exit_code_has_a_meaning_and_stands_in_the_help(soothsayer: Soothsayer) -> None:
    assert set(MEANINGS) == set(Exit)
    words = soothsayer("--help").out.split()
    for code in Exit:
        assert str(int(code)) in words


@pytest.mark.parametrize("name", [row.name for row in FOREIGN])
def test_every_exception_that_is_reported_exists(name: str) -> None:
    error = resolve(name)
    assert isinstance(error, type)
    assert issubclass(error, Exception)


def test_the_commands_for_people_are_where_the_program_looks_for_them() -> None:
    assert callable(resolve(PEOPLE_ROW))
    assert root().name == "soothsayer"
