"""What a call will owe, worked out from labels, rules and arguments alone. No evidence is read here."""

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import field

from soothsayer_mcp.model.decision import Obligation, ObligationKind
from soothsayer_mcp.model.dues import Dues, Item, Sighting
from soothsayer_mcp.model.json import Json, canonical
from soothsayer_mcp.model.settlement import SettleTerms
from soothsayer_mcp.model.subject import EVERYTHING, FILE, subject
from soothsayer_mcp.model.undo import Look, UndoClass, UndoTerms
from soothsayer_mcp.model.value import dataclass
from soothsayer_mcp.policy.answers import every
from soothsayer_mcp.policy.match import ArgumentTest, Bench, prepare_argument
from soothsayer_mcp.policy.paths import Case, Place
from soothsayer_mcp.policy.scene import Scene
from soothsayer_mcp.policy.subjects import Template, last_write, subject_questions, subjects_of, template

Form = Mapping[str, Json]


@dataclass(frozen=True, slots=True, kw_only=True)
class Owes:
    """What a rule says that its calls owe."""

    require: tuple[Form, ...] = ()
    verify: tuple[Form, ...] = ()
    touches: tuple[str, ...] | None = None
    """Replaces what labels say; `()` for nothing."""
    on_broken: str = ""
    on_unknown: str = ""
    undo: Json = None
    """`none`, `never`, or the form of what undoes them; `None` where nothing is said."""
    capture: Form | None = None
    settle: Form | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelOwes:
    """What a label says that the calls of its tools owe."""

    touches: tuple[str, ...] | None = None
    ok_when: str = ""
    verify: tuple[Form, ...] = ()
    unchecked: bool = False
    """Whether the operator says that nothing is to be checked; read by warnings alone."""
    undo: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedUndo:
    """How calls are undone, ready for those of one tool."""

    kind: UndoClass
    files: tuple[Template, ...] = ()
    look: Look | None = None
    tool: str = ""
    args: Form | None = None
    check: Form | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Prepared:
    kind: str
    spec: Form
    newer_than: tuple[Template, ...]
    within: tuple[Template, ...]
    pattern: str
    one_of: tuple["_Prepared", ...]

    @property
    def ages(self) -> Iterable[Template]:
        """Everything a write to which makes it too old."""
        yield from self.newer_than
        for one in self.one_of:
            yield from one.ages


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedOwes:
    """The same, ready for the calls of one tool."""

    rule: str
    require: tuple[_Prepared, ...]
    verify: tuple[_Prepared, ...]
    touches: tuple[Template, ...] | None
    on_broken: str
    on_unknown: str
    undo: PreparedUndo | None = None
    settle: SettleTerms | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """Steps that an item somewhere in the policy asks for, as far as one tool can be one."""

    sighting: Sighting
    tests: tuple[ArgumentTest, ...]
    only: frozenset[str] | None
    """Arguments that there may be, where others must be absent."""

    def of(self, scene: Scene) -> Sighting | None:
        """The sighting that a call is, if it may be one."""
        arguments = scene.arguments or {}
        if self.only is not None and not self.only.issuperset(arguments):
            return None
        try:
            answer = every(test.answer(scene) for test in self.tests)
        except Exception:  # noqa: BLE001 - what cannot be told stays a doubt, which passes for nothing
            return self.sighting._replace(sure=False)
        if answer is False:
            return None
        return self.sighting if answer is True else self.sighting._replace(sure=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Among:
    """How the servers of a policy name the same files, where they do not all do it in one way."""

    places: tuple[Place, ...] = ()
    """One for each folder that relative paths are relative to."""
    folds: bool = False
    """Whether some servers tell spellings apart that are one to others."""


ALONE = Among()
_WILD = re.compile(r"[*?\[]")
NO_ARGUMENTS: Mapping[str, Json] = {}


def among(place: Place, places: Mapping[str, Place], named: Iterable[str]) -> Among:
    """How the servers with these names read their files; a name with a wildcard may mean any of them."""
    met: list[Place] = []
    for server in sorted({*named}):
        met.append(places.get(server, place))
        if _WILD.search(server):
            met += places.values()
    roots = {(one.root, one.windows): one for one in met}
    return Among(
        places=tuple(roots.values()) if len(roots) > 1 else (),
        folds=len({one.case is Case.EXACT for one in met}) > 1,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class DuesPlan:
    """What the calls of one tool owe whichever rule matches, and what of a call tells."""

    place: Place
    workspace: str
    touches: tuple[Template, ...] = ()
    everything: bool = False
    """Whether nobody says what it writes to."""
    ok_when: tuple[str, ...] = ()
    verify: tuple[_Prepared, ...] = ()
    undo: PreparedUndo | None = None
    watches: tuple[Watch, ...] = ()
    rules: Mapping[str, PreparedOwes] = field(default_factory=dict[str, PreparedOwes])
    """By the ids of the rules that owe something."""
    touched: bool = False
    """Whether what is written to, or what makes evidence too old, hangs on the arguments."""
    among: "Among" = field(default_factory=lambda: ALONE)
    """How other servers name the same files."""
    steady: Dues | None = None
    """What is owed by every call that no such rule matches, where that is always the same."""

    def questions(self, arguments: Mapping[str, Json]) -> tuple[str, ...]:
        """The paths whose links have to be known."""
        if not self.place.local:
            return ()
        wanted = [*self.touches, *(one for rule in self.rules.values() for one in rule.touches or ())]
        wanted += [one for rule in self.rules.values() if rule.undo is not None for one in rule.undo.files]
        wanted += [one for rule in self.rules.values() for item in rule.require for one in item.ages if one.varies]
        return subject_questions(wanted, arguments, self.place, self.workspace)

    def dues(self, rules: Iterable[str], scene: Scene) -> Dues:
        """What a call owes, under the rules that matched."""
        owing = [found for rule in rules if (found := self.rules.get(rule)) is not None]
        if not owing and self.steady is not None:
            return self.steady
        return Dues(
            require=tuple(self._item(item, rule.rule, scene) for rule in owing for item in rule.require),
            verify=(
                *(self._item(item, "label", scene) for item in self.verify),
                *(self._item(item, rule.rule, scene) for rule in owing for item in rule.verify),
            ),
            ok_when=self.ok_when,
            opens=self._opens(owing, scene),
            sightings=tuple(found for watch in self.watches if (found := watch.of(scene)) is not None),
            # The stricter word holds: what one rule withholds is not shown by another.
            withhold_broken=any(rule.on_broken == "withhold" for rule in owing)
            or not any(rule.on_broken == "note" for rule in owing),
            withhold_unknown=any(rule.on_unknown == "withhold" for rule in owing),
            undo=self._undo(owing, scene),
            settle=next((rule.settle for rule in owing if rule.settle is not None), None),
        )

    def _undo(self, owing: Sequence[PreparedOwes], scene: Scene) -> UndoTerms | None:
        """What a rule says goes before what a label says; of several rules the first by its id."""
        stated = [(rule.rule, rule.undo) for rule in owing if rule.undo is not None]
        rule, undo = stated[0] if stated else ("label", self.undo)
        if undo is None:
            return None
        wanted = undo.files
        if undo.kind is UndoClass.RESTORE and not undo.tool and not wanted:
            wanted = self.touches
        subjects = self._subjects(wanted, scene) if wanted else ()
        files = tuple(one.removeprefix(f"{FILE}:") for one in subjects if one.startswith(f"{FILE}:"))
        by_files = undo.kind is UndoClass.RESTORE and not undo.tool
        return UndoTerms(
            kind=undo.kind,
            rule=rule,
            files=files,
            vague=by_files and (len(files) != len(subjects) or not files),
            root=self.place.root if self.place.local else "",
            look=undo.look,
            tool=undo.tool,
            args=undo.args,
            check=undo.check,
        )

    def _opens(self, owing: Sequence[PreparedOwes], scene: Scene) -> tuple[str, ...]:
        stated = [rule.touches for rule in owing if rule.touches is not None]
        if not stated:
            if self.everything:
                return (EVERYTHING,)
            return self._subjects(self.touches, scene, folds=self.among.folds)
        return self._subjects([one for touches in stated for one in touches], scene, folds=self.among.folds)

    def _subjects(self, wanted: Iterable[Template], scene: Scene, *, folds: bool = False) -> tuple[str, ...]:
        arguments = scene.arguments or {}
        found = [
            name
            for one in wanted
            for name in subjects_of(one, arguments, self.place, scene.links, self.workspace, folds=folds)
        ]
        return tuple(dict.fromkeys(found))

    def _newer(self, wanted: Sequence[Template], scene: Scene) -> tuple[str, ...]:
        """What a write to makes evidence too old, through whichever server: each names its files in its own way."""
        folds, links = self.among.folds, {**self.place.links, **scene.links}
        named = [
            name
            for one in wanted
            for name in subjects_of(one, scene.arguments or {}, self.place, links, self.workspace, folds=folds)
        ]
        # A path that policy writes out may be relative to the folder of any server; one of a call is of the called one.
        named += [
            name
            for place in self.among.places
            for one in wanted
            if one.quoted
            for name in subjects_of(one, NO_ARGUMENTS, place, place.links, self.workspace, folds=folds)
        ]
        return tuple(dict.fromkeys(named))

    def _item(self, prepared: _Prepared, rule: str, scene: Scene) -> Item:
        return Item(
            kind=prepared.kind,
            spec=prepared.spec,
            rule=rule,
            root=self.place.root if self.place.local else "",
            newer_than=self._newer(prepared.newer_than, scene) if prepared.newer_than else (),
            within=self._subjects(prepared.within, scene) if prepared.within else (),
            pattern=prepared.pattern,
            one_of=tuple(self._item(one, rule, scene) for one in prepared.one_of),
        )


def plan_dues(
    *,
    place: Place,
    workspace: str,
    touches: Sequence[str],
    everything: bool,
    ok_when: tuple[str, ...],
    verify: tuple[_Prepared, ...],
    watches: Sequence[Watch],
    rules: Sequence[PreparedOwes],
    undo: PreparedUndo | None = None,
    among: Among = ALONE,
) -> DuesPlan:
    """Put together what is known of a tool, and what most of its calls owe where that is always the same."""
    named = tuple(map(template, dict.fromkeys(touches)))
    fixed = not verify and not watches and undo is None and not any(one.keys for one in named)
    wanted = [*named, *(one for rule in rules for one in rule.touches or ())]
    wanted += [one for rule in rules for item in rule.require for one in item.ages if one.varies]
    opens = (EVERYTHING,) if everything else tuple(subject(one.name) for one in named)
    by_pattern = {watch.sighting.pattern: watch for watch in watches}
    return DuesPlan(
        place=place,
        workspace=workspace,
        touches=named,
        everything=everything,
        ok_when=ok_when,
        verify=verify,
        undo=undo,
        watches=tuple(by_pattern.values()),
        rules={one.rule: one for one in rules},
        touched=any(one.keys for one in wanted),
        among=Among(
            places=tuple(one for one in among.places if (one.root, one.windows) != (place.root, place.windows)),
            folds=among.folds,
        ),
        steady=Dues(ok_when=ok_when, opens=opens) if fixed else None,
    )


def prepare_owes(rule: str, owes: Owes, *, may_loosen: bool) -> PreparedOwes:
    """Read the forms of a rule, which the loader has checked.

    A scope that may only object neither narrows what is written to nor lets what is broken be shown.
    """
    return PreparedOwes(
        rule=rule,
        require=tuple(map(_prepare, owes.require)),
        verify=tuple(map(_prepare, owes.verify)),
        touches=None if owes.touches is None or not may_loosen else tuple(map(template, owes.touches)),
        on_broken=owes.on_broken if may_loosen or owes.on_broken != "note" else "",
        on_unknown=owes.on_unknown,
        undo=prepare_undo(owes.undo, owes.capture),
        settle=None if owes.settle is None else _settle(rule, owes.settle, owes.capture),
    )


def prepare_undo(stated: Json, capture: Form | None = None) -> PreparedUndo | None:
    """Read what a rule or a label says of undoing."""
    if isinstance(stated, str):
        return PreparedUndo(kind=UndoClass(stated)) if stated else None
    if not isinstance(stated, Mapping):
        return None
    look = None
    if capture is not None:
        look = Look(tool=str(capture["tool"]), args=_form(capture.get("args")))
    restore = stated.get("restore")
    if restore is not None:
        return PreparedUndo(kind=UndoClass.RESTORE, files=tuple(map(template, _texts(restore))))
    check = stated.get("check")
    return PreparedUndo(
        kind=UndoClass(str(stated.get("class", UndoClass.COMPENSATE))),
        look=look,
        tool=str(stated["tool"]),
        args=_form(stated.get("args")),
        check=check if isinstance(check, Mapping) else None,
    )


def _settle(rule: str, stated: Form, capture: Form | None) -> SettleTerms:
    """Read what a rule says of settling."""
    asks = _form(stated["readback"])
    usual = SettleTerms(rule=rule, tool="", args={}, happened="")
    return SettleTerms(
        rule=rule,
        tool=str(asks["tool"]),
        args=_form(asks.get("args")),
        happened=str(asks["happened"]),
        not_happened=str(asks.get("not_happened", "")),
        every_s=every / 1000 if isinstance(every := asks.get("every"), int) else usual.every_s,
        within_s=within / 1000 if isinstance(within := asks.get("within"), int) else usual.within_s,
        look_tool="" if capture is None else str(capture["tool"]),
        look_args={} if capture is None else _form(capture.get("args")),
    )


def _form(value: Json) -> Form:
    return value if isinstance(value, Mapping) else {}


def prepare_items(forms: Iterable[Form]) -> tuple[_Prepared, ...]:
    """Read the checks of a label."""
    return tuple(map(_prepare, forms))


def kind_of(form: Form) -> str:
    """Which kind an item is of: its one key."""
    return next(iter(form))


def _prepare(form: Form) -> _Prepared:
    kind = kind_of(form)
    held = form[kind]
    spec: dict[str, Json] = dict(held) if isinstance(held, Mapping) else {kind: held}
    inner = held if kind == "any" and isinstance(held, list) else []
    newer = spec.get("not_before")
    only = spec.get("only") if kind == "diff" else None
    return _Prepared(
        kind=kind,
        spec=spec,
        newer_than=tuple(map(last_write, _texts(newer))),
        within=tuple(map(template, _texts(only))),
        pattern=pattern_of(spec) if kind == "step" else "",
        one_of=tuple(_prepare(one) for one in inner if isinstance(one, Mapping)),
    )


def pattern_of(spec: Form) -> str:
    """The name under which steps that an item asks for are found: over all that tells whether a step is one."""
    told: dict[str, Json] = {
        key: spec.get(key) for key in ("tools", "except", "args", "only_args", "match", "unchanged")
    }
    match = told["match"]
    told["match"] = sorted(match) if isinstance(match, Mapping) else None
    return hashlib.sha256(canonical(told)).hexdigest()[:32]


def names_files(owes: Owes | LabelOwes) -> bool:
    """Whether files are written by what a rule or label is about, or make its evidence too old."""
    written = (template(text) for text in owes.touches or ())
    ages = (one for form in (owes.require if isinstance(owes, Owes) else ()) for one in _prepare(form).ages)
    return any(one.name == FILE for one in (*written, *ages))


def step_specs(owes: Owes) -> Iterable[Form]:
    """All items of a rule that are about earlier steps."""
    stack: list[Json] = [*owes.require, *owes.verify]
    while stack:
        form = stack.pop()
        if not isinstance(form, Mapping):
            continue
        kind = kind_of(form)
        held = form[kind]
        if kind == "step" and isinstance(held, Mapping):
            yield held
        elif kind == "any" and isinstance(held, list):
            stack.extend(held)


def prepare_watch(spec: Form, bench: Bench, *, executes: bool) -> Watch:
    """Prepare to notice the steps that an item asks for."""
    args = spec.get("args")
    tests = tuple(
        prepare_argument(key, matcher, bench)
        for key, matcher in (args.items() if isinstance(args, Mapping) else ())
        if isinstance(matcher, Mapping)
    )
    # What an exec tool does hangs on all of its arguments: one that is not named could make the test one that passes.
    only = executes or spec.get("only_args") is True
    match = spec.get("match")
    return Watch(
        sighting=Sighting(
            pattern=pattern_of(spec),
            results=tuple(sorted(match)) if isinstance(match, Mapping) else (),
            unchanged=tuple(_texts(spec.get("unchanged"))),
        ),
        tests=tests,
        only=frozenset[str]().union(*(test.top for test in tests)) if only else None,
    )


def obligations_of(dues: Dues) -> tuple[Obligation, ...]:
    """The same as the record names them."""
    named = [(ObligationKind.REQUIRE, item) for item in dues.require]
    named += [(ObligationKind.VERIFY, item) for item in dues.verify]
    found = [Obligation(kind=kind, spec={item.kind: item.spec}, rule=item.rule) for kind, item in named]
    undo = dues.undo
    if undo is not None and undo.keeps:
        spec: dict[str, Json] = {undo.kind.value: undo.tool or list(undo.files)}
        found.append(Obligation(kind=ObligationKind.UNDO, spec=spec, rule=undo.rule))
    return tuple(found)


def _texts(value: Json) -> list[str]:
    if isinstance(value, str):
        return [value]
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []
