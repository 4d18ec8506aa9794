"""What has to be shown before a call, and what is checked after it."""

from typing import Annotated, ClassVar, Literal, Self, cast

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from soothsayer_mcp.adapters.lab import CONDITIONS, EVIDENCE_CONDITIONS
from soothsayer_mcp.adapters.policy_files.documents.document import Document
from soothsayer_mcp.adapters.policy_files.documents.fields import (
    VALUE_PATH,
    WORD,
    AtLeastOne,
    Many,
    Role,
    Size,
    Subject,
    Texts,
    ToolGlobs,
    argument_key,
    bad,
    condition,
    file_glob,
    matching,
    milliseconds,
    one_tool,
    read_by,
    reason,
    some_text,
    value_path,
)
from soothsayer_mcp.adapters.policy_files.documents.matchers import Matchers, as_matchers
from soothsayer_mcp.policy.subjects import last_write


def _result_path(text: str) -> None:
    if not text.startswith("result.") or VALUE_PATH.fullmatch(f"args.{text}") is None:
        raise ValueError("a path into the step's result is due, such as result.commit")


def _answer_path(text: str) -> None:
    if VALUE_PATH.fullmatch(f"args.{text}") is None or text.split(".", maxsplit=1)[0] not in {"result", "text"}:
        raise ValueError("a path into the answer is due, such as result.n")


class ItemDocument(Document):
    """What every kind of item may say."""

    when: Annotated[str, condition(EVIDENCE_CONDITIONS)] = ""
    do: Annotated[str, AfterValidator(reason)] = ""
    min_level: Literal["E1", "E2", "E3", "E4", "E5"] = "E1"
    not_before: Annotated[list[Annotated[str, read_by(last_write)]], Many, AtLeastOne] = []


class StepItem(ItemDocument):
    """An earlier step, of this run or of any: the latest that fits has to have succeeded."""

    tools: ToolGlobs
    except_: ToolGlobs = Field(default=[], alias="except")
    args: Annotated[
        dict[Annotated[str, AfterValidator(argument_key)], Annotated[Matchers, BeforeValidator(as_matchers)]],
        AtLeastOne,
    ] = {}
    only_args: Literal[True] = True
    ok: Literal[True] = True
    max_age: Annotated[int, BeforeValidator(milliseconds)] = 0
    single_use: bool = False
    cross_run: bool = False
    match: Annotated[dict[Annotated[str, read_by(_result_path)], Annotated[str, read_by(value_path)]], AtLeastOne] = {}
    unchanged: Annotated[list[Annotated[str, read_by(file_glob)]], Many, AtLeastOne] = []

    @model_validator(mode="after")
    def _is_of_today(self) -> Self:
        if self.cross_run and not self.model_fields_set & {"max_age", "not_before", "unchanged"}:
            raise bad("key", "a step of another run may be of any age: say max_age, not_before or unchanged")
        return self


class ArtifactItem(ItemDocument):
    """A file, or the commit of a work tree, as the proxy itself sees it."""

    file: Annotated[str, read_by(some_text)] = ""
    git: Annotated[str, read_by(some_text)] = ""
    equals: Annotated[str, read_by(value_path)] = ""
    sha256: Annotated[str, read_by(value_path)] = ""
    head: Annotated[str, read_by(value_path)] = ""
    exists: bool = True
    changed: bool = True
    max_bytes: Size = 0

    @model_validator(mode="after")
    def _names_one(self) -> Self:
        said = self.model_fields_set
        if ("file" in said) is ("git" in said):
            raise bad("key", "an artifact is a `file` or a `git`")
        of_git = said & {"head"}
        of_file = said & {"equals", "sha256", "exists", "changed", "max_bytes"}
        if ("git" in said) is not bool(of_git) or ("file" in said) is not bool(of_file):
            raise bad("key", "a file has to say equals, sha256, exists, changed or max_bytes; a git has to say head")
        return self


class ReadbackItem(ItemDocument):
    """The answer of another tool, one that reads."""

    tool: Annotated[str, AfterValidator(one_tool)]
    args: dict[str, object] = {}
    until: Annotated[str, condition(EVIDENCE_CONDITIONS)]
    independent: Literal[True] = True
    every: Annotated[int, BeforeValidator(milliseconds), Field(ge=1_000)] = 1_000
    within: Annotated[int, BeforeValidator(milliseconds), Field(le=600_000)] = 0


class CommandItem(ItemDocument):
    """A program that the configuration defines."""

    name: Annotated[str, matching(WORD, "command's name")]
    with_: dict[str, str] = Field(default={}, alias="with")
    exit: Annotated[int, Field(ge=0, le=255)] = 0
    stdout: Annotated[str, condition(EVIDENCE_CONDITIONS)] = ""


class HttpItem(ItemDocument):
    """What an address answers."""

    url: Annotated[str, read_by(some_text)]
    method: Literal["GET", "HEAD"] = "GET"
    status: Annotated[int, Field(ge=100, le=599)] = 200
    json_: Annotated[str, condition(EVIDENCE_CONDITIONS)] = Field(default="", alias="json")
    every: Annotated[int, BeforeValidator(milliseconds), Field(ge=1_000)] = 1_000
    within: Annotated[int, BeforeValidator(milliseconds), Field(le=600_000)] = 0


class AttestationItem(ItemDocument):
    """A signed statement by a key from outside the run."""

    predicate: Annotated[str, read_by(some_text)]
    from_: Annotated[str, read_by(value_path)] = Field(alias="from")
    subject: Annotated[str, read_by(value_path)]
    keys: Texts
    max_age: Annotated[int, BeforeValidator(milliseconds)] = 0
    single_use: bool = False


class CountedDocument(Document):
    """What is counted: a value in the answer of a tool that reads."""

    tool: Annotated[str, AfterValidator(one_tool)]
    args: dict[str, object] = {}
    take: Annotated[str, read_by(_answer_path)]


class CountItem(ItemDocument):
    """An invariant between a look before the call and one after it."""

    of: CountedDocument
    expect: Annotated[str, condition(EVIDENCE_CONDITIONS)]


class DiffItem(ItemDocument):
    """Of some files, only those named may change."""

    of: Annotated[list[Annotated[str, read_by(file_glob)]], Many, AtLeastOne]
    not_: Annotated[list[Annotated[str, read_by(file_glob)]], Many, AtLeastOne] = Field(default=[], alias="not")
    only: Annotated[list[Subject], Many]


class OneKind(Document):
    """An item: a mapping with one key, its kind."""

    @model_validator(mode="after")
    def _is_one(self) -> Self:
        if len(self.model_fields_set) != 1:
            raise bad("key", "an item is of one kind; write a `-` before each")
        return self


class HumanItem(Document):
    """A person's yes to this very call."""

    role: Role = ""
    count: Annotated[int, Field(ge=1, le=9)] = 1
    not_: Literal["requester"] = Field(default="requester", alias="not")
    when: Annotated[str, condition(CONDITIONS)] = ""
    binds: Literal["args"] = "args"
    single_use: Literal[True] = True
    strong: Literal[True] = True

    @model_validator(mode="after")
    def _counts_people_of_a_role(self) -> Self:
        if "role" not in self.model_fields_set and self.model_fields_set & {"count", "not_"}:
            raise bad("key", "`count` and `not` are about the people of a `role`, and none is named")
        return self


class RequireDocument(OneKind):
    """What has to be shown before a call."""

    human: HumanItem = Field(default=cast("HumanItem", None))

    @model_validator(mode="after")
    def _compares_with_nothing(self) -> Self:
        if any("human" in one.model_fields_set for one in self.any):
            raise bad("key", "`human` stands by itself and not in `any`: this version does not have it there")
        if "artifact" in self.model_fields_set and "changed" in self.artifact.model_fields_set:
            raise bad("key", "`changed` compares with a look before the call, so it stands in `verify` only")
        return self

    step: StepItem = Field(default=cast("StepItem", None))
    artifact: ArtifactItem = Field(default=cast("ArtifactItem", None))
    readback: ReadbackItem = Field(default=cast("ReadbackItem", None))
    command: CommandItem = Field(default=cast("CommandItem", None))
    http: HttpItem = Field(default=cast("HttpItem", None))
    attestation: AttestationItem = Field(default=cast("AttestationItem", None))
    any: Annotated[list["RequireDocument"], AtLeastOne] = []


class VerifyDocument(OneKind):
    """What is checked after a call."""

    later: ClassVar[frozenset[str]] = frozenset({"human"})

    @model_validator(mode="after")
    def _is_after(self) -> Self:
        items = [getattr(self, name) for name in self.model_fields_set]
        said = {key for item in items if isinstance(item, ItemDocument) for key in item.model_fields_set}
        for key in sorted(said & {"do", "min_level", "not_before"}):
            raise bad("key", f"`{key}` is about what has to be shown before a call, so it stands in `require` only")
        return self

    schema_: Literal["output"] | dict[str, object] = Field(default="output", alias="schema")
    artifact: ArtifactItem = Field(default=cast("ArtifactItem", None))
    readback: ReadbackItem = Field(default=cast("ReadbackItem", None))
    command: CommandItem = Field(default=cast("CommandItem", None))
    http: HttpItem = Field(default=cast("HttpItem", None))
    count: CountItem = Field(default=cast("CountItem", None))
    diff: DiffItem = Field(default=cast("DiffItem", None))
    any: Annotated[list["VerifyDocument"], AtLeastOne] = []
