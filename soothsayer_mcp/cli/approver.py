"""`approver init` and `approver list`: keys that a person signs answers with."""

import sys
from pathlib import Path

import click
from rich.text import Text

from soothsayer_mcp.adapters import approver_keys
from soothsayer_mcp.adapters.approver_keys import ApproverKey, ApproverKeyError
from soothsayer_mcp.cli.command import command
from soothsayer_mcp.cli.exits import Exit
from soothsayer_mcp.cli.output import Output
from soothsayer_mcp.cli.problems import Problem
from soothsayer_mcp.cli.state import state_dir
from soothsayer_mcp.console.text import escape
from soothsayer_mcp.model.json import Json

PASSPHRASE_FILE = click.option(
    "--passphrase-file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Read the passphrase from the first line of a file; else it is asked for.",
)


@command(
    "approver init",
    more="The key lies in the state folder under a passphrase, which is asked for. The line that is printed goes into"
    " the roles of the organisation's policy.",
)
@click.argument("name")
@PASSPHRASE_FILE
def approver_init(output: Output, name: str, passphrase_file: Path | None) -> int:  # noqa: D103 - see the table
    if approver_keys.NAME.fullmatch(name) is None:
        raise Problem(
            f'"{escape(name)}" is no name of an approver', id="usage", fix="letters, digits and . _ @ -, at most 60"
        )
    state = state_dir(output.settings)
    passphrase = read_passphrase(output, passphrase_file, "Passphrase of the new key", confirm=True)
    try:
        made = approver_keys.make(state, name, passphrase)
    except ApproverKeyError as error:
        raise Problem(str(error), id="key") from error
    if output.as_json:
        output.document({"approver": _document(made)})
    else:
        output.page([Text(f"{{name: {made.name}, key: {made.key!r}}}".replace("'", '"'))])
        output.remark(f"the key lies in {escape(str(made.file))}; the line above goes into a role of the policy")
    return Exit.DONE


@command("approver list", more="Only public keys are shown.")
def approver_list(output: Output) -> int:  # noqa: D103 - see the table
    try:
        found = approver_keys.all_keys(state_dir(output.settings))
    except ApproverKeyError as error:
        raise Problem(str(error), id="key") from error
    if output.as_json:
        output.document({"approvers": [_document(key) for key in found]})
    elif found:
        output.page([Text(f"{escape(key.name)}  {key.key}") for key in found])
    else:
        output.remark("no approver has a key here; soothsayer approver init NAME makes one")
    return Exit.DONE


def key_of(output: Output, name: str) -> ApproverKey:
    """The key of an approver. Raises `Problem`."""
    try:
        return approver_keys.read(state_dir(output.settings), name)
    except ApproverKeyError as error:
        raise Problem(str(error), id="key", exit=Exit.NOT_AUTHORISED, fix="see soothsayer approver list") from error


def read_passphrase(output: Output, file: Path | None, question: str, *, confirm: bool = False) -> str:
    """What unlocks a key: from a file, or typed. Raises `Problem`."""
    if file is not None:
        try:
            return file.read_text(encoding="utf-8").partition("\n")[0]
        except (OSError, ValueError) as error:
            raise Problem("the passphrase cannot be read", id="key", where=str(file)) from error
    if output.settings.no_input or not (sys.stdin.isatty() and output.is_terminal):
        raise Problem("a passphrase needs a person", id="needs-person", fix="or --passphrase-file FILE")
    return str(click.prompt(question, hide_input=True, confirmation_prompt=confirm, err=True))


def _document(key: ApproverKey) -> dict[str, Json]:
    return {"name": key.name, "key": key.key, "file": str(key.file)}
