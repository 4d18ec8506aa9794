"""Judges what was looked at: files, answers of read tools, programs and addresses. Pure; looking is done elsewhere."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import field
from typing import NamedTuple

from soothsayer_mcp.evidence.scope import AbsentError, Values, named, plain, shown, take
from soothsayer_mcp.evidence.steps import texts
from soothsayer_mcp.model.condition import Condition, View
from soothsayer_mcp.model.dues import Item
from soothsayer_mcp.model.evidence import Level
from soothsayer_mcp.model.failure import Reason
from soothsayer_mcp.model.finding import Answer
from soothsayer_mcp.model.json import Json
from soothsayer_mcp.model.subject import FILE, covers, relative, subject
from soothsayer_mcp.model.value import dataclass

Conditions = Callable[[str], Condition]


class FileFacts(NamedTuple):
    """A file as the proxy itself saw it."""

    path: str
    exists: bool
    sha256: str = ""
    """Hex; empty for what is not there."""
    size: int = 0


class CommandFacts(NamedTuple):
    """How a program of the operator's ended."""

    exit: int
    stdout: str


class HttpFacts(NamedTuple):
    """What an address answered."""

    status: int
    body: str


class ReadFacts(NamedTuple):
    """What a tool that reads answered."""

    result: Json
    text: str
    step: str
    """The probe's own step."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Looked:
    """What one look at one item found."""

    answer: Answer
    level: Level
    subject: str
    detail: str = ""
    source: Mapping[str, Json] = field(default_factory=dict[str, Json])
    reason: Reason | None = None
    """Why it is no evidence, where the answer alone does not say it."""
    spend: str = ""
    """The key under which it is used up; empty when it may serve again."""


def unknown(level: Level, about: str, why: str) -> Looked:
    """Nothing well-formed was seen."""
    return Looked(answer=Answer.UNKNOWN, level=level, subject=about, detail=why)


def judge_file(item: Item, facts: FileFacts, values: Values, before: Json) -> Looked:
    """Compare a file with what is named of it."""
    source: dict[str, Json] = {"path": facts.path}
    if facts.exists:
        source["sha256"] = facts.sha256
    name = plain(relative(facts.path, item.root))
    answer, detail = _presence(item.spec, facts, before, name)
    if answer is Answer.KEPT and facts.exists:
        detail = _content(item.spec, facts, values, name)
        answer = Answer.BROKEN if detail else Answer.KEPT
    return Looked(answer=answer, level=Level.E3, subject=subject(FILE, (facts.path,)), detail=detail, source=source)


def _presence(spec: Mapping[str, Json], facts: FileFacts, before: Json, name: str) -> tuple[Answer, str]:
    """Whether a file is there, and changed, as it should."""
    if spec.get("exists") is False:
        return (Answer.BROKEN, f"{name} exists") if facts.exists else (Answer.KEPT, "")
    if "changed" not in spec:
        return (Answer.KEPT, "") if facts.exists else (Answer.BROKEN, f"{name} does not exist")
    if not isinstance(before, str):
        return Answer.UNKNOWN, f"{name} was not seen before the call"
    if (before != state_of(facts)) is not spec["changed"]:
        return Answer.BROKEN, f"{name} {'did not change' if spec['changed'] else 'changed'}"
    return Answer.KEPT, ""


def _content(spec: Mapping[str, Json], facts: FileFacts, values: Values, name: str) -> str:
    """What is wrong with what a file holds; empty when nothing is."""
    if "equals" in spec:
        wanted = take(str(spec["equals"]), values)
        if not isinstance(wanted, str):
            raise AbsentError(f"{spec['equals']} is no text")
        if hashlib.sha256(wanted.encode(errors="surrogatepass")).hexdigest() != facts.sha256:
            what = "what was sent" if str(spec["equals"]).startswith("args.") else f"what {spec['equals']} is"
            return f"{name} does not hold {what}"
    if "sha256" in spec:
        wanted = _text(str(spec["sha256"]), values).removeprefix("sha256:").lower()
        if wanted != facts.sha256:
            return f"{name} has another digest than {spec['sha256']}"
    most = spec.get("max_bytes")
    if isinstance(most, int) and facts.size > most:
        return f"{name} has {facts.size:,} bytes, {most:,} are allowed"
    return ""


def _text(path: str, values: Values) -> str:
    """A text of the call, as it is: nothing in it is filled in. Raises `AbsentError`."""
    found = take(path, values)
    if not isinstance(found, str):
        raise AbsentError(f"{path} is no text")
    return found


def state_of(facts: FileFacts) -> str:
    """A file as a later look is compared with it."""
    return facts.sha256 if facts.exists else "absent"


def judge_head(item: Item, folder: str, head: str, values: Values) -> Looked:
    """Compare the commit that a work tree stands on."""
    wanted = _text(str(item.spec["head"]), values)
    holds = wanted == head
    detail = "" if holds else f"{shown(folder)} stands on {head[:12]} and not on {shown(wanted)}"
    return Looked(
        answer=Answer.KEPT if holds else Answer.BROKEN,
        level=Level.E3,
        subject=subject(FILE, (folder,)),
        detail=detail,
        source={"path": folder, "head": head},
    )


def judge_condition(text: str, conditions: Conditions, values: Mapping[str, Json]) -> tuple[Answer, str]:
    """Evaluate one condition; a doubt is never kept and never broken."""
    answer = conditions(text)(View(named(values)))
    if answer is True:
        return Answer.KEPT, ""
    if answer is False:
        return Answer.BROKEN, f"`{text}` is not true"
    return Answer.UNKNOWN, answer.why


def judge_command(item: Item, name: str, facts: CommandFacts, conditions: Conditions, values: Values) -> Looked:
    """Compare how a program ended with what is named of it."""
    source: dict[str, Json] = {"command": name, "exit": facts.exit}
    wanted = item.spec.get("exit", 0)
    answer, detail = Answer.KEPT, ""
    if facts.exit != wanted:
        answer, detail = Answer.BROKEN, f"the command {name} ended with {facts.exit}, {shown(wanted)} is due"
    condition = item.spec.get("stdout")
    if answer is Answer.KEPT and isinstance(condition, str):
        answer, detail = judge_condition(condition, conditions, {**values, "text": facts.stdout})
    return Looked(answer=answer, level=Level.E3, subject=f"command:{name}", detail=detail, source=source)


def judge_http(item: Item, url: str, facts: HttpFacts, body: Json, conditions: Conditions, values: Values) -> Looked:
    """Compare what an address answered with what is named of it."""
    source: dict[str, Json] = {"address": url, "status": facts.status}
    wanted = item.spec.get("status", 200)
    answer, detail = Answer.KEPT, ""
    if facts.status != wanted:
        answer, detail = Answer.BROKEN, f"{shown(url)} answered {facts.status}, {shown(wanted)} is due"
    condition = item.spec.get("json")
    if answer is Answer.KEPT and isinstance(condition, str):
        seen = {**values, "text": facts.body} if body is None else {**values, "text": facts.body, "body": body}
        answer, detail = judge_condition(condition, conditions, seen)
    return Looked(answer=answer, level=Level.E3, subject=f"address:{url}", detail=detail, source=source)


def judge_read(condition: str, tool: str, facts: ReadFacts, conditions: Conditions, values: Values) -> Looked:
    """Compare what another tool answered with what is named of it."""
    seen: dict[str, Json] = {**values, "text": facts.text}
    if facts.result is not None:
        seen["result"] = facts.result
    answer, detail = judge_condition(condition, conditions, seen)
    source: dict[str, Json] = {"tool": tool, "step": facts.step}
    return Looked(answer=answer, level=Level.E2, subject=f"tool:{tool}", detail=detail, source=source)


def judge_count(item: Item, tool: str, *, before: Json, after: Json, conditions: Conditions, values: Values) -> Looked:
    """Whether an invariant holds between a look before and a look after."""
    answer, detail = judge_condition(str(item.spec["expect"]), conditions, {**values, "before": before, "after": after})
    if answer is Answer.BROKEN:
        detail = f"{detail}: {shown(before)} before, {shown(after)} after"
    return Looked(answer=answer, level=Level.E2, subject=f"tool:{tool}", detail=detail, source={"tool": tool})


def judge_diff(item: Item, *, before: Mapping[str, Json], after: Mapping[str, str]) -> Looked:
    """Whether only the subjects that may change did; names at most a few of the others."""
    changed = sorted(path for path in before.keys() | after.keys() if before.get(path) != after.get(path))
    strange = [path for path in changed if not any(covers(allowed, subject(FILE, (path,))) for allowed in item.within)]
    about = ",".join(texts(item.spec.get("of")))
    if not strange:
        return Looked(answer=Answer.KEPT, level=Level.E3, subject=f"diff:{about}")
    return Looked(
        answer=Answer.BROKEN,
        level=Level.E3,
        subject=f"diff:{about}",
        detail=_few([relative(path, item.root) for path in strange]),
        source={"paths": list(strange[:20])},
    )


def _few(paths: Sequence[str]) -> str:
    named_ones = ", ".join(plain(path) for path in paths[:3])
    return named_ones if len(paths) <= 3 else f"{named_ones} and {len(paths) - 3} more"  # noqa: PLR2004 - as many as a line bears
