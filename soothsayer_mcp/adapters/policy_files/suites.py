# ruff: noqa: RUF012 - pydantic copies the defaults of a model, which ruff does not see through our base class
"""Reads the tests of a policy, `NAME.test.yaml`, into cases for `policy.suite`; checked as policies are."""

import itertools
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, ClassVar, Literal, TypeAlias, cast

from pydantic import BeforeValidator, Field

from soothsayer_mcp.adapters.policy_files.documents import Document, validate
from soothsayer_mcp.adapters.policy_files.positions import Pairs, examine, mark_of
from soothsayer_mcp.adapters.policy_files.positions import Path as Way
from soothsayer_mcp.adapters.policy_files.problems import START, LoadErrors, Problem, nearest
from soothsayer_mcp.adapters.schemas import compile_input
from soothsayer_mcp.model.call import Cause, Client, Principal, Proposal, RunId, StepId, ToolDefinition
from soothsayer_mcp.model.decision import Effect
from soothsayer_mcp.model.failure import Failure, Reason
from soothsayer_mcp.model.json import Json, JsonObject, canonical, compact, digest
from soothsayer_mcp.model.run import Run, RunState
from soothsayer_mcp.model.step import ProposedStep
from soothsayer_mcp.policy.rules import Policy
from soothsayer_mcp.policy.suite import Case, Expected

LANGUAGE = "policy-test/v1"
NOBODY = Principal(id="os:tester", how="os_account")
CLIENT = Client(name="policy-test")
RUN = Run(id=RunId("0" * 32), principal=NOBODY, state=RunState.OPEN, version=0)
"""The run that all cases are decided in: new, and open."""

_Effect: TypeAlias = Literal["allow", "ask", "deny"]
_Name: TypeAlias = Annotated[str, Field(min_length=1)]


def _listed(value: object) -> list[object]:
    return cast("list[object]", value) if isinstance(value, list) else [value]


class PrincipalDocument(Document):
    """A caller."""

    later: ClassVar[frozenset[str]] = frozenset({"claims"})

    sub: _Name
    groups: Annotated[list[_Name], BeforeValidator(_listed)] = []


class CallDocument(Document):
    """One call."""

    tool: _Name
    args: dict[str, object] = {}


class ExpectDocument(Document):
    """All that a decision must be."""

    later: ClassVar[frozenset[str]] = frozenset({"risk", "next", "effects"})

    effect: _Effect = "deny"
    rules: Annotated[list[_Name], BeforeValidator(_listed)] = []
    obligations: Annotated[list[_Name], BeforeValidator(_listed)] = []
    reason: Annotated[Reason, Field(strict=False)] = Reason.RULE_DENIED
    would: _Effect = "deny"
    where: list[dict[str, object]] = []
    else_: _Effect = Field(default="deny", alias="else")
    short: Literal[True] = True
    """Set for `expect: deny`: only the effect is compared."""


def _as_expect(value: object) -> object:
    return {"effect": value, "short": True} if isinstance(value, str) else value


class CaseDocument(Document):
    """One test."""

    later: ClassVar[frozenset[str]] = frozenset({"intent", "given", "calls", "parallel"})

    name: _Name
    who: _Name = ""
    now: _Name = ""
    call: CallDocument
    matrix: dict[str, Annotated[list[object], BeforeValidator(_listed)]] = {}
    expect: Annotated[ExpectDocument, BeforeValidator(_as_expect)]


class DefaultsDocument(Document):
    """What holds for every test that says nothing else."""

    later: ClassVar[frozenset[str]] = frozenset({"intent"})

    who: _Name = ""
    now: _Name = ""


class CoverageDocument(Document):
    """How much of the policy its tests have to reach."""

    rules: Annotated[int, Field(ge=0, le=100)]


class SuiteDocument(Document):
    """A whole file."""

    soothsayer: Literal["policy-test/v1"]
    policy: Annotated[list[_Name], BeforeValidator(_listed), Field(min_length=1)]
    tools: dict[str, str] = {}
    principals: dict[str, PrincipalDocument] = {}
    defaults: DefaultsDocument = Field(default=cast("DefaultsDocument", None))
    tests: Annotated[list[CaseDocument], Field(min_length=1)]
    coverage: CoverageDocument = Field(default=cast("CoverageDocument", None))


@dataclass(frozen=True, slots=True, kw_only=True)
class Suite:
    """A checked suite, before its policy is loaded."""

    file: str
    policies: tuple[str, ...]
    """Absolute paths, or names of shipped policies."""
    servers: tuple[str, ...]
    cases: tuple[Case, ...]
    coverage: int
    """Percent of the policy's own rules that have to be covered."""
    marks: Mapping[str, str]
    """Case name -> `line:column`."""

    def unknown_rules(self, policy: Policy) -> tuple[Problem, ...]:
        """Expected rule ids that the policy does not have."""
        ids = {rule.id for scope in policy.scopes for rule in scope.rules}
        known = ids | {name.removeprefix(f"{policy.name}/") for name in ids}
        return tuple(
            Problem(
                file=f"{self.file}:{self.marks[case.name]}",
                mark=START,
                id="policy-test-rule",
                text=f'"{case.name}" expects the rule "{rule}", which the policy does not have',
                nearest=nearest(rule, known),
            )
            for case in self.cases
            for rule in case.expected.rules
            if rule not in known and rule != "default" and rule.partition("/")[0] not in {"pins", "arguments"}
        )


def read_suite(file: str) -> Suite:
    """Read and check a suite. Raises `LoadErrors` with everything that is wrong."""
    try:
        raw = Path(file).read_bytes()
    except OSError as error:
        text = f"the tests cannot be read ({error.strerror})"
        raise LoadErrors([Problem(file=file, mark=START, id="policy-file", text=text)]) from error
    tree, problems = examine(raw, file)
    if tree is None:
        raise LoadErrors(problems)
    document, wrong = validate(SuiteDocument, tree, file)
    problems += wrong
    if document is None or problems:
        raise LoadErrors(problems)
    return _Reader(file=file, tree=tree, document=document, stated=document.stated()).suite()


_VALUE = re.compile(r"\$\{([a-z][a-z0-9_]*)\}")


@dataclass(slots=True, kw_only=True)
class _Reader:
    file: str
    tree: Pairs
    document: SuiteDocument
    stated: JsonObject
    problems: list[Problem] = field(default_factory=list[Problem])

    def add(self, way: Way, text: str, near: str = "") -> None:
        mark = mark_of(self.tree, way)
        self.problems.append(Problem(file=self.file, mark=mark, id="policy-test", text=text, nearest=near))

    def suite(self) -> Suite:
        folder = Path(self.file).parent
        tools = self._tools(folder)
        cases: list[Case] = []
        marks: dict[str, str] = {}
        for number, document in enumerate(self.document.tests):
            mark = mark_of(self.tree, ("tests", number))
            for case in self._cases(number, document, tools):
                if case.name in marks:
                    self.add(("tests", number, "name"), f'two tests are called "{case.name}"')
                marks[case.name] = f"{mark.line}:{mark.column}"
                cases.append(case)
        if self.problems:
            raise LoadErrors(self.problems)
        named = tuple(str(folder / name) if "." in name or "/" in name else name for name in self.document.policy)
        return Suite(
            file=self.file,
            policies=named,
            servers=tuple(self.document.tools),
            cases=tuple(cases),
            coverage=self.document.coverage.rules if "coverage" in self.stated else 0,
            marks=marks,
        )

    def _tools(self, folder: Path) -> Mapping[str, ToolDefinition]:
        found: dict[str, ToolDefinition] = {}
        for server, name in self.document.tools.items():
            try:
                listed: Json = json.loads((folder / name).read_bytes())
            except (OSError, ValueError) as error:
                self.add(("tools", server), f'"{name}" holds no saved tools/list ({error})')
                continue
            tools = listed.get("tools") if isinstance(listed, Mapping) else listed
            for raw in tools if isinstance(tools, list) else ():
                if isinstance(raw, Mapping) and isinstance(raw.get("name"), str):
                    definition = _definition(server, raw)
                    found[f"{server}.{definition.name}"] = definition
        return found

    def _cases(self, number: int, document: CaseDocument, tools: Mapping[str, ToolDefinition]) -> Iterator[Case]:
        definition = tools.get(document.call.tool)
        if definition is None:
            text = f'no saved tool is called "{document.call.tool}"'
            self.add(("tests", number, "call", "tool"), text, nearest(document.call.tool, tools))
            return
        who = document.who or (self.document.defaults.who if "defaults" in self.stated else "")
        principal = NOBODY
        if who:
            known = self.document.principals.get(who)
            if known is None:
                text = f'no principal is called "{who}"'
                self.add(("tests", number), text, nearest(who, self.document.principals))
                return
            principal = Principal(id=known.sub, how="token", groups=tuple(known.groups))
        if not document.expect.model_fields_set & {"effect", "where", "else_"}:
            self.add(("tests", number, "expect"), "an expectation says which effect is due")
        now_us = self._now(number, document)
        unused = set(document.matrix)
        for values in _combinations(cast("Mapping[str, list[Json]]", document.matrix)):
            filled = _fill(cast("Json", document.call.args), values, unused)
            args: JsonObject = dict(filled) if isinstance(filled, Mapping) else {}
            suffix = "".join(f", {name} {canonical(value).decode()}" for name, value in values.items())
            yield Case(
                name=document.name + suffix,
                step=_step(definition, args, principal, now_us),
                expected=_expected(document.expect, values),
            )
        for name in sorted(unused):
            self.add(("tests", number, "matrix", name), f'"{name}" is never used in the call')

    def _now(self, number: int, document: CaseDocument) -> int:
        stated = document.now or (self.document.defaults.now if "defaults" in self.stated else "")
        if not stated:
            return 1_750_000_000_000_000
        try:
            moment = datetime.fromisoformat(stated)
        except ValueError:
            self.add(("tests", number), f'"{stated}" is no time; write "2027-01-31T12:00:00Z"')
            return 0
        return round((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1_000_000)


def _definition(server: str, raw: Mapping[str, Json]) -> ToolDefinition:
    schema, annotations = raw.get("inputSchema"), raw.get("annotations")
    properties = schema.get("properties") if isinstance(schema, Mapping) else None
    check = compile_input(schema)
    return ToolDefinition(
        server=server,
        name=str(raw["name"]),
        raw=compact(raw),
        digest=digest(canonical(raw)),
        annotations=annotations if isinstance(annotations, Mapping) else {},
        properties=None
        if check is None
        else frozenset(properties)
        if isinstance(properties, Mapping)
        else frozenset[str](),
        check_arguments=check,
    )


def _step(definition: ToolDefinition, args: JsonObject, principal: Principal, now_us: int) -> ProposedStep:
    check: Callable[[Json], object] = definition.check_arguments or (lambda _: None)
    # As the proxy does it: what does not fit the schema is a flaw.
    wrong = Failure(reason=Reason.ARGUMENTS_INVALID, summary="the arguments do not fit the schema")
    raw = compact(args)
    return ProposedStep(
        id=StepId("0" * 16),
        run_id=RUN.id,
        cause=Cause.AGENT,
        principal=principal,
        client=CLIENT,
        tool=definition,
        proposal=Proposal(
            server=definition.server, tool=definition.name, arguments=args, raw_arguments=raw, raw=raw, request_id=1
        ),
        flaws=() if check(args) is None else (wrong,),
        proposed_at_us=now_us,
        began_ns=0,
    )


def _combinations(matrix: Mapping[str, list[Json]]) -> Iterator[dict[str, Json]]:
    for values in itertools.product(*matrix.values()):
        yield dict(zip(matrix, values, strict=True))


def _fill(value: Json, values: Mapping[str, Json], unused: set[str]) -> Json:
    if isinstance(value, str):
        alone = _VALUE.fullmatch(value)
        if alone is not None and alone.group(1) in values:
            unused.discard(alone.group(1))
            return values[alone.group(1)]
        return value
    if isinstance(value, Mapping):
        return {key: _fill(held, values, unused) for key, held in value.items()}
    if isinstance(value, list):
        return [_fill(item, values, unused) for item in value]
    return value


def _expected(document: ExpectDocument, values: Mapping[str, Json]) -> Expected:
    said = document.model_fields_set
    if said & {"where", "else_"}:
        for row in document.where:
            if all(row.get(name) == value for name, value in values.items() if name in row):
                return Expected(effect=Effect(str(row.get("effect", document.else_))), whole=False)
        return Expected(effect=Effect(document.else_), whole=False)
    return Expected(
        effect=Effect(document.effect),
        whole="short" not in said,
        rules=tuple(document.rules),
        obligations=tuple(document.obligations),
        reason=document.reason if "reason" in said else None,
        would=Effect(document.would) if "would" in said else None,
    )
