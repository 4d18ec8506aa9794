"""Argument matchers: total functions with three answers, one row each in `MATCHERS`.

A matcher is prepared once per tool, for the side it serves: an allow wants every element of a list and every reading
of a text, everything else wants one. `not` turns that round for what it holds.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import field
from enum import Enum
from typing import TypeAlias

from soothsayer_mcp.model.json import Json
from soothsayer_mcp.model.value import dataclass
from soothsayer_mcp.policy.addresses import (
    LOOPBACK,
    Host,
    host_pattern,
    is_loopback_name,
    network,
    read_mail_domain,
    read_scheme,
)
from soothsayer_mcp.policy.answers import Answer, Unsure, every, opposite, some
from soothsayer_mcp.policy.commands import flag_answer, has_syntax
from soothsayer_mcp.policy.detectors import detectors_of, fires, spellings
from soothsayer_mcp.policy.paths import Case, Glob, Place, bases, fold, globs, questions
from soothsayer_mcp.policy.scene import Lab, Scene

ANYWHERE = "**"
MAX_QUESTIONS = 1_000
"""Paths of one call whose links are looked up; further ones cannot be read."""
DECODED_LEVELS = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """For what a matcher is prepared."""

    place: Place
    lab: Lab
    every: bool
    """Whether all readings have to fit (an allow), or one (everything else)."""

    @property
    def turned(self) -> "Bench":
        """The same beneath a `not`."""
        return Bench(place=self.place, lab=self.lab, every=not self.every)

    @property
    def folds(self) -> bool:
        """Whether paths compare without case."""
        case = self.place.case
        return case is Case.FOLDED or (case is Case.UNKNOWN and not self.every)


Test: TypeAlias = Callable[[Json, Scene], Answer]


class WrongType(Unsure):
    """The value is not of the kind that the matcher reads."""


_NO_NUMBER = WrongType("the value is no number")
_NO_TEXT = WrongType("the value is no text")
_HALF_PAIR = WrongType("the text holds half of a surrogate pair")
_NO_SCALAR = WrongType("the value is an object or a list")
_NO_LIST = WrongType("the value is no list")
_NO_WORDS = WrongType("the value is neither a command nor a list of words")


def _texts(spec: Json) -> tuple[str, ...]:
    """Read the texts of a checked form: one, or a list."""
    if isinstance(spec, str):
        return (spec,)
    return tuple(item for item in _items(spec) if isinstance(item, str))


def _items(spec: Json) -> Sequence[Json]:
    return spec if isinstance(spec, Sequence) and not isinstance(spec, str) else (spec,)


def _number(spec: Json) -> int | float:
    if isinstance(spec, bool) or not isinstance(spec, int | float):
        raise TypeError("a number is due")
    return spec


def equal(left: Json, right: Json) -> bool:
    """Whether two scalars are one JSON value: `1` is `1.0`, exactly; `true` is no number."""
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    if isinstance(left, int | float):
        return isinstance(right, int | float) and left == right
    return isinstance(right, str | None) and left == right


def _is_scalar(value: Json) -> bool:
    return value is None or isinstance(value, str | int | float)


def _is(spec: Json, _: Bench) -> Test:
    return lambda value, _: equal(value, spec) if _is_scalar(value) else _NO_SCALAR


def _in(spec: Json, _: Bench) -> Test:
    members = _items(spec)
    texts = frozenset(_texts(spec))
    others = tuple(member for member in members if not isinstance(member, str))

    def test(value: Json, _: Scene) -> Answer:
        if isinstance(value, str):
            return value in texts
        return any(equal(value, member) for member in others) if _is_scalar(value) else _NO_SCALAR

    return test


def _compares(holds: Callable[[int | float, int | float], bool]) -> Callable[[Json, Bench], Test]:
    def prepare(spec: Json, _: Bench) -> Test:
        bound = _number(spec)

        def test(value: Json, _: Scene) -> Answer:
            if isinstance(value, bool) or not isinstance(value, int | float):
                return _NO_NUMBER
            return holds(value, bound)

        return test

    return prepare


def _max_chars(spec: Json, _: Bench) -> Test:
    most = _number(spec)
    return lambda value, _: len(value) <= most if isinstance(value, str) else _NO_TEXT


def _max_items(spec: Json, _: Bench) -> Test:
    most = _number(spec)
    return lambda value, _: len(value) <= most if isinstance(value, list) else _NO_LIST


_NO_UNICODE = Unsure("the text holds half a character")


def _matches(spec: Json, bench: Bench) -> Test:
    patterns = tuple(map(bench.lab.pattern, _texts(spec)))

    def test(value: Json, _: Scene) -> Answer:
        if not isinstance(value, str):
            return _NO_TEXT
        try:
            return any(fits(value) for fits in patterns)
        except UnicodeEncodeError:
            return _NO_UNICODE

    return test


def _path_test(bench: Bench, fits: Callable[[tuple[str, ...]], bool]) -> Test:
    place, wants_every, folds = bench.place, bench.every, bench.folds

    def test(value: Json, scene: Scene) -> Answer:
        if not isinstance(value, str):
            return _NO_TEXT
        return scene.readings(value, place).answer(every=wants_every, fold=folds, test=fits)

    return test


def _under(spec: Json, bench: Bench) -> Test:
    folders = [base for folder in _texts(spec) for base in bases(folder, bench.place)]
    if bench.folds:
        folders = [fold(base) for base in folders]
    sized = tuple((len(base), base) for base in folders)
    return _path_test(bench, lambda path: any(path[:size] == base for size, base in sized))


def _glob(spec: Json, bench: Bench) -> Test:
    compiled: tuple[Glob, ...] = tuple(
        one for pattern in _texts(spec) for one in globs(pattern, bench.place, folded=bench.folds)
    )
    return _path_test(bench, lambda path: any(one.matches(path) for one in compiled))


def _over(hosts: tuple[Host, ...], holds: Callable[[Host], bool], bench: Bench) -> Answer:
    return all(map(holds, hosts)) if bench.every else any(map(holds, hosts))


def _host(spec: Json, bench: Bench) -> Test:
    patterns = tuple(host_pattern(text, bench.lab.to_ascii) for text in _texts(spec))

    def holds(host: Host) -> bool:
        return any(fits(host) for fits in patterns)

    def test(value: Json, scene: Scene) -> Answer:
        if not isinstance(value, str):
            return _NO_TEXT
        target = scene.target(value, bench.lab)
        return target if isinstance(target, Unsure) else _over(target.hosts, holds, bench)

    return test


def _cidr(spec: Json, bench: Bench) -> Test:
    networks = tuple(map(network, _texts(spec)))
    # An allow rests on no name; for the others `localhost` is where it leads on every machine.
    loopback = not bench.every and any(within(LOOPBACK) for within in networks)

    def holds(host: Host) -> bool:
        if isinstance(host, str):
            return loopback and is_loopback_name(host)
        return any(within(host) for within in networks)

    def test(value: Json, scene: Scene) -> Answer:
        if not isinstance(value, str):
            return _NO_TEXT
        target = scene.target(value, bench.lab)
        return target if isinstance(target, Unsure) else _over(target.hosts, holds, bench)

    return test


def _scheme(spec: Json, _: Bench) -> Test:
    wanted = frozenset(text.lower() for text in _texts(spec))

    def test(value: Json, _: Scene) -> Answer:
        if not isinstance(value, str):
            return _NO_TEXT
        scheme = read_scheme(value)
        return scheme if isinstance(scheme, Unsure) else scheme in wanted

    return test


_NO_PORT = Unsure("the address tells no port")


def _port(spec: Json, bench: Bench) -> Test:
    wanted = frozenset(_number(item) for item in _items(spec))

    def test(value: Json, scene: Scene) -> Answer:
        if not isinstance(value, str):
            return _NO_TEXT
        target = scene.target(value, bench.lab)
        if isinstance(target, Unsure):
            return target
        return _NO_PORT if target.port is None else target.port in wanted

    return test


def _email_domain(spec: Json, bench: Bench) -> Test:
    patterns = tuple(host_pattern(text, bench.lab.to_ascii) for text in _texts(spec))

    def holds(host: Host) -> bool:
        return any(fits(host) for fits in patterns)

    def test(value: Json, _: Scene) -> Answer:
        if not isinstance(value, str):
            return _NO_TEXT
        hosts = read_mail_domain(value, bench.lab.to_ascii)
        return hosts if isinstance(hosts, Unsure) else _over(hosts, holds, bench)

    return test


def _words_of(value: Json, scene: Scene, place: Place) -> tuple[str, ...] | Unsure:
    if isinstance(value, str):
        return scene.words(value, place)
    if isinstance(value, list) and all(isinstance(word, str) for word in value):
        return tuple(word for word in value if isinstance(word, str))
    return _NO_WORDS


def _words_test(bench: Bench, fits: Callable[[tuple[str, ...]], Answer]) -> Test:
    def test(value: Json, scene: Scene) -> Answer:
        cut = _words_of(value, scene, bench.place)
        return cut if isinstance(cut, Unsure) else fits(cut)

    return test


def _argv0(spec: Json, bench: Bench) -> Test:
    programs = frozenset(_texts(spec))
    return _words_test(bench, lambda cut: bool(cut) and cut[0] in programs)


def _argv(spec: Json, bench: Bench) -> Test:
    starts = tuple(tuple(text.split()) for text in _texts(spec))
    return _words_test(bench, lambda cut: any(cut[: len(start)] == start for start in starts))


def _no_flags(spec: Json, bench: Bench) -> Test:
    flags = _texts(spec)

    def fits(cut: tuple[str, ...]) -> Answer:
        return opposite(some(flag_answer(word, flag) for word in cut for flag in flags))

    return _words_test(bench, fits)


def _no_shell_syntax(_: Json, __: Bench) -> Test:
    def test(value: Json, _: Scene) -> Answer:
        if isinstance(value, str):
            return not has_syntax(value)
        if isinstance(value, list) and all(isinstance(word, str) for word in value):
            return not any(has_syntax(word) for word in value if isinstance(word, str))
        return _NO_WORDS

    return test


_MOST_DIGITS = 10**40


def _find(spec: Json, bench: Bench) -> Test:
    detectors = detectors_of(_texts(spec))
    scan = bench.lab.scan([detector.pattern for detector in detectors])

    def test(value: Json, _: Scene) -> Answer:
        if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _MOST_DIGITS:
            # An account or a card is a number too.
            value = str(value)
        if not isinstance(value, str):
            return _NO_TEXT
        try:
            return any(fires(scan, detectors, text) for text in spellings(value))
        except UnicodeEncodeError:
            return _HALF_PAIR

    return test


def _not(spec: Json, bench: Bench) -> Test:
    inner = _conjunction(_mapping(spec), bench.turned)
    return lambda value, scene: opposite(inner(value, scene))


def _any_of(spec: Json, bench: Bench) -> Test:
    choices = tuple(_conjunction(_mapping(choice), bench) for choice in _items(spec))
    return lambda value, scene: some(choice(value, scene) for choice in choices)


def _mapping(spec: Json) -> Mapping[str, Json]:
    if not isinstance(spec, Mapping):
        raise TypeError("matchers are due")
    return spec


def _conjunction(spec: Mapping[str, Json], bench: Bench) -> Test:
    return _all(tuple(MATCHERS[name].prepare(spec[name], bench) for name in _cheap_first(spec)))


def _all(tests: tuple[Test, ...]) -> Test:
    """One test for several that must all hold."""
    if len(tests) == 1:
        return tests[0]

    def test(value: Json, scene: Scene) -> Answer:
        # `every`, written out: this runs for each argument of each candidate rule.
        doubt: Unsure | None = None
        for one in tests:
            answer = one(value, scene)
            if answer is False:
                return False
            if answer is not True and doubt is None:
                doubt = answer
        return True if doubt is None else doubt

    return test


def _cheap_first(spec: Mapping[str, Json]) -> list[str]:
    return sorted((name for name in spec if name in MATCHERS), key=_COST.__getitem__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One matcher."""

    prepare: Callable[[Json, Bench], Test]
    whole: bool = False
    """Judges a list as a whole instead of its elements."""
    paths: bool = False
    """Reads paths, so that links may matter."""


MATCHERS: dict[str, Row] = {
    "is": Row(prepare=_is),
    "in": Row(prepare=_in),
    "min": Row(prepare=_compares(lambda value, bound: value >= bound)),
    "max": Row(prepare=_compares(lambda value, bound: value <= bound)),
    "above": Row(prepare=_compares(lambda value, bound: value > bound)),
    "below": Row(prepare=_compares(lambda value, bound: value < bound)),
    "max_chars": Row(prepare=_max_chars),
    "max_items": Row(prepare=_max_items, whole=True),
    "no_shell_syntax": Row(prepare=_no_shell_syntax, whole=True),
    "matches": Row(prepare=_matches),
    "scheme": Row(prepare=_scheme),
    "under": Row(prepare=_under, paths=True),
    "host": Row(prepare=_host),
    "port": Row(prepare=_port),
    "cidr": Row(prepare=_cidr),
    "email_domain": Row(prepare=_email_domain),
    "argv0": Row(prepare=_argv0, whole=True),
    "argv": Row(prepare=_argv, whole=True),
    "glob": Row(prepare=_glob, paths=True),
    "no_flags": Row(prepare=_no_flags, whole=True),
    "find": Row(prepare=_find),
    "not": Row(prepare=_not),
    "any_of": Row(prepare=_any_of),
}
"""Cheap ones first: they are asked in this order."""

_COST = {name: cost for cost, name in enumerate(MATCHERS)}


def is_whole(name: str, spec: Json) -> bool:
    """Whether a matcher judges a list as a whole; `not` and `any_of` do when all they hold does."""
    if name in {"not", "any_of"}:
        return all(is_whole(inner, held) for choice in _items(spec) for inner, held in _mapping(choice).items())
    return MATCHERS[name].whole


def reads_paths(spec: Mapping[str, Json]) -> bool:
    """Whether any of these matchers, however deep, reads paths."""
    for name, held in spec.items():
        if name in {"not", "any_of"}:
            if any(reads_paths(_mapping(choice)) for choice in _items(held)):
                return True
        elif name in MATCHERS and MATCHERS[name].paths:
            return True
    return False


class _Missing(Enum):
    ABSENT = "absent"
    STAR = "*"


Segment: TypeAlias = str | _Missing
Found: TypeAlias = "Json | Unsure | _Missing"

_NOT_AN_OBJECT = WrongType("the way to the argument leads through something that is no object")
_NOT_A_LIST = WrongType("the way to the argument leads through something that is no list")
_ABSENT = _Missing.ABSENT
_STAR = _Missing.STAR


def parse_key(key: str) -> tuple[tuple[Segment, ...], ...]:
    """Read an argument key: `a.b`, `items[*].id`, `/a~1b`, alternatives between bars. `()` for `**`.

    Raises `ValueError` for what is none.
    """
    if key == ANYWHERE:
        return ()
    return tuple(_parse_one(alternative.strip(" ")) for alternative in key.split("|"))


def _parse_one(text: str) -> tuple[Segment, ...]:
    if text.startswith("/"):
        return tuple(part.replace("~1", "/").replace("~0", "~") for part in text[1:].split("/"))
    segments: list[Segment] = []
    for part in text.split("."):
        name = part
        stars = 0
        while name.endswith("[*]"):
            name = name[:-3]
            stars += 1
        if not name or any(char in "[]*? " for char in name):
            raise ValueError(f"{text!r} is no path to an argument")
        segments.append(name)
        segments.extend([_STAR] * stars)
    return tuple(segments)


def _follow(value: Json, segments: tuple[Segment, ...]) -> Iterator[Found]:
    if not segments:
        yield value
        return
    first, rest = segments[0], segments[1:]
    if first is _STAR:
        if isinstance(value, list):
            for item in value:
                yield from _follow(item, rest)
        else:
            yield _NOT_A_LIST
    elif isinstance(value, Mapping):
        if isinstance(first, str) and first in value:
            yield from _follow(value[first], rest)
        else:
            yield _ABSENT
    elif isinstance(value, list) and isinstance(first, str) and first.isascii() and first.isdigit():
        yield from _follow(value[int(first)], rest) if int(first) < len(value) else iter((_ABSENT,))
    else:
        # A server may decode a text here; what it would find cannot be told.
        yield _NOT_AN_OBJECT


_NOT_KNOWN_YET = Unsure("arguments are not known yet")
_BLANKS = " \t\r\n"
_MAY_BE_JSON = frozenset({"", "{", "[", *_BLANKS})
"""What a text begins with that may encode an object or a list."""

_DEEP = Unsure("a text holds JSON that is nested too deep to read")


def _integer(digits: str) -> int | float:
    # A longer one is an error of its own in Python, and would hide the rest of the value.
    return int(digits) if len(digits) < 400 else float(digits)  # noqa: PLR2004 - beyond any double


def _pairs(pairs: list[tuple[str, Json]]) -> list[Json]:
    # Both values of a doubled key: a server may take either.
    return [value for _, value in pairs]


_decode = json.JSONDecoder(object_pairs_hook=_pairs, parse_int=_integer).decode


def forms(text: str) -> list[Found]:
    """The text itself and, when it is JSON that holds values, each of them: a server may decode it."""
    found: list[Found] = [text]
    if text.lstrip(_BLANKS)[:1] not in {"{", "["}:
        return found
    waiting: list[tuple[str, int]] = [(text, DECODED_LEVELS)]
    while waiting:
        encoded, levels = waiting.pop()
        try:
            decoded: Json = _decode(encoded)
        except RecursionError:
            found.append(_DEEP)
            continue
        except ValueError:
            continue
        stack: list[Json] = [decoded]
        while stack:
            item = stack.pop()
            if isinstance(item, list):
                stack.extend(item)
                continue
            found.append(item)
            if isinstance(item, str) and levels > 1 and item.lstrip(_BLANKS)[:1] in {"{", "["}:
                waiting.append((item, levels - 1))
    return found


def decoded(text: str) -> Json:
    """The object or list that a text encodes, its members' names left out; `None` when it encodes none."""
    if text.lstrip(_BLANKS)[:1] not in {"{", "["}:
        return None
    try:
        return _decode(text)
    except (RecursionError, ValueError):
        return None


def find_all(arguments: Mapping[str, Json], way: tuple[Segment, ...]) -> "list[Json | Unsure]":
    """The values at one way, and the reason where it cannot be followed; empty when it is absent."""
    return [found for found in _follow(arguments, way) if not isinstance(found, _Missing)]


def _all_texts(arguments: Mapping[str, Json]) -> Iterator[str]:
    stack: list[Json] = list(arguments.values())
    while stack:
        item = stack.pop()
        if isinstance(item, str):
            yield item
        elif isinstance(item, Mapping):
            yield from item
            stack.extend(item.values())
        elif isinstance(item, list):
            stack.extend(item)


@dataclass(frozen=True, slots=True, kw_only=True)
class ArgumentTest:
    """The matchers on one argument key, prepared."""

    key: str
    spec: Mapping[str, Json]
    ways: tuple[tuple[Segment, ...], ...]
    """One per alternative; none for `**`."""
    every: bool
    wholes: tuple[Test, ...]
    elements: tuple[Test, ...]
    alone: Test
    """All of them, for a value that is no list."""
    absent_ok: bool
    present: bool | None
    paths: bool
    cost: tuple[bool, int]
    """Cheap ones are asked first."""
    top: frozenset[str] = field(default_factory=frozenset[str])
    """The arguments that the key names."""
    plain: str | None = None
    """The argument, where the key names just one and only its value counts: the common case takes a short way."""

    def answer(self, scene: Scene) -> Answer:
        """Judge the arguments of a call."""
        arguments = scene.arguments
        if arguments is None:
            return _NOT_KNOWN_YET
        if self.plain is not None:
            value = arguments.get(self.plain)
            if isinstance(value, str) and value[:1] not in _MAY_BE_JSON:
                return self.alone(value, scene)
        if not self.ways:
            return self._anywhere(arguments, scene)
        found = self.find(arguments)
        if self.present is not None:
            there = bool(found)
            if there is not self.present:
                return False
            if not there or not (self.wholes or self.elements):
                return True
        if not found:
            return self.absent_ok
        if len(found) == 1:
            return self._judge(found[0], scene)
        answers = (self._judge(value, scene) for value in found)
        return every(answers) if self.every else some(answers)

    def find(self, arguments: Mapping[str, Json]) -> list[Found]:
        """The values that the key names; empty when none of its alternatives is there."""
        found: list[Found] = []
        for way in self.ways:
            if len(way) == 1 and isinstance(way[0], str):
                if way[0] in arguments:
                    found.append(arguments[way[0]])
                continue
            these = list(_follow(arguments, way))
            if any(value is not _ABSENT for value in these):
                found.extend(these)
        return found

    def values(self, arguments: Mapping[str, Json]) -> list[Json]:
        """The values that the key names and that can be reached."""
        return [_value(found) for found in self.find(arguments) if not isinstance(found, _Missing | Unsure)]

    def texts(self, arguments: Mapping[str, Json]) -> Iterator[str]:
        """Every text that the matchers will read."""
        values: Iterable[Found] = self.find(arguments) if self.ways else _all_texts(arguments)
        for value in values:
            for item in value if isinstance(value, list) else (value,):
                if isinstance(item, str):
                    yield from (form for form in forms(item) if isinstance(form, str))

    def _judge(self, value: Found, scene: Scene) -> Answer:
        if isinstance(value, str):
            return self._judge_one(self.alone, value, scene)
        if isinstance(value, list):
            return self._judge_list(value, scene)
        if isinstance(value, _Missing):
            return self.absent_ok
        if isinstance(value, Unsure):
            return value
        return self.alone(value, scene)

    def _judge_list(self, value: list[Json], scene: Scene) -> Answer:
        whole = every(test(value, scene) for test in self.wholes)
        if whole is False or not self.elements:
            return whole
        if not value:
            return False
        together = _all(self.elements)
        answers = (self._judge_one(together, item, scene) for item in value)
        return every((whole, every(answers) if self.every else some(answers)))

    def _judge_one(self, test: Test, value: Json, scene: Scene) -> Answer:
        """Judge what is no list; a text also as the values that it encodes."""
        if not isinstance(value, str) or value[:1] not in _MAY_BE_JSON:
            return test(value, scene)
        answers = (form if isinstance(form, Unsure) else test(_value(form), scene) for form in forms(value))
        return every(answers) if self.every else some(answers)

    def _anywhere(self, arguments: Mapping[str, Json], scene: Scene) -> Answer:
        answers = [self._judge_one(self.alone, text, scene) for text in _all_texts(arguments)]
        if self.every:
            return every(answers) if answers else self.absent_ok
        # A net, not a wall: most texts of a call are no paths or addresses, and a doubt about them says nothing.
        return any(answer is True for answer in answers)


def _value(form: Found) -> Json:
    return None if isinstance(form, _Missing | Unsure) else form


def prepare_argument(key: str, spec: Mapping[str, Json], bench: Bench) -> ArgumentTest:
    """Prepare the matchers of one argument key."""
    ways = parse_key(key)
    wholes: list[Test] = []
    elements: list[Test] = []
    for name in _cheap_first(spec):
        prepared = MATCHERS[name].prepare(spec[name], bench)
        (wholes if is_whole(name, spec[name]) else elements).append(prepared)
    present = spec.get("present")
    only = ways[0][0] if len(ways) == 1 and len(ways[0]) == 1 else None
    return ArgumentTest(
        key=key,
        spec=spec,
        ways=ways,
        every=bench.every,
        wholes=tuple(wholes),
        elements=tuple(elements),
        alone=_all((*wholes, *elements)),
        absent_ok=spec.get("absent") == "ok",
        present=present if isinstance(present, bool) else None,
        paths=reads_paths(spec),
        cost=(not ways, max(map(_COST.__getitem__, _cheap_first(spec)), default=0)),
        top=frozenset(way[0] for way in ways if isinstance(way[0], str)),
        plain=only if isinstance(only, str) and not isinstance(present, bool) else None,
    )


def link_questions(tests: Iterable[ArgumentTest], arguments: Mapping[str, Json], place: Place) -> tuple[str, ...]:
    """The paths whose links these matchers need to know."""
    asked: dict[str, None] = {}
    for test in tests:
        for text in test.texts(arguments):
            asked.update(dict.fromkeys(questions(text, place)))
            if len(asked) >= MAX_QUESTIONS:
                return tuple(asked)[:MAX_QUESTIONS]
    return tuple(asked)
