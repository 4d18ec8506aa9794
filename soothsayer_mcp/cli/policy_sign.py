"""`policy sign`: an organisation vouches for its policy, so that proxies that know its key take nothing else."""

import os
import re
from pathlib import Path

import click
from rich.text import Text

from soothsayer_mcp.adapters.policy_files.cache import digest_file
from soothsayer_mcp.adapters.policy_files.load import gather_only
from soothsayer_mcp.adapters.policy_files.signed import new_key as make_key
from soothsayer_mcp.adapters.policy_files.signed import sign, signature_of
from soothsayer_mcp.cli.command import command
from soothsayer_mcp.cli.exits import Exit
from soothsayer_mcp.cli.output import Output
from soothsayer_mcp.cli.problems import Problem
from soothsayer_mcp.console.text import escape

DAY = re.compile(r"[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])", re.ASCII)
KEY_BYTES = 32


@command(
    "policy sign",
    more=(
        "Writes FILE.sig over FILE and the files beside it that it uses. The public key that is printed goes into"
        " organisation.key of the configuration, or into policy.pub beside the machine's policy.yaml; from then on a"
        " policy that is changed, unsigned or past its day does not load."
    ),
)
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option(
    "--key", "key_file", required=True, type=click.Path(path_type=Path), help="The private key, 64 hex digits."
)
@click.option("--new-key", is_flag=True, help="Make that key first; never over a file.")
@click.option("--expires", metavar="DAY", default="", help="The last day, in UTC, on which it loads: 2027-01-31.")
def policy_sign(output: Output, file: Path, key_file: Path, expires: str, *, new_key: bool) -> int:  # noqa: D103 - see the table
    if expires and DAY.fullmatch(expires) is None:
        raise Problem(f'"{expires}" is no day', id="usage", fix="write 2027-01-31")
    policy = Path(os.path.abspath(file))  # noqa: PTH100 - as policies are loaded: links stay
    gathered = gather_only({"org": (str(policy),)}, known_servers=None, known_tools={})
    signed = [Path(path) for path in gathered.files if Path(path).is_relative_to(policy.parent)]
    private = _made(key_file) if new_key else _read(key_file)
    public = sign(policy, signed, private, expires=expires, digest=digest_file)
    if output.as_json:
        output.document({"signed": {"signature": signature_of(str(policy)), "key": public}})
    else:
        output.page([Text(f"signed {len(signed)} files: {escape(signature_of(str(policy)))}"), Text(public)])
    return Exit.DONE


def _made(file: Path) -> bytes:
    private = make_key()
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        raise Problem(f"the key cannot be written ({error.strerror})", id="key", where=str(file)) from error
    with os.fdopen(descriptor, "w", encoding="ascii") as stream:
        stream.write(private.hex() + "\n")
    return private


def _read(file: Path) -> bytes:
    try:
        private = bytes.fromhex(file.read_text(encoding="ascii"))
    except (OSError, ValueError) as error:
        raise Problem("this is no private key", id="key", where=str(file), fix="--new-key makes one") from error
    if len(private) != KEY_BYTES:
        raise Problem("this is no private key", id="key", where=str(file), fix="--new-key makes one")
    return private
