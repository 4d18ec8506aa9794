"""Why the same call is not sent again while the agent does not know how the earlier one ended."""

from soothsayer_mcp.model.failure import Acted, Failure, Reason
from soothsayer_mcp.model.settlement import Twin


def duplicate(twin: Twin) -> Failure:
    """Refuse a call that an earlier step may already have done, or has done; the latter is told once."""
    if twin.keyed:
        lines = (
            f"{twin.step} had the same key, and a call is sent once with it. Another call needs a key of its own.",
        )
        return Failure(reason=Reason.DUPLICATE_CALL, summary=twin.step, lines=lines)
    if twin.acted is Acted.MAYBE:
        return Failure(reason=Reason.DUPLICATE_CALL, summary=twin.step)
    lines = (f"Since then it became known that {twin.step} took effect. Call again only if it is to happen twice.",)
    return Failure(reason=Reason.DUPLICATE_CALL, summary=twin.step, lines=lines)
