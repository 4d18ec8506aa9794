"""Where a value came from: what of a result or an intent is remembered, and whether a call's targets were named before.

A proxy sees values and not thoughts. Whole values are compared and never parts of them, since attackers write parts.
"""

import base64
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from decimal import Decimal, InvalidOperation
from enum import StrEnum
from functools import lru_cache
from urllib.parse import quote, unquote

from soothsayer_mcp.model.answer import Answer, Unsure
from soothsayer_mcp.model.facts import Origin, Seen, ValueQuestion
from soothsayer_mcp.model.json import Json, JsonObject
from soothsayer_mcp.model.run import DeclaredBy, Intent
from soothsayer_mcp.model.value import dataclass
from soothsayer_mcp.policy.addresses import ToAscii, read_host, read_mail_domain, read_target
from soothsayer_mcp.policy.answers import every, opposite, some
from soothsayer_mcp.policy.match import Segment, decoded, find_all
from soothsayer_mcp.policy.paths import Place, read, spell
from soothsayer_mcp.policy.scene import Scene

MOST_QUESTIONS = 2_000
"""Values of one call that are asked about; of further ones nothing is known."""
MOST_ENCODED = 4_096
"""Characters of a value that is looked for in other encodings too."""


class Form(StrEnum):
    """In which form two values are compared."""

    TEXT = "text"
    """Exactly, after NFC."""
    HOST = "host"
    EMAIL = "email"
    PATH = "path"
    NUMBER = "number"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sink:
    """An argument that says where something goes."""

    way: tuple[Segment, ...]
    form: Form = Form.TEXT


@dataclass(frozen=True, slots=True, kw_only=True)
class Flow:
    """What a rule wants of where the targets of a call came from."""

    origins: frozenset[Origin]
    sinks: tuple[Sink, ...] | None = None
    """`None`: the sinks that labels name."""
    unless: bool = False
    """Whether the rule is about a target with none of these origins, instead of targets that all have one."""
    seen: bool = False
    """Whether such a target must have stood in an untrusted result too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reader:
    """How values are brought into their forms; the same for what is remembered and for what is asked."""

    to_ascii: ToAscii
    place: Place

    def form(self, value: str, form: Form) -> str | None:
        """The value in that form, with the form before it; `None` when it has none."""
        made = _FORMS[form](value, self)
        return None if made is None else f"{form}:{made}"


def _text(value: str, _: Reader) -> str | None:
    return unicodedata.normalize("NFC", value)


def _host(value: str, reader: Reader) -> str | None:
    hosts = read_host(value, reader.to_ascii) if "/" not in value else None
    if hosts is None or isinstance(hosts, Unsure):
        target = read_target(value, reader.to_ascii)
        hosts = hosts if isinstance(target, Unsure) else target.hosts
    return None if hosts is None or isinstance(hosts, Unsure) or len(hosts) != 1 else str(hosts[0])


_ADDRESS = re.compile(r"(?:.*<)?\s*([^\s<>@,;\"]+)@[^\s<>@,;\"]+?\s*>?\s*", re.DOTALL)


def _email(value: str, reader: Reader) -> str | None:
    domain = read_mail_domain(value, reader.to_ascii)
    found = _ADDRESS.fullmatch(value)
    if isinstance(domain, Unsure) or len(domain) != 1 or found is None:
        return None
    # What stands before the @ is the receiver's to read; most, and so we, take case as it is.
    return f"{unicodedata.normalize('NFC', found.group(1))}@{domain[0]}"


def _path(value: str, reader: Reader) -> str | None:
    readings = read(value, Place(root=reader.place.root, home=reader.place.home, windows=reader.place.windows), {})
    return spell(readings.exact[0], reader.place) if readings.doubt is None and len(readings.exact) == 1 else None


def _number(value: str, _: Reader) -> str | None:
    if len(value) > 100:  # noqa: PLR2004 - longer than any amount
        return None
    try:
        number = Decimal(value.strip())
    except InvalidOperation:
        return None
    return str(number.normalize()) if number.is_finite() else None


_FORMS: dict[Form, Callable[[str, Reader], str | None]] = {
    Form.TEXT: _text,
    Form.HOST: _host,
    Form.EMAIL: _email,
    Form.PATH: _path,
    Form.NUMBER: _number,
}


def spelled(value: Json) -> str | None:
    """A scalar as a text: numbers as JSON spells them. `None` for what names nothing: null, true, false."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool) or value is None or not isinstance(value, int | float):
        return None
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def leaves(value: Json) -> Iterator[str]:
    """Every scalar of a value that can name something, as text; the names of members are none."""
    stack: list[Json] = [value]
    while stack:
        item = stack.pop()
        if isinstance(item, Mapping):
            stack.extend(item.values())
        elif isinstance(item, list):
            stack.extend(item)
        else:
            text = spelled(item)
            if text is not None:
                yield text


# What people write around a word; the closing ones also end a sentence.
_CUT = re.compile("[\\s,;()<>\"'\u2018\u2019\u201c\u201d]+")
_CLOSING = ".:!?\u2026"


@lru_cache(maxsize=64)
def words(text: str) -> tuple[str, ...]:
    """The words of a text, without what closes them."""
    found = dict.fromkeys(word for part in _CUT.split(text) if (word := part.rstrip(_CLOSING)))
    return tuple(found)


_LEAD = re.compile(r"[-*\u2022]\s+")
_NAMED = re.compile(r"[^\s:][^:]{0,60}:\s+")


def _lines(text: str) -> Iterator[str]:
    for line in text.splitlines():
        bare = _LEAD.sub("", line.strip(), count=1)
        if bare:
            yield bare
            named = _NAMED.match(bare)
            if named is not None and named.end() < len(bare):
                yield bare[named.end() :]


def _texts_of(result: JsonObject) -> Iterator[str]:
    """Every text that stands in a result for a model to read."""
    content = result.get("content")
    for block in content if isinstance(content, list) else ():
        if not isinstance(block, Mapping):
            continue
        resource = block.get("resource")
        for holder in (block, resource):
            for name in ("text", "uri"):
                text = holder.get(name) if isinstance(holder, Mapping) else None
                if isinstance(text, str):
                    yield text


def whole_values(result: JsonObject) -> Iterator[str]:
    """The whole scalars of a result: leaves of structured content and of texts that are JSON, else whole lines."""
    yield from leaves(result.get("structuredContent"))
    for text in _texts_of(result):
        held = decoded(text)
        if held is None:
            yield from _lines(text)
        else:
            yield from leaves(held)


def all_values(result: JsonObject) -> Iterator[str]:
    """The same, and every word: who wants to be followed hides among others."""
    for value in whole_values(result):
        yield value
        yield from words(value)


def remembered(values: Iterable[str], forms: Sequence[Form], reader: Reader) -> set[str]:
    """What is kept of some values: each in every form that policy compares in."""
    kept: set[str] = set()
    for value in dict.fromkeys(values):
        for form in forms:
            made = reader.form(value, form)
            if made is not None:
                kept.add(made)
    return kept


def of_result(
    result: JsonObject, arguments: Mapping[str, Json], *, trusted: bool, forms: Sequence[Form], reader: Reader
) -> set[str]:
    """What a result tells of values. What a trusted tool only repeats of its own arguments it does not vouch for."""
    if not trusted:
        return remembered(all_values(result), forms, reader)
    repeated = remembered((word for value in leaves(dict(arguments)) for word in (value, *words(value))), forms, reader)
    return remembered(whole_values(result), forms, reader) - repeated


def _variants(value: str) -> Iterator[str]:
    """The value, what it decodes to, and what it may have been encoded as."""
    yield value
    if len(value) > MOST_ENCODED or not value:
        return
    yield unquote(value)
    yield from _decodings(value)
    try:
        raw = value.encode()
    except UnicodeEncodeError:
        return
    yield from (quote(value), quote(value, safe=""), raw.hex(), raw.hex().upper())
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        encoded = encode(raw).decode()
        yield encoded
        yield encoded.rstrip("=")


def _decodings(value: str) -> Iterator[str]:
    padded = value + "=" * (-len(value) % 4)
    for decode in (
        lambda: base64.b64decode(padded, validate=True),
        lambda: base64.b64decode(padded, altchars=b"-_", validate=True),
        lambda: bytes.fromhex(value),
    ):
        # `binascii.Error` and what is no UTF-8 are `ValueError`s.
        with suppress(ValueError):
            yield decode().decode()


class Target:
    """One value that a call is to go to, in every spelling that is asked about."""

    __slots__ = ("asked", "doubt")

    def __init__(self, value: str | None, form: Form, reader: Reader) -> None:
        """Bring it into its form; what has none cannot be compared."""
        self.doubt: Unsure | None = None
        self.asked: tuple[str, ...] = ()
        if value is None or reader.form(value, form) is None:
            self.doubt = Unsure(f"a target is no {form}")
            return
        made = (reader.form(one, form) for one in _variants(value))
        self.asked = tuple(dict.fromkeys(one for one in made if one is not None))


def targets(sinks: Iterable[Sink], arguments: Mapping[str, Json], reader: Reader) -> list[Target]:
    """The values that a call is to go to; empty when it names none."""
    found: list[Target] = []
    for sink in sinks:
        for value in find_all(arguments, sink.way):
            if isinstance(value, Unsure):
                found.append(Target(None, sink.form, reader))
            else:
                found.extend(Target(text, sink.form, reader) for text in leaves(value))
    return found


_COUNT = frozenset({DeclaredBy.HUMAN, DeclaredBy.HOST})


def _named(intent: Intent | None, forms: Sequence[Form], reader: Reader) -> frozenset[str]:
    """What a person or a host named as the run's purpose. The agent's own words count for nothing."""
    if intent is None or intent.declared_by not in _COUNT:
        return frozenset()
    return frozenset(remembered(words(intent.text), forms, reader))


def approved_by(tests: Sequence["FlowTest"], arguments: JsonObject) -> set[str]:
    """Where a call goes to that a person said yes to, as some rules compare it."""
    return {value for test in tests for value in test.goes_to(arguments)}


class FlowTest:
    """The matcher `flow`, prepared for a tool."""

    __slots__ = ("_flow", "_forms", "_reader", "sinks")

    def __init__(self, flow: Flow, sinks: Sequence[Sink], reader: Reader) -> None:
        """Take the sinks that labels name, where the rule names none itself."""
        self._flow = flow
        self._reader = reader
        self.sinks = tuple(sinks if flow.sinks is None else flow.sinks)
        self._forms = tuple(sorted({sink.form for sink in self.sinks}))

    def asks(self, arguments: Mapping[str, Json]) -> Iterator[str]:
        """The values that the store is asked about."""
        for target in targets(self.sinks, arguments, self._reader):
            yield from target.asked

    @property
    def asks_approval(self) -> bool:
        """Whether what a person approved counts."""
        return Origin.APPROVED in self._flow.origins

    def goes_to(self, arguments: JsonObject) -> Iterator[str]:
        """The targets of a call as they are written, each in its form."""
        for target in targets(self.sinks, arguments, self._reader):
            yield from target.asked[:1]

    def answer(self, scene: Scene) -> Answer:
        """Whether the targets of a call have, or lack, these origins. No without a target."""
        if scene.arguments is None:
            return Unsure("arguments are not known yet")
        found = targets(self.sinks, scene.arguments, self._reader)
        if not found:
            return False
        if scene.run is None:
            return Unsure("it is not known for which run this is")
        named = frozenset[str]()
        if Origin.INTENT in self._flow.origins:
            named = _named(scene.run.intent, self._forms, self._reader)
        if not self._flow.unless:
            return every(self._has(target, named, scene) for target in found)
        return some(self._strange(target, named, scene) for target in found)

    def _strange(self, target: Target, named: frozenset[str], scene: Scene) -> Answer:
        lacks = opposite(self._has(target, named, scene))
        return every((lacks, self._seen(target, scene, Origin.UNTRUSTED))) if self._flow.seen else lacks

    def _has(self, target: Target, named: frozenset[str], scene: Scene) -> Answer:
        if target.doubt is not None:
            return target.doubt
        if not named.isdisjoint(target.asked):
            return True
        kept = self._flow.origins - {Origin.INTENT}
        return some(self._seen(target, scene, origin) for origin in kept)

    @staticmethod
    def _seen(target: Target, scene: Scene, origin: Origin) -> Answer:
        if target.doubt is not None:
            return target.doubt
        assert scene.run is not None
        return some(_held(scene.seen.get(ValueQuestion(scene.run.id, one)), origin) for one in target.asked)


def _held(seen: Seen | None, origin: Origin) -> Answer:
    if seen is None:
        return _NOT_LOOKED_UP
    if origin in seen.origins:
        return True
    return _NOT_ALL_KEPT if origin in seen.missed else False


_NOT_LOOKED_UP = Unsure("it could not be looked up where a target came from")
_NOT_ALL_KEPT = Unsure("not everything that this run has read was kept, so it is not known where a target came from")
