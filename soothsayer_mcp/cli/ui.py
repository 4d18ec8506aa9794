"""`ui`: the pages of `web`, over a state folder, at an address that only this machine reaches."""

import html
import os
import sys
import webbrowser
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, cast

import click
from rich.text import Text

from soothsayer_mcp.adapters.approver_keys import ApproverKeyError
from soothsayer_mcp.adapters.faces import Pages
from soothsayer_mcp.adapters.lazy import resolve
from soothsayer_mcp.cli.approver import PASSPHRASE_FILE, key_of, read_passphrase
from soothsayer_mcp.cli.asks import AS
from soothsayer_mcp.cli.command import command
from soothsayer_mcp.cli.exits import Exit
from soothsayer_mcp.cli.output import Output
from soothsayer_mcp.cli.problems import Problem
from soothsayer_mcp.cli.state import state_dir
from soothsayer_mcp.cli.ui_desk import PageDesk, Signer
from soothsayer_mcp.console.text import escape

SIGNALLED = 128
"""A program that a signal ended answers with this and the signal's number."""


class _Access(Protocol):
    @property
    def link(self) -> str: ...

    @property
    def address(self) -> str: ...


class _Site(Protocol):
    def app(self) -> Any: ...

    def end(self) -> None: ...

    def close(self) -> None: ...


@command(
    "ui",
    more="It prints a link that signs one browser in. While a page is open, calls that are asked about wait for you."
    " The pages are served to this machine alone, until Ctrl-C.",
)
@click.option("--open", "opens", is_flag=True, help="Open the page in the browser.")
@click.option("--port", type=click.IntRange(min=0, max=65535), default=0, help="The port; else any that is free.")
@AS
@PASSPHRASE_FILE
@click.option("--policy", default="", help="The file that rules for good go into, where several are in force.")
def ui(  # noqa: D103 - the table says what it does
    output: Output, port: int, approver: str, passphrase_file: Path | None, policy: str, *, opens: bool
) -> int:
    signer = _unlocked(output, approver, passphrase_file) if approver else None
    listen = cast("Callable[[int], Any]", resolve("soothsayer_mcp.web.serve:listen"))
    serve = cast("Callable[..., int]", resolve("soothsayer_mcp.web.serve:serve"))
    try:
        listening = listen(port)
    except OSError as error:
        text = f"port {port} cannot be used: {error.strerror}"
        raise Problem(text, id="port", exit=Exit.UNREACHABLE, fix="choose another with --port") from error
    access = cast("Callable[[int], _Access]", resolve("soothsayer_mcp.web.access:Access"))(listening.getsockname()[1])
    desk = PageDesk(output, signer=signer, policy=policy)
    site = cast("Callable[..., _Site]", resolve("soothsayer_mcp.web.app:Site"))(desk, access, _tell)
    pages = Pages(state_dir(output.settings), access.address)
    opened = state_dir(output.settings) / f"ui-{os.getpid()}.html"

    def ready() -> None:
        if output.as_json:
            output.object_line({"link": access.link})
        else:
            output.line(Text(access.link))
        output.remark("the link signs one browser in, once; Ctrl-C ends this")
        if opens and not _open(access.link, opened):
            output.remark("no browser was found; open the link yourself")

    try:
        pages.beat()
    except OSError as error:
        text = f"the state folder cannot be written: {error.strerror}"
        raise Problem(text, id="state", exit=Exit.STATE) from error
    try:
        ended = serve(site.app(), listening, ready, pages.beat, site.end)
    finally:
        opened.unlink(missing_ok=True)
        listening.close()
        site.close()
        desk.leave()
        pages.close()
    return SIGNALLED + ended


def _unlocked(output: Output, name: str, file: Path | None) -> Signer:
    """The key of an approver, opened once to see that the passphrase is the right one. Raises `Problem`."""
    key = key_of(output, name)
    signer = Signer(key=key, passphrase=read_passphrase(output, file, f"Passphrase of {key.name}"))
    try:
        signer.sign(b"soothsayer ui")
    except ApproverKeyError as error:
        raise Problem(str(error), id="key", exit=Exit.NOT_AUTHORISED) from error
    return signer


def _tell(text: str) -> None:
    """Write to the terminal, which no page sees; also where remarks are not wanted, since answers hang on it."""
    sys.stderr.write(f"{escape(text)}\n")
    sys.stderr.flush()


def _open(link: str, file: Path) -> bool:
    """Open the link by way of a file that only this account reads: others see the words a browser is started with."""
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
        stream.write(f'<!doctype html><meta http-equiv="refresh" content="0; url={html.escape(link)}">\n')
    return webbrowser.open(file.as_uri())
