"""Loads a policy: by the names of shipped policies or by files, from the kept form where nothing changed."""

import os
import sys
import tempfile
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol, cast

from soothsayer_mcp import __version__
from soothsayer_mcp.adapters.lazy import resolve
from soothsayer_mcp.adapters.policy_files import places
from soothsayer_mcp.adapters.policy_files.build import Gathered, Machine, build
from soothsayer_mcp.adapters.policy_files.cache import Kept, PolicyCache, code_stamp, digest_file, read_unchanged
from soothsayer_mcp.adapters.policy_files.places import PACKAGED_NAME, Organisation, Request
from soothsayer_mcp.adapters.policy_files.problems import START, LoadErrors, Problem, nearest
from soothsayer_mcp.adapters.policy_files.signed import why_not
from soothsayer_mcp.adapters.system import state_folder
from soothsayer_mcp.model.decision import Mode
from soothsayer_mcp.model.json import Json, canonical, digest
from soothsayer_mcp.policy.policy import Policy

_HERE = Path(__file__).parent
CODE_FOLDERS = (_HERE, _HERE / "documents", _HERE.parent.parent / "policy")
"""The code that checks policies: when it changes, what is kept is checked again."""

DEFAULT = "guarded"

KnownTools = Mapping[str, Mapping[str, Mapping[str, Json] | None]]
"""Server -> tool -> its input schema; `None` when it has no usable one."""


class _Gather(Protocol):
    def __call__(
        self,
        requests: Sequence[Request],
        known_servers: frozenset[str] | None,
        known_tools: KnownTools | None,
        known_tiers: tuple[str, ...] | None,
    ) -> Gathered: ...


def find(name: str) -> Path | None:
    """The file of a shipped policy; `None` when none has that name."""
    return places.find(name)


def load(
    names_or_paths: Sequence[str] = (),
    *,
    mode_override: Mode | None = None,
    workspace: str | Path | None = None,
    home: str | Path | None = None,
    temp: str | Path | None = None,
    state: str | Path | None = None,
    known_servers: Collection[str] | None = None,
    known_tools: KnownTools | None = None,
    tiers: Sequence[str] | None = None,
    organisation: Sequence[str] = (),
    project: Sequence[str] = (),
    keys: Mapping[str, str] | None = None,
    looked: Sequence[str] = (),
    follow: Callable[[str], str] = os.path.realpath,
) -> Policy:
    """Load the policy of a user, `guarded` when none is named, below an organisation's and beside a project's.

    A word is a shipped policy, anything else a file. `state` is Soothsayer's own folder, where the checked form is
    kept; without it nothing is kept. `keys` have to have signed a file of the organisation; `looked` are places
    whose files would change what is in force. `known_servers` are the names that rules may use; `None` checks none.
    `tiers` are the model tiers of the configuration, weakest first; `None` where there is no configuration to ask.
    `follow` tells where a folder that a rule names leads to. Raises `LoadErrors` with everything that is wrong.
    """
    named = {"org": organisation, "project": project, "user": names_or_paths or (DEFAULT,)}
    requests = _requests(named)
    machine = Machine(
        workspace=_absolute(workspace or Path.cwd()),
        home=_absolute(home or Path.home()),
        temp=_absolute(temp or tempfile.gettempdir()),
        state=_absolute(state or state_folder(None)),
        follow=follow,
    )
    servers = None if known_servers is None else frozenset(known_servers)
    # What is known of tools changes with every list, so nothing checked against it is kept.
    cache = PolicyCache(Path(state)) if state is not None and known_tools is None else None
    key = _cache_key(requests, servers, tiers)
    gathered = None if cache is None else _kept(cache, key)
    if gathered is None:
        gather = cast("_Gather", resolve("soothsayer_mcp.adapters.policy_files.gather:gather"))
        gathered = gather(requests, servers, known_tools, None if tiers is None else tuple(tiers))
        if cache is not None:
            cache.put(
                key, Kept(form=gathered.form, files={path: digest_file(raw) for path, raw in gathered.files.items()})
            )
    _check_signatures(keys or {}, gathered, looked)
    return build(
        gathered.form,
        machine,
        mode=mode_override,
        sources={path: raw.decode() for path, raw in gathered.files.items()},
        watch=tuple(dict.fromkeys([*gathered.files, *looked])),
        named={request.kind: request.files for request in requests},
        tiers=tiers or (),
    )


def load_standing(
    names_or_paths: Sequence[str],
    named: Organisation | None,
    *,
    mode_override: Mode | None,
    workspace: str | None,
    state: Path,
    known_servers: Collection[str] | None,
    known_tools: KnownTools | None = None,
    tiers: Sequence[str] | None = None,
) -> Policy:
    """Load a user's policy with what stands above and beside it on this machine. Raises `LoadErrors`."""
    found = places.standing(_absolute(workspace or Path.cwd()), named)
    return load(
        names_or_paths,
        mode_override=mode_override,
        workspace=workspace,
        state=state,
        known_servers=known_servers,
        known_tools=known_tools,
        organisation=found.organisation,
        project=found.project,
        keys=found.keys,
        looked=found.looked,
        tiers=tiers,
    )


def _check_signatures(keys: Mapping[str, str], gathered: Gathered, looked: Sequence[str]) -> None:
    """Raise `LoadErrors` for an organisation's policy that is not signed as it has to be."""
    if not keys:
        return
    digests = {path: digest_file(raw) for path, raw in gathered.files.items()}
    now = datetime.now(UTC)
    problems = [problem for file, key in keys.items() if (problem := why_not(file, key, digests, now)) is not None]
    if problems:
        raise LoadErrors(problems, watch=(*gathered.files, *looked))


def gather_only(
    named: Mapping[str, Sequence[str]], *, known_servers: Collection[str] | None, known_tools: KnownTools
) -> Gathered:
    """Read and check the files of every scope (`org`, `project`, `user`), and keep nothing. Raises `LoadErrors`."""
    gather = cast("_Gather", resolve("soothsayer_mcp.adapters.policy_files.gather:gather"))
    return gather(_requests(named), None if known_servers is None else frozenset(known_servers), known_tools, None)


def _kept(cache: PolicyCache, key: str) -> Gathered | None:
    kept = cache.get(key)
    if kept is None:
        return None
    files = read_unchanged(kept.files)
    return None if files is None else Gathered(form=kept.form, files=files)


def _requests(named: Mapping[str, Sequence[str]]) -> tuple[Request, ...]:
    """Find the files of every scope. Raises `LoadErrors` for a word that is no shipped policy."""
    problems: list[Problem] = []
    requests: list[Request] = []
    for kind, names in named.items():
        files = [_file(name, problems) for name in names]
        if files:
            requests.append(Request(kind=kind, files=tuple(files)))
    if problems:
        raise LoadErrors(problems)
    return tuple(requests)


def _file(name: str, problems: list[Problem]) -> str:
    if PACKAGED_NAME.fullmatch(name) is None:
        return _absolute(name)
    found = places.find(name)
    if found is None:
        text = f'no policy called "{name}" is shipped; a file is named with its folder or its ending'
        near = nearest(name, places.shipped())
        problems.append(Problem(file=name, mark=START, id="policy-file", text=text, nearest=near))
    return str(found)


def _cache_key(requests: Sequence[Request], servers: frozenset[str] | None, tiers: Sequence[str] | None) -> str:
    installed = [Path(entry) for entry in sys.path if entry.endswith(("site-packages", "dist-packages"))]
    parts: list[Json] = [
        __version__,
        code_stamp([*CODE_FOLDERS, *installed]),
        [[request.kind, *request.files] for request in requests],
        None if servers is None else sorted(servers),
        None if tiers is None else [*tiers],
    ]
    return digest(canonical(parts)).removeprefix("sha256:")


def _absolute(path: str | Path) -> str:
    # Links stay: a rule is about the name that people wrote, and what it leads to is looked up beside it.
    return os.path.abspath(Path(path).expanduser())  # noqa: PTH100 - `Path.resolve` follows links
