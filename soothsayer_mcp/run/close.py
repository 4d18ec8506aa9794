"""What follows a step, chosen in the commit that ends it."""

from collections.abc import Iterable, Mapping

from soothsayer_mcp.model.budget import NO_BUDGETS, Budgets
from soothsayer_mcp.model.call import Cause
from soothsayer_mcp.model.failure import Acted, Failure
from soothsayer_mcp.model.following import NO_NEXT_RULES, NextRules, OnFailure
from soothsayer_mcp.model.outcome import Returned, Unknown
from soothsayer_mcp.model.run import Closing, NextStep, Run, RunState
from soothsayer_mcp.model.step import SupportedStep, VerifiedStep
from soothsayer_mcp.run.budget import why_pause
from soothsayer_mcp.run.repeat import why_note

_STRICTNESS = tuple(OnFailure)
_STATES = {OnFailure.PAUSE: RunState.PAUSED, OnFailure.STOP: RunState.STOPPED, OnFailure.FAIL: RunState.FAILED}


def close(
    run: Run,
    step: SupportedStep,
    failure: Failure | None,
    budgets: Budgets = NO_BUDGETS,
    rules: NextRules = NO_NEXT_RULES,
) -> Closing:
    """Choose the next step: the first that holds of a closed run, `on_failure`, a limit that pauses, and `compact`.

    A budget of the whole run that is used up pauses it: a person may lift that.
    """
    if run.state is not RunState.OPEN:
        return Closing(next_step=NextStep.STOP, run_state=run.state, why=f"run is {run.state}")
    if step.cause is Cause.UNDO and failure is not None:
        why = f"the undo of a step did not succeed: {failure.reason}"
        return Closing(next_step=NextStep.STOP, run_state=RunState.PAUSED, why=why)
    if step.cause is not Cause.AGENT:
        return Closing(next_step=NextStep.CONTINUE, run_state=run.state)
    stopped = None if failure is None else _after_failure(run, step, failure, budgets, rules)
    if stopped is not None:
        return stopped
    why = "" if rules is NO_NEXT_RULES else _why_compact(run, step, rules)
    if why:
        return Closing(next_step=NextStep.COMPACT, run_state=run.state, why=why)
    if step.decision.on_failure and isinstance(step, VerifiedStep) and undoes(step):
        return Closing(next_step=NextStep.CONTINUE, run_state=run.state, why=_says_undo(step.failure))
    note = why_note(run.same_answers, step.decision.charge.repeats_most) if run.same_answers else ""
    return Closing(next_step=NextStep.CONTINUE, run_state=run.state, why=note)


def _after_failure(
    run: Run, step: SupportedStep, failure: Failure, budgets: Budgets, rules: NextRules
) -> Closing | None:
    """What a failure makes of an open run; `None` where it stays as it is."""
    said = on_failure(step.decision.on_failure, failure)
    if said is OnFailure.UNDO:
        why = _why_not_undone(step)
        if why:
            why = f"{_says_undo(failure)}, and {why}"
            return Closing(next_step=NextStep.STOP, run_state=RunState.PAUSED, why=why)
    elif said is not OnFailure.CONTINUE:
        why = f"policy says {said} on {failure.failure}/{failure.reason}"
        return Closing(next_step=NextStep.STOP, run_state=_STATES[said], why=why)
    why = _why_unsettled(step, failure) if rules.pause_unsettled else ""
    why = why or why_pause(run.counters, failure, budgets)
    return Closing(next_step=NextStep.STOP, run_state=RunState.PAUSED, why=why) if why else None


def _says_undo(failure: Failure | None) -> str:
    return "" if failure is None else f"policy says undo on {failure.failure}/{failure.reason}"


def on_failure(tables: Iterable[Mapping[str, OnFailure]], failure: Failure) -> OnFailure:
    """Tell what is done: in one table the reason speaks before its class, and of several the strictest holds."""
    name = f"{failure.failure}/{failure.reason}"
    said = [table.get(name, table.get(failure.failure, OnFailure.CONTINUE)) for table in tables]
    return max(said, key=_STRICTNESS.index, default=OnFailure.CONTINUE)


def undoes(step: VerifiedStep) -> bool:
    """Tell whether policy has a step undone as soon as it has ended, and what that takes is kept."""
    failure = step.failure
    if failure is None or step.cause is not Cause.AGENT or not isinstance(step.outcome, Returned):
        return False
    said = (on_failure((table,), failure) for table in step.decision.on_failure)
    return OnFailure.UNDO in said and not _why_not_kept(step)


def _why_not_undone(step: SupportedStep) -> str:
    """Why a step cannot be undone at once; empty where it can be, or had no effect."""
    if not isinstance(step, VerifiedStep):
        return ""
    if isinstance(step.outcome, Unknown):
        return "it is not known whether it happened"
    return _why_not_kept(step) if isinstance(step.outcome, Returned) else ""


def _why_not_kept(step: VerifiedStep) -> str:
    """Why what is on record of a step does not suffice to undo it; empty where it does."""
    terms, captured = step.decision.dues.undo, step.support.captured
    if terms is None or captured is None or not (terms.tool or captured.files):
        return "nothing that is put back was kept"
    if terms.tool and terms.look is None and step.acted is not Acted.YES:
        return "nothing tells whether it happened"
    return ""


def _why_unsettled(step: SupportedStep, failure: Failure) -> str:
    """Why nobody should go on before it is known what a write did; empty for reads and for what is known."""
    sent = isinstance(step, VerifiedStep) and step.decision.charge.write and failure.acted is Acted.MAYBE
    return f"it is not known whether {step.proposal.server}.{step.proposal.tool} happened" if sent else ""


def _why_compact(run: Run, step: SupportedStep, rules: NextRules) -> str:
    counters = run.counters
    if rules.compact_calls is not None and counters.calls_since_compact >= rules.compact_calls:
        return f"{counters.calls_since_compact:,} calls since the last time"
    if rules.compact_bytes is not None and counters.bytes_since_compact >= rules.compact_bytes:
        return f"{counters.bytes_since_compact:,} bytes were returned since the last time"
    if rules.compact_when is not None:
        risk = step.decision.risk
        sure = 0 if risk is None else risk.high if risk.high == risk.low else None
        if rules.compact_when(run, sure, step.proposed_at_us):
            return "the policy's condition for it holds"
    return ""
