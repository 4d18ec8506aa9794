"""`asks`, `approve` and `deny`: open questions, and a person's answer to one of them."""

import re
import sys
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Protocol, cast

import click

from soothsayer_mcp.adapters.approver_keys import ApproverKey, ApproverKeyError
from soothsayer_mcp.adapters.descent import ancestors
from soothsayer_mcp.adapters.faces import BEAT_S, Face
from soothsayer_mcp.adapters.lazy import resolve
from soothsayer_mcp.adapters.store.reader import NoTraceError, Reader
from soothsayer_mcp.adapters.store.sqlite import SqliteStore
from soothsayer_mcp.adapters.system import account
from soothsayer_mcp.cli.approver import PASSPHRASE_FILE, key_of, read_passphrase
from soothsayer_mcp.cli.command import choices, command
from soothsayer_mcp.cli.exits import Exit
from soothsayer_mcp.cli.output import Output
from soothsayer_mcp.cli.problems import Problem
from soothsayer_mcp.cli.state import empty_state, open_reader, state_dir
from soothsayer_mcp.console.against import against_last
from soothsayer_mcp.console.card import (
    Part,
    card,
    card_of_several,
    grant_lines,
    roles_of,
    shape_lines,
    still_due,
    vote_names,
)
from soothsayer_mcp.console.documents import ask as document_of
from soothsayer_mcp.console.documents import grant as document_of_grant
from soothsayer_mcp.console.less import less_lines, less_of
from soothsayer_mcp.console.render import card_page
from soothsayer_mcp.console.text import escape
from soothsayer_mcp.evidence.approvers import about, held_back, may_answer, statement
from soothsayer_mcp.evidence.grants import shape_of, why_not_remembered
from soothsayer_mcp.evidence.together import sets_of, shown_together, why_not_together
from soothsayer_mcp.model.ask import Ask, AskAnswer, AskState, Channel, Vote
from soothsayer_mcp.model.call import Principal
from soothsayer_mcp.model.json import Json
from soothsayer_mcp.model.value import dataclass

DIGEST_CHARS = 8
"""How many digits of what was shown a script repeats."""
STRONG_CHARS = 6
DAY = re.compile(r"[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])", re.ASCII)
_LOOK_S = 0.25
_GOES_S = 2.0
"""How long the rule of a yes for good is held back for the call that was asked about."""
_HEX = frozenset("0123456789abcdef")


AS = click.option(
    "--as",
    "approver",
    metavar="NAME",
    default="",
    help="With the key of this approver, for questions that need the answer of a role; see approver init.",
)


@command(
    "asks",
    more="A question names the call that waits for it; those that differ in their arguments alone are one card. With"
    " an ID, or several, only those. With --follow new ones are shown as they come, and calls wait for you while it"
    " runs.",
)
@click.argument("ask_ids", nargs=-1, metavar="[ID]...")
@click.option("-f", "--follow", is_flag=True, help="Wait for further questions; Ctrl-C ends it.")
@AS
def asks(  # noqa: D103 - the table says what it does
    output: Output, ask_ids: tuple[str, ...], approver: str, *, follow: bool
) -> int:
    key = key_of(output, approver) if approver else None
    if follow:
        if ask_ids:
            raise Problem("--follow shows what comes, whatever its id", id="usage")
        return _follow(output, key)
    try:
        with open_reader(output.settings) as reader:
            wanted = {_find(reader, ask_id, key).id for ask_id in ask_ids}
            found = [ask for ask in _open(reader, key) if not ask_ids or ask.id in wanted]
            beside = {ask.id: _beside(reader, ask) for ask in found}
    except NoTraceError as error:
        empty_state(output, error, {"asks": [], "together": []})
        return Exit.DONE
    sets = sets_of(found)
    if output.as_json:
        many: list[Json] = [
            {"asks": [ask.id for ask in held], "digest": shown_together(held)[:DIGEST_CHARS]}
            for held in sets
            if len(held) > 1
        ]
        output.document({"asks": [document_of(ask) for ask in found], "together": many})
    elif found:
        for held in sets:
            _show_set(output, held, beside)
        output.remark("answer with: soothsayer approve ID..., or soothsayer deny ID...")
    else:
        output.remark("none of these is open" if ask_ids else "no question is open")
    return Exit.DONE


ANSWERING = (
    "ID is a question's id, or the beginning of one; several are answered together where they differ in their"
    " arguments alone. The card is shown first; a script repeats the first eight digits of what was shown with"
    " --digest."
)


@command("approve", more=ANSWERING)
@click.argument("ask_ids", nargs=-1, required=True, metavar="ID...")
@click.option("--digest", default="", help="The first eight digits of the shown card: it was read.")
@click.option("--comment", default="", help="A word for the record.")
@AS
@PASSPHRASE_FILE
@click.option(
    "--for",
    "reach",
    type=choices(("once", "run", "always")),
    default="once",
    help="run: also for calls of this shape in the same run, which is shown first; always: a rule in your policy file,"
    " which is shown as a diff first.",
)
@click.option("--until", metavar="DAY", default="", help="With --for always: the last day of the rule, in UTC.")
@click.option("--policy", default="", help="With --for always: the file, where several are in force.")
def approve(  # noqa: D103 - see asks
    output: Output,
    ask_ids: tuple[str, ...],
    digest: str,
    comment: str,
    reach: str,
    until: str,
    policy: str,
    approver: str,
    passphrase_file: Path | None,
) -> int:
    said = Said(state=AskState.YES, digest=digest, comment=comment, approver=approver, passphrase_file=passphrase_file)
    if until and DAY.fullmatch(until) is None:
        raise Problem(f'"{escape(until)}" is no day', id="usage", fix="write 2027-01-31")
    if (until or policy) and reach != "always":
        raise Problem("--until and --policy belong to --for always", id="usage")
    first, *others = ask_ids
    if others:
        if reach != "once":
            raise Problem(f"--for {reach} answers one question at a time", id="usage")
        return _answer_several(output, ask_ids, said)
    return _answer(output, first, said, reach=reach, until=until, policy=policy)


@command("deny", more=ANSWERING)
@click.argument("ask_ids", nargs=-1, required=True, metavar="ID...")
@click.option("--digest", default="", help="The first eight digits of the shown card: it was read.")
@click.option("--comment", default="", help="Why; the agent reads it.")
@AS
@PASSPHRASE_FILE
def deny(  # noqa: D103 - see asks
    output: Output, ask_ids: tuple[str, ...], digest: str, comment: str, approver: str, passphrase_file: Path | None
) -> int:
    said = Said(state=AskState.NO, digest=digest, comment=comment, approver=approver, passphrase_file=passphrase_file)
    return _answer(output, ask_ids[0], said) if len(ask_ids) == 1 else _answer_several(output, ask_ids, said)


@command("grants", more="An answer for a run covers calls of one shape until it, or what it hangs on, changes.")
def grants(output: Output) -> int:  # noqa: D103 - see asks
    try:
        with open_reader(output.settings) as reader:
            found = reader.grants("")
    except NoTraceError as error:
        empty_state(output, error, {"grants": []})
        return Exit.DONE
    if output.as_json:
        output.document({"grants": [document_of_grant(grant) for grant in found]})
    elif found:
        output.page(card_page([line for grant in found for line in grant_lines(grant)]))
    else:
        output.remark("no answer covers more than one call")
    return Exit.DONE


@command("revoke", more="ID is that of the question that was answered; grants shows it.")
@click.argument("grant_id", metavar="ID")
def revoke(output: Output, grant_id: str) -> int:  # noqa: D103 - see asks
    with open_reader(output.settings) as reader:
        found = reader.grants(grant_id) if grant_id and _HEX.issuperset(grant_id) else []
    if len(found) != 1:
        what = "several answers begin" if found else "no answer that holds begins"
        raise Problem(f'{what} with "{grant_id}"', id="not-found", exit=Exit.NO, fix="see soothsayer grants")
    store = SqliteStore.open(state_dir(output.settings), about="revoke")
    try:
        grant = store.revoke_grant(found[0].id, by=account().id)
    finally:
        store.close()
    if output.as_json:
        output.document({"grant": document_of_grant(grant)})
    else:
        output.remark(f"{grant.id[:STRONG_CHARS]}: taken back; further calls are asked about again")
    return Exit.DONE


@dataclass(frozen=True, slots=True, kw_only=True)
class Beside:
    """Lines of a card about what is known beside the question."""

    against: Sequence[str] = ()
    """How the call differs from the last one of its tool that a person allowed."""
    less: Sequence[str] = ()
    """What would ask less."""


class Change(Protocol):
    """A change of a policy file that nobody has made yet."""

    def show(self, output: Output) -> None:
        """Show what would change."""
        ...

    def write(self) -> None:
        """Make the change. Raises `Problem`."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """What was typed to answer a question."""

    state: AskState
    digest: str
    comment: str
    approver: str
    passphrase_file: Path | None


def _answer(output: Output, ask_id: str, said: Said, *, reach: str = "once", until: str = "", policy: str = "") -> int:
    state = said.state
    key = key_of(output, said.approver) if said.approver else None
    with open_reader(output.settings) as reader:
        ask = _find(reader, ask_id, key)
        server, tool = str(ask.card.get("server", "")), str(ask.card.get("tool", ""))
        yeses = reader.yeses(ask.rule, server, tool)
        beside = _beside(reader, ask)
    _refuse_kin(ask)
    if ask.needs and key is None:
        raise Problem(
            f"{ask.id[:STRONG_CHARS]}: it needs the signed answer of {roles_of(ask)}",
            id="needs-approver",
            exit=Exit.NOT_AUTHORISED,
            fix="answer with --as NAME",
        )
    is_open = ask.state is AskState.OPEN
    shape = _shape(ask) if reach == "run" and is_open else None
    change = _change(output, ask, until, policy) if reach == "always" and is_open else None
    vote = None
    if ask.state is AskState.OPEN:
        _confirm(output, ask, state, said.digest, shape, beside, change)
        if ask.needs and key is not None:
            vote = _signed(output, ask, state, key, said.passphrase_file)
    by = Principal(id=account().id, how="terminal")
    answer = AskAnswer(
        ask=ask.id, state=state, by=by, channel=Channel.TERMINAL, comment=said.comment, shape=shape, vote=vote
    )
    store = SqliteStore.open(state_dir(output.settings), about="answer")
    try:
        stands, counted = store.answer_ask(answer)
    finally:
        store.close()
    if change is not None and counted:
        let_it_go(output, ask)
        change.write()
    if output.as_json:
        output.document({"ask": document_of(stands), "counted": counted})
    elif not counted:
        output.remark(_decided(stands))
    elif stands.state is AskState.OPEN:
        output.remark(f"{stands.id[:STRONG_CHARS]}: signed by {vote_names(stands)}; {still_due(stands)}")
    elif state is AskState.NO:
        output.remark(f"{stands.id[:STRONG_CHARS]}: denied")
    else:
        _tell_yes(output, ask, shape, change, yeses + 1)
    if counted:
        return Exit.DONE
    return Exit.NOBODY_ANSWERED if stands.state is AskState.EXPIRED else Exit.NO


def let_it_go(output: Output, ask: Ask) -> None:
    """Give a call that waits the time to rest on its yes: once the policy is another one, that yes is void."""
    end = time.monotonic() + _GOES_S
    with open_reader(output.settings) as reader:
        while not all(one.spent for one in reader.asks_named(ask.id)) and time.monotonic() < end:
            time.sleep(_GOES_S / 100)


def _answer_several(output: Output, ask_ids: Sequence[str], said: Said) -> int:
    """Answer questions of one shape, each for itself; those that ended meanwhile are told and stay as they are."""
    if said.approver:
        raise Problem("signed answers are given to one question at a time", id="usage")
    with open_reader(output.settings) as reader:
        asks = tuple({ask.id: ask for ask in (_find(reader, ask_id, None) for ask_id in ask_ids)}.values())
        still_open = [ask for ask in asks if ask.state is AskState.OPEN]
        beside = {ask.id: _beside(reader, ask) for ask in still_open}
        first = (still_open or asks)[0]
        yeses = reader.yeses(first.rule, str(first.card.get("server", "")), str(first.card.get("tool", "")))
    if len(asks) == 1:
        return _answer(output, asks[0].id, said)
    for ask in asks:
        _refuse_kin(ask)
    why = why_not_together(still_open)
    if why:
        raise Problem(why, id="not-together", exit=Exit.NO, fix="answer each by itself")
    if still_open:
        _confirm_several(output, asks, still_open, said, beside)
    by = Principal(id=account().id, how="terminal")
    told: list[tuple[Ask, bool]] = []
    store = SqliteStore.open(state_dir(output.settings), about="answer")
    try:
        for ask in asks:
            answer = AskAnswer(ask=ask.id, state=said.state, by=by, channel=Channel.TERMINAL, comment=said.comment)
            told.append(store.answer_ask(answer))
    finally:
        store.close()
    if output.as_json:
        output.document({"answers": [{"ask": document_of(ask), "counted": counted} for ask, counted in told]})
    else:
        _tell_several(output, told, first, yeses)
    if all(counted for _, counted in told):
        return Exit.DONE
    missed = [ask for ask, counted in told if not counted]
    return Exit.NOBODY_ANSWERED if all(ask.state is AskState.EXPIRED for ask in missed) else Exit.NO


def _tell_several(output: Output, told: Sequence[tuple[Ask, bool]], first: Ask, yeses: int) -> None:
    """Say what became of each."""
    for ask, counted in told:
        reach = "denied" if ask.state is AskState.NO else "approved, once"
        output.remark(f"{ask.id[:STRONG_CHARS]}: {reach}" if counted else _decided(ask))
    allowed = sum(counted and ask.state is AskState.YES for ask, counted in told)
    if allowed:
        _tell_less(output, first, yeses + allowed)


def _confirm_several(
    output: Output, asks: Sequence[Ask], still_open: Sequence[Ask], said: Said, beside: Mapping[str, Beside]
) -> None:
    """Nothing is answered unseen. Raises `Problem`."""
    if said.digest:
        if said.digest != shown_together(asks)[:DIGEST_CHARS]:
            raise Problem(
                f"--digest {escape(said.digest)} is not that of a card of these {len(asks)} questions",
                id="changed-meanwhile",
                exit=Exit.NO,
                fix=f"read what is open with soothsayer asks {_shorts(still_open)}",
            )
        return
    if output.settings.no_input or not (sys.stdin.isatty() and output.is_terminal):
        fix = f"read what is open with soothsayer asks {_shorts(still_open)}; answer those with --digest and its digits"
        raise Problem("answering needs a person", id="needs-person", fix=fix)
    _show_set(output, still_open, beside)
    if said.state is AskState.NO:
        return
    question = "Allow this once?" if len(still_open) == 1 else f"Allow each of these {len(still_open)} once?"
    if not click.confirm(question, default=False, err=True):
        raise Problem("nothing was answered; the questions stay open", id="not-confirmed", exit=Exit.NO)


def _shorts(asks: Sequence[Ask]) -> str:
    return " ".join(ask.id[:STRONG_CHARS] for ask in asks)


def _tell_yes(output: Output, ask: Ask, shape: Mapping[str, Json] | None, change: Change | None, number: int) -> None:
    """Say how far a yes reaches."""
    reach = "once" if shape is None else "for calls of this shape in the run"
    if change is not None:
        reach = "and the rule above is in the policy"
    output.remark(f"{ask.id[:STRONG_CHARS]}: approved, {reach}")
    if change is None:
        _tell_less(output, ask, number)


def _tell_less(output: Output, ask: Ask, number: int) -> None:
    """From the fifth yes on, say what would ask less."""
    less = less_of(ask, number, by=account().id)
    if less is None:
        return
    output.remark(f"that was yes number {number} to {less.call} under {escape(ask.rule)}: {less.way}")
    if less.rule:
        output.remark(f"the next one can be answered with --for always: {less.rule}")


def _signed(output: Output, ask: Ask, state: AskState, key: ApproverKey, file: Path | None) -> Vote:
    """Sign an answer to what was shown. Raises `Problem`."""
    passphrase = read_passphrase(output, file, f"Passphrase of {key.name}")
    at_us = time.time_ns() // 1000
    try:
        signature = key.sign(passphrase, statement(ask, about(ask.card), state, at_us))
    except ApproverKeyError as error:
        raise Problem(str(error), id="key", exit=Exit.NOT_AUTHORISED) from error
    return Vote(by=key.name, key=key.key, answer=state, at_us=at_us, signature=signature)


def _decided(ask: Ask) -> str:
    if ask.state is AskState.OPEN:
        return f"{ask.id[:STRONG_CHARS]}: you have answered it already; {still_due(ask)}"
    if ask.state is AskState.EXPIRED:
        return f"{ask.id[:STRONG_CHARS]}: the question has expired"
    if ask.state is AskState.WITHDRAWN:
        return f"{ask.id[:STRONG_CHARS]}: the call was given up by its host"
    return f"{ask.id[:STRONG_CHARS]}: already decided: {ask.state}, by {ask.answered_by} in {ask.channel}"


def _find(reader: Reader, ask_id: str, key: ApproverKey | None) -> Ask:
    """The question whose id begins so, among those that an approver may answer. Raises `Problem`."""
    if not ask_id or not _HEX.issuperset(ask_id):
        raise Problem(f'"{ask_id}" is no id of a question', id="not-found", exit=Exit.NO, fix="see soothsayer asks")
    found = [ask for ask in reader.asks_named(ask_id) if _concerns(ask, key)]
    if not found:
        raise Problem(f'no question "{ask_id}"', id="not-found", exit=Exit.NO, fix="see soothsayer asks")
    if len(found) > 1:
        raise Problem(f'several questions begin with "{ask_id}"', id="ambiguous", exit=Exit.NO, fix="type more of it")
    return found[0]


def _refuse_kin(ask: Ask) -> None:
    """A host's own shell answers no question about that host's calls; this stops accidents, not intent."""
    if ask.host_pid > 1 and ask.host_pid in ancestors():
        raise Problem(
            "this terminal belongs to the host whose call is asked about",
            id="own-question",
            exit=Exit.NOT_AUTHORISED,
            fix="answer from another terminal",
        )


def _shape(ask: Ask) -> dict[str, Json]:
    """What a yes for the run would cover. Raises `Problem` where it may cover no more than this call."""
    why = why_not_remembered(ask)
    if why:
        raise Problem(f"{ask.id[:STRONG_CHARS]}: {why}", id="not-remembered", exit=Exit.NO, fix="approve it once")
    args = ask.card.get("args")
    return shape_of(args if isinstance(args, dict) else {})


def _change(output: Output, ask: Ask, until: str, policy: str) -> Change:
    plan = cast("Callable[..., Change]", resolve("soothsayer_mcp.cli.always:planned"))
    return plan(output, ask, by=account().id, policy=policy, until=until)


def _confirm(
    output: Output,
    ask: Ask,
    state: AskState,
    digest: str,
    shape: Mapping[str, Json] | None,
    beside: Beside,
    change: Change | None,
) -> None:
    """Nothing is answered unseen. Raises `Problem`."""
    short = ask.id[:STRONG_CHARS]
    if digest:
        _repeated(ask, state, digest, change)
        return
    if output.settings.no_input or not (sys.stdin.isatty() and output.is_terminal):
        fix = f"read it with soothsayer asks, then --digest {ask.shown[:DIGEST_CHARS]}"
        raise Problem("answering needs a person", id="needs-person", fix=fix)
    _show(output, ask, beside)
    if state is AskState.NO:
        return
    if ask.strong:
        typed = click.prompt(f"Type {short} to allow this once", default="", show_default=False, err=True)
        allowed = typed == short
    else:
        if shape is not None:
            output.page(card_page(["further calls of this run that would not be asked about:", *shape_lines(shape)]))
        question = "Allow this once?" if shape is None else "Allow all of these?"
        if change is not None:
            change.show(output)
            question = "Allow this, and change the policy so?"
        allowed = click.confirm(question, default=False, err=True)
    if not allowed:
        raise Problem(f"{short}: nothing was answered; the question stays open", id="not-confirmed", exit=Exit.NO)


def _repeated(ask: Ask, state: AskState, digest: str, change: Change | None) -> None:
    """Whether what a script repeats is enough. Raises `Problem`."""
    short = ask.id[:STRONG_CHARS]
    if digest != ask.shown[:DIGEST_CHARS]:
        raise Problem(
            f"{short}: --digest {escape(digest)} is not that of the card as it is now",
            id="changed-meanwhile",
            exit=Exit.NO,
            fix="read it again with soothsayer asks",
        )
    if ask.strong and state is AskState.YES:
        raise Problem(f"{short}: the rule wants a person at a terminal", id="needs-person", exit=Exit.NOT_AUTHORISED)
    if change is not None:
        raise Problem(f"{short}: a person looks at what becomes policy", id="needs-person", exit=Exit.NOT_AUTHORISED)


def _show_set(output: Output, asks: Sequence[Ask], beside: Mapping[str, Beside]) -> None:
    """Show questions of one shape, with the digits that stand for all that was shown."""
    if len(asks) == 1:
        _show(output, asks[0], beside[asks[0].id])
        return
    parts = [
        Part(short_id=ask.id[:STRONG_CHARS], shown=ask.card, left_s=_left_s(ask), beside=beside[ask.id].against)
        for ask in asks
    ]
    ids = f"ids   {_shorts(asks)}; all, or some of them"
    less = beside[asks[0].id].less
    output.page(card_page([*card_of_several(parts), *less, ids, f"shown {shown_together(asks)[:DIGEST_CHARS]}", ""]))


def _left_s(ask: Ask) -> int:
    return max(0, ask.expires_at_us - time.time_ns() // 1000) // 1_000_000


def _show(output: Output, ask: Ask, beside: Beside) -> None:
    lines = card(ask.id[:STRONG_CHARS], ask.card, _left_s(ask)).split("\n")
    if ask.needs:
        lines.append(f"role  {still_due(ask)}" + (f"; signed by {vote_names(ask)}" if ask.votes else ""))
    output.page(card_page([*lines, *beside.against, *beside.less, f"shown {ask.shown[:DIGEST_CHARS]}", ""]))


def _beside(reader: Reader, ask: Ask) -> Beside:
    """What is known beside a question; nothing of one whose arguments are held back."""
    server, tool, args = (ask.card.get(key) for key in ("server", "tool", "args"))
    if not (isinstance(server, str) and isinstance(tool, str) and isinstance(args, Mapping)):
        return Beside()
    yeses = reader.yeses(ask.rule, server, tool)
    less = less_lines(less_of(ask, yeses, by=account().id), ask, yeses)
    last = reader.last_yes(server, tool)
    if last is None:
        return Beside(less=less)
    name = f"{reader.short_runs([last.run])[last.run]}.{last.no}"
    return Beside(against=against_last(args, last, name=name, now_us=time.time_ns() // 1000), less=less)


def _open(reader: Reader, key: ApproverKey | None) -> list[Ask]:
    """Open questions; those that need a role are for its people, and nobody else reads what would be sent."""
    now = time.time_ns() // 1000
    found = [ask for ask in reader.open_asks() if ask.asked_at_us <= now <= ask.expires_at_us and _concerns(ask, key)]
    return [held_back(ask) for ask in found] if key is None else found


def _concerns(ask: Ask, key: ApproverKey | None) -> bool:
    """Whether a question is there for whoever looks: an approver sees none of other roles."""
    return key is None or not ask.needs or may_answer(ask, key.key)


def _follow(output: Output, key: ApproverKey | None) -> int:
    """Show questions as they come, and let calls wait meanwhile."""
    known: set[str] = set()
    face = Face(state_dir(output.settings), "asks")
    output.remark("waiting for questions; answer from another terminal, Ctrl-C ends this")
    beaten = 0.0
    try:
        while True:
            if time.monotonic() - beaten >= BEAT_S:
                face.beat()
                beaten = time.monotonic()
            found = _now_open(output, known, key)
            known.update(ask.id for ask, _ in found)
            _tell(output, found)
            time.sleep(_LOOK_S)
    finally:
        face.close()


def _now_open(output: Output, known: Collection[str], key: ApproverKey | None) -> list[tuple[Ask, Beside]]:
    """Open questions that were not shown yet."""
    try:
        with open_reader(output.settings) as reader:
            return [(ask, _beside(reader, ask)) for ask in _open(reader, key) if ask.id not in known]
    except NoTraceError:
        return []


def _tell(output: Output, found: Sequence[tuple[Ask, Beside]]) -> None:
    if output.as_json:
        for ask, _ in found:
            output.object_line(document_of(ask))
        return
    beside = {ask.id: known for ask, known in found}
    for held in sets_of([ask for ask, _ in found]):
        _show_set(output, held, beside)
    if found:
        sys.stdout.flush()
