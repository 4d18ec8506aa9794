"""A whole policy file, and its checked plain form.

The plain form is JSON: what `build` makes a policy of, what the cache keeps, and what the policy's digest is over.
"""

import re
from typing import Annotated, ClassVar, Literal, Self, TypeAlias, cast

from pydantic import BeforeValidator, Field, model_validator

from soothsayer_mcp.adapters.policy_files.documents.document import Document, validate
from soothsayer_mcp.adapters.policy_files.documents.fields import (
    AtLeastOne,
    Filled,
    Many,
    Role,
    Size,
    Texts,
    a_path,
    bad,
    matching,
    read_by,
)
from soothsayer_mcp.adapters.policy_files.documents.following import NextDocument
from soothsayer_mcp.adapters.policy_files.documents.labels import LabelDocument
from soothsayer_mcp.adapters.policy_files.documents.masks import MaskDocument
from soothsayer_mcp.adapters.policy_files.documents.rules import RuleDocument, TermDocument
from soothsayer_mcp.adapters.policy_files.documents.runs import BudgetsDocument, CompleteDocument, RunDocument
from soothsayer_mcp.adapters.policy_files.positions import Pairs
from soothsayer_mcp.adapters.policy_files.problems import Problem
from soothsayer_mcp.adapters.policy_files.variables import Variables
from soothsayer_mcp.model.json import JsonObject

_APPROVER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,59}")
_KEY = re.compile(r"ed25519:[0-9a-f]{64}")
_NAME = re.compile(r"[a-z][a-z0-9-]{0,39}")
_Effect: TypeAlias = Literal["allow", "ask", "deny"]
_Trusting: TypeAlias = Literal["trust", "ask", "deny"]


class ApproverDocument(Document):
    """One person of a role."""

    name: Annotated[str, matching(_APPROVER, "name: letters, digits and . _ @ -, at most 60")]
    key: Annotated[str, matching(_KEY, "public key: ed25519: and 64 hex digits; soothsayer approver init prints it")]


class ServerDocument(Document):
    """How one server is taken."""

    later: ClassVar[frozenset[str]] = frozenset({"shell"})

    trusted: bool = False
    files: Literal["local", "remote"] = "remote"
    root: Annotated[str, read_by(a_path)] = ""
    home: Annotated[str, read_by(a_path)] = ""
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
    max_bytes: Size = 1_000_000
    max_depth: Annotated[int, Field(ge=1, le=128)] = 64


class MethodsDocument(Document):
    """Methods that the routing table does not know."""

    pass_: Texts = Field(default=[], alias="pass")
    unknown: Literal["refuse", "pass"] = "refuse"


def _as_mask(value: object) -> object:
    return {"matches": value} if isinstance(value, str) else value


class TraceDocument(Document):
    """How much the trace keeps of arguments and results."""

    payloads: Literal["full", "redacted", "digest"] = "redacted"
    mask: Annotated[list[Annotated[MaskDocument, BeforeValidator(_as_mask)]], Many, AtLeastOne] = []


class UseDocument(Document):
    """Another policy whose rules and labels join."""

    policy: Filled
    without: Texts = []


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
    name: Annotated[str, matching(_NAME, "policy name: a small letter, then letters, digits and -, at most 40")]
    about: str = ""
    scope: Literal["org", "project", "user"] = "user"
    mode: Literal["enforce", "observe"] = "enforce"
    default: Annotated[DefaultDocument, BeforeValidator(_as_default)] = Field(default=cast("DefaultDocument", None))
    use: Annotated[list[Annotated[UseDocument, BeforeValidator(_as_use)]], Many] = []
    vars: dict[str, object] = {}
    servers: dict[str, Annotated[ServerDocument, BeforeValidator(_as_server)]] = {}
    labels: list[LabelDocument] = []
    risk: list[TermDocument] = []
    roles: Annotated[dict[Role, Annotated[list[ApproverDocument], Many, AtLeastOne]], AtLeastOne] = {}
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
            raise bad("value", "large_results needs results to be kept, and `trace: {payloads: digest}` keeps none")
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
