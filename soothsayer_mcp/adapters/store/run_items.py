"""What people and the model may write about a run: opening one, saying what it is for, asking to complete it."""

from collections.abc import Mapping

from soothsayer_mcp.adapters.store.batch import Batch
from soothsayer_mcp.adapters.store.debts import load_debts
from soothsayer_mcp.adapters.store.items import Item, change_state, known, lacking, open_run
from soothsayer_mcp.adapters.store.payloads import Payload
from soothsayer_mcp.model.budget import Allowance
from soothsayer_mcp.model.call import RunId
from soothsayer_mcp.model.entry import Kind
from soothsayer_mcp.model.failure import Acted, Reason
from soothsayer_mcp.model.json import Json
from soothsayer_mcp.model.run import (
    TRANSITIONS,
    Completion,
    DeclaredBy,
    Intent,
    Run,
    RunBinding,
    RunRules,
    RunScope,
    RunState,
)
from soothsayer_mcp.ports import PortError
from soothsayer_mcp.trace import entries


class OpenRunItem(Item[Run]):
    """Opens a run that takes the calls of its principal and workspace."""

    def __init__(
        self,
        binding: RunBinding,
        *,
        fresh: tuple[RunId, bytes],
        intent: Payload | None,
        scope: RunScope | None,
        budgets: Mapping[str, int],
    ) -> None:
        super().__init__()
        self._binding = binding
        self._fresh = fresh
        self._intent = intent
        self._scope = scope
        self._budgets = budgets

    def apply(self, batch: Batch) -> Run:
        """Open it."""
        row = open_run(
            batch,
            self._binding,
            None,
            fresh=self._fresh,
            intent=self._intent,
            attached=True,
            scope=self._scope,
            budgets=self._budgets,
        )
        return row.as_run()


class AddBudgetItem(Item[Run]):
    """Raises budgets of a run, by a person's decision, and opens it again where it is paused."""

    reads = True

    def __init__(self, run: RunId, added: Mapping[str, int], *, by: str, reason: str) -> None:
        super().__init__()
        self._run = run
        self._added = added
        self._by = by
        self._reason = reason

    def apply(self, batch: Batch) -> Run:
        """Write the decision down."""
        row = known(batch, self._run)
        if not TRANSITIONS[row.state]:
            raise PortError(Reason.RUN_CLOSED, f"{row.id[:4]} is {row.state}", acted=Acted.NO)
        said = row.allowance or Allowance()
        more = {name: said.added.get(name, 0) + self._added.get(name, 0) for name in {**said.added, **self._added}}
        row.allowance = Allowance(own=said.own, added=more)
        at = batch.now()
        if row.state is RunState.PAUSED:
            change_state(batch, row, RunState.OPEN, reason=self._reason, by=self._by, at=at, added=self._added)
        else:
            fields: dict[str, Json] = {"what": "budgets", "reason": self._reason, "by": self._by}
            fields["added"] = dict(self._added)
            batch.append(Kind.RUN_CHANGED, entries.note(Kind.RUN_CHANGED, fields, {}), at, run=row.id)
            row.version += 1
        batch.changed(row)
        return row.as_run()


class CompleteItem(Item[Completion]):
    """Completes a run if nothing stands against it; what does is on record."""

    reads = True

    def __init__(self, run: RunId, *, by: str, rules: RunRules) -> None:
        super().__init__()
        self._run = run
        self._by = by
        self._rules = rules

    def apply(self, batch: Batch) -> Completion:
        """Look at what the run owes, and complete it or write down what is missing."""
        row = known(batch, self._run)
        if RunState.COMPLETED not in TRANSITIONS[row.state]:
            raise PortError(Reason.RUN_CLOSED, f"{row.id[:4]} is {row.state}", acted=Acted.NO)
        debts = load_debts(batch.db, row.id)
        at = batch.now()
        lacks = lacking(batch, row.id, debts, self._rules, at)
        if lacks:
            fields: dict[str, Json] = {"what": "completion", "by": self._by, "missing": list(lacks)}
            batch.append(Kind.RUN_CHANGED, entries.note(Kind.RUN_CHANGED, fields, {}), at, run=row.id)
        else:
            change_state(batch, row, RunState.COMPLETED, reason=f"by {self._by}", by=self._by, at=at)
            batch.changed(row)
        return Completion(state=row.state, missing=lacks, unverified=debts.unverified)


class DeclareItem(Item[Run]):
    """Keeps what the agent says its run is for. It is the run's intent only where nobody else has given one."""

    reads = True

    def __init__(self, run: RunId, text: str, said: Payload) -> None:
        super().__init__()
        self._run = run
        self._text = text
        self._said = said

    def apply(self, batch: Batch) -> Run:
        """Write the words down as the agent's own."""
        row = known(batch, self._run)
        fields: dict[str, Json] = {"what": "intent", "declared_by": DeclaredBy.AGENT.value}
        tail = entries.note(Kind.RUN_CHANGED, fields, {"text": self._said.field})
        batch.append(Kind.RUN_CHANGED, tail, batch.now(), run=row.id, parts=[("text", self._said)])
        if row.intent is None:
            row.intent = Intent(text=self._text, declared_by=DeclaredBy.AGENT)
            row.version += 1
            batch.later("UPDATE runs SET intent_by = ? WHERE id = ?", DeclaredBy.AGENT.value, row.id)
            batch.changed(row)
        return row.as_run()
