"""What a look at files, programs, addresses and read tools comes to, and what a signed statement says."""

import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime

import pytest

from soothsayer_mcp.evidence.attestation import PAYLOAD_TYPE, Statement, judge_statement
from soothsayer_mcp.evidence.checks import (
    CommandFacts,
    FileFacts,
    HttpFacts,
    Looked,
    ReadFacts,
    judge_command,
    judge_condition,
    judge_count,
    judge_diff,
    judge_file,
    judge_head,
    judge_http,
    judge_read,
    state_of,
    unknown,
)
from soothsayer_mcp.evidence.scope import AbsentError
from soothsayer_mcp.model.answer import Answer as Said
from soothsayer_mcp.model.answer import Unsure
from soothsayer_mcp.model.condition import Condition, View
from soothsayer_mcp.model.dues import Item
from soothsayer_mcp.model.evidence import Level
from soothsayer_mcp.model.failure import Reason
from soothsayer_mcp.model.finding import Answer
from soothsayer_mcp.model.json import Json

KEPT, BROKEN, UNKNOWN = Answer.KEPT, Answer.BROKEN, Answer.UNKNOWN


def item(kind: str = "artifact", spec: Mapping[str, Json] | None = None, *, within: tuple[str, ...] = ()) -> Item:
    return Item(kind=kind, spec=spec or {}, rule="t/r", root="/w", within=within)


def conditions(text: str) -> Condition:
    """Conditions of the form `NAME is VALUE`; unsure about a name that is not there."""
    name, _, value = text.partition(" is ")

    def judged(view: View) -> Said:
        return str(view.values[name]) == value if name in view.values else Unsure(f"{name} is not known")

    return judged


def said(looked: Looked) -> tuple[Answer, str]:
    return looked.answer, looked.detail


SHA = hashlib.sha256(b"text").hexdigest()
THERE = FileFacts("/w/a.txt", exists=True, sha256=SHA, size=4)
GONE = FileFacts("/w/a.txt", exists=False)
OTHER = FileFacts("/w/a.txt", exists=True, sha256="0" * 64, size=5000)


@pytest.mark.parametrize(
    ("spec", "facts", "before", "answer", "detail"),
    [
        ({}, THERE, None, KEPT, ""),
        ({}, GONE, None, BROKEN, "a.txt does not exist"),
        ({"exists": True}, GONE, None, BROKEN, "a.txt does not exist"),
        ({"exists": False}, GONE, None, KEPT, ""),
        ({"exists": False}, THERE, None, BROKEN, "a.txt exists"),
        ({"changed": True}, THERE, None, UNKNOWN, "a.txt was not seen before the call"),
        ({"changed": True}, THERE, "absent", KEPT, ""),
        ({"changed": True}, GONE, SHA, KEPT, ""),
        ({"changed": True}, THERE, SHA, BROKEN, "a.txt did not change"),
        ({"changed": False}, THERE, SHA, KEPT, ""),
        ({"changed": False}, GONE, "absent", KEPT, ""),
        ({"changed": False}, OTHER, SHA, BROKEN, "a.txt changed"),
        ({"equals": "args.content"}, THERE, None, KEPT, ""),
        ({"equals": "args.content"}, OTHER, None, BROKEN, "a.txt does not hold what was sent"),
        ({"equals": "returned.was"}, OTHER, None, BROKEN, "a.txt does not hold what returned.was is"),
        ({"equals": "args.content"}, GONE, None, BROKEN, "a.txt does not exist"),
        ({"equals": "args.content", "exists": False}, GONE, None, KEPT, ""),
        ({"sha256": "args.sha"}, THERE, None, KEPT, ""),
        ({"sha256": "args.sha"}, OTHER, None, BROKEN, "a.txt has another digest than args.sha"),
        ({"max_bytes": 4}, THERE, None, KEPT, ""),
        ({"max_bytes": 3}, THERE, None, BROKEN, "a.txt has 4 bytes, 3 are allowed"),
        ({"max_bytes": 1000}, OTHER, None, BROKEN, "a.txt has 5,000 bytes, 1,000 are allowed"),
        ({"max_bytes": "3"}, OTHER, None, KEPT, ""),
        ({"changed": True, "max_bytes": 3}, THERE, SHA, BROKEN, "a.txt did not change"),
    ],
)
def test_a_file_is_compared_with_what_is_named_of_it(
    spec: dict[str, Json], facts: FileFacts, before: Json, answer: Answer, detail: str
) -> None:
    values: Mapping[str, Json] = {
        "args": {"content": "text", "sha": f"sha256:{SHA.upper()}"},
        "returned": {"was": "text"},
    }
    looked = judge_file(item("artifact", spec), facts, values, before)
    assert said(looked) == (answer, detail)
    assert (looked.level, looked.subject) == (Level.E3, "file:/w/a.txt")
    digest: dict[str, Json] = {"sha256": facts.sha256} if facts.exists else {}
    assert looked.source == {"path": "/w/a.txt", **digest}


@pytest.mark.parametrize(
    ("spec", "text"),
    [
        ({"equals": "args.n"}, "args.n is no text"),
        ({"sha256": "args.n"}, "args.n is no text"),
        ({"equals": "args.no"}, "there is no args.no"),
    ],
)
def test_a_file_cannot_be_compared_with_what_is_no_text(spec: dict[str, Json], text: str) -> None:
    with pytest.raises(AbsentError, match=text):
        judge_file(item("artifact", spec), THERE, {"args": {"n": 7}}, None)


def test_a_text_with_half_a_surrogate_pair_is_compared_as_it_would_be_written() -> None:
    looked = judge_file(item("artifact", {"equals": "args.a"}), THERE, {"args": {"a": "\ud800"}}, None)
    assert looked.answer is BROKEN


def test_the_state_of_a_file_is_its_digest_or_that_it_is_not_there() -> None:
    assert (state_of(THERE), state_of(GONE)) == (SHA, "absent")
    assert FileFacts("/w/a", exists=True).size == 0


def test_a_work_tree_stands_on_the_commit_that_is_named() -> None:
    head = "0123456789abcdef0123"
    kept = judge_head(item("artifact", {"head": "args.at"}), "/w", head, {"args": {"at": head}})
    assert kept == Looked(answer=KEPT, level=Level.E3, subject="file:/w", source={"path": "/w", "head": head})
    broken = judge_head(item("artifact", {"head": "args.at"}), "/w", head, {"args": {"at": "f" * 8}})
    assert said(broken) == (BROKEN, '"/w" stands on 0123456789ab and not on "ffffffff"')


def test_a_condition_is_kept_broken_or_in_doubt_and_says_which() -> None:
    assert judge_condition("text is a", conditions, {"text": "a"}) == (KEPT, "")
    assert judge_condition("text is a", conditions, {"text": "b"}) == (BROKEN, "`text is a` is not true")
    assert judge_condition("run.id is r", conditions, {"run": {"id": "r"}}) == (KEPT, "")
    assert judge_condition("body is a", conditions, {"text": "b"}) == (UNKNOWN, "body is not known")


@pytest.mark.parametrize(
    ("spec", "code", "answer", "detail"),
    [
        ({}, 0, KEPT, ""),
        ({}, 1, BROKEN, "the command lint ended with 1, 0 is due"),
        ({"exit": 3}, 3, KEPT, ""),
        ({"exit": 3}, 0, BROKEN, "the command lint ended with 0, 3 is due"),
        ({"stdout": "text is fine"}, 0, KEPT, ""),
        ({"stdout": "text is well"}, 0, BROKEN, "`text is well` is not true"),
        ({"stdout": "body is fine"}, 0, UNKNOWN, "body is not known"),
        ({"stdout": "text is fine"}, 1, BROKEN, "the command lint ended with 1, 0 is due"),
        ({"stdout": 7}, 0, KEPT, ""),
    ],
)
def test_a_program_is_judged_by_its_exit_and_by_what_it_said(
    spec: dict[str, Json], code: int, answer: Answer, detail: str
) -> None:
    looked = judge_command(item("command", spec), "lint", CommandFacts(code, "fine"), conditions, {"text": "no"})
    assert said(looked) == (answer, detail)
    assert (looked.level, looked.subject) == (Level.E3, "command:lint")
    assert looked.source == {"command": "lint", "exit": code}


@pytest.mark.parametrize(
    ("spec", "status", "body", "answer", "detail"),
    [
        ({}, 200, None, KEPT, ""),
        ({}, 404, None, BROKEN, '"http://h/" answered 404, 200 is due'),
        ({"status": 404}, 404, None, KEPT, ""),
        ({"status": 404}, 200, None, BROKEN, '"http://h/" answered 200, 404 is due'),
        ({"json": "text is raw"}, 200, None, KEPT, ""),
        ({"json": "body is up"}, 200, "up", KEPT, ""),
        ({"json": "body is up"}, 200, "down", BROKEN, "`body is up` is not true"),
        ({"json": "body is up"}, 200, None, UNKNOWN, "body is not known"),
        ({"json": "text is raw"}, 200, "up", KEPT, ""),
        ({"json": "body is up"}, 500, "up", BROKEN, '"http://h/" answered 500, 200 is due'),
        ({"json": 7}, 200, None, KEPT, ""),
    ],
)
def test_an_address_is_judged_by_its_status_and_by_what_it_answered(
    spec: dict[str, Json], status: int, body: Json, answer: Answer, detail: str
) -> None:
    looked = judge_http(item("http", spec), "http://h/", HttpFacts(status, "raw"), body, conditions, {})
    assert said(looked) == (answer, detail)
    assert (looked.level, looked.subject) == (Level.E3, "address:http://h/")
    assert looked.source == {"address": "http://h/", "status": status}


@pytest.mark.parametrize(
    ("condition", "result", "answer", "detail"),
    [
        ("result is 1", 1, KEPT, ""),
        ("result is 1", 2, BROKEN, "`result is 1` is not true"),
        ("result is None", None, UNKNOWN, "result is not known"),
        ("text is one", None, KEPT, ""),
        ("args is 5", None, KEPT, ""),
    ],
)
def test_a_read_tool_is_judged_by_its_answer(condition: str, result: Json, answer: Answer, detail: str) -> None:
    looked = judge_read(condition, "files.read", ReadFacts(result, "one", "4bf9.3"), conditions, {"args": 5})
    assert said(looked) == (answer, detail)
    assert (looked.level, looked.subject) == (Level.E2, "tool:files.read")
    assert looked.source == {"tool": "files.read", "step": "4bf9.3"}


def test_an_invariant_is_over_the_looks_before_and_after() -> None:
    def judged(expect: str) -> Looked:
        return judge_count(
            item("count", {"expect": expect}), "db.count", before=3, after=4, conditions=conditions, values={}
        )

    assert said(judged("before is 3")) == said(judged("after is 4")) == (KEPT, "")
    assert said(judged("after is 3")) == (BROKEN, "`after is 3` is not true: 3 before, 4 after")
    assert said(judged("body is 3")) == (UNKNOWN, "body is not known")
    assert (judged("after is 4").level, judged("after is 4").subject) == (Level.E2, "tool:db.count")
    assert judged("after is 4").source == {"tool": "db.count"}


BEFORE: Mapping[str, Json] = {f"/w/{name}": "1" for name in "abcde"}


@pytest.mark.parametrize(
    ("after", "detail"),
    [
        ({}, ""),
        ({"/w/out/x": "2"}, ""),
        ({"/w/a": "2"}, "a"),
        ({"/w/a": "2", "/w/out/x": "2", "/v": "2"}, "/v, a"),
        ({"/w/c": "2", "/w/a": "2", "/w/b": "2"}, "a, b, c"),
        ({"/w/d": "2", "/w/c": "2", "/w/a": "2", "/w/b": "2"}, "a, b, c and 1 more"),
    ],
)
def test_only_what_may_change_did(after: Mapping[str, str], detail: str) -> None:
    whole = {**dict.fromkeys(BEFORE, "1"), **after}
    looked = judge_diff(item("diff", {"of": ["a", "b"]}, within=("file:/w/out", "db")), before=BEFORE, after=whole)
    assert said(looked) == (BROKEN if detail else KEPT, detail)
    assert (looked.level, looked.subject) == (Level.E3, "diff:a,b")


def test_what_is_gone_changed_and_at_most_twenty_paths_are_kept_of_it() -> None:
    looked = judge_diff(item("diff"), before={f"/w/{no:02}": "1" for no in range(30)}, after={})
    assert looked.detail == "00, 01, 02 and 27 more"
    assert looked.source == {"paths": [f"/w/{no:02}" for no in range(20)]}


def test_what_was_not_well_formed_is_unknown_and_says_why() -> None:
    expected = Looked(answer=UNKNOWN, level=Level.E2, subject="tool:a.b", detail="it did not answer")
    assert unknown(Level.E2, "tool:a.b", "it did not answer") == expected


# -- signed statements

PREDICATE = "https://example.com/review/v1"
NOW_US = 1_800_000_000_000_000


def at(us: int) -> str:
    seconds, rest = divmod(us, 1_000_000)
    return f"{datetime.fromtimestamp(seconds, tz=UTC):%Y-%m-%dT%H:%M:%S}.{rest:06}Z"


def payload(**other: Json) -> dict[str, Json]:
    return {
        "_type": "https://in-toto.io/Statement/v1",
        "predicateType": PREDICATE,
        "subject": [{"digest": {"sha1": "x"}}, {"digest": {"sha256": "AB12"}}],
        "predicate": {"timeVerified": at(NOW_US)},
        **other,
    }


def stated(said_in: Json = None, *, key: str = "k1", kind: str = PAYLOAD_TYPE) -> Statement:
    return Statement(key, kind, payload() if said_in is None else said_in, "d1", "" if key else "no key made it")


def attested(statement: Statement, **spec: Json) -> Looked:
    what = item("attestation", {"predicate": PREDICATE, **spec})
    looked = judge_statement(what, statement, "sha256:aB12", NOW_US)
    assert (looked.level, looked.subject) == (Level.E5, "sha256:ab12")
    assert looked.source == {"key": statement.key, "digest": "sha256:d1"}
    return looked


def test_a_signed_statement_about_the_subject_is_kept() -> None:
    looked = attested(stated())
    assert (looked.answer, looked.detail, looked.reason, looked.spend) == (KEPT, "", None, "")
    older = stated(payload(_type="https://in-toto.io/Statement/v0.1"))
    assert attested(older).answer is KEPT


def test_a_statement_that_serves_once_is_used_up_for_its_subject() -> None:
    assert attested(stated(), single_use=True).spend == "attestation:d1:ab12"
    assert attested(stated(), single_use=False).spend == attested(stated(), single_use=1).spend == ""


@pytest.mark.parametrize(
    ("statement", "detail", "reason"),
    [
        (stated(key=""), "no key made it", Reason.SIGNATURE_INVALID),
        (stated(kind="text/plain"), "what is signed is no in-toto statement", None),
        (stated([]), "what is signed is no in-toto statement", None),
        (stated(payload(_type="other")), "what is signed is no in-toto statement", None),
        (stated(payload(predicateType="other")), 'it is about "other"', None),
        (stated(payload(subject=[])), 'it does not name "sha256:aB12"', None),
        (stated(payload(subject="ab12")), 'it does not name "sha256:aB12"', None),
        (stated(payload(subject={"digest": {"sha256": "ab12"}})), 'it does not name "sha256:aB12"', None),
        (stated(payload(subject=["ab12", {"digest": "ab12"}, {}])), 'it does not name "sha256:aB12"', None),
        (stated(payload(subject=[{"digest": {"sha256": ["ab12"]}}])), 'it does not name "sha256:aB12"', None),
    ],
)
def test_a_statement_that_says_something_else_is_broken(
    statement: Statement, detail: str, reason: Reason | None
) -> None:
    looked = attested(statement, max_age=1000)
    assert (looked.answer, looked.detail, looked.reason) == (BROKEN, detail, reason)


NO_TIME = "it does not say when it was made (timeVerified)"
OLD = "it is too old, or of the future"


@pytest.mark.parametrize(
    ("predicate", "answer", "detail", "reason"),
    [
        ({"timeVerified": at(NOW_US)}, KEPT, "", None),
        ({"timeVerified": at(NOW_US - 1_000_000)}, KEPT, "", None),
        ({"timeVerified": at(NOW_US - 1_000_001)}, UNKNOWN, OLD, Reason.STALE),
        ({"timeVerified": at(NOW_US + 1)}, UNKNOWN, OLD, Reason.STALE),
        ({"timeVerified": at(NOW_US).removesuffix("Z")}, UNKNOWN, NO_TIME, None),
        ({"timeVerified": "yesterday"}, UNKNOWN, NO_TIME, None),
        ({"timeVerified": NOW_US}, UNKNOWN, NO_TIME, None),
        ({}, UNKNOWN, NO_TIME, None),
        ([], UNKNOWN, NO_TIME, None),
    ],
)
def test_the_age_of_a_statement_is_by_its_own_signed_time(
    predicate: Json, answer: Answer, detail: str, reason: Reason | None
) -> None:
    statement = stated(payload(predicate=predicate))
    looked = attested(statement, max_age=1000)
    assert (looked.answer, looked.detail, looked.reason) == (answer, detail, reason)
    assert attested(statement).answer is attested(statement, max_age="1000").answer is KEPT
