"""What `doctor` finds out about asking people: whether anybody is told, in time, and the key of questions."""

import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal, TypeAlias

from soothsayer_mcp.adapters import notify
from soothsayer_mcp.adapters.faces import is_watched
from soothsayer_mcp.adapters.hosts.servers import Server, Standing
from soothsayer_mcp.adapters.hosts.table import ASSUMED_S, ENDLESS_S, Host
from soothsayer_mcp.adapters.sealing import Sealer
from soothsayer_mcp.adapters.store.reader import Reader, ReadError
from soothsayer_mcp.cli.survey import Seen
from soothsayer_mcp.model.entry import Kind
from soothsayer_mcp.model.value import dataclass
from soothsayer_mcp.policy.policy import Policy
from soothsayer_mcp.proxy.asking import SHARE_OF_LIMIT
from soothsayer_mcp.trace.query import Filter, term

State: TypeAlias = Literal["ok", "note", "fail"]

ELICITS = "elicitation"
PATIENCE_S = 120.0
"""A host that gives up a call sooner leaves a person little time to answer."""
SYNC_LEAST_S, SYNC_MOST_S = 0.000_02, 0.020
"""A sync that is quicker is none; one that is slower is felt."""
_RUNS = 5_000
"""How many of the newest runs are looked through for what hosts declared."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One thing that was looked at."""

    id: str
    state: State
    text: str
    fix: str = ""


def declared(state: Path) -> Mapping[str, Sequence[str]]:
    """What each client that opened a run declared when it last did, by its own name."""
    found: dict[str, Sequence[str]] = {}
    try:
        with Reader(state) as reader:
            opened = Filter(terms=(term("kind", Kind.RUN_OPENED),))
            for entry in reader.entries(opened, reader.now(), limit=_RUNS):
                host = entry.fields.get("host")
                name = host.get("name") if isinstance(host, Mapping) else None
                if isinstance(host, Mapping) and isinstance(name, str) and name:
                    said = host.get("declares")
                    told = said if isinstance(said, Sequence) and not isinstance(said, str) else ()
                    found.setdefault(name, [one for one in told if isinstance(one, str)])
    except ReadError:
        return {}
    return found


def keys(state: Path) -> Iterator[Check]:
    """Whether the keys of a state folder are its owner's only, and seal what they open."""
    folder = state / "keys"
    if not folder.is_dir():
        yield Check(id="keys", state="ok", text="no key was needed yet")
        return
    open_to_others: list[str] = []
    if os.name != "nt":
        for path in (folder, *sorted(folder.iterdir())):
            found = path.lstat()
            if found.st_uid != os.geteuid() or (stat.S_IMODE(found.st_mode) & 0o077):
                open_to_others.append(str(path))
    if open_to_others:
        text = f"keys are open to others: {', '.join(open_to_others)}"
        yield Check(id="keys", state="fail", text=text, fix="chmod go= on each; who read one can answer for a host")
        return
    try:
        sealer = Sealer(state)
        sound = sealer.unseal(sealer.seal({"k": "doctor"})) == {"k": "doctor"}
    except OSError as error:
        yield Check(id="keys", state="fail", text=str(error))
        return
    text = "the key of questions seals and opens" if sound else "the key of questions does not open what it sealed"
    yield Check(id="keys", state="ok" if sound else "fail", text=text)


def sync(took_s: float) -> Iterator[Check]:
    """What the time that a sync takes says of the disk below the record."""
    if took_s < SYNC_LEAST_S:
        text = f"a sync takes {took_s * 1000:.3f} ms: the disk does not mean it, and a power loss may cost the record"
        yield Check(id="sync", state="note", text=text, fix="keep the state folder on a disk of this machine")
    elif took_s > SYNC_MOST_S:
        text = f"a sync takes {took_s * 1000:.0f} ms, and each call waits for two"
        yield Check(id="sync", state="note", text=text, fix="keep the state folder on a faster disk")


def telling(found: Sequence[Seen], state: Path, policy: Policy | None, *, wanted: bool) -> Iterator[Check]:
    """Whether somebody learns of a question: where a policy asks and nobody is told, every question is a denial."""
    desktop = notify.find() if wanted else None
    told = desktop is not None and desktop.try_out()
    watched = is_watched(state)
    if desktop is None:
        text = "no desktop notifications here" if wanted else "notifications are off in the configuration"
        fix = (
            "install notify-send (libnotify)" if wanted and os.name == "posix" and os.uname().sysname == "Linux" else ""
        )
        yield Check(id="notify", state="note", text=text, fix=fix)
    elif told:
        yield Check(id="notify", state="ok", text=f"notifications go through {desktop.kind}: one was sent just now")
    else:
        text = f"{desktop.kind} is here and did not take a notification"
        yield Check(
            id="notify", state="note", text=text, fix="log in to the desktop, or keep soothsayer watch or ui open"
        )
    if policy is None or not policy.can_ask:
        return
    said = declared(state)
    for seen in found:
        governed = [server for server in seen.by(Standing.GOVERNED) if not server.off] if seen.is_read else []
        armed = [server for server in governed if server.option("--mode") != ("observe",)]
        for server in armed:
            if "--no-input" in server.options:
                text = f"{seen.host.id}: {server.name} never asks: what policy asks about is denied"
                yield Check(id="asks", state="note", text=text, fix="take --no-input out of its entry")
        asked = [server for server in armed if "--no-input" not in server.options]
        if asked:
            yield _ways(seen.host, said, told=told, watched=watched)


def _ways(host: Host, said: Mapping[str, Sequence[str]], *, told: bool, watched: bool) -> Check:
    """By which ways a person learns of a question about a call of this host."""
    known = [said[name] for name in host.clients if name in said]
    puts = any(ELICITS in one for one in known) if known else host.asks not in {"no", "?"}
    ways = [f"{host.title} itself"] if puts else []
    ways += ["an open soothsayer watch or ui"] if watched else []
    ways += ["notifications"] if told else []
    if ways:
        return Check(id="asks", state="ok", text=f"{host.id}: questions about calls are told by {', '.join(ways)}")
    text = f"{host.id}: policy asks about calls, and nobody is told: {host.title} puts no questions,"
    text += " nobody watches, no notification goes out; every such call is denied"
    return Check(id="asks", state="fail", text=text, fix="keep soothsayer watch or ui open, or have notifications")


def patience(seen: Seen, server: Server, hold_s: float) -> Iterator[Check]:
    """Whether a host lets a call take as long as a person needs."""
    host = seen.host
    said = server.entry.value
    own = said.get(host.limit_key) if isinstance(said, dict) and host.limit_key else None
    limit = ENDLESS_S if host.endless else host.limit_s
    if isinstance(own, int | float) and not isinstance(own, bool):
        limit = own / (1_000 if host.limit_unit == "ms" else 1)
    if limit is None or limit >= PATIENCE_S:
        return
    # The proxy does not see the entry's own limit: it goes by what is known of the host.
    held = min(hold_s, SHARE_OF_LIMIT * (host.limit_s or ASSUMED_S))
    name = f"{host.id}: {server.name}"
    again = f"soothsayer disconnect {host.id}, then connect it with --raise-timeouts" if host.limit_key else ""
    if held >= limit:
        text = f"{name}: {host.title} gives up a call after {limit:g} s, and a question holds it {held:g} s"
        yield Check(id="limit", state="fail", text=text, fix=again)
        return
    text = f"{name}: {host.title} gives up a call after {limit:g} s, whether or not a person has answered"
    yield Check(id="limit", state="note", text=text, fix=again)
