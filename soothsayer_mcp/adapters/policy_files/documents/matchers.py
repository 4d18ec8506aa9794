"""What a policy says of a call, its caller, where its values came from and how risky it is."""

import re
from typing import Annotated, ClassVar, Literal, Self, TypeAlias, cast

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from soothsayer_mcp.adapters.lab import LAB
from soothsayer_mcp.adapters.policy_files.documents.document import Document
from soothsayer_mcp.adapters.policy_files.documents.fields import (
    ANY_PLACE,
    AtLeastOne,
    Count,
    Detector,
    Many,
    Texts,
    a_path,
    bad,
    cut,
    listed,
    matching,
    read_by,
)
from soothsayer_mcp.policy.addresses import host_pattern, network
from soothsayer_mcp.policy.match import parse_key
from soothsayer_mcp.policy.paths import globs

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*")


def _target(text: str) -> str:
    """Refuse what is no way to an argument; it begins with `args.`, as everywhere outside of `args`."""
    try:
        if not text.startswith("args.") or len(parse_key(text.removeprefix("args."))) != 1:
            raise ValueError  # noqa: TRY301 - one message for all that is no argument
    except ValueError as error:
        raise bad("value", f"{cut(text)} names no argument; write args.to or args.items[*].id") from error
    return text


def _into(value: object) -> object:
    """Read `sinks` as no sinks of its own: those that labels name."""
    if value == "sinks":
        return []
    if value == []:
        raise bad("value", "at least one argument is due; or write sinks")
    return listed(value)


def _scalar(value: object) -> object:
    if isinstance(value, list | dict):
        raise bad("type", "one text, number, true, false or null is due")
    return value


def _number(value: object) -> object:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise bad("type", f"{cut(value)} is no number")
    return value


def _flag(text: str) -> None:
    if not text.startswith("-") or len(text) < len("-x") or " " in text:
        raise ValueError("a flag begins with - and has no blanks")


Number: TypeAlias = Annotated[object, AfterValidator(_number)]
_Scalar: TypeAlias = Annotated[object, AfterValidator(_scalar)]


class Matchers(Document):
    """The matchers on one argument."""

    is_: _Scalar = Field(default=None, alias="is")
    in_: Annotated[list[_Scalar], Many, AtLeastOne] = Field(default=[], alias="in")
    min: Number = None
    max: Number = None
    above: Number = None
    below: Number = None
    max_chars: Count = 0
    max_items: Count = 0
    matches: Annotated[list[Annotated[str, read_by(LAB.pattern, "regex")]], Many, AtLeastOne] = []
    under: Annotated[list[Annotated[str, read_by(a_path)]], Many, AtLeastOne] = []
    glob: Annotated[
        list[Annotated[str, read_by(lambda text: globs(text, ANY_PLACE, folded=False))]], Many, AtLeastOne
    ] = []
    host: Annotated[list[Annotated[str, read_by(lambda text: host_pattern(text, LAB.to_ascii))]], Many, AtLeastOne] = []
    scheme: Annotated[list[Annotated[str, matching(_SCHEME, "scheme")]], Many, AtLeastOne] = []
    port: Annotated[list[Annotated[int, Field(ge=0, le=65535)]], Many, AtLeastOne] = []
    cidr: Annotated[list[Annotated[str, read_by(network)]], Many, AtLeastOne] = []
    email_domain: Annotated[
        list[Annotated[str, read_by(lambda text: host_pattern(text, LAB.to_ascii))]], Many, AtLeastOne
    ] = []
    argv0: Texts = []
    argv: Texts = []
    no_flags: Annotated[list[Annotated[str, read_by(_flag)]], Many, AtLeastOne] = []
    no_shell_syntax: Literal[True] = True
    find: Annotated[list[Detector], Many, AtLeastOne] = []
    present: bool = True
    absent: Literal["ok"] = "ok"
    not_: "Matchers" = Field(default=cast("Matchers", None), alias="not")
    any_of: Annotated[list["Matchers"], Many, AtLeastOne] = []


def as_matchers(value: object) -> object:
    """Read a plain value as what an argument is, and a list as what it is one of."""
    if isinstance(value, dict):
        return cast("object", value)
    if value is None:
        raise bad("value", "nothing is said about this argument; for a null write {is: null}")
    return {"in": cast("object", value)} if isinstance(value, list) else {"is": value}


class WhoMatcher(Document):
    """Facts of the caller."""

    later: ClassVar[frozenset[str]] = frozenset({"claims"})

    sub: Texts = []
    groups: Texts = []
    client: Texts = []
    not_: "WhoMatcher" = Field(default=cast("WhoMatcher", None), alias="not")


class SinkDocument(Document):
    """An argument that says where something goes, and in which form its values are compared."""

    arg: Annotated[str, AfterValidator(_target)]
    as_: Literal["text", "host", "email", "path", "number"] = Field(default="text", alias="as")


def as_sink(value: object) -> object:
    """Read a text as the argument that it names."""
    return {"arg": value} if isinstance(value, str) else value


class FlowDocument(Document):
    """Where the values that say where something goes came from."""

    into: Annotated[list[Annotated[SinkDocument, BeforeValidator(as_sink)]], BeforeValidator(_into)]
    from_: Annotated[list[Literal["intent", "first_party", "approved"]], Many, AtLeastOne] = Field(
        default=[], alias="from"
    )
    unless_from: Annotated[list[Literal["intent", "first_party", "approved"]], Many, AtLeastOne] = []
    seen_in: Literal["untrusted"] = "untrusted"

    @model_validator(mode="after")
    def _asks_one_thing(self) -> Self:
        said = self.model_fields_set & {"from_", "unless_from"}
        if len(said) != 1:
            raise bad("key", "exactly one of from and unless_from is due")
        if "seen_in" in self.model_fields_set and "from_" in said:
            raise bad("key", "`seen_in` goes with unless_from only")
        return self


class RiskDocument(Document):
    """Between which sums of the risk terms a rule matches."""

    at_least: Annotated[int, Field(ge=0, le=100)] = 0
    below: Annotated[int, Field(ge=0, le=100)] = 100
