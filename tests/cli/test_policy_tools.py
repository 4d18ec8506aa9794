"""The commands that help to write a policy and to prove it."""

import json

import pytest

from commands import Soothsayer
from generate import FOLDER
from soothsayer_mcp.cli.exits import Exit


@pytest.mark.parametrize(("argv", "page"), [((), "policy"), (("policy",), "policy"), (("test",), "policy-test")])
def test_the_command_prints_the_schema_that_is_published(
    soothsayer: Soothsayer, argv: tuple[str, ...], page: str
) -> None:
    ended = soothsayer("policy", "schema", *argv)
    assert (ended.code, ended.err) == (Exit.DONE, "")
    assert ended.out == (FOLDER / f"{page}.schema.json").read_text()
    assert json.loads(ended.out)["additionalProperties"] is False
