"""One state folder as the pages of `ui` ask about it."""

import difflib
import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, cast

from soothsayer_mcp.adapters.approver_keys import ApproverKey, ApproverKeyError
from soothsayer_mcp.adapters.descent import ancestors
from soothsayer_mcp.adapters.lazy import resolve
from soothsayer_mcp.adapters.system import account
from soothsayer_mcp.cli.asks import let_it_go
from soothsayer_mcp.cli.output import Output
from soothsayer_mcp.cli.watch_desk import StateDesk, told_in_a_line
from soothsayer_mcp.console.tui.desk import DeskError
from soothsayer_mcp.evidence.approvers import about, held_back, may_answer, statement
from soothsayer_mcp.model.ask import Ask, AskAnswer, AskState, Channel, Vote
from soothsayer_mcp.model.call import Principal
from soothsayer_mcp.model.json import Json
from soothsayer_mcp.model.value import dataclass
from soothsayer_mcp.trace.query import parse
from soothsayer_mcp.trace.rows import EntryRow
from soothsayer_mcp.web.desk import ChangedError, RuleChange

if TYPE_CHECKING:
    from soothsayer_mcp.cli.always import Planned


@dataclass(frozen=True, slots=True, kw_only=True)
class Signer:
    """An approver whose key was unlocked at the terminal; it stays in the memory of this process."""

    key: ApproverKey
    passphrase: str

    def sign(self, signed: bytes) -> str:
        """Sign bytes, in hex. Raises `ApproverKeyError`."""
        return self.key.sign(self.passphrase, signed)


class PageDesk(StateDesk):
    """Implements `web.desk.Desk`."""

    def __init__(self, output: Output, *, signer: Signer | None = None, policy: str = "") -> None:
        """`policy` is the file that rules go into, where several are in force."""
        super().__init__(output, channel=Channel.PAGE, about="soothsayer ui")
        self._signer = signer
        self._policy = policy

    @property
    def approver(self) -> str:
        """Whose key signs answers here; empty where nobody's does."""
        return "" if self._signer is None else self._signer.key.name

    def _seen(self, ask: Ask) -> Ask | None:
        if self._signer is None or not ask.needs:
            return held_back(ask)
        return ask if may_answer(ask, self._signer.key.key) else None

    def entries_of(self, run: str, kinds: Sequence[str], most: int) -> list[EntryRow]:
        """The newest entries of a run that are of these kinds, oldest first."""
        wanted = parse(f"run:{run} kind:{','.join(kinds)}")
        return self._must(lambda watcher: list(watcher.entries(wanted, watcher.now(), limit=most)))[::-1]

    def answer(self, ask: Ask, state: AskState, comment: str, shape: Mapping[str, Json] | None) -> tuple[Ask, bool]:
        """Answer a question as the person here: as it stands then, and whether this answer counted."""
        if self._signer is None or not ask.needs:
            return super().answer(ask, state, comment, shape)
        _refuse_kin(ask)
        at_us = time.time_ns() // 1000
        try:
            signature = self._signer.sign(statement(ask, about(ask.card), state, at_us))
        except ApproverKeyError as error:
            raise DeskError(str(error)) from error
        key = self._signer.key
        vote = Vote(by=key.name, key=key.key, answer=state, at_us=at_us, signature=signature)
        by = Principal(id=account().id, how="terminal")
        told = AskAnswer(ask=ask.id, state=state, by=by, channel=Channel.PAGE, comment=comment, vote=vote)
        with self._writing() as store:
            return store.answer_ask(told)

    def rule_change(self, ask: Ask) -> RuleChange:
        """The change of policy by which calls like this one are allowed."""
        return _as_shown(self._planned(ask))

    def answer_for_good(self, ask: Ask, comment: str, digest: str) -> tuple[Ask, bool]:
        """A yes to a question, and the change of policy whose digest was shown; nothing where it is another by now."""
        planned = self._planned(ask)
        if _as_shown(planned).digest != digest:
            text = "the policy is another by now; nothing was answered, look at the change again"
            raise ChangedError(text)
        stands, counted = self.answer(ask, AskState.YES, comment, None)
        if counted:
            with told_in_a_line():
                let_it_go(self._output, ask)
                planned.write()
        return stands, counted

    def _planned(self, ask: Ask) -> "Planned":
        plan = cast("Callable[..., Planned]", resolve("soothsayer_mcp.cli.always:planned"))
        with told_in_a_line():
            return plan(self._output, ask, by=account().id, policy=self._policy, until="")


def _as_shown(planned: "Planned") -> RuleChange:
    file = str(planned.file)
    before, after = planned.before, planned.after
    lines = difflib.unified_diff(before.splitlines(), after.splitlines(), file, file, n=2, lineterm="")
    both = hashlib.sha256(before.encode()).digest() + hashlib.sha256(after.encode()).digest()
    return RuleChange(file=file, lines=list(lines), digest=hashlib.sha256(both).hexdigest())


def _refuse_kin(ask: Ask) -> None:
    if ask.host_pid > 1 and ask.host_pid in ancestors():
        text = "this process belongs to the host whose call is asked about; start soothsayer ui elsewhere"
        raise DeskError(text)
