"""What is kept for the undo of a step, as the payload `capture` of its two entries."""

import base64
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace

from soothsayer_mcp.model.json import Json, JsonObject, as_array, as_object, as_text, as_whole
from soothsayer_mcp.model.settling import PART as SETTLE_PART
from soothsayer_mcp.model.step import DecidedStep
from soothsayer_mcp.model.undo import Captured, FileBefore, Look, UndoClass, UndoTerms
from soothsayer_mcp.model.value import dataclass

PART = "capture"
KEPT = frozenset({PART, SETTLE_PART})
"""The payloads that are for programs alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """What the record holds for the undo of one step."""

    terms: UndoTerms
    before: Captured
    args: JsonObject
    """The arguments of the step, where an inverse call may name them."""
    expected: Mapping[str, str]
    """Path -> SHA-256 of what the step was to write, where policy says so."""
    opens: tuple[str, ...] = ()
    """The subjects that the step wrote to; its inverse writes to the same."""
    after: Captured | None = None

    @property
    def values(self) -> dict[str, Json]:
        """What an inverse call and its check may name: of the record alone."""
        values: dict[str, Json] = {**self.before.names, "args": self.args}
        if self.before.has_seen:
            values["before"] = self.before.seen
        if self.after is not None and self.after.has_returned:
            values["returned"] = self.after.returned
        return values

    @property
    def outlives(self) -> bool:
        """Whether a server that is called for the undo goes on when nobody is connected to it."""
        return any(isinstance(one, Mapping) and "url" in one for one in self.before.reach.values())


def expected(step: DecidedStep, terms: UndoTerms) -> Mapping[str, str]:
    """Path -> SHA-256 of what the call is to write, as far as a check of it says so."""
    if len(terms.files) != 1:
        return {}
    for item in step.decision.dues.verify:
        way = item.spec.get("equals")
        if item.kind != "artifact" or not isinstance(way, str) or not way.startswith("args."):
            continue
        value: Json = step.proposal.arguments
        for part in way.split(".")[1:]:
            value = value.get(part) if isinstance(value, Mapping) else None
        if isinstance(value, str):
            return {terms.files[0]: hashlib.sha256(value.encode(errors="surrogatepass")).hexdigest()}
    return {}


def before_form(
    terms: UndoTerms,
    captured: Captured,
    args: JsonObject,
    expected: Mapping[str, str],
    opens: Sequence[str] = (),
) -> Json:
    """Spell what goes with the intent."""
    form: JsonObject = {"class": terms.kind.value, "rule": terms.rule, "root": terms.root}
    if captured.files:
        form["files"] = [_file(one) for one in captured.files]
    if expected:
        form["expected"] = dict(expected)
    if terms.tool:
        form["undo"] = {"tool": terms.tool, "args": dict(terms.args or {})}
        form["args"] = args
        form["names"] = dict(captured.names)
        form["reach"] = dict(captured.reach)
        form["opens"] = list(opens)
        if terms.check is not None:
            form["check"] = dict(terms.check)
    if terms.look is not None:
        form["look"] = {"tool": terms.look.tool, "args": dict(captured.look_args)}
        form["seen"] = captured.seen
    return form


def after_form(after: Captured) -> Json:
    """Spell what goes with the outcome."""
    form: JsonObject = {}
    if after.files:
        form["files"] = {one.path: one.state for one in after.files}
    if after.has_seen:
        form["seen"] = after.seen
    if after.has_returned:
        form["returned"] = after.returned
    return form


def read_kept(form: Json) -> Kept:
    """Read what went with an intent. Raises `ValueError` for what is none."""
    try:
        return _read(as_object(form))
    except (KeyError, TypeError) as error:
        msg = "what is kept for the undo cannot be read"
        raise ValueError(msg) from error


def _read(form: Mapping[str, Json]) -> Kept:
    undo, look, check = form.get("undo"), form.get("look"), form.get("check")
    call: Mapping[str, Json] = {} if undo is None else as_object(undo)
    files = tuple(
        FileBefore(
            path=as_text(one["path"]),
            root=as_text(one["root"]),
            state=as_text(one["state"]),
            mode=as_whole(one.get("mode", 0)),
            content=base64.b64decode(as_text(one.get("bytes", "")), validate=True),
        )
        for one in map(as_object, as_array(form.get("files", [])))
    )
    terms = UndoTerms(
        kind=UndoClass(as_text(form["class"])),
        rule=as_text(form["rule"]),
        root=as_text(form["root"]),
        files=tuple(one.path for one in files),
        tool=as_text(call.get("tool", "")),
        args=as_object(call["args"]) if "args" in call else None,
        look=None
        if look is None
        else Look(tool=as_text(as_object(look)["tool"]), args=as_object(as_object(look)["args"])),
        check=None if check is None else as_object(check),
    )
    return Kept(
        terms=terms,
        before=Captured(
            files=files,
            seen=form.get("seen"),
            has_seen="seen" in form,
            look_args={} if look is None else as_object(as_object(look)["args"]),
            names=as_object(form.get("names", {})),
            reach=as_object(form.get("reach", {})),
        ),
        args=dict(as_object(form.get("args", {}))),
        expected={path: as_text(state) for path, state in as_object(form.get("expected", {})).items()},
        opens=tuple(map(as_text, as_array(form.get("opens", [])))),
    )


def with_after(kept: Kept, form: Json) -> Kept:
    """The same with what went with the outcome. Raises `ValueError` for what is none."""
    try:
        said = as_object(form)
        known = {one.path: one for one in kept.before.files}
        files = tuple(
            FileBefore(path=path, root=known[path].root, state=as_text(state))
            for path, state in as_object(said.get("files", {})).items()
        )
    except (KeyError, TypeError) as error:
        msg = "what was seen after the step cannot be read"
        raise ValueError(msg) from error
    after = Captured(
        files=files,
        seen=said.get("seen"),
        has_seen="seen" in said,
        returned=said.get("returned"),
        has_returned="returned" in said,
    )
    return replace(kept, after=after)


def _file(one: FileBefore) -> JsonObject:
    form: JsonObject = {"path": one.path, "root": one.root, "state": one.state}
    if one.mode:
        form["mode"] = one.mode
    if one.content:
        form["bytes"] = base64.b64encode(one.content).decode()
    return form
