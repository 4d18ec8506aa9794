"""What the calls of some tools together have used up of a run."""

from collections.abc import Callable

from soothsayer_mcp.model.call import RunId
from soothsayer_mcp.model.facts import Facts, Questions, TallyQuestion, holder_of_run
from soothsayer_mcp.policy.policy import Policy


def used_by_tools(policy: Policy, run: RunId, recall: Callable[[Questions], Facts]) -> tuple[tuple[str, int, int], ...]:
    """Tools, used and most of each budget that some tools share; what is not known is left out."""
    shared = {TallyQuestion(mark=one.mark, holder=holder_of_run(run)): one for one in policy.tool_budgets}
    if not shared:
        return ()
    found = recall(Questions(tallies=tuple(shared))).tallies
    return tuple(
        (f"calls of {one.name}", found[question].sent, one.calls)
        for question, one in shared.items()
        if question in found
    )
