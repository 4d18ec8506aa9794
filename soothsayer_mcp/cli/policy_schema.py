"""`policy schema`: the JSON Schemas by which editors complete and check policy files and their tests."""

import json

import click

from soothsayer_mcp.adapters.policy_files.editor_schema import KINDS, schema_of
from soothsayer_mcp.cli.command import choices, command
from soothsayer_mcp.cli.exits import Exit
from soothsayer_mcp.cli.output import Output


@command(
    "policy schema",
    more=(
        "Without a word, that of policy files. Save it, and begin a policy with the line"
        " # yaml-language-server: $schema=FILE; or name it in the settings of your editor. An editor sees mistyped keys"
        " and words; policy check sees the rest."
    ),
)
@click.argument("kind", type=choices(tuple(KINDS)), default="policy")
def policy_schema(output: Output, kind: str) -> int:  # noqa: D103 - the table says what it does
    # The schema is the document: programs get the same bytes as people.
    output.text(json.dumps(schema_of(kind), indent=2) + "\n")
    return Exit.DONE
