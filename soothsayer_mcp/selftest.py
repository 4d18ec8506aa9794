"""Before the first byte is let through: a forbidden call takes the real path and must end refused and on record."""

from soothsayer_mcp.governor import Governor, Unrecorded
from soothsayer_mcp.model.call import Cause, Client, Principal, Proposal, ToolDefinition
from soothsayer_mcp.model.failure import Reason
from soothsayer_mcp.model.json import Digest, digest
from soothsayer_mcp.model.outcome import Refused
from soothsayer_mcp.model.run import RunBinding
from soothsayer_mcp.model.step import ClosedStep, ProposedStep
from soothsayer_mcp.ports import Call, Clock, Ids, PortError, Store

TOOL = ToolDefinition(server="soothsayer", name="selftest", raw=b"{}", digest=digest(b"{}"), properties=frozenset())
"""A tool that no server has."""
CLIENT = Client(name="soothsayer-selftest")


async def self_test(
    governor: Governor, store: Store, *, principal: Principal, workspace: str, policy: Digest, clock: Clock, ids: Ids
) -> str | None:
    """Drive a forbidden call through the whole loop: `None` when it is refused and durable, else what is not live.

    A call with cause `selftest` is denied by every policy in every mode, so no server can ever receive it.
    """
    call = Call()
    try:
        binding = RunBinding(principal=principal, workspace=workspace, client=CLIENT, alone=True)
        run, _ = await store.bind_run(binding, policy)
        step = ProposedStep(
            id=ids.step(),
            run_id=run,
            cause=Cause.SELFTEST,
            principal=principal,
            client=CLIENT,
            tool=TOOL,
            proposal=Proposal(
                server=TOOL.server, tool=TOOL.name, arguments={}, raw_arguments=b"{}", raw=b"{}", request_id=None
            ),
            flaws=(),
            proposed_at_us=clock.now_us(),
            began_ns=clock.monotonic_ns(),
        )
        return await _fault(await governor.govern(step, call), call, store)
    except PortError as error:
        return f"the trace: {error.summary}"


async def _fault(closed: ClosedStep | Unrecorded, call: Call, store: Store) -> str | None:
    if isinstance(closed, Unrecorded):
        return f"the trace: {closed.failure.summary}"
    if call.sent or call.recorded is not None or not isinstance(closed.outcome, Refused):
        return "the policy: a forbidden call was let through"
    if closed.outcome.failure.reason is not Reason.RULE_DENIED:
        return f"the loop: a forbidden call ended as {closed.outcome.failure.reason}"
    if not await store.holds(closed.intent):
        return "the trace: a refusal is not on record"
    return None
