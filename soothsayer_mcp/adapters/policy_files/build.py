"""From the checked plain form to a `Policy`: one path, whether the form was just checked or kept. No YAML here.

The form is ours: it comes from `documents`, or from the cache under its seal. A shape that does not fit raises
`TypeError` or `KeyError`.
"""

import hashlib
import os
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence

from soothsayer_mcp.adapters.lab import LAB, NEXT_CONDITIONS
from soothsayer_mcp.model.ask import AskTerms, Need, Remember
from soothsayer_mcp.model.budget import NO_BUDGETS, RAISED, Budgets
from soothsayer_mcp.model.call import Cause, PinState
from soothsayer_mcp.model.decision import Effect, LargeResults, Mode
from soothsayer_mcp.model.dues import Item
from soothsayer_mcp.model.entry import PayloadMode
from soothsayer_mcp.model.facts import Origin
from soothsayer_mcp.model.following import NO_NEXT_RULES, NextRules, OnFailure
from soothsayer_mcp.model.json import Digest, Json, JsonObject, canonical
from soothsayer_mcp.model.run import RunRules
from soothsayer_mcp.model.value import dataclass
from soothsayer_mcp.policy.completion import plan_completion
from soothsayer_mcp.policy.dues import LabelOwes, Owes
from soothsayer_mcp.policy.flow import Flow, Sink
from soothsayer_mcp.policy.flow import Form as SinkForm
from soothsayer_mcp.policy.history import MICRO, Counting, Per, micro_below
from soothsayer_mcp.policy.match import parse_key
from soothsayer_mcp.policy.paths import Case, Place, complete, resolve, spell
from soothsayer_mcp.policy.policy import Policy
from soothsayer_mcp.policy.redact import read_redact
from soothsayer_mcp.policy.rules import ALSO, History, Limit, Past, Rule, Term, TierRule, ToolPattern, Who
from soothsayer_mcp.policy.scopes import (
    ArgumentLimits,
    Cell,
    Label,
    Methods,
    Pins,
    Scope,
    ScopeKind,
    ToolBudget,
    Trust,
    strictest,
)
from soothsayer_mcp.policy.sight import RiskBounds, compact_test
from soothsayer_mcp.policy.subjects import fixed_folders, last_write

MACHINE_WORDS = ("workspace", "home", "temp", "state")
"""Variables that stand for folders of this machine."""

_WORD = re.compile(r"\$\{(" + "|".join(MACHINE_WORDS) + r")\}")

OWING = frozenset({"require", "verify", "touches", "ok_when", "on_broken", "on_unknown", "undo", "capture", "settle"})
"""Keys of rules and labels that say what calls owe."""

Form = Mapping[str, Json]


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What a policy is told of the machine it governs on."""

    workspace: str
    home: str
    temp: str
    state: str
    platform: str = sys.platform
    follow: Callable[[str], str] = os.path.realpath
    """Where a folder that a rule names leads to."""

    @property
    def words(self) -> Mapping[str, str]:
        """What the variables stand for."""
        return {"workspace": self.workspace, "home": self.home, "temp": self.temp, "state": self.state}


@dataclass(frozen=True, slots=True, kw_only=True)
class Gathered:
    """A checked policy in its plain form, and the bytes it was made of."""

    form: JsonObject
    files: Mapping[str, bytes]
    """Path -> content, of all files that were read."""


def fill_words(text: str, words: Mapping[str, str]) -> str:
    """Replace the machine's variables in a text."""
    return _WORD.sub(lambda use: words[use.group(1)], text) if "${" in text else text


def digest_of(scopes: Sequence[Form], judges: Mapping[str, str]) -> Digest:
    """Digest what a policy means: neither comments, layout nor order count, and not the machine."""
    sorted_scopes: list[Json] = [
        {
            **scope,
            "rules": sorted(_maps(scope, "rules"), key=canonical),
            "labels": sorted(_maps(scope, "labels"), key=canonical),
            "risk": sorted(_maps(scope, "risk"), key=canonical),
            "tiers": sorted(_maps(scope, "tiers"), key=canonical),
        }
        for scope in scopes
    ]
    whole: Json = {"language": "policy/v1", "judges": dict(judges), "scopes": sorted_scopes}
    return Digest("sha256:" + hashlib.sha256(canonical(whole)).hexdigest())


def build(
    form: Form,
    machine: Machine,
    *,
    mode: Mode | None,
    sources: Mapping[str, str],
    watch: Sequence[str],
    tiers: Sequence[str] = (),
    named: Mapping[str, Sequence[str]] | None = None,
) -> Policy:
    """Make the policy that a checked form describes, for this machine."""
    raw_scopes = _maps(form, "scopes")
    filled = [_map(_fill(scope, machine.words)) for scope in raw_scopes]
    scopes = [_scope(scope, mode) for scope in filled]
    place = Place(root=machine.workspace, home=machine.home)
    folders = frozenset(
        folder
        for scope in filled
        for rule in [*_maps(scope, "rules"), *_maps(scope, "risk"), *_maps(scope, "tiers")]
        for folder in (*_folders(rule), *_aging(_maps(rule, "require"), machine.workspace))
    ).union(
        folder
        for scope in filled
        for said in _maps(scope, "complete")
        for folder in _aging(_maps(said, "require"), machine.workspace)
    )
    binding_budgets = [
        said
        for scope, made in zip(filled, scopes, strict=True)
        for said in _maps(scope, "budgets")
        if made.mode is not Mode.OBSERVE
    ]
    servers = {name: entry for scope in filled for name, entry in _map(scope.get("servers", {})).items()}
    places = {name: _place(_map(entry), machine, folders) for name, entry in servers.items()}
    return Policy(
        name=_text(form, "name"),
        about=_text(form, "about"),
        scopes=scopes,
        digest=Digest(_text(form, "digest")),
        lab=LAB,
        place=place,
        places=places,
        pins=_pins([said for scope in filled for said in _maps(scope, "pins")]),
        arguments=_arguments([said for scope in filled for said in _maps(scope, "arguments")]),
        methods=_methods(
            [said for scope in filled for said in _maps(scope, "methods")],
            observing=all(scope.mode is Mode.OBSERVE for scope in scopes),
        ),
        payload_mode=_payload_mode([word for scope in filled for word in _list_of_texts(scope.get("payloads", []))]),
        sources=sources,
        watch=watch,
        masks=[read_redact(spec) for scope in filled for spec in _maps(scope, "masks")],
        tiers=tiers,
        named=named,
        machine=machine.words,
        budgets=_budgets(binding_budgets),
        tool_budgets=_tool_budgets(binding_budgets),
        next_rules=_next_rules(
            [
                (said, run)
                for scope, made in zip(filled, scopes, strict=True)
                for said, run in (
                    *((said, _NOTHING_SAID) for said in _maps(scope, "next")),
                    *((_NOTHING_SAID, said) for said in _maps(scope, "run")),
                )
                if made.mode is not Mode.OBSERVE
            ]
        ),
        run_rules=_run_rules(
            [said for scope in filled for said in _maps(scope, "run")],
            [said for scope in filled for said in _maps(scope, "complete")],
            required=plan_completion(
                [
                    _map(one["step"])
                    for scope, made in zip(filled, scopes, strict=True)
                    for said in _maps(scope, "complete")
                    for one in _maps(said, "require")
                    if made.mode is not Mode.OBSERVE
                ],
                place,
                places.values(),
            ),
        ),
    )


def _budgets(said: Sequence[Form]) -> Budgets:
    """The smallest figure that any file states; what only observes binds nothing."""

    def least(key: str) -> int | None:
        return min((value for form in said if isinstance(value := form.get(key), int)), default=None)

    if all(form.keys() <= {"tools"} for form in said):
        return NO_BUDGETS
    costs = [value for form in said if isinstance(value := form.get("cost"), int | float)]
    return Budgets(
        calls=least("calls"),
        writes=least("writes"),
        minutes=least("minutes"),
        bytes_returned=least("bytes_returned"),
        denials=least("denials"),
        unverified_writes=least("unverified_writes"),
        error_streak=least("error_streak"),
        cost_micro=_micro(cost) if (cost := min(costs, default=None)) is not None else None,
        asks=least("asks"),
        same_call_repeats=least("same_call_repeats"),
        ceiling={name: least_ceiling for name in RAISED if (least_ceiling := _ceiling(said, name)) is not None},
    )


def _micro(value: float) -> int:
    return round(value * MICRO)


def _tool_budgets(said: Sequence[Form]) -> list[ToolBudget]:
    """The smallest figure that any file states for the same tools."""
    calls: dict[str, int] = {}
    for form in said:
        for name, figures in _map(form.get("tools", {})).items():
            most = _map(figures)["calls"]
            if isinstance(most, int):
                calls[name] = min(most, calls.get(name, most))
    patterns = [(name.partition("."), most) for name, most in sorted(calls.items())]
    return [ToolBudget(tools=ToolPattern(server=server, tool=tool), calls=most) for (server, _, tool), most in patterns]


def _ceiling(said: Sequence[Form], name: str) -> int | None:
    """How far one budget may be raised: a file that states it and no ceiling holds it down."""
    tops = [_map(form.get("ceiling", {})).get(name, form[name]) for form in said if name in form]
    return min((top for top in tops if isinstance(top, int)), default=None)


_NOTHING_SAID: Form = {}


def _next_rules(said: Sequence[tuple[Form, Form]]) -> NextRules:
    """The smallest figures that any file states, and each of their conditions; what only observes binds nothing."""
    after = [_map(form["compact_after"]) for form, _ in said if "compact_after" in form]
    conditions = [NEXT_CONDITIONS.compile(_text(form, "compact_when")) for form, _ in said if "compact_when" in form]
    pauses = any(run.get("unsettled") == "pause" for _, run in said)
    if not (after or conditions or pauses):
        return NO_NEXT_RULES

    def least(key: str) -> int | None:
        return min((value for form in after if isinstance(value := form.get(key), int)), default=None)

    return NextRules(
        compact_calls=least("calls"),
        compact_bytes=least("bytes"),
        compact_when=compact_test(conditions) if conditions else None,
        pause_unsettled=pauses,
    )


def _run_rules(said: Sequence[Form], complete: Sequence[Form], *, required: tuple[Item, ...]) -> RunRules:
    """What the highest scope says of idleness holds; the shortest time after which a paused run is given up holds."""
    idle = next((value for form in said if isinstance(value := form.get("idle"), int)), None)
    abandoned = [value for form in said if isinstance(value := form.get("abandon_after"), int)]
    return RunRules(
        idle_s=RunRules().idle_s if idle is None else idle / 1000,
        abandon_s=min(abandoned) / 1000 if abandoned else None,
        refuse_unverified=any(form.get("unverified") == "refuse" for form in complete),
        required=required,
    )


def _fill(value: Json, words: Mapping[str, str]) -> Json:
    if isinstance(value, str):
        return fill_words(value, words)
    if isinstance(value, Mapping):
        return {key: _fill(held, words) for key, held in value.items()}
    if isinstance(value, list):
        return [_fill(item, words) for item in value]
    return value


def _scope(form: Form, mode: Mode | None) -> Scope:
    defaults = _map(form["default"])
    return Scope(
        kind=ScopeKind(_text(form, "kind")),
        name=_text(form, "name"),
        mode=_mode(ScopeKind(_text(form, "kind")), Mode(_text(form, "mode")), mode),
        defaults={cell: _effect_or_leave(defaults[cell.value]) for cell in Cell},
        rules=tuple(rule_of(rule) for rule in _maps(form, "rules")),
        labels=tuple(_label(label) for label in _maps(form, "labels")),
        terms=tuple(_term(term) for term in _maps(form, "risk")),
        tiers=tuple(_tier(tier) for tier in _maps(form, "tiers")),
        trusted=frozenset(
            name for name, entry in _map(form.get("servers", {})).items() if _map(entry).get("trusted") is True
        ),
    )


def _mode(kind: ScopeKind, stated: Mode, override: Mode | None) -> Mode:
    # Whoever starts a proxy may observe with policies of their own, and not with the organisation's.
    return stated if override is None or (override is Mode.OBSERVE and kind is ScopeKind.ORG) else override


def _effect_or_leave(value: Json) -> Effect | None:
    return None if value == "leave" else Effect(value)


def rule_of(form: Form) -> Rule:
    """Make one rule of its plain form."""
    expires = form.get("expires_us")
    effect = None if form["effect"] == ALSO else Effect(form["effect"])
    allows = effect is Effect.ALLOW
    return Rule(
        id=_text(form, "id"),
        effect=effect,
        text=_text(form, "text"),
        tools=patterns_of(form, "tools"),
        excepts=patterns_of(form, "except"),
        does=_words_in(form, "does"),
        who=_who(_map(form["who"])) if "who" in form else None,
        causes=frozenset(map(Cause, _words_in(form, "cause"))),
        pins=frozenset(map(PinState, _words_in(form, "pin"))),
        hidden_text=form["hidden_text"] is True if "hidden_text" in form else None,
        instructions=form["instructions"] is True if "instructions" in form else None,
        args={key: _map(spec) for key, spec in _map(form.get("args", {})).items()},
        only_args="only_args" in form,
        observe="mode" in form,
        hard="hard" in form,
        expires_us=expires if isinstance(expires, int) else None,
        limit=_limit(_map(form["limit"])) if "limit" in form else None,
        after=tuple(_past(one, strict=allows) for one in _maps(form, "after")),
        unless_after=tuple(_past(one, strict=not allows) for one in _maps(form, "unless_after")),
        history=_history(_map(form["history"]), form, strict=allows) if "history" in form else None,
        when=_text(form, "when") if "when" in form else "",
        risk=_bounds(_map(form["risk"])) if "risk" in form else None,
        redact=tuple(read_redact(spec) for spec in _maps(form, "redact")),
        asks=_asks(form),
        large=_large(_map(form["large_results"])) if "large_results" in form else None,
        tainted=form["tainted"] is True if "tainted" in form else None,
        suspect=form["suspect"] is True if "suspect" in form else None,
        flow=_flow(_map(form["flow"])) if "flow" in form else None,
        demands=_owes(form),
        on_failure={key: OnFailure(str(word)) for key, word in _map(form.get("on_failure", {})).items()},
        people=tuple(_person(form, _map(one["human"])) for one in _maps(form, "require") if "human" in one),
    )


def _person(form: Form, said: Form) -> Rule:
    """Whose yes a rule needs, as a rule that asks and matches where that one does."""
    return Rule(
        id=_text(form, "id"),
        effect=Effect.ASK,
        text=f"a person has to say yes: {_text(form, 'text')}",
        when=_text(said, "when") if "when" in said else "",
        asks=AskTerms(
            strong="strong" in said,
            remember=Remember.NEVER,
            needs=(_need(said),) if "role" in said else (),
        ),
    )


def _flow(form: Form) -> Flow:
    return Flow(
        origins=frozenset(map(Origin, _words_in(form, "from") | _words_in(form, "unless_from"))),
        sinks=_sinks(form, "into") or None,
        unless="unless_from" in form,
        seen="seen_in" in form,
    )


def _sinks(form: Form, key: str) -> tuple[Sink, ...]:
    return tuple(
        Sink(way=parse_key(_text(sink, "arg").removeprefix("args."))[0], form=SinkForm(sink.get("as", "text")))
        for sink in _maps(form, key)
    )


_ASK_KEYS = frozenset({"strong", "remember", "ask_expires_ms", "approvers"})


def _asks(form: Form) -> AskTerms | None:
    if _ASK_KEYS.isdisjoint(form):
        return None
    waits = form.get("ask_expires_ms")
    return AskTerms(
        strong="strong" in form,
        expires_s=waits / 1000 if isinstance(waits, int) else None,
        remember=Remember(_text(form, "remember")) if "remember" in form else Remember.RUN,
        needs=tuple(_need(said) for said in _maps(form, "approvers")),
    )


def _need(said: Form) -> Need:
    """Whose answers are due; the keys stand in it because `gather` has looked the role up."""
    return Need(
        role=_text(said, "role"),
        count=count if isinstance(count := said.get("count"), int) else 1,
        not_requester="not" in said,
        keys=tuple((_text(one, "name"), _text(one, "key")) for one in _maps(said, "people")),
    )


def _owes(form: Form) -> Owes | None:
    if not OWING.intersection(form):
        return None
    return Owes(
        require=tuple(one for one in _maps(form, "require") if "human" not in one),
        verify=tuple(_maps(form, "verify")),
        touches=tuple(_list_of_texts(form["touches"])) if "touches" in form else None,
        on_broken=_text(form, "on_broken") if "on_broken" in form else "",
        on_unknown=_text(form, "on_unknown") if "on_unknown" in form else "",
        undo=form.get("undo"),
        capture=_map(form["capture"]) if "capture" in form else None,
        settle=_map(form["settle"]) if "settle" in form else None,
    )


def _label_owes(form: Form) -> LabelOwes | None:
    if not OWING.intersection(form):
        return None
    return LabelOwes(
        touches=tuple(_list_of_texts(form["touches"])) if "touches" in form else None,
        ok_when=_text(form, "ok_when") if "ok_when" in form else "",
        # `none` says that nothing is to be checked; warnings read it, a call owes nothing by it.
        verify=tuple(_maps(form, "verify")) if isinstance(form.get("verify"), list) else (),
        unchecked=form.get("verify") == "none",
        undo=_text(form, "undo") if "undo" in form else "",
    )


def _bounds(form: Form) -> RiskBounds:
    at_least, below = form.get("at_least"), form.get("below")
    return RiskBounds(
        at_least=at_least if isinstance(at_least, int) else None, below=below if isinstance(below, int) else None
    )


def _tier(form: Form) -> TierRule:
    name, text = _text(form, "name"), _text(form, "because")
    return TierRule(name=name, because=text, matches=rule_of({**form, "id": name, "effect": "allow", "text": text}))


def _term(form: Form) -> Term:
    add = form["add"]
    if not isinstance(add, int):
        raise TypeError("a whole number is due")
    text = _text(form, "because")
    # What makes a call less risky has to hold in every reading, as what allows one does.
    effect = Effect.ASK if add > 0 else Effect.ALLOW
    return Term(add=add, because=text, matches=rule_of({**form, "id": text, "effect": effect.value, "text": text}))


_PATTERN = ("tools", "except", "does", "args")


def _past(form: Form, *, strict: bool) -> Past:
    meant: JsonObject = {key: form[key] for key in _PATTERN if key in form}
    effect = Effect.ALLOW if strict else Effect.ASK
    ok = form.get("ok", True)
    within = form.get("within", 0)
    return Past(
        form=canonical(meant).decode(),
        matches=rule_of({**meant, "id": "", "effect": effect.value, "text": ""}),
        ok=ok if isinstance(ok, bool) else None,
        within_us=within * 1000 if isinstance(within, int) else 0,
        same=_ties(form),
    )


def _ties(form: Form) -> tuple[tuple[str, str], ...]:
    return tuple(
        (left.removeprefix("args."), str(right).removeprefix("args."))
        for left, right in sorted(_map(form.get("same", {})).items())
    )


def _history(form: Form, rule: Form, *, strict: bool) -> History:
    own: JsonObject = {key: rule[key] for key in ("tools", "except") if key in rule}
    same: JsonObject = {"same": form["same"]} if "same" in form else {}
    of = _past({**(_map(form["of"]) if "of" in form else own), **same}, strict=strict)
    window, above = form.get("window", 0), form["above"]
    if isinstance(above, bool) or not isinstance(above, int | float):
        raise TypeError("a number is due")
    return History(
        of=of,
        counting=Counting.SUM if "sum" in form else Counting(_text(form, "count")),
        above_micro=micro_below(above),
        amount=_text(form, "sum").removeprefix("args.") if "sum" in form else "",
        window_us=window * 1000 if isinstance(window, int) else 0,
        per=Per(_text(form, "per")) if "per" in form else Per.RUN,
    )


def _who(form: Form) -> Who:
    return Who(
        sub=_words_in(form, "sub"),
        groups=_words_in(form, "groups"),
        client=_words_in(form, "client"),
        but=_who(_map(form["not"])) if "not" in form else None,
    )


def _limit(form: Form) -> Limit:
    timeout, size, most = form.get("timeout"), form.get("args_bytes"), form.get("result_bytes")
    calls, window = form.get("calls"), form.get("window", 0)
    return Limit(
        timeout_s=timeout / 1000 if isinstance(timeout, int) else None,
        args_bytes=size if isinstance(size, int) else None,
        calls=calls if isinstance(calls, int) else None,
        window_us=window * 1000 if isinstance(window, int) else 0,
        per=Per(_text(form, "per")) if "per" in form else Per.RUN,
        result_bytes=most if isinstance(most, int) else None,
    )


def _large(form: Form) -> LargeResults:
    over, keep = form["over"], form["keep"]
    if not isinstance(over, int) or not isinstance(keep, int):
        raise TypeError("sizes are due")
    return LargeResults(over_bytes=over, keep_bytes=keep)


def _label(form: Form) -> Label:
    return Label(
        tools=patterns_of(form, "tools"),
        excepts=patterns_of(form, "except"),
        does=_words_in(form, "does"),
        trust=Trust(_text(form, "trust")) if "trust" in form else None,
        sinks=_sinks(form, "sinks"),
        secret=tuple(sorted(_words_in(form, "secret"))),
        demands=_label_owes(form),
        cost_micro=_micro(cost) if isinstance(cost := form.get("cost"), int | float) else 0,
        once=(once.removeprefix("args."),) if isinstance(once := form.get("idempotency"), str) else (),
        cost_args=(cost.removeprefix("args."),) if isinstance(cost, str) else (),
        polling_us=polling * 1000 if isinstance(polling := form.get("polling"), int) else 0,
    )


def patterns_of(form: Form, key: str) -> tuple[ToolPattern, ...]:
    """Read the tool patterns under a key."""
    halves = [text.partition(".") for text in _list_of_texts(form.get(key, []))]
    return tuple(ToolPattern(server=server, tool=tool) for server, _, tool in halves)


def _place(form: Form, machine: Machine, folders: Iterable[str]) -> Place:
    local = form.get("files") == "local"
    system = form.get("os", "posix")
    if local and "os" not in form:
        system = {"win32": "windows", "darwin": "macos", "linux": "linux"}.get(machine.platform, "posix")
    known = {"linux": Case.EXACT, "macos": Case.FOLDED, "windows": Case.FOLDED}.get(str(system), Case.UNKNOWN)
    case = Case(_text(form, "case")) if "case" in form else known
    windows = system == "windows"
    place = Place(
        root=_absolute(form.get("root"), machine.workspace),
        home=_absolute(form.get("home"), machine.home),
        case=case,
        windows=windows,
        local=local,
    )
    if not local:
        return place
    links: dict[str, str] = {}
    for folder in folders:
        absolute = complete(folder, place)
        if isinstance(absolute, str):
            named = spell(resolve(absolute), place)
            target = machine.follow(named)
            if target != named:
                links[named] = target
    return Place(root=place.root, home=place.home, case=case, windows=windows, local=True, links=links)


def _absolute(value: Json, otherwise: str) -> str:
    return value if isinstance(value, str) else otherwise


def _folders(form: Form) -> Iterable[str]:
    """Every folder that a rule's `under` names, however deep."""
    stack: list[Json] = list(_map(form.get("args", {})).values())
    while stack:
        item = stack.pop()
        if isinstance(item, Mapping):
            yield from _list_of_texts(item.get("under", []))
            stack.extend(held for key, held in item.items() if key in {"not", "any_of"})
        elif isinstance(item, list):
            stack.extend(item)


def _aging(items: Iterable[Form], workspace: str) -> Iterable[str]:
    """Every folder, named by policy, a write below which makes evidence too old."""
    for item in items:
        for kind, held in item.items():
            if kind == "any":
                yield from _aging(_maps(item, kind), workspace)
            elif isinstance(held, Mapping):
                for text in _list_of_texts(held.get("not_before", [])):
                    yield from fixed_folders(last_write(text), workspace)


def _pins(forms: Sequence[Form]) -> Pins:
    def said(key: str, otherwise: str) -> Effect | None:
        words = [form[key] for form in forms if key in form] or [otherwise]
        return strictest(Effect(word) for word in words if word != "trust")

    return Pins(
        first=said("first", "trust"),
        new=said("new", "ask"),
        changed=said("changed", "deny"),
        shadowed=said("shadowed", "deny"),
    )


def _arguments(forms: Sequence[Form]) -> ArgumentLimits:
    usual = ArgumentLimits()

    def effect(key: str, otherwise: Effect) -> Effect:
        return strictest(Effect(form[key]) for form in forms if key in form) or otherwise

    def least(key: str, otherwise: int) -> int:
        return min((value for form in forms if isinstance(value := form.get(key), int)), default=otherwise)

    return ArgumentLimits(
        undeclared=effect("undeclared", usual.undeclared),
        no_schema=effect("no_schema", usual.no_schema),
        max_bytes=least("max_bytes", usual.max_bytes),
        max_depth=least("max_depth", usual.max_depth),
    )


def _methods(said: Sequence[Form], *, observing: bool) -> Methods:
    if not said:
        return Methods()
    first, *others = (_words_in(form, "pass") for form in said)
    unknown_pass = observing and all(form.get("unknown") == "pass" for form in said)
    return Methods(passed=first.intersection(*others), unknown_pass=unknown_pass)


_PAYLOADS = (PayloadMode.FULL, PayloadMode.REDACTED, PayloadMode.DIGEST)


def _payload_mode(said: Iterable[str]) -> PayloadMode:
    return max(map(PayloadMode, said), key=_PAYLOADS.index, default=PayloadMode.REDACTED)


def _map(value: Json) -> Form:
    if not isinstance(value, Mapping):
        raise TypeError("keys and values are due")
    return value


def _maps(form: Form, key: str) -> list[Form]:
    value = form.get(key, [])
    if not isinstance(value, list):
        raise TypeError("a list is due")
    return [_map(item) for item in value]


def _text(form: Form, key: str) -> str:
    value = form[key]
    if not isinstance(value, str):
        raise TypeError("a text is due")
    return value


def _list_of_texts(value: Json) -> list[str]:
    if not isinstance(value, list):
        raise TypeError("a list is due")
    return [item for item in value if isinstance(item, str)]


def _words_in(form: Form, key: str) -> frozenset[str]:
    return frozenset(_list_of_texts(form.get(key, [])))
