"""`init`: a first configuration, a policy beside it and the schema that editors check it by. Never over a file."""

import json
from collections.abc import Sequence
from pathlib import Path

import click

from soothsayer_mcp.adapters.config import FILE_NAME, default_name, load
from soothsayer_mcp.adapters.config_schema import schema
from soothsayer_mcp.cli.command import Command, command
from soothsayer_mcp.cli.exits import Exit
from soothsayer_mcp.cli.output import Output
from soothsayer_mcp.cli.problems import Problem

SCHEMA_FILE = ".soothsayer/config.schema.json"

POLICY = """\
# Your rules. `guarded` comes with Soothsayer: labelled reads pass, everything else is asked about, keys stay closed.
# Say below what each tool does, or allow one by name. `soothsayer policy check policy.yaml` tells whether it loads.
soothsayer: policy/v1
name: mine
about: "Labelled reads pass, everything else is asked about."
use: [guarded]
default: {read: allow, other: ask, checked: allow}
# labels:
#   - {tools: files.read_text_file, does: read}
# rules:
#   - {allow: "Notes may be written.", id: notes, tools: files.write_file, args: {path: {under: notes}}}
"""


class InitCommand(Command):
    """A command whose words after `--` are a server's own."""

    def collect_usage_pieces(self, ctx: click.Context) -> list[str]:
        """The usage line names what follows `--`."""
        return [*super().collect_usage_pieces(ctx), "[-- CMD ARGS...]"]

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """What stands after `--` is the server's and is not looked at."""
        end = args.index("--") if "--" in args else len(args)
        super().parse_args(ctx, args[:end])
        ctx.params["server"] = tuple(args[end + 1 :])
        return []


@command(
    "init",
    kind=InitCommand,
    more=(
        "Writes soothsayer.yaml, policy.yaml and a schema for editors into FOLDER, or here. With -- CMD ARGS... that "
        "server stands in it; else the block `mcpServers` of any host can be pasted."
    ),
)
@click.argument("folder", required=False, default=".")
def init(output: Output, folder: str, *, server: tuple[str, ...]) -> int:  # noqa: D103 - the table says what it does
    base = Path(folder)
    texts = {
        FILE_NAME: _config(server),
        "policy.yaml": POLICY,
        SCHEMA_FILE: json.dumps(schema(), indent=2) + "\n",
    }
    for name in (FILE_NAME, "policy.yaml"):
        if (base / name).exists():
            fix = "nothing was written; name another folder, or change that file"
            raise Problem("the file is there already", id="exists", where=str(base / name), fix=fix)
    try:
        (base / SCHEMA_FILE).parent.mkdir(parents=True, exist_ok=True)
        for name, text in texts.items():
            # The schema is ours and may be written again; the others are the person's from now on.
            with (base / name).open("w" if name == SCHEMA_FILE else "x", encoding="utf-8") as file:
                file.write(text)
    except OSError as error:
        raise Problem(f"it cannot be written ({error.strerror})", id="init", where=str(error.filename)) from error
    load(base / FILE_NAME)
    if output.as_json:
        output.document({"written": [str(base / name) for name in texts]})
        return Exit.DONE
    output.remark(f"wrote {', '.join(str(base / name) for name in texts)}")
    if server:
        output.remark(f"try it: soothsayer proxy -c {base / FILE_NAME}")
    else:
        output.remark(f"paste the block mcpServers of a host into {base / FILE_NAME}, then: soothsayer proxy -c it")
    return Exit.DONE


def _config(server: Sequence[str]) -> str:
    lines = [
        f"# yaml-language-server: $schema=./{SCHEMA_FILE}",
        "soothsayer: config/v1",
        "mode: enforce                # or observe: forward everything, record what would have been refused",
        "policy: [policy.yaml]",
        "workspace: .",
        "mcpServers:                  # the block that hosts have: paste it from any of them",
    ]
    if server:
        argv = json.dumps(list(server[1:]), ensure_ascii=False)
        command_ = json.dumps(server[0], ensure_ascii=False)
        lines.append(f"  {default_name(server)}: {{command: {command_}, args: {argv}}}")
    else:
        lines[-1] = "mcpServers: {}               # the block that hosts have: paste it from any of them"
    return "\n".join(lines) + "\n"
