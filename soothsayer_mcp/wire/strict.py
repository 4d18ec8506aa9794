"""Reading messages: whatever comes from a host in exactly one way or not at all, a server's envelope leniently."""

import json
import re
from collections.abc import Sequence
from enum import Enum, StrEnum
from math import isinf
from typing import Final, NoReturn, cast

from soothsayer_mcp.model.call import RequestId
from soothsayer_mcp.model.json import Json, JsonObject
from soothsayer_mcp.model.value import dataclass
from soothsayer_mcp.wire import eras
from soothsayer_mcp.wire.codes import Code
from soothsayer_mcp.wire.frame import Frame, FrameKind
from soothsayer_mcp.wire.ids import legal
from soothsayer_mcp.wire.places import (
    BLANKS,
    BYTE_ORDER_MARK,
    Place,
    Wanted,
    after_blanks,
    locate,
    scanner,
    skip,
    start,
)

MAX_BYTES: Final = 64 * 1024 * 1024
MAX_DEPTH: Final = 128
"""How many objects and arrays may stand within each other, the message itself included."""

MAX_BATCH: Final = 1024
"""How many messages an array may hold."""


class Side(Enum):
    """Whose message it was."""

    HOST = "host"
    SERVER = "server"


class Fault(StrEnum):
    """What can be wrong with a message."""

    NOT_UTF8 = "not_utf8"
    BYTE_ORDER_MARK = "byte_order_mark"
    BROKEN_JSON = "broken_json"
    TEXT_AFTER = "text_after"
    NOT_FINITE = "not_finite"
    NOT_AN_OBJECT = "not_an_object"
    ARRAY = "array"
    DUPLICATE_KEY = "duplicate_key"
    FOLDED_KEY = "folded_key"
    HIDDEN_KEY = "hidden_key"
    TOO_DEEP = "too_deep"
    TOO_BIG = "too_big"
    NUMBER_OUT_OF_RANGE = "number_out_of_range"
    LONE_SURROGATE = "lone_surrogate"
    PARAMS_NOT_OBJECT = "params_not_object"
    METHOD_TYPE = "method_type"
    METHOD_AND_ANSWER = "method_and_answer"
    NO_METHOD_NO_ANSWER = "no_method_no_answer"
    RESULT_AND_ERROR = "result_and_error"
    ID_TYPE = "id_type"


FAULTS: Final[dict[Fault, tuple[Code, str]]] = {
    Fault.NOT_UTF8: (Code.PARSE_ERROR, "The message is not UTF-8."),
    Fault.BYTE_ORDER_MARK: (Code.PARSE_ERROR, "The message begins with a byte order mark."),
    Fault.BROKEN_JSON: (Code.PARSE_ERROR, "The message is not JSON."),
    Fault.TEXT_AFTER: (Code.PARSE_ERROR, "There is text after the message."),
    Fault.NOT_FINITE: (Code.PARSE_ERROR, "The message holds {key}, which JSON does not have."),
    Fault.NOT_AN_OBJECT: (Code.INVALID_REQUEST, "The message is not an object."),
    Fault.ARRAY: (Code.INVALID_REQUEST, "An array is not a message here."),
    Fault.DUPLICATE_KEY: (Code.INVALID_REQUEST, "The key {key} stands twice in one object."),
    Fault.FOLDED_KEY: (
        Code.INVALID_REQUEST,
        "The key {key} differs only in case from another one, or from one that the protocol has.",
    ),
    Fault.HIDDEN_KEY: (Code.INVALID_REQUEST, "The key {key} holds a control or invisible character."),
    Fault.TOO_DEEP: (Code.INVALID_REQUEST, f"The message nests deeper than {MAX_DEPTH}."),
    Fault.TOO_BIG: (Code.INVALID_REQUEST, "The message is too big."),
    Fault.NUMBER_OUT_OF_RANGE: (Code.INVALID_REQUEST, "The message holds a number that is too large to be exact."),
    Fault.LONE_SURROGATE: (Code.INVALID_REQUEST, "The message holds half of a surrogate pair, which is no text."),
    Fault.PARAMS_NOT_OBJECT: (Code.INVALID_REQUEST, "The params are not an object."),
    Fault.METHOD_TYPE: (Code.INVALID_REQUEST, "The method is not a string."),
    Fault.METHOD_AND_ANSWER: (Code.INVALID_REQUEST, "The message has a method and also a result or an error."),
    Fault.NO_METHOD_NO_ANSWER: (Code.INVALID_REQUEST, "The message has no method, no result and no error."),
    Fault.RESULT_AND_ERROR: (Code.INVALID_REQUEST, "The message has a result and also an error."),
    Fault.ID_TYPE: (Code.INVALID_REQUEST, "The id is neither a string nor an integer."),
}


class WireError(Exception):
    """A message that does not read in one way, or is no message."""

    def __init__(
        self,
        side: Side,
        fault: Fault,
        *,
        key: str = "",
        at: int = -1,
        id: RequestId | None = None,  # noqa: A002 - the member's name on the wire
        answerable: bool = True,
    ) -> None:
        """`key` is shown in the text, as JSON in ASCII and cut short."""
        self.side = side
        self.fault = fault
        code, text = FAULTS[fault]
        self.code = code
        self.text = text.format(key=json.dumps(key[:60]))
        self.at = at
        """The character where it was noticed; -1 when that has no place."""
        self.id = id
        """From a host: the id to answer with. From a server: the id of the request that this was to answer."""
        self.answerable = answerable and side is Side.HOST
        """Whether to answer; false for what was itself an answer, and for all that servers send."""
        super().__init__(f"{side.value}: {self.text}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """An array of messages, each read on its own. Whether arrays are legal is for the caller to say."""

    raw: bytes
    members: tuple[Frame | WireError, ...]


# What the specifications name. A key that is one of these only after case folding is refused: a server that folds
# would read it, and policy would not.
_ENVELOPE: Final = frozenset({"jsonrpc", "id", "method", "params", "result", "error"})
_PARAMS: Final = frozenset(
    {
        *("_meta", "name", "arguments", "task", "taskId", "inputResponses", "requestState"),
        *("protocolVersion", "capabilities", "clientInfo", "cursor", "uri", "ref", "argument", "context", "level"),
        *("requestId", "reason", "progressToken", "progress", "total", "message", "notifications"),
        *("toolsListChanged", "promptsListChanged", "resourcesListChanged", "resourceSubscriptions"),
    }
)
_RESULT: Final = frozenset(
    {
        *("_meta", "content", "structuredContent", "isError", "resultType", "inputRequests", "requestState", "task"),
        *("tools", "resources", "resourceTemplates", "prompts", "nextCursor", "ttlMs", "cacheScope"),
        *("contents", "messages", "description", "completion"),
    }
)
_META: Final = frozenset(
    {
        *("progressToken", "traceparent", "tracestate", "baggage"),
        *(eras.META_PROTOCOL_VERSION, eras.META_CLIENT_CAPABILITIES, eras.META_CLIENT_INFO, eras.META_SERVER_INFO),
        *(eras.META_LOG_LEVEL, eras.META_SUBSCRIPTION_ID, eras.META_STEP),
    }
)
_FOLDED: Final = {names: frozenset(map(str.casefold, names)) for names in (_ENVELOPE, _PARAMS, _RESULT, _META)}

# Letters, marks and spaces of Unicode's Default_Ignorable_Code_Point that `str.isprintable` lets through.
_IGNORABLE: Final = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180d\u180f\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)

_SURROGATE: Final = re.compile(r"\\u[dD][89a-fA-F]")
"""An escape that may be half of a pair without the other; a regex, because it steps over plain text fastest."""

_SHORT: Final = 4096

_LOOK_INTO: Final[Wanted] = {"params": {}}


class _Refusal(Exception):  # noqa: N818 - it never leaves this module
    """What is wrong, before it is known whose message it is and which id it has."""

    def __init__(self, fault: Fault, *, key: str = "", at: int = -1) -> None:
        self.fault = fault
        self.key = key
        self.at = at


def read_host(line: bytes, *, max_bytes: int = MAX_BYTES) -> Frame | Batch:
    """Read what a host sent, strictly. Raises `WireError` when it cannot be read in exactly one way.

    `line` has no line end and is not blank.
    """
    if len(line) > max_bytes:
        found = id_of_oversized(line[:_GLIMPSE], line[-_GLIMPSE:])
        raise WireError(Side.HOST, Fault.TOO_BIG, id=found)
    try:
        text = _text_of(line)
    except _Refusal as refusal:
        raise WireError(Side.HOST, refusal.fault, at=refusal.at) from None
    at = _first(text)
    if text.startswith("[", at):
        return _read_batch(line, text, at)
    return _read_message(line, text, at)


def read_server(line: bytes, *, max_bytes: int = MAX_BYTES) -> Frame:
    """Read a server's envelope, leniently; `strict` of the frame says whether it reads in one way.

    Raises `WireError` when it is no JSON object, or too big or too deep to tell; its `id` is then that of the request
    which it was to answer, as far as that can be seen.
    """
    if len(line) > max_bytes:
        found = id_of_oversized(line[:_GLIMPSE], line[-_GLIMPSE:], side=Side.SERVER)
        raise WireError(Side.SERVER, Fault.TOO_BIG, id=found)
    try:
        text = line.decode()
    except UnicodeDecodeError:
        text = line.decode("utf-8", "replace")
    message = _lenient(line, text.removeprefix(BYTE_ORDER_MARK))
    if not isinstance(message, dict):
        raise WireError(Side.SERVER, Fault.ARRAY if isinstance(message, list) else Fault.NOT_AN_OBJECT)
    method = message.get("method")
    params = message.get("params")
    return Frame(
        line,
        message,
        _kind(message),
        id=legal(message.get("id")),
        has_id="id" in message,
        method=method if isinstance(method, str) else "",
        params=params if isinstance(params, dict) else None,
        judge=_reads_one_way,
    )


def read_server_batch(line: bytes, *, max_bytes: int = MAX_BYTES) -> Batch:
    """Read the array of a server whose version has arrays: each element alone, leniently.

    `read_server` has said that it is one (`Fault.ARRAY`). Raises `WireError` when it has no elements, or too many.
    """
    text = line.decode("utf-8", "surrogateescape").removeprefix(BYTE_ORDER_MARK)
    members: list[Frame | WireError] = []
    for spelling in _elements(text, _first(text), Side.SERVER):
        try:
            members.append(read_server(spelling.encode("utf-8", "surrogateescape"), max_bytes=max_bytes))
        except WireError as error:
            members.append(error)
    return Batch(raw=line, members=tuple(members))


def fault_of(line: bytes) -> Fault | None:
    """Tell why a server's message does not read in exactly one way; `None` when it does."""
    try:
        text = _text_of(line)
        message, _ = _parse(text, _first(text))
        result = message.get("result")
        if isinstance(result, dict):
            _refuse_folded(result, _RESULT)
            _refuse_folded_meta(result)
    except _Refusal as refusal:
        return refusal.fault
    return None


def folded_property(arguments: JsonObject, properties: frozenset[str]) -> str | None:
    """Find an argument whose name is one of the schema's only after case folding; `None` when there is none."""
    strange = arguments.keys() - properties
    if not strange:
        return None
    folded = frozenset(map(str.casefold, properties))
    return next((name for name in arguments if name in strange and name.casefold() in folded), None)


_GLIMPSE: Final = 64 * 1024

_TAIL_ID: Final = re.compile(
    r',[ \t\r\n]*"id"[ \t\r\n]*:[ \t\r\n]*("[^"\\\x00-\x1f]*"|-?(?:0|[1-9][0-9]{0,99}))[ \t\r\n]*'
    r'((?:,[ \t\r\n]*"(?:jsonrpc|method)"[ \t\r\n]*:[ \t\r\n]*"[^"\\]*"[ \t\r\n]*)*)\}[ \t\r\n]*\Z'
)


def id_of_oversized(head: bytes, tail: bytes, *, side: Side = Side.HOST) -> RequestId | None:
    """Find the id of a message of which only the beginning and the end are known; `None` unless it stands there once.

    From a host the id of a request is meant, from a server the id of an answer: the other kind has none to give.
    """
    text = head.decode("utf-8", "surrogateescape")
    keys, found = _look_at_head(text)
    match = _TAIL_ID.search(tail[-_GLIMPSE:].decode("utf-8", "surrogateescape"))
    if match is not None:
        found.append(_id_from(match[1]))
        keys |= {"method"} if '"method"' in match[2] else set()
    answers = bool(keys & {"result", "error"})
    fits = not answers if side is Side.HOST else answers and "method" not in keys
    return found[0] if len(found) == 1 and fits else None


def _look_at_head(text: str) -> tuple[set[str], list[RequestId | None]]:
    """Collect the keys of the message, and its ids, as far as the text goes."""
    keys: set[str] = set()
    found: list[RequestId | None] = []
    try:
        i, expected = start(text), "{"
        while text[i] == expected:
            i = after_blanks(text, i + 1)
            quote = text[i]
            key, i = skip(text, i)
            i = after_blanks(text, i)
            if quote != '"' or text[i] != ":":
                break
            keys.add(key.casefold())
            i = after_blanks(text, i + 1)
            _, end = skip(text, i)
            spelling = text[i:end]
            i, expected = after_blanks(text, end), ","
            # A number where the text ends may go on behind it: what follows must be there.
            if key.casefold() == "id" and text[i] in ",}":
                found.append(_id_from(spelling))
    except (ValueError, IndexError, StopIteration, RecursionError):
        # The text ends here, or there is no telling what follows.
        return keys, found
    return keys, found


def _id_from(spelling: str) -> RequestId | None:
    """Read the text of an id; `None` when it has no legal type."""
    if spelling.startswith('"'):
        return skip(spelling, 0)[0]
    try:
        return int(spelling)
    except ValueError:
        return None


def _text_of(line: bytes) -> str:
    try:
        text = line.decode()
    except UnicodeDecodeError as error:
        raise _Refusal(Fault.NOT_UTF8, at=error.start) from None
    if text.startswith(BYTE_ORDER_MARK):
        raise _Refusal(Fault.BYTE_ORDER_MARK, at=0)
    return text


def _first(text: str) -> int:
    """Tell where the first character that is not blank stands; the text's length when there is none."""
    return len(text) - len(text.lstrip(BLANKS))


def _read_batch(line: bytes, text: str, at: int) -> Batch:
    members: list[Frame | WireError] = []
    for spelling in _elements(text, at, Side.HOST):
        try:
            members.append(_read_message(spelling.encode(), spelling, 0))
        except WireError as error:
            members.append(error)
    return Batch(raw=line, members=tuple(members))


def _elements(text: str, at: int, side: Side) -> list[str]:
    """Cut an array that is the whole text into its elements. Raises `WireError` when there are none, or too many."""
    try:
        place = locate(text, at, {}, limit=MAX_BATCH)
    except OverflowError:
        raise WireError(side, Fault.TOO_BIG) from None
    except RecursionError:
        raise WireError(side, Fault.TOO_DEEP) from None
    except json.JSONDecodeError as error:
        raise WireError(side, Fault.BROKEN_JSON, at=error.pos) from None
    except IndexError:
        raise WireError(side, Fault.BROKEN_JSON, at=len(text)) from None
    if text[place.end :].strip(BLANKS):
        raise WireError(side, Fault.TEXT_AFTER, at=place.end)
    if not place.inside:
        raise WireError(side, Fault.ARRAY)
    return [text[begin:end] for _, begin, _, end, _, _ in place.inside]


def _read_message(raw: bytes, text: str, at: int) -> Frame:
    try:
        message, place = _parse(text, at)
        return _framed(raw, text, message, place)
    except _Refusal as refusal:
        found, answerable = None, True
        if FAULTS[refusal.fault][0] is Code.INVALID_REQUEST:
            found, answerable = _identity(raw, text, at)
        raise WireError(
            Side.HOST, refusal.fault, key=refusal.key, at=refusal.at, id=found, answerable=answerable
        ) from None


def _framed(raw: bytes, text: str, message: JsonObject, place: Place) -> Frame:
    """Make the frame of a message whose members are sound, if together they are a request, a notice or an answer."""
    method = message.get("method")
    has_id = "id" in message
    id_ = legal(message.get("id"))
    if "result" in message or "error" in message:
        if "method" in message:
            raise _Refusal(Fault.METHOD_AND_ANSWER)
        if "result" in message and "error" in message:
            raise _Refusal(Fault.RESULT_AND_ERROR)
        if id_ is None:
            raise _Refusal(Fault.ID_TYPE)
    elif not isinstance(method, str):
        raise _Refusal(Fault.METHOD_TYPE if "method" in message else Fault.NO_METHOD_NO_ANSWER)
    elif has_id and id_ is None:
        raise _Refusal(Fault.ID_TYPE)
    params = message.get("params")
    if not isinstance(params, dict):
        if "params" in message:
            raise _Refusal(Fault.PARAMS_NOT_OBJECT)
        params = None
    return Frame(
        raw,
        message,
        _kind(message),
        id=id_,
        has_id=has_id,
        method=method if isinstance(method, str) else "",
        params=params,
        text=text,
        place=place,
    )


def _kind(message: JsonObject) -> FrameKind:
    answers = ("result" in message) + ("error" in message)
    if "method" in message:
        if answers or not isinstance(message["method"], str):
            return FrameKind.AMBIGUOUS
        return FrameKind.REQUEST if "id" in message else FrameKind.NOTIFICATION
    if answers != 1:
        return FrameKind.AMBIGUOUS
    return FrameKind.RESULT if "result" in message else FrameKind.ERROR


def _identity(raw: bytes, text: str, at: int) -> tuple[RequestId | None, bool]:
    """Find the id to refuse a message with, when it stands once with a legal type, and whether to answer at all."""
    try:
        members = _named(locate(text, at, {})) if text.startswith("{", at) else []
    except (ValueError, IndexError, RecursionError):
        middle = len(raw) // 2
        return id_of_oversized(raw[:middle], raw[middle:]), True
    keys = [member[0].casefold() for member in members]
    answerable = "method" in keys or not {"result", "error"} & set(keys)
    if keys.count("id") != 1:
        return None, answerable
    key, _, begin, end, _, _ = members[keys.index("id")]
    return _id_from(text[begin:end]) if key == "id" else None, answerable


def _parse(text: str, at: int) -> tuple[JsonObject, Place]:
    """Read the object at a position that is the whole text. Raises `_Refusal`, and nothing else."""
    try:
        if not text.startswith("{", at):
            _refuse_other(text, at)
        place = locate(text, at, _LOOK_INTO, _scan)
        if place.end != len(text) and text[place.end :].strip(BLANKS):
            raise _Refusal(Fault.TEXT_AFTER, at=place.end)
        message = _object(
            [(key, value if below is None else _value(text, below)) for key, _, _, _, value, below in _named(place)]
        )
    except json.JSONDecodeError as error:
        raise _Refusal(Fault.BROKEN_JSON, at=error.pos) from None
    except IndexError:
        raise _Refusal(Fault.BROKEN_JSON, at=len(text)) from None
    except RecursionError:
        raise _Refusal(Fault.TOO_DEEP) from None
    except ValueError:
        # An integer of more digits than Python converts.
        raise _Refusal(Fault.NUMBER_OUT_OF_RANGE) from None
    # Counting brackets settles a short text faster than looking at its values; in a long one it is the other way round.
    if (len(text) > _SHORT or text.count("[") + text.count("{") > MAX_DEPTH) and _is_too_deep(message):
        raise _Refusal(Fault.TOO_DEEP)
    if _SURROGATE.search(text):
        _refuse_lone_surrogate(message)
    _refuse_folded(message, _ENVELOPE)
    params = message.get("params")
    if isinstance(params, dict):
        _refuse_folded(params, _PARAMS)
        _refuse_folded_meta(params)
    return message, place


def _named(place: Place) -> list[tuple[str, int, int, int, Json, Place | None]]:
    """Give the members of an object, whose keys are names."""
    return cast("list[tuple[str, int, int, int, Json, Place | None]]", place.inside)


def _value(text: str, place: Place) -> Json:
    """Give the value that was looked into."""
    if text[place.at] == "[":
        return [element[4] for element in place.inside]
    return _object([(member[0], member[4]) for member in _named(place)])


def _object(pairs: Sequence[tuple[str, Json]]) -> JsonObject:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        raise _Refusal(Fault.DUPLICATE_KEY, key=next(key for key, _ in pairs if key in seen or seen.add(key)))
    joined = "".join(found)
    if not joined.isascii():
        if not joined.isprintable() or _IGNORABLE.search(joined):
            raise _Refusal(Fault.HIDDEN_KEY, key=next(key for key in found if _is_hidden(key)))
    elif not joined.isprintable():
        raise _Refusal(Fault.HIDDEN_KEY, key=next(key for key in found if not key.isprintable()))
    elif len(found) == 1 or joined.islower():
        # Nothing to fold: exactly equal keys are found above.
        return found
    if len(set(map(str.casefold, found))) != len(found):
        folds: set[str] = set()
        raise _Refusal(
            Fault.FOLDED_KEY,
            key=next(key for key in found if key.casefold() in folds or folds.add(key.casefold())),
        )
    return found


def _is_hidden(key: str) -> bool:
    return not key.isprintable() or _IGNORABLE.search(key) is not None


def _constant(name: str) -> NoReturn:
    raise _Refusal(Fault.NOT_FINITE, key=name)


def _float(spelling: str) -> float:
    value = float(spelling)
    if isinf(value):
        raise _Refusal(Fault.NUMBER_OUT_OF_RANGE)
    return value


_scan = scanner(json.JSONDecoder(object_pairs_hook=_object, parse_constant=_constant, parse_float=_float))
_loose = json.JSONDecoder(strict=False)


def _refuse_other(text: str, at: int) -> NoReturn:
    """Say what stands there instead of an object."""
    try:
        _, end = _scan(text, at)
    except StopIteration:
        raise _Refusal(Fault.BROKEN_JSON, at=at) from None
    if text[end:].strip(BLANKS):
        raise _Refusal(Fault.TEXT_AFTER, at=end)
    raise _Refusal(Fault.ARRAY if text[at] == "[" else Fault.NOT_AN_OBJECT)


def _is_too_deep(message: JsonObject) -> bool:
    level: list[JsonObject | list[Json]] = [message]
    for _ in range(MAX_DEPTH):
        level = [
            child
            for holder in level
            for child in (holder.values() if isinstance(holder, dict) else holder)
            if isinstance(child, (dict, list))
        ]
        if not level:
            return False
    return True


def _refuse_lone_surrogate(message: JsonObject) -> None:
    try:
        json.dumps(message, ensure_ascii=False, check_circular=False).encode()
    except UnicodeEncodeError:
        raise _Refusal(Fault.LONE_SURROGATE) from None


def _refuse_folded(holder: JsonObject, names: frozenset[str]) -> None:
    """Refuse a key that is one of the names only after case folding."""
    for key in holder:
        if key not in names and key.casefold() in _FOLDED[names]:
            raise _Refusal(Fault.FOLDED_KEY, key=key)


def _refuse_folded_meta(holder: JsonObject) -> None:
    meta = holder.get("_meta")
    if isinstance(meta, dict):
        _refuse_folded(meta, _META)


def _reads_one_way(line: bytes) -> bool:
    return fault_of(line) is None


def _lenient(line: bytes, text: str) -> Json:
    """Read a server's text as json.loads does. Raises `WireError` when that cannot be done."""
    try:
        return json.loads(text)
    except RecursionError:
        middle = len(line) // 2
        found = id_of_oversized(line[:middle], line[middle:], side=Side.SERVER)
        raise WireError(Side.SERVER, Fault.TOO_DEEP, id=found) from None
    except json.JSONDecodeError as error:
        raise WireError(Side.SERVER, Fault.BROKEN_JSON, at=error.pos, id=_owed_by(text)) from None
    except ValueError:
        return json.loads(text, parse_int=_any_int)


def _owed_by(text: str) -> RequestId | None:
    """Find which request a text would answer whose one fault is a raw control character in a string."""
    try:
        message: Json = _loose.decode(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(message, dict) or _kind(message) not in {FrameKind.RESULT, FrameKind.ERROR}:
        return None
    return legal(message.get("id"))


def _any_int(spelling: str) -> int | float:
    try:
        return int(spelling)
    except ValueError:
        return float(spelling)
