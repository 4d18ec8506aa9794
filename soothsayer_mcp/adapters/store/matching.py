"""By what the calls of a run are compared: a keyed digest of server, tool and arguments."""

import hmac
from collections.abc import Mapping
from typing import cast

from soothsayer_mcp.model.json import Json, canonical
from soothsayer_mcp.model.step import SupportedStep

LONG_CHARS = 4096


def call_key(step: SupportedStep, key: hmac.HMAC) -> str:
    """The keyed digest of a call."""
    proposal = step.proposal
    said = b"\0".join((proposal.server.encode(errors="replace"), proposal.tool.encode(errors="replace")))
    # A copy of a keyed hash and a short update hold the interpreter lock; `hmac.digest` gives it up, and then waits
    # for it beside the writer: 48 us a call.
    keyed = key.copy()
    keyed.update(said + b"\0" + distinct(proposal.arguments))
    return keyed.hexdigest()


def distinct(arguments: Mapping[str, Json]) -> bytes:
    """Spell equal arguments alike, and others otherwise.

    Long texts stand as they are behind the rest, each with its name and length: to escape one takes longer than all
    else that is done with it. The canonical form before them holds no zero byte.
    """
    long = [name for name, value in arguments.items() if isinstance(value, str) and len(value) > LONG_CHARS]
    if not long:
        return canonical(arguments)
    parts = [canonical({name: value for name, value in arguments.items() if name not in long})]
    for name in sorted(long):
        text = cast("str", arguments[name]).encode(errors="surrogatepass")
        parts += (canonical(name), b"%d" % len(text), text)
    return b"\0".join(parts)
