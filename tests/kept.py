"""The checked form of a policy, kept as an earlier start would have left it, so that a process need not make it anew.

To check a policy costs a process as much as all else of its start, and a test's own process has long loaded what does
it. What is wrong with a policy is left for the process to say.
"""

from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

from soothsayer_mcp.adapters.policy_files.load import LoadErrors, load_standing


def keep(policy: Path | str, state: Path, *, servers: Collection[str], workspace: Path) -> None:
    """Keep what a proxy in front of these servers, started with a command line in this folder, looks for."""
    state.mkdir(mode=0o700, parents=True, exist_ok=True)
    with suppress(LoadErrors):
        load_standing(
            [str(policy)],
            None,
            mode_override=None,
            workspace=str(workspace),
            state=state,
            known_servers=servers,
            tiers=[],
        )
