"""What a policy file may hold, as pydantic models, and its checked plain form. Every error has its place in the file.

The plain form is JSON: what `build` makes a policy of, what the cache keeps, and what the policy's digest is over.
"""

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Annotated, ClassVar, Literal, Self, TypeAlias, TypeVar, cast, get_args, get_origin

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import ErrorDetails, PydanticCustomError

from soothsayer_mcp.adapters.conditions import Conditions
from soothsayer_mcp.adapters.lab import CONDITIONS, EVIDENCE_CONDITIONS, LAB, NEXT_CONDITIONS, TERM_CONDITIONS
from soothsayer_mcp.adapters.policy_files.build import fill_words
from soothsayer_mcp.adapters.policy_files.positions import Pairs, Path, mark_of, plain
from soothsayer_mcp.adapters.policy_files.problems import Problem, nearest
from soothsayer_mcp.adapters.policy_files.variables import Variables
from soothsayer_mcp.evidence.scope import uses
from soothsayer_mcp.model.condition import ConditionError
from soothsayer_mcp.model.failure import REASONS, FailureClass
from soothsayer_mcp.model.json import Json, JsonObject
from soothsayer_mcp.policy.addresses import host_pattern, network
from soothsayer_mcp.policy.answers import Unsure
from soothsayer_mcp.policy.history import MOST_AMOUNT
from soothsayer_mcp.policy.match import parse_key
from soothsayer_mcp.policy.paths import Place, complete, globs
from soothsayer_mcp.policy.redact import Part, Redact, masks_once, read_place
from soothsayer_mcp.policy.subjects import last_write, template

LANGUAGE = "policy/v1"

_ANY_PLACE = Place(root="/workspace", home="/home/somebody")
_ANY_WORDS = {"workspace": "/workspace", "home": "/home/somebody", "temp": "/tmp", "state": "/state"}  # noqa: S108 - only read as text


def _bad(kind: str, text: str) -> PydanticCustomError:
    # The message is a template to pydantic; ours is none.
    return PydanticCustomError(f"policy-{kind}", "{said}", {"said": text})  # type: ignore[arg-type]  # a literal is asked for, to save memory


def _listed(value: object) -> list[object]:
    return cast("list[object]", value) if isinstance(value, list) else [value]


def _checked(check: Callable[[str], object], kind: str = "value") -> AfterValidator:
    """Refuse a text that a function of ours cannot read."""

    def validate(text: str) -> str:
        try:
            check(fill_words(text, _ANY_WORDS))
        except ValueError as error:
            raise _bad(kind, f"{_cut(text)}: {error}") from error
        return text

    return AfterValidator(validate)


def _cut(value: object) -> str:
    text = value if isinstance(value, str) else str(value)
    return f'"{text[:60]}…"' if len(text) > 60 else f'"{text}"'  # noqa: PLR2004 - as much as an error line bears


_DURATION = re.compile(r"([1-9][0-9]{0,5})(ms|s|m|h|d)")
_SECONDS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86_400}
_SIZE = re.compile(r"(0|[1-9][0-9]{0,8})(B|kB|MB|GB)?")
_BYTES = {None: 1, "B": 1, "kB": 1_000, "MB": 1_000_000, "GB": 1_000_000_000}
_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_WORD = re.compile(r"[a-z0-9][a-z0-9-]{0,59}")
_APPROVER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,59}")
_KEY = re.compile(r"ed25519:[0-9a-f]{64}")
_NAME = re.compile(r"[a-z][a-z0-9-]{0,39}")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*")


def _milliseconds(value: object) -> int:
    found = _DURATION.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        raise _bad("value", f"{_cut(value)} is no duration; write 30s, 15m, 2h or 7d")
    return round(int(found.group(1)) * _SECONDS[found.group(2)] * 1000)


def _size(value: object) -> int:
    found = _SIZE.fullmatch(value if isinstance(value, str) else str(value))
    if found is None or isinstance(value, bool):
        raise _bad("value", f"{_cut(value)} is no size; write 500, 64kB or 20MB")
    return int(found.group(1)) * _BYTES[found.group(2)]


def _end_of_day(value: object) -> int:
    """Microseconds since 1970 at which a day, in UTC, is over."""
    try:
        if not isinstance(value, str) or _DAY.fullmatch(value) is None:
            raise ValueError  # noqa: TRY301 - one message for all that is no date
        day = datetime.strptime(value, "%Y-%m-%d").replace(tzinfo=UTC)
    except ValueError as error:
        raise _bad("value", f'{_cut(value)} is no date; write "2027-01-31", with quotes') from error
    return int((day + timedelta(days=1)).timestamp()) * 1_000_000


def _expiry(value: object) -> int | str:
    """A day's end in microseconds; or, as text, the milliseconds that a question stays open."""
    if isinstance(value, str) and _DURATION.fullmatch(value) is not None:
        return str(_milliseconds(value))
    return _end_of_day(value)


def _reason(text: str) -> str:
    if not text.strip() or len(text) > 200 or "\n" in text or "\r" in text:  # noqa: PLR2004 - policy/v1 says 200
        raise _bad("value", "a reason is one line of 1 to 200 characters")
    return text


def _target(text: str) -> str:
    """Refuse what is no way to an argument; it begins with `args.`, as everywhere outside of `args`."""
    try:
        if not text.startswith("args.") or len(parse_key(text.removeprefix("args."))) != 1:
            raise ValueError  # noqa: TRY301 - one message for all that is no argument
    except ValueError as error:
        raise _bad("value", f"{_cut(text)} names no argument; write args.to or args.items[*].id") from error
    return text


def _into(value: object) -> object:
    """Read `sinks` as no sinks of its own: those that labels name."""
    if value == "sinks":
        return []
    if value == []:
        raise _bad("value", "at least one argument is due; or write sinks")
    return _listed(value)


def _points(add: int) -> int:
    if add == 0 or abs(add) > 100:  # noqa: PLR2004 - the sum is from 0 to 100
        raise _bad("value", "a term adds 1 to 100, or -1 to -100")
    return add


def _matching(pattern: re.Pattern[str], what: str) -> AfterValidator:
    def validate(text: str) -> str:
        if pattern.fullmatch(text) is None:
            raise _bad("value", f"{_cut(text)} is no {what}")
        return text

    return AfterValidator(validate)


def _when(conditions: Conditions) -> AfterValidator:
    """Refuse a text that is no condition over those names."""

    def _condition(text: str) -> str:
        if "${" in text:
            raise _bad("when", "in a condition `${...}` has no place: its names are written as they are, as workspace")
        try:
            conditions.compile(text)
        except ConditionError as error:
            faults = "; ".join(f"at {line}:{column} of the condition: {said}" for line, column, said in error.faults)
            raise _bad("when", faults) from error
        return text

    return AfterValidator(_condition)


def _scalar(value: object) -> object:
    if isinstance(value, list | dict):
        raise _bad("type", "one text, number, true, false or null is due")
    return value


def _number(value: object) -> object:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _bad("type", f"{_cut(value)} is no number")
    return value


def _tools(value: object) -> object:
    texts: list[object] = []
    for item in _listed(value):
        texts.extend(item.split("|") if isinstance(item, str) else [item])
    return [text.strip(" ") if isinstance(text, str) else text for text in texts]


_TOOL = re.compile(r"[^\s.\[\]|]+\.[^\s\[\]|]+")


def _tool(text: str) -> str:
    if text.startswith("mcp__"):
        return text
    if _TOOL.fullmatch(text) is None:
        raise _bad("value", f"{_cut(text)} names no tool; write server.tool, with * and ? where you like")
    return text


def _path(text: str) -> None:
    absolute = complete(text, _ANY_PLACE)
    if isinstance(absolute, Unsure):
        raise ValueError(absolute.why)  # noqa: TRY004 - the text is wrong, not its type
    if not text:
        raise ValueError("a path is due")


def _flag(text: str) -> None:
    if not text.startswith("-") or len(text) < len("-x") or " " in text:
        raise ValueError("a flag begins with - and has no blanks")


def _some_text(text: str) -> None:
    if not text.strip():
        raise ValueError("the text is empty")


def _value_path(text: str) -> None:
    if _VALUE_PATH.fullmatch(text) is None:
        raise ValueError("a dotted path is due, such as args.content, returned.id or before.state")


def _result_path(text: str) -> None:
    if not text.startswith("result.") or _VALUE_PATH.fullmatch(f"args.{text}") is None:
        raise ValueError("a path into the step's result is due, such as result.commit")


def _answer_path(text: str) -> None:
    if _VALUE_PATH.fullmatch(f"args.{text}") is None or text.split(".", maxsplit=1)[0] not in {"result", "text"}:
        raise ValueError("a path into the answer is due, such as result.n")


def _file_glob(text: str) -> None:
    globs(text, _ANY_PLACE, folded=False)
    if text.startswith("*"):
        raise ValueError("begin with a folder, such as ${workspace}/src/**")


def _one_tool(text: str) -> str:
    if _TOOL.fullmatch(text) is None or set("*?") & set(text):
        raise _bad("value", f"{_cut(text)} is no tool: write server.tool")
    return text


_VALUE_PATH = re.compile(r"(args|returned|before|run|who)(\.[A-Za-z0-9_-]+)+|workspace")

_Subject: TypeAlias = Annotated[str, _checked(template)]
_Filled: TypeAlias = Annotated[str, _checked(_some_text)]
_Many = BeforeValidator(_listed)
_AtLeastOne = Field(min_length=1)
_Role: TypeAlias = Annotated[str, _matching(_WORD, "role: small letters, digits and -")]
_Texts: TypeAlias = Annotated[list[_Filled], _Many, _AtLeastOne]
_Size: TypeAlias = Annotated[int, BeforeValidator(_size)]
_Number: TypeAlias = Annotated[object, AfterValidator(_number)]
_Scalar: TypeAlias = Annotated[object, AfterValidator(_scalar)]
_Count: TypeAlias = Annotated[int, Field(ge=0)]
_ToolGlobs: TypeAlias = Annotated[list[Annotated[str, AfterValidator(_tool)]], BeforeValidator(_tools), _AtLeastOne]
_Effect: TypeAlias = Literal["allow", "ask", "deny"]
_Trusting: TypeAlias = Literal["trust", "ask", "deny"]
_Does: TypeAlias = Literal["read", "write", "send", "share", "delete", "pay", "exec", "admin"]
_Detector: TypeAlias = Literal["secret", "email", "iban", "card_number", "phone"]
_DoesOrNot: TypeAlias = Literal["read", "write", "send", "share", "delete", "pay", "exec", "admin", "unlabelled"]


class Document(BaseModel):
    """A mapping whose keys are all known, with at least one of them said."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    later: ClassVar[frozenset[str]] = frozenset()
    """Keys of the language that this version does not have."""

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        # `who:` with nothing below it would want nothing of anybody.
        if not self.model_fields_set:
            raise _bad("value", "at least one key is due")
        return self

    def stated(self) -> JsonObject:
        """The keys that are there, as JSON."""
        return cast("JsonObject", self.model_dump(mode="json", by_alias=True, exclude_unset=True))


_Model = TypeVar("_Model", bound=Document)


class Matchers(Document):
    """The matchers on one argument."""

    is_: _Scalar = Field(default=None, alias="is")
    in_: Annotated[list[_Scalar], _Many, _AtLeastOne] = Field(default=[], alias="in")
    min: _Number = None
    max: _Number = None
    above: _Number = None
    below: _Number = None
    max_chars: _Count = 0
    max_items: _Count = 0
    matches: Annotated[list[Annotated[str, _checked(LAB.pattern, "regex")]], _Many, _AtLeastOne] = []
    under: Annotated[list[Annotated[str, _checked(_path)]], _Many, _AtLeastOne] = []
    glob: Annotated[
        list[Annotated[str, _checked(lambda text: globs(text, _ANY_PLACE, folded=False))]], _Many, _AtLeastOne
    ] = []
    host: Annotated[
        list[Annotated[str, _checked(lambda text: host_pattern(text, LAB.to_ascii))]], _Many, _AtLeastOne
    ] = []
    scheme: Annotated[list[Annotated[str, _matching(_SCHEME, "scheme")]], _Many, _AtLeastOne] = []
    port: Annotated[list[Annotated[int, Field(ge=0, le=65535)]], _Many, _AtLeastOne] = []
    cidr: Annotated[list[Annotated[str, _checked(network)]], _Many, _AtLeastOne] = []
    email_domain: Annotated[
        list[Annotated[str, _checked(lambda text: host_pattern(text, LAB.to_ascii))]], _Many, _AtLeastOne
    ] = []
    argv0: _Texts = []
    argv: _Texts = []
    no_flags: Annotated[list[Annotated[str, _checked(_flag)]], _Many, _AtLeastOne] = []
    no_shell_syntax: Literal[True] = True
    find: Annotated[list[_Detector], _Many, _AtLeastOne] = []
    present: bool = True
    absent: Literal["ok"] = "ok"
    not_: "Matchers" = Field(default=cast("Matchers", None), alias="not")
    any_of: Annotated[list["Matchers"], _Many, _AtLeastOne] = []


def _as_matchers(value: object) -> object:
    if isinstance(value, dict):
        return cast("object", value)
    if value is None:
        raise _bad("value", "nothing is said about this argument; for a null write {is: null}")
    return {"in": cast("object", value)} if isinstance(value, list) else {"is": value}


def _argument_key(key: str) -> str:
    try:
        ways = parse_key(key)
    except ValueError as error:
        raise _bad("value", str(error)) from error
    if key != "**" and not all(way and way[0] for way in ways):
        raise _bad("value", f"{_cut(key)} is no path to an argument")
    return key


def _window(value: object) -> int:
    return 0 if value == "run" else _milliseconds(value)


def _tied(text: str) -> str:
    if text.startswith("result."):
        raise _bad("value", f"{_cut(text)} is not supported yet: this version ties arguments only")
    if not text.startswith("args.") or "|" in text:
        raise _bad("value", f"{_cut(text)} names no argument; write args.NAME")
    _argument_key(text.removeprefix("args."))
    return text


_Argument: TypeAlias = Annotated[str, AfterValidator(_tied)]


def _same(value: object) -> object:
    if isinstance(value, dict):
        return cast("object", value)
    return {text: text for text in _listed(value) if isinstance(text, str)}


def _as_pattern(value: object) -> object:
    return {"tools": value} if isinstance(value, str) else value


class WhoMatcher(Document):
    """Facts of the caller."""

    later: ClassVar[frozenset[str]] = frozenset({"claims"})

    sub: _Texts = []
    groups: _Texts = []
    client: _Texts = []
    not_: "WhoMatcher" = Field(default=cast("WhoMatcher", None), alias="not")


class LimitDocument(Document):
    """Figures for the calls that a rule matches."""

    timeout: Annotated[int, BeforeValidator(_milliseconds)] = 0
    args_bytes: _Size = 0
    result_bytes: _Size = 0
    calls: Annotated[int, Field(ge=1)] = 1
    window: Annotated[int, BeforeValidator(_window)] = 0
    per: Literal["run", "principal", "server", "tool"] = "run"

    @model_validator(mode="after")
    def _counts_something(self) -> Self:
        stated = self.model_fields_set
        if "calls" not in stated and stated & {"window", "per"}:
            raise _bad("key", "`window` and `per` say how `calls` are counted, and there is no `calls`")
        if self.per != "run" and not self.window:
            raise _bad("value", f"calls per {self.per} need a window, as `window: 1h`: they would never be forgotten")
        return self


class LargeResultsDocument(Document):
    """From what size on a result is stored instead of shown."""

    over: _Size
    keep: _Size

    @model_validator(mode="after")
    def _leaves_something_out(self) -> Self:
        if self.keep >= self.over:
            raise _bad("value", "`keep` is less than `over`: else there would be nothing to read back")
        return self


class PatternDocument(Document):
    """Which earlier steps are meant."""

    tools: _ToolGlobs
    except_: _ToolGlobs = Field(default=[], alias="except")
    does: Annotated[list[_DoesOrNot], _Many, _AtLeastOne] = []
    args: Annotated[
        dict[Annotated[str, AfterValidator(_argument_key)], Annotated[Matchers, BeforeValidator(_as_matchers)]],
        _AtLeastOne,
    ] = {}
    ok: Literal["any"] | bool = True
    within: Annotated[int, BeforeValidator(_milliseconds)] = 0
    same: Annotated[dict[_Argument, _Argument], BeforeValidator(_same), _AtLeastOne] = {}


_Patterns: TypeAlias = Annotated[list[Annotated[PatternDocument, BeforeValidator(_as_pattern)]], _Many, _AtLeastOne]


class OfDocument(PatternDocument):
    """Which steps are counted."""

    later: ClassVar[frozenset[str]] = frozenset()

    @model_validator(mode="after")
    def _is_counted_otherwise(self) -> Self:
        stated = self.model_fields_set & {"ok", "within", "same"}
        if stated:
            raise _bad("key", f"`{min(stated)}` has no place in `of`: write count, window or same beside it")
        return self


class HistoryDocument(Document):
    """A count or a sum over earlier steps."""

    count: Literal["calls", "failures", "denials"] = "calls"
    sum: Annotated[_Argument, AfterValidator(str)] = ""
    of: Annotated[OfDocument, BeforeValidator(_as_pattern)] = Field(default=cast("OfDocument", None))
    window: Annotated[int, BeforeValidator(_window)] = 0
    per: Literal["run", "principal"] = "run"
    same: Annotated[dict[_Argument, _Argument], BeforeValidator(_same), _AtLeastOne] = {}
    above: _Number

    @model_validator(mode="after")
    def _is_one_figure(self) -> Self:
        if len(self.model_fields_set & {"count", "sum"}) != 1:
            raise _bad("key", "history has one of count and sum")
        if self.per == "principal" and not self.window:
            raise _bad("value", "what is counted per principal needs a window, as `window: 1h`")
        return self


class SinkDocument(Document):
    """An argument that says where something goes, and in which form its values are compared."""

    arg: Annotated[str, AfterValidator(_target)]
    as_: Literal["text", "host", "email", "path", "number"] = Field(default="text", alias="as")


def _as_sink(value: object) -> object:
    return {"arg": value} if isinstance(value, str) else value


class FlowDocument(Document):
    """Where the values that say where something goes came from."""

    into: Annotated[list[Annotated[SinkDocument, BeforeValidator(_as_sink)]], BeforeValidator(_into)]
    from_: Annotated[list[Literal["intent", "first_party", "approved"]], _Many, _AtLeastOne] = Field(
        default=[], alias="from"
    )
    unless_from: Annotated[list[Literal["intent", "first_party", "approved"]], _Many, _AtLeastOne] = []
    seen_in: Literal["untrusted"] = "untrusted"

    @model_validator(mode="after")
    def _asks_one_thing(self) -> Self:
        said = self.model_fields_set & {"from_", "unless_from"}
        if len(said) != 1:
            raise _bad("key", "exactly one of from and unless_from is due")
        if "seen_in" in self.model_fields_set and "from_" in said:
            raise _bad("key", "`seen_in` goes with unless_from only")
        return self


class RiskDocument(Document):
    """Between which sums of the risk terms a rule matches."""

    at_least: Annotated[int, Field(ge=0, le=100)] = 0
    below: Annotated[int, Field(ge=0, le=100)] = 100


def _printable(text: str) -> str:
    if not text.strip() or not text.isprintable():
        raise _bad("value", "what stands instead is a text without control characters")
    return text


def _finds_something(pattern: str) -> None:
    if LAB.pattern(pattern)(""):
        raise ValueError("it fits an empty text, so it would be found everywhere")


class MaskDocument(Document):
    """What is masked in the record."""

    at: Annotated[list[_Filled], _Many, _AtLeastOne] = ["**"]
    find: Annotated[list[_Detector], _Many, _AtLeastOne] = []
    matches: Annotated[list[Annotated[str, _checked(_finds_something, "regex")]], _Many, _AtLeastOne] = []
    with_: Annotated[str, AfterValidator(_printable)] = Field(default="", alias="with")

    @property
    def part(self) -> Part:
        """Where it is masked."""
        return Part.TRACE

    @model_validator(mode="after")
    def _can_be_done(self) -> Self:
        if not self.find and not self.matches and "**" in self.at:
            raise _bad("value", "say what is masked: `find`, `matches`, or `at` with a path")
        for place in self.at:
            if place != "**":
                try:
                    read_place(place, self.part)
                except ValueError as error:
                    raise _bad("value", str(error)) from error
        if self.with_ and not masks_once(
            Redact(part=Part.RESULT, find=tuple(self.find), matches=tuple(self.matches), mark=self.with_), LAB.scan
        ):
            raise _bad("value", f"what stands instead, {_cut(self.with_)}, would be masked itself")
        return self


class RedactDocument(MaskDocument):
    """What is masked in what a model reads, or in the record."""

    in_: Literal["result", "trace"] = Field(alias="in")

    @property
    def part(self) -> Part:
        """Where it is masked."""
        return Part(self.in_)


class ItemDocument(Document):
    """What every kind of item may say."""

    later: ClassVar[frozenset[str]] = frozenset({"cross_run"})

    when: Annotated[str, _when(EVIDENCE_CONDITIONS)] = ""
    do: Annotated[str, AfterValidator(_reason)] = ""
    min_level: Literal["E1", "E2", "E3", "E4", "E5"] = "E1"
    not_before: Annotated[list[Annotated[str, _checked(last_write)]], _Many, _AtLeastOne] = []


class StepItem(ItemDocument):
    """An earlier step of this run: the latest that fits has to have succeeded."""

    tools: _ToolGlobs
    except_: _ToolGlobs = Field(default=[], alias="except")
    args: Annotated[
        dict[Annotated[str, AfterValidator(_argument_key)], Annotated[Matchers, BeforeValidator(_as_matchers)]],
        _AtLeastOne,
    ] = {}
    only_args: Literal[True] = True
    ok: Literal[True] = True
    max_age: Annotated[int, BeforeValidator(_milliseconds)] = 0
    single_use: bool = False
    match: Annotated[
        dict[Annotated[str, _checked(_result_path)], Annotated[str, _checked(_value_path)]], _AtLeastOne
    ] = {}
    unchanged: Annotated[list[Annotated[str, _checked(_file_glob)]], _Many, _AtLeastOne] = []


class ArtifactItem(ItemDocument):
    """A file, or the commit of a work tree, as the proxy itself sees it."""

    file: Annotated[str, _checked(_some_text)] = ""
    git: Annotated[str, _checked(_some_text)] = ""
    equals: Annotated[str, _checked(_value_path)] = ""
    sha256: Annotated[str, _checked(_value_path)] = ""
    head: Annotated[str, _checked(_value_path)] = ""
    exists: bool = True
    changed: bool = True
    max_bytes: _Size = 0

    @model_validator(mode="after")
    def _names_one(self) -> Self:
        said = self.model_fields_set
        if ("file" in said) is ("git" in said):
            raise _bad("key", "an artifact is a `file` or a `git`")
        of_git = said & {"head"}
        of_file = said & {"equals", "sha256", "exists", "changed", "max_bytes"}
        if ("git" in said) is not bool(of_git) or ("file" in said) is not bool(of_file):
            raise _bad("key", "a file has to say equals, sha256, exists, changed or max_bytes; a git has to say head")
        return self


class ReadbackItem(ItemDocument):
    """The answer of another tool, one that reads."""

    tool: Annotated[str, AfterValidator(_one_tool)]
    args: dict[str, object] = {}
    until: Annotated[str, _when(EVIDENCE_CONDITIONS)]
    independent: Literal[True] = True
    every: Annotated[int, BeforeValidator(_milliseconds), Field(ge=1_000)] = 1_000
    within: Annotated[int, BeforeValidator(_milliseconds), Field(le=600_000)] = 0


class CommandItem(ItemDocument):
    """A program that the configuration defines."""

    name: Annotated[str, _matching(_WORD, "command's name")]
    with_: dict[str, str] = Field(default={}, alias="with")
    exit: Annotated[int, Field(ge=0, le=255)] = 0
    stdout: Annotated[str, _when(EVIDENCE_CONDITIONS)] = ""


class HttpItem(ItemDocument):
    """What an address answers."""

    url: Annotated[str, _checked(_some_text)]
    method: Literal["GET", "HEAD"] = "GET"
    status: Annotated[int, Field(ge=100, le=599)] = 200
    json_: Annotated[str, _when(EVIDENCE_CONDITIONS)] = Field(default="", alias="json")
    every: Annotated[int, BeforeValidator(_milliseconds), Field(ge=1_000)] = 1_000
    within: Annotated[int, BeforeValidator(_milliseconds), Field(le=600_000)] = 0


class AttestationItem(ItemDocument):
    """A signed statement by a key from outside the run."""

    predicate: Annotated[str, _checked(_some_text)]
    from_: Annotated[str, _checked(_value_path)] = Field(alias="from")
    subject: Annotated[str, _checked(_value_path)]
    keys: _Texts
    max_age: Annotated[int, BeforeValidator(_milliseconds)] = 0
    single_use: bool = False


class CountedDocument(Document):
    """What is counted: a value in the answer of a tool that reads."""

    tool: Annotated[str, AfterValidator(_one_tool)]
    args: dict[str, object] = {}
    take: Annotated[str, _checked(_answer_path)]


class CountItem(ItemDocument):
    """An invariant between a look before the call and one after it."""

    of: CountedDocument
    expect: Annotated[str, _when(EVIDENCE_CONDITIONS)]


class DiffItem(ItemDocument):
    """Of some files, only those named may change."""

    of: Annotated[list[Annotated[str, _checked(_file_glob)]], _Many, _AtLeastOne]
    not_: Annotated[list[Annotated[str, _checked(_file_glob)]], _Many, _AtLeastOne] = Field(default=[], alias="not")
    only: Annotated[list[_Subject], _Many]


class _OneKind(Document):
    @model_validator(mode="after")
    def _is_one(self) -> Self:
        if len(self.model_fields_set) != 1:
            raise _bad("key", "an item is of one kind; write a `-` before each")
        return self


class HumanItem(Document):
    """A person's yes to this very call."""

    role: _Role = ""
    count: Annotated[int, Field(ge=1, le=9)] = 1
    not_: Literal["requester"] = Field(default="requester", alias="not")
    when: Annotated[str, _when(CONDITIONS)] = ""
    binds: Literal["args"] = "args"
    single_use: Literal[True] = True
    strong: Literal[True] = True

    @model_validator(mode="after")
    def _counts_people_of_a_role(self) -> Self:
        if "role" not in self.model_fields_set and self.model_fields_set & {"count", "not_"}:
            raise _bad("key", "`count` and `not` are about the people of a `role`, and none is named")
        return self


class RequireDocument(_OneKind):
    """What has to be shown before a call."""

    human: HumanItem = Field(default=cast("HumanItem", None))

    @model_validator(mode="after")
    def _compares_with_nothing(self) -> Self:
        if any("human" in one.model_fields_set for one in self.any):
            raise _bad("key", "`human` stands by itself and not in `any`: this version does not have it there")
        if "artifact" in self.model_fields_set and "changed" in self.artifact.model_fields_set:
            raise _bad("key", "`changed` compares with a look before the call, so it stands in `verify` only")
        return self

    step: StepItem = Field(default=cast("StepItem", None))
    artifact: ArtifactItem = Field(default=cast("ArtifactItem", None))
    readback: ReadbackItem = Field(default=cast("ReadbackItem", None))
    command: CommandItem = Field(default=cast("CommandItem", None))
    http: HttpItem = Field(default=cast("HttpItem", None))
    attestation: AttestationItem = Field(default=cast("AttestationItem", None))
    any: Annotated[list["RequireDocument"], _AtLeastOne] = []


class VerifyDocument(_OneKind):
    """What is checked after a call."""

    later: ClassVar[frozenset[str]] = frozenset({"human"})

    @model_validator(mode="after")
    def _is_after(self) -> Self:
        items = [getattr(self, name) for name in self.model_fields_set]
        said = {key for item in items if isinstance(item, ItemDocument) for key in item.model_fields_set}
        for key in sorted(said & {"do", "min_level", "not_before"}):
            raise _bad("key", f"`{key}` is about what has to be shown before a call, so it stands in `require` only")
        return self

    schema_: Literal["output"] | dict[str, object] = Field(default="output", alias="schema")
    artifact: ArtifactItem = Field(default=cast("ArtifactItem", None))
    readback: ReadbackItem = Field(default=cast("ReadbackItem", None))
    command: CommandItem = Field(default=cast("CommandItem", None))
    http: HttpItem = Field(default=cast("HttpItem", None))
    count: CountItem = Field(default=cast("CountItem", None))
    diff: DiffItem = Field(default=cast("DiffItem", None))
    any: Annotated[list["VerifyDocument"], _AtLeastOne] = []


_OnFailure: TypeAlias = Literal["continue", "undo", "pause", "stop", "fail"]


def _failure_name(text: str) -> str:
    """Refuse what is neither a failure class nor one of its reasons, as `class/reason`."""
    names = [*FailureClass, *(f"{row.failure}/{reason}" for reason, row in REASONS.items())]
    if text not in names:
        near = nearest(text, names)
        meant = f"; did you mean {_cut(near)}?" if near else ""
        raise _bad("key", f"{_cut(text)} is no failure class, and no class/reason{meant}")
    return text


class CaptureDocument(Document):
    """What tells the state before a call: the answer of a tool that reads."""

    as_: Literal["before"] = Field(default="before", alias="as")
    tool: Annotated[str, AfterValidator(_one_tool)]
    args: dict[str, object] = {}

    @model_validator(mode="after")
    def _is_before(self) -> Self:
        if uses(cast("Json", self.args), "before") or uses(cast("Json", self.args), "returned"):
            raise _bad("value", "before the call there is neither `before` nor `returned`")
        return self


class SettleReadbackDocument(Document):
    """What another tool, one that reads, is asked when nobody knows whether a call took effect."""

    tool: Annotated[str, AfterValidator(_one_tool)]
    args: dict[str, object] = {}
    happened: Annotated[str, _when(EVIDENCE_CONDITIONS)]
    not_happened: Annotated[str, _when(EVIDENCE_CONDITIONS)] = ""
    every: Annotated[int, BeforeValidator(_milliseconds), Field(ge=1_000)] = 1_000
    within: Annotated[int, BeforeValidator(_milliseconds), Field(le=600_000)] = 30_000

    @model_validator(mode="after")
    def _knows_no_answer(self) -> Self:
        if uses(cast("Json", self.args), "returned") or uses(cast("Json", self.args), "before"):
            raise _bad("value", "what is asked may name arguments of the call alone, not `returned` or `before`")
        if any(re.search(r"\breturned\b", text) for text in (self.happened, self.not_happened)):
            raise _bad("value", "where a call has to be settled it returned nothing, so nothing names `returned`")
        return self


class SettleDocument(Document):
    """How a call is settled of which nobody knows whether it took effect."""

    readback: SettleReadbackDocument


class UndoCheckDocument(Document):
    """What shows that an undo put things back."""

    readback: ReadbackItem


class UndoDocument(Document):
    """What undoes a call: the bytes of files that are put back, or a call that takes it back."""

    restore: Annotated[list[_Subject], _Many, _AtLeastOne] = []
    class_: Literal["restore", "compensate"] = Field(default="compensate", alias="class")
    tool: Annotated[str, AfterValidator(_one_tool)] = ""
    args: dict[str, object] = {}
    check: UndoCheckDocument = Field(default=cast("UndoCheckDocument", None))

    @model_validator(mode="after")
    def _is_one_way(self) -> Self:
        said = self.model_fields_set
        if ("restore" in said) is ("tool" in said):
            raise _bad("key", "an undo has one of `restore`, for files, and `tool`, for a call")
        if "restore" in said and len(said) > 1:
            raise _bad("key", "`restore` stands alone: class, tool, args and check are those of an undo by a call")
        if any(template(text).name != "file" or not template(text).keys for text in self.restore):
            raise _bad("value", "only files are restored: write file(args.path)")
        return self


class ApproversDocument(Document):
    """Whose signed answers a rule that asks needs."""

    role: _Role
    count: Annotated[int, Field(ge=1, le=9)] = 1
    not_: Literal["requester"] = Field(default="requester", alias="not")


class ApproverDocument(Document):
    """One person of a role."""

    name: Annotated[str, _matching(_APPROVER, "name: letters, digits and . _ @ -, at most 60")]
    key: Annotated[str, _matching(_KEY, "public key: ed25519: and 64 hex digits; soothsayer approver init prints it")]


class RuleDocument(Document):
    """One rule."""

    @model_validator(mode="after")
    def _can_be_undone(self) -> Self:
        undo = self.undo if isinstance(self.undo, UndoDocument) else None
        by_call = undo is not None and "tool" in undo.model_fields_set
        captures = "capture" in self.model_fields_set
        if captures and not by_call and "settle" not in self.model_fields_set:
            raise _bad("key", "`capture` goes with an undo by a call, `undo: {tool: ...}`, or with `settle`")
        if (
            undo is not None
            and by_call
            and not captures
            and (undo.class_ == "restore" or "check" not in undo.model_fields_set)
        ):
            raise _bad("key", "an undo by a call needs a `capture` that tells the state, or, to compensate, a `check`")
        return self

    @model_validator(mode="after")
    def _asks_another_tool(self) -> Self:
        if "settle" not in self.model_fields_set:
            return self
        asks = self.settle.readback
        if asks.tool in self.tools:
            raise _bad("value", f"{asks.tool} cannot speak for itself: `settle` asks another tool")
        named = [asks.happened, asks.not_happened]
        if "capture" not in self.model_fields_set and any(re.search(r"\bbefore\b", text) for text in named):
            raise _bad("value", "`before` is what `capture` saw, and there is no `capture`")
        return self

    @model_validator(mode="after")
    def _is_undone_at_once(self) -> Self:
        if not isinstance(self.undo, UndoDocument) and "undo" in self.on_failure.values():
            raise _bad(
                "key",
                "`on_failure` says undo only in a rule that says what undoes it: `undo: {restore: file(...)}`,"
                " or `undo: {tool: ...}`",
            )
        return self

    @model_validator(mode="after")
    def _asks_about_what_may_go(self) -> Self:
        if "deny" in self.model_fields_set and any("human" in one.model_fields_set for one in self.require):
            raise _bad("key", "nobody is asked about what is denied: `human` does not stand in a deny")
        return self

    deny: Annotated[str, AfterValidator(_reason)] = ""
    ask: Annotated[str, AfterValidator(_reason)] = ""
    allow: Annotated[str, AfterValidator(_reason)] = ""
    also: Annotated[str, AfterValidator(_reason)] = ""
    id: Annotated[str, _matching(_WORD, "rule id: small letters, digits and -")] = ""
    mode: Literal["observe"] = "observe"
    hard: Literal[True] = True
    expires: Annotated[int | str, BeforeValidator(_expiry)] = 0
    strong: Literal[True] = True
    remember: Literal["never", "once", "run"] = "run"
    approvers: Annotated[list[ApproversDocument], _Many, _AtLeastOne] = []
    tools: _ToolGlobs = []
    except_: _ToolGlobs = Field(default=[], alias="except")
    does: Annotated[list[_DoesOrNot], _Many, _AtLeastOne] = []
    who: WhoMatcher = Field(default=cast("WhoMatcher", None))
    cause: Annotated[list[Literal["agent", "undo", "probe", "selftest", "control"]], _Many, _AtLeastOne] = []
    pin: Annotated[list[Literal["pinned", "new", "changed", "shadowed"]], _Many, _AtLeastOne] = []
    hidden_text: bool = False
    instructions: bool = False
    args: Annotated[
        dict[Annotated[str, AfterValidator(_argument_key)], Annotated[Matchers, BeforeValidator(_as_matchers)]],
        _AtLeastOne,
    ] = {}
    only_args: Literal[True] = True
    after: _Patterns = []
    unless_after: _Patterns = []
    history: HistoryDocument = Field(default=cast("HistoryDocument", None))
    risk: RiskDocument = Field(default=cast("RiskDocument", None))
    when: Annotated[str, _when(CONDITIONS)] = ""
    tainted: bool = False
    suspect: bool = False
    flow: FlowDocument = Field(default=cast("FlowDocument", None))
    require: Annotated[list[RequireDocument], _Many, _AtLeastOne] = []
    verify: Annotated[list[VerifyDocument], _Many, _AtLeastOne] = []
    touches: Annotated[list[_Subject], _Many] = []
    on_broken: Literal["withhold", "note"] = "withhold"
    on_unknown: Literal["withhold", "note"] = "note"
    capture: CaptureDocument = Field(default=cast("CaptureDocument", None))
    settle: SettleDocument = Field(default=cast("SettleDocument", None))
    undo: Literal["none", "never"] | UndoDocument = "none"
    limit: LimitDocument = Field(default=cast("LimitDocument", None))
    redact: Annotated[list[RedactDocument], _Many, _AtLeastOne] = []
    on_failure: Annotated[
        dict[Annotated[str, AfterValidator(_failure_name)], _OnFailure],
        _AtLeastOne,
    ] = {}
    large_results: LargeResultsDocument = Field(default=cast("LargeResultsDocument", None))


def _argument_place(text: str) -> None:
    if read_place(text, Part.TRACE)[0] != "args":
        raise ValueError("a secret is an argument; write args.name")


class TermDocument(Document):
    """What makes a call risky, and by how much."""

    add: Annotated[int, AfterValidator(_points)]
    because: Annotated[str, AfterValidator(_reason)]
    tools: _ToolGlobs = []
    except_: _ToolGlobs = Field(default=[], alias="except")
    does: Annotated[list[_DoesOrNot], _Many, _AtLeastOne] = []
    who: WhoMatcher = Field(default=cast("WhoMatcher", None))
    cause: Annotated[list[Literal["agent", "undo", "probe", "selftest"]], _Many, _AtLeastOne] = []
    pin: Annotated[list[Literal["pinned", "new", "changed", "shadowed"]], _Many, _AtLeastOne] = []
    hidden_text: bool = False
    instructions: bool = False
    args: Annotated[
        dict[Annotated[str, AfterValidator(_argument_key)], Annotated[Matchers, BeforeValidator(_as_matchers)]],
        _AtLeastOne,
    ] = {}
    only_args: Literal[True] = True
    after: _Patterns = []
    unless_after: _Patterns = []
    history: HistoryDocument = Field(default=cast("HistoryDocument", None))
    tainted: bool = False
    suspect: bool = False
    flow: FlowDocument = Field(default=cast("FlowDocument", None))
    when: Annotated[str, _when(TERM_CONDITIONS)] = ""


class TierDocument(Document):
    """When a model tier is enough for what follows."""

    name: Annotated[str, _matching(_WORD, "tier: small letters, digits and -")]
    because: Annotated[str, AfterValidator(_reason)]
    tools: _ToolGlobs = []
    except_: _ToolGlobs = Field(default=[], alias="except")
    does: Annotated[list[_DoesOrNot], _Many, _AtLeastOne] = []
    who: WhoMatcher = Field(default=cast("WhoMatcher", None))
    cause: Annotated[list[Literal["agent", "undo", "probe", "selftest"]], _Many, _AtLeastOne] = []
    pin: Annotated[list[Literal["pinned", "new", "changed", "shadowed"]], _Many, _AtLeastOne] = []
    hidden_text: bool = False
    instructions: bool = False
    args: Annotated[
        dict[Annotated[str, AfterValidator(_argument_key)], Annotated[Matchers, BeforeValidator(_as_matchers)]],
        _AtLeastOne,
    ] = {}
    only_args: Literal[True] = True
    after: _Patterns = []
    unless_after: _Patterns = []
    history: HistoryDocument = Field(default=cast("HistoryDocument", None))
    risk: RiskDocument = Field(default=cast("RiskDocument", None))
    tainted: bool = False
    suspect: bool = False
    flow: FlowDocument = Field(default=cast("FlowDocument", None))
    when: Annotated[str, _when(CONDITIONS)] = ""


class CompactDocument(Document):
    """After how much a host is told to compact."""

    calls: Annotated[int, Field(ge=1)] = 1
    bytes: Annotated[int, BeforeValidator(_size), Field(ge=1)] = 1


class NextDocument(Document):
    """What follows a step."""

    tiers: list[TierDocument] = []
    compact_after: CompactDocument = Field(default=cast("CompactDocument", None))
    compact_when: Annotated[str, _when(NEXT_CONDITIONS)] = ""


def _cost_figure(value: object) -> object:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= MOST_AMOUNT:
        raise _bad("value", f"{_cut(value)} is no amount; write a number from 0 to {MOST_AMOUNT:,}")
    return value


def _cost(value: object) -> object:
    """An argument that says what a call costs, or a figure for each."""
    return _tied(value) if isinstance(value, str) else _cost_figure(value)


class LabelDocument(Document):
    """What the operator knows about some tools."""

    tools: _ToolGlobs
    except_: _ToolGlobs = Field(default=[], alias="except")
    does: Annotated[list[_Does], _Many, _AtLeastOne] = []
    trust: Literal["first_party", "untrusted"] = "untrusted"
    sinks: Annotated[list[Annotated[SinkDocument, BeforeValidator(_as_sink)]], _Many, _AtLeastOne] = []
    secret: Annotated[list[Annotated[str, _checked(_argument_place)]], _Many, _AtLeastOne] = []
    touches: Annotated[list[_Subject], _Many] = []
    ok_when: Annotated[str, _when(EVIDENCE_CONDITIONS)] = ""
    polling: Annotated[int, BeforeValidator(_milliseconds)] = 0
    cost: Annotated[object, AfterValidator(_cost)] = 0
    idempotency: _Argument = ""
    verify: Literal["none"] | Annotated[list[VerifyDocument], _Many, _AtLeastOne] = []
    undo: Literal["none", "restore", "never"] = "none"

    @model_validator(mode="after")
    def _labels_something(self) -> Self:
        if self.model_fields_set <= {"tools", "except_"}:
            raise _bad("key", "the label says nothing about its tools: write does, trust or secret")
        return self


class ServerDocument(Document):
    """How one server is taken."""

    later: ClassVar[frozenset[str]] = frozenset({"shell"})

    trusted: bool = False
    files: Literal["local", "remote"] = "remote"
    root: Annotated[str, _checked(_path)] = ""
    home: Annotated[str, _checked(_path)] = ""
    os: Literal["posix", "linux", "macos", "windows"] = "posix"
    case: Literal["exact", "folded"] = "exact"


class DefaultDocument(Document):
    """The effect where no rule decides."""

    read: Literal["allow", "ask", "deny", "leave"] = "ask"
    other: Literal["allow", "ask", "deny", "leave"] = "ask"
    checked: Literal["allow", "ask", "deny", "leave"] = "ask"


class PinsDocument(Document):
    """What the state of a definition says."""

    first: _Trusting = "trust"
    new: _Trusting = "ask"
    changed: _Trusting = "deny"
    shadowed: _Trusting = "deny"


class ArgumentsDocument(Document):
    """What holds of all arguments."""

    undeclared: _Effect = "ask"
    no_schema: _Effect = "ask"
    max_bytes: _Size = 1_000_000
    max_depth: Annotated[int, Field(ge=1, le=128)] = 64


class MethodsDocument(Document):
    """Methods that the routing table does not know."""

    pass_: _Texts = Field(default=[], alias="pass")
    unknown: Literal["refuse", "pass"] = "refuse"


def _as_mask(value: object) -> object:
    return {"matches": value} if isinstance(value, str) else value


class TraceDocument(Document):
    """How much the trace keeps of arguments and results."""

    payloads: Literal["full", "redacted", "digest"] = "redacted"
    mask: Annotated[list[Annotated[MaskDocument, BeforeValidator(_as_mask)]], _Many, _AtLeastOne] = []


def _server_tool(text: str) -> str:
    if _TOOL.fullmatch(text) is None or text.startswith("mcp__"):
        raise _bad("value", f"{_cut(text)} names no tool; write server.tool, with * and ? where you like")
    return text


class ToolBudgetDocument(Document):
    """What the calls of some tools may use up, counted together."""

    calls: Annotated[int, Field(ge=1)] = 1


class CeilingDocument(Document):
    """How far a person may raise budgets of a run."""

    calls: Annotated[int, Field(ge=1)] = 1
    writes: _Count = 0
    minutes: Annotated[int, Field(ge=1)] = 1
    bytes_returned: _Size = 0
    denials: Annotated[int, Field(ge=1)] = 1


class BudgetsDocument(Document):
    """What one run may use up."""

    calls: Annotated[int, Field(ge=1)] = 1
    writes: _Count = 0
    minutes: Annotated[int, Field(ge=1)] = 1
    bytes_returned: _Size = 0
    denials: Annotated[int, Field(ge=1)] = 1
    unverified_writes: Annotated[int, Field(ge=1)] = 1
    error_streak: Annotated[int, Field(ge=1)] = 1
    cost: Annotated[object, AfterValidator(_cost_figure)] = 0
    asks: _Count = 0
    tools: Annotated[dict[Annotated[str, AfterValidator(_server_tool)], ToolBudgetDocument], _AtLeastOne] = {}
    same_call_repeats: Annotated[int, Field(ge=2)] = 2
    ceiling: CeilingDocument = Field(default=cast("CeilingDocument", None))

    @model_validator(mode="after")
    def _rises(self) -> Self:
        if "ceiling" in self.model_fields_set:
            for name in self.ceiling.model_fields_set:
                if name not in self.model_fields_set:
                    raise _bad("value", f"a ceiling for `{name}` needs a budget `{name}` below it")
                if getattr(self.ceiling, name) <= getattr(self, name):
                    raise _bad("value", f"the ceiling of `{name}` has to be above its budget")
        return self


class RunDocument(Document):
    """How long runs live."""

    idle: Annotated[int, BeforeValidator(_milliseconds)] = 0
    abandon_after: Annotated[int, BeforeValidator(_milliseconds)] = 0
    unsettled: Literal["continue", "pause"] = "continue"


class CompletionDocument(_OneKind):
    """What has to be shown before a run is completed."""

    later: ClassVar[frozenset[str]] = frozenset(
        {"artifact", "readback", "command", "http", "human", "attestation", "any"}
    )

    step: StepItem = Field(default=cast("StepItem", None))

    @model_validator(mode="after")
    def _needs_no_call(self) -> Self:
        for key in ("when", "match", "unchanged", "single_use"):
            if key in self.step.model_fields_set:
                raise _bad("key", f"`{key}` is about a call, so it does not stand in `complete`")
        for text in self.step.not_before:
            if any(key.startswith("args.") for key in last_write(text).keys):
                raise _bad("value", f"there are no arguments when a run is completed: {_cut(text)}")
        return self


class CompleteDocument(Document):
    """What has to hold before a run is completed, beside its own checks."""

    unverified: Literal["list", "refuse"] = "list"
    require: Annotated[list[CompletionDocument], _Many, _AtLeastOne] = []


class UseDocument(Document):
    """Another policy whose rules and labels join."""

    policy: _Filled
    without: _Texts = []


def _as_default(value: object) -> object:
    return {"read": value, "other": value, "checked": value} if isinstance(value, str) else value


def _as_server(value: object) -> object:
    # `db: {}` only says that the server exists.
    return {"files": "remote"} if value == {} else value


def _as_use(value: object) -> object:
    return {"policy": value} if isinstance(value, str) else value


class PolicyDocument(Document):
    """A whole file."""

    soothsayer: Literal["policy/v1"]
    name: Annotated[str, _matching(_NAME, "policy name: a small letter, then letters, digits and -, at most 40")]
    about: str = ""
    scope: Literal["org", "project", "user"] = "user"
    mode: Literal["enforce", "observe"] = "enforce"
    default: Annotated[DefaultDocument, BeforeValidator(_as_default)] = Field(default=cast("DefaultDocument", None))
    use: Annotated[list[Annotated[UseDocument, BeforeValidator(_as_use)]], _Many] = []
    vars: dict[str, object] = {}
    servers: dict[str, Annotated[ServerDocument, BeforeValidator(_as_server)]] = {}
    labels: list[LabelDocument] = []
    risk: list[TermDocument] = []
    roles: Annotated[dict[_Role, Annotated[list[ApproverDocument], _Many, _AtLeastOne]], _AtLeastOne] = {}
    rules: list[RuleDocument] = []
    next: NextDocument = Field(default=cast("NextDocument", None))
    pins: PinsDocument = Field(default=cast("PinsDocument", None))
    arguments: ArgumentsDocument = Field(default=cast("ArgumentsDocument", None))
    methods: MethodsDocument = Field(default=cast("MethodsDocument", None))
    trace: TraceDocument = Field(default=cast("TraceDocument", None))
    budgets: BudgetsDocument = Field(default=cast("BudgetsDocument", None))
    run: RunDocument = Field(default=cast("RunDocument", None))
    complete: CompleteDocument = Field(default=cast("CompleteDocument", None))

    @model_validator(mode="after")
    def _keeps_what_is_read_back(self) -> Self:
        digests = "trace" in self.model_fields_set and self.trace.payloads == "digest"
        if digests and any("large_results" in rule.model_fields_set for rule in self.rules):
            raise _bad("value", "large_results needs results to be kept, and `trace: {payloads: digest}` keeps none")
        return self


def check(tree: Pairs, file: str) -> tuple[JsonObject, list[Problem]]:
    """Check one file: the stated keys as JSON, `{}` if anything is wrong; and everything that is."""
    values = tree.get("vars")
    variables = Variables(
        file=file, values={pair.key: pair.value for pair in values.pairs} if isinstance(values, Pairs) else {}
    )
    filled = Pairs(
        pairs=[pair if pair.key == "vars" else pair._replace(value=variables.fill(pair.value)) for pair in tree.pairs],
        mark=tree.mark,
    )
    problems = variables.problems
    if isinstance(values, Pairs):
        problems += [
            Problem(file=file, mark=pair.mark, id="policy-var", text=f'the variable "{pair.key}" is never used')
            for pair in values.pairs
            if pair.key not in variables.used
        ]
    document, wrong = validate(PolicyDocument, filled, file)
    problems += wrong
    return (document.stated() if document is not None and not problems else {}), problems


def validate(model: type[_Model], tree: Pairs, file: str) -> tuple[_Model | None, list[Problem]]:
    """Check a file against a model: the document, or everything that is wrong with it."""
    try:
        return model.model_validate(plain(tree)), []
    except ValidationError as error:
        return None, [_problem(detail, tree, file, model) for detail in error.errors(include_url=False)]


_EXPECTED = re.compile(r"'([^']*)'")

_TYPES = {
    "string_type": "a text is due; quote it",
    "int_type": "a whole number is due",
    "bool_type": "true or false is due",
    "list_type": "a list is due",
    "dict_type": "keys and values are due",
    "model_type": "keys and values are due",
    "model_attributes_type": "keys and values are due",
    "too_short": "at least one is due",
    "greater_than_equal": "the number is too small",
    "less_than_equal": "the number is too large",
}


def _problem(detail: ErrorDetails, tree: Pairs, file: str, root: type[Document]) -> Problem:
    path: Path = tuple(step for step in detail["loc"] if step != "[key]")
    kind = detail["type"]
    word = str(path[-1]) if path else ""
    if kind == "extra_forbidden":
        model = _model_at(root, path[:-1])
        mark = mark_of(tree, path, key=True)
        if model is not None and word in model.later:
            text = f'"{word}" is not supported yet: this version does not have it'
            return Problem(file=file, mark=mark, id="policy-key", text=text)
        near = nearest(word, [] if model is None else _keys(model))
        return Problem(file=file, mark=mark, id="policy-key", text=f'unknown key "{word}"', nearest=near)
    mark = mark_of(tree, path)
    if kind == "missing":
        return Problem(file=file, mark=mark_of(tree, path[:-1]), id="policy-key", text=f'the key "{word}" is missing')
    if kind == "literal_error":
        expected = _EXPECTED.findall(str(detail.get("ctx", {}).get("expected", "")))
        given = detail["input"]
        text = f"{_cut(given)} is none of {', '.join(expected) or 'true'}"
        return Problem(file=file, mark=mark, id="policy-key", text=text, nearest=nearest(str(given), expected))
    if kind.startswith("policy-"):
        return Problem(file=file, mark=mark, id=kind, text=detail["msg"])
    return Problem(file=file, mark=mark, id="policy-type", text=_TYPES.get(kind, detail["msg"]))


def _keys(model: type[Document]) -> list[str]:
    return [field.alias or name for name, field in model.model_fields.items()]


def _model_at(root: type[Document], path: Path) -> type[Document] | None:
    """The model that a position in the file is read by."""
    model: object = root
    for step in path:
        model = _step(model, step)
    return _as_model(model)


def _step(annotation: object, step: str | int) -> object:
    model = _as_model(annotation)
    if model is not None:
        fields = {field.alias or name: field.annotation for name, field in model.model_fields.items()}
        return fields.get(str(step))
    for part in _parts(annotation):
        if get_origin(part) in {list, dict}:
            return get_args(part)[-1]
    return None


def _as_model(annotation: object) -> type[Document] | None:
    for part in _parts(annotation):
        if isinstance(part, type) and get_origin(part) is None and issubclass(part, Document):
            return part
    return None


def _parts(annotation: object) -> list[object]:
    """Look through `Annotated` and unions."""
    if get_origin(annotation) is Annotated:
        return _parts(get_args(annotation)[0])
    if get_origin(annotation) in {list, dict, Literal}:
        return [annotation]
    inner = get_args(annotation)
    return [part for one in inner for part in _parts(one)] if inner else [annotation]


def heads(rule: Mapping[str, Json]) -> list[str]:
    """The heads that a rule has; one is right."""
    return [head for head in ("deny", "ask", "allow", "also") if head in rule]


bad, milliseconds = _bad, _milliseconds
"""For the tests of policies, which are read like policies."""
