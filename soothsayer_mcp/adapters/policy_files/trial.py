"""A suite and the policy that it tests, on a machine that is the same everywhere."""

from collections.abc import Callable

from soothsayer_mcp.adapters.policy_files.build import Gathered, Machine, build
from soothsayer_mcp.adapters.policy_files.load import gather_only
from soothsayer_mcp.adapters.policy_files.mutants import Mutant, mutants
from soothsayer_mcp.adapters.policy_files.problems import LoadErrors
from soothsayer_mcp.adapters.policy_files.rehearsal import rehearse, run_suite
from soothsayer_mcp.adapters.policy_files.suites import RUN, Suite, read_suite
from soothsayer_mcp.model.json import JsonObject
from soothsayer_mcp.model.value import dataclass
from soothsayer_mcp.policy.policy import Policy
from soothsayer_mcp.policy.suite import Case, SuiteResult, own_rules

MACHINE = Machine(
    workspace="/w",
    home="/home/u",
    temp="/tmp",  # noqa: S108 - only read as text
    state="/home/u/.soothsayer",
    platform="linux",
    follow=lambda folder: folder,
)
"""What `${workspace}`, `${home}`, `${temp}` and `${state}` stand for in tests."""


def _nothing(_done: int, _total: int) -> None:
    """Show no progress."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """A suite that loaded with its policy."""

    suite: Suite
    gathered: Gathered
    policy: Policy

    @classmethod
    def read(cls, file: str) -> "Trial":
        """Read a suite and its policies. Raises `LoadErrors`."""
        suite = read_suite(file)
        gathered = gather_only(suite.policies, known_servers=suite.servers, known_tools=suite.tools)
        policy = _build(gathered, gathered.form)
        unknown = suite.unknown_rules(policy)
        if unknown:
            raise LoadErrors(unknown)
        return cls(suite=suite, gathered=gathered, policy=policy)

    def run(self, cases: tuple[Case, ...]) -> SuiteResult:
        """Play some of its cases."""
        return run_suite(self.policy, RUN, cases)

    def unnoticed(self, progress: Callable[[int, int], None] = _nothing) -> tuple[tuple[Mutant, ...], int]:
        """The changes of the policy that no case notices, and how many were tried."""
        own = frozenset(own_rules(self.policy))
        every_one = list(mutants(self.gathered.form, own))
        survivors: list[Mutant] = []
        for number, mutant in enumerate(every_one, 1):
            policy = _build(self.gathered, mutant.form)
            if not any(rehearse(policy, RUN, case).differences for case in self.suite.cases):
                survivors.append(mutant)
            progress(number, len(every_one))
        return tuple(survivors), len(every_one)


def _build(gathered: Gathered, form: JsonObject) -> Policy:
    return build(form, MACHINE, mode=None, sources={}, watch=tuple(gathered.files))
