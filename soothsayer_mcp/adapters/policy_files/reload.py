"""Follows the files of a policy: a good change takes force, a bad one leaves the old policy and says why."""

import os
from collections.abc import Callable, Iterable

from soothsayer_mcp.adapters.policy_files.problems import LoadErrors
from soothsayer_mcp.policy.policy import Policy

Stamp = tuple[int, int, int, int] | None
"""Device, inode, size and time of change of a file; `None` when it is not there."""


def _ignore(_: object) -> None:
    """Do nothing with what changed."""


class PolicyWatch:
    """The policy in force, and what keeps a newer one from taking over."""

    def __init__(
        self,
        load: Callable[[], Policy],
        *,
        on_change: Callable[[Policy], None] = _ignore,
        on_problem: Callable[[LoadErrors], None] = _ignore,
    ) -> None:
        """Load the first policy. Raises `LoadErrors` when there is none to start with."""
        self._load = load
        self._on_change = on_change
        self._on_problem = on_problem
        self.problem: LoadErrors | None = None
        """Why the newest files are not in force; `None` when they are."""
        self._policy = load()
        # Stamped before it is read again: a change in between is seen as one more change.
        self._stamps = _stamps(self._policy.watch)

    def current(self) -> Policy:
        """The policy in force."""
        return self._policy

    def check(self) -> Policy:
        """Look whether a file changed, load it if so, and tell the policy in force. Costs a `stat` per file."""
        if all(_stamp(path) == stamp for path, stamp in self._stamps.items()):
            return self._policy
        return self.reload()

    def reload(self) -> Policy:
        """Load again, whether or not a file changed, and tell the policy in force."""
        before = _stamps([*self._stamps, *self._policy.watch])
        try:
            policy = self._load()
        except LoadErrors as errors:
            # What could mend it may lie in a file that is not there yet.
            self._stamps = before | {path: _stamp(path) for path in errors.watch if path not in before}
            if self.problem is None or self.problem.problems != errors.problems:
                self.problem = errors
                self._on_problem(errors)
            return self._policy
        self.problem = None
        self._stamps = {path: before.get(path, _stamp(path)) for path in policy.watch}
        if policy.digest != self._policy.digest or policy.mode is not self._policy.mode:
            self._policy = policy
            self._on_change(policy)
        return self._policy


def _stamps(paths: Iterable[str]) -> dict[str, Stamp]:
    return {path: _stamp(path) for path in paths}


def _stamp(path: str) -> Stamp:
    try:
        found = os.stat(path)  # noqa: PTH116 - `Path` would be made anew for every look
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns
