# ruff: noqa: RUF012 - pydantic copies the defaults of a model, which ruff does not see through our base class
"""Reads the tests of a policy, `NAME.test.yaml`, into cases for `policy.suite`; checked as policies are."""

import itertools
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import field
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self, TypeAlias, cast

from pydantic import BeforeValidator, Field, model_validator

from soothsayer_mcp.adapters.policy_files.documents.document import Document, validate
from soothsayer_mcp.adapters.policy_files.documents.fields import bad, milliseconds
from soothsayer_mcp.adapters.policy_files.positions import Pairs, examine, mark_of
from soothsayer_mcp.adapters.policy_files.positions import Path as Way
from soothsayer_mcp.adapters.policy_files.problems import START, LoadErrors, Problem, nearest
from soothsayer_mcp.adapters.schemas import compile_input
from soothsayer_mcp.model.call import Cause, Client, Principal, Proposal, RunId, StepId, ToolDefinition
from soothsayer_mcp.model.decision import Effect
from soothsayer_mcp.model.failure import Failure, Reason
from soothsayer_mcp.model.json import Json, JsonObject, canonical, compact, digest
from soothsayer_mcp.model.run import DeclaredBy, Intent, Run, RunState
from soothsayer_mcp.model.step import ProposedStep
from soothsayer_mcp.model.value import dataclass
from soothsayer_mcp.policy.policy import Policy
from soothsayer_mcp.policy.scene import MESSAGE
from soothsayer_mcp.policy.suite import Became, Case, Expected, Given, Turn

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


class GivenDocument(CallDocument):
    """A step before the test, let through whatever the policy says of it."""

    ok: bool = True
    result: object = None
    ago: Annotated[int, BeforeValidator(milliseconds)] = 0
    cause: Literal["agent", "undo", "probe"] = "agent"
    state: Literal["in_flight", "unknown", "refused"] = "in_flight"


class ExpectDocument(Document):
    """All that a decision must be."""

    later: ClassVar[frozenset[str]] = frozenset({"next"})

    effect: _Effect = "deny"
    rules: Annotated[list[_Name], BeforeValidator(_listed)] = []
    obligations: Annotated[list[_Name], BeforeValidator(_listed)] = []
    reason: Annotated[Reason, Field(strict=False)] = Reason.RULE_DENIED
    risk: Annotated[int, Field(ge=0, le=100)] = 0
    would: _Effect = "deny"
    masks: Annotated[list[_Name], BeforeValidator(_listed)] = []
    where: list[dict[str, object]] = []
    else_: _Effect = Field(default="deny", alias="else")
    effects: dict[_Effect, Annotated[int, Field(ge=0)]] = {}
    short: Literal[True] = True
    """Set for `expect: deny`: only the effect is compared."""


def _as_expect(value: object) -> object:
    return {"effect": value, "short": True} if isinstance(value, str) else value


_Expect = Annotated[ExpectDocument, BeforeValidator(_as_expect)]


class TurnDocument(CallDocument):
    """One of several calls of a run."""

    ok: bool = True
    result: object = None
    expect: _Expect


class IntentDocument(Document):
    """What the run is for, and who says so."""

    text: _Name
    declared_by: Literal["human", "host", "agent"] = "human"


def _as_intent(value: object) -> object:
    return {"text": value} if isinstance(value, str) else value


class CaseDocument(Document):
    """One test."""

    name: _Name
    intent: Annotated[IntentDocument, BeforeValidator(_as_intent)] = Field(default=cast("IntentDocument", None))
    who: _Name = ""
    now: _Name = ""
    given: list[GivenDocument] = []
    call: CallDocument = Field(default=cast("CallDocument", None))
    calls: Annotated[list[TurnDocument], Field(min_length=1)] = []
    parallel: Annotated[int, Field(ge=2, le=100)] = 2
    matrix: dict[str, Annotated[list[object], BeforeValidator(_listed)]] = {}
    expect: _Expect = Field(default=cast("ExpectDocument", None))

    @model_validator(mode="after")
    def _calls_somehow(self) -> Self:
        said = self.model_fields_set
        if len(said & {"call", "calls"}) != 1:
            raise bad("test", "a test has one of call and calls")
        if "calls" in said and said & {"parallel", "matrix", "expect"}:
            raise bad("test", "each of several calls has its own expect; parallel and matrix go with call")
        if "call" in said and "expect" not in said:
            raise bad("test", "an expectation is due")
        return self


class DefaultsDocument(Document):
    """What holds for every test that says nothing else."""

    intent: Annotated[IntentDocument, BeforeValidator(_as_intent)] = Field(default=cast("IntentDocument", None))
    who: _Name = ""
    now: _Name = ""


class CoverageDocument(Document):
    """How much of the policy its tests have to reach."""

    rules: Annotated[int, Field(ge=0, le=100)]


_Names: TypeAlias = Annotated[list[_Name], BeforeValidator(_listed), Field(min_length=1)]


class ScopesDocument(Document):
    """The policies of each scope."""

    org: _Names = []
    project: _Names = []
    user: _Names = []


def _as_scopes(value: object) -> object:
    return cast("object", value) if isinstance(value, dict) else {"user": value}


class SuiteDocument(Document):
    """A whole file."""

    soothsayer: Literal["policy-test/v1"]
    policy: Annotated[ScopesDocument, BeforeValidator(_as_scopes)]
    tools: dict[str, str] = {}
    principals: dict[str, PrincipalDocument] = {}
    defaults: DefaultsDocument = Field(default=cast("DefaultsDocument", None))
    tests: Annotated[list[CaseDocument], Field(min_length=1)]
    coverage: CoverageDocument = Field(default=cast("CoverageDocument", None))


@dataclass(frozen=True, slots=True, kw_only=True)
class Suite:
    """A checked suite, before its policy is loaded."""

    file: str
    policies: Mapping[str, tuple[str, ...]]
    """Scope -> absolute paths, or names of shipped policies."""
    servers: tuple[str, ...]
    tools: Mapping[str, Mapping[str, Mapping[str, Json] | None]]
    """Server -> tool -> its input schema, as saved."""
    cases: tuple[Case, ...]
    coverage: int
    """Percent of the policy's own rules that have to be covered."""
    marks: Mapping[str, str]
    """Case name -> `line:column`."""

    def unknown_rules(self, policy: Policy) -> tuple[Problem, ...]:
        """Expected rule ids that the policy does not have."""
        ids = {rule.id for scope in policy.scopes for rule in scope.rules}
        own = {f"{name}/" for name in policy.name.split("+")}
        known = ids | {name.removeprefix(head) for name in ids for head in own if name.startswith(head)}
        return tuple(
            Problem(
                file=f"{self.file}:{self.marks[case.name]}",
                mark=START,
                id="policy-test-rule",
                text=f'"{case.name}" expects the rule "{rule}", which the policy does not have',
                nearest=nearest(rule, known),
            )
            for case in self.cases
            for turn in case.turns
            for rule in turn.expected.rules
            if rule not in known and rule != "default" and rule.partition("/")[0] not in BUILT_IN
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


_SECOND_US = 1_000_000

BUILT_IN = frozenset({"pins", "arguments", "step"})
"""First halves of the ids of what acts as a rule."""

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
        stated = self.document.policy
        named = {
            scope: tuple(str(folder / name) if "." in name or "/" in name else name for name in names)
            for scope, names in (("org", stated.org), ("project", stated.project), ("user", stated.user))
        }
        servers = self.document.tools
        declared = {
            server: {one.name: _schema(one) for one in tools.values() if one.server == server} for server in servers
        }
        return Suite(
            file=self.file,
            policies=named,
            servers=tuple(servers),
            tools=declared,
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
        way: Way = ("tests", number)
        principal = self._principal(way, document)
        now_us = self._now(number, document)
        given = self._given(way, document, tools, principal, now_us)
        intent = self._intent(document)
        if "calls" in document.model_fields_set:
            turns = [
                Turn(
                    step=proposed(
                        one.tool, found, cast("JsonObject", one.args), principal, now_us + place * _SECOND_US
                    ),
                    expected=self._expected((*way, "calls", place), one.expect, {}),
                    became=Became.SUCCEEDED if one.ok else Became.FAILED,
                    result=cast("Json", one.result),
                )
                for place, one in enumerate(document.calls)
                if (found := self._tool((*way, "calls", place), one.tool, tools)) is not False
            ]
            yield Case(name=document.name, given=given, turns=tuple(turns), intent=intent)
            return
        definition = self._tool((*way, "call"), document.call.tool, tools)
        if definition is False:
            return
        together = document.parallel if "parallel" in document.model_fields_set else 1
        if ("effects" in document.expect.model_fields_set) and together == 1:
            self.add((*way, "expect", "effects"), "`effects` counts the decisions of calls in parallel")
        unused = set(document.matrix)
        for values in _combinations(cast("Mapping[str, list[Json]]", document.matrix)):
            expected = self._expected(way, document.expect, values)
            turns = [
                Turn(
                    step=proposed(
                        document.call.tool,
                        definition,
                        _filled(cast("Json", document.call.args), {**values, "n": str(n)}, unused),
                        principal,
                        now_us,
                    ),
                    expected=expected,
                    became=Became.SUCCEEDED if together == 1 else Became.IN_FLIGHT,
                )
                for n in range(1, together + 1)
            ]
            suffix = "".join(f", {name} {canonical(value).decode()}" for name, value in values.items())
            effects = {Effect(word): count for word, count in document.expect.effects.items()}
            yield Case(name=document.name + suffix, given=given, turns=tuple(turns), effects=effects, intent=intent)
        for name in sorted(unused):
            self.add((*way, "matrix", name), f'"{name}" is never used in the call')

    def _intent(self, document: CaseDocument) -> Intent | None:
        if "intent" in document.model_fields_set:
            said = document.intent
        elif "defaults" in self.stated and "intent" in self.document.defaults.model_fields_set:
            said = self.document.defaults.intent
        else:
            return None
        return Intent(text=said.text, declared_by=DeclaredBy(said.declared_by))

    def _given(
        self,
        way: Way,
        document: CaseDocument,
        tools: Mapping[str, ToolDefinition],
        principal: Principal,
        now_us: int,
    ) -> tuple[Given, ...]:
        found: list[Given] = []
        for place, one in enumerate(document.given):
            tool = self._tool((*way, "given", place), one.tool, tools)
            if not tool:
                self.add((*way, "given", place), "only tool calls are steps")
                continue
            said = one.model_fields_set
            # A second apart, the last one a second ago, where nothing else is said.
            ago_us = one.ago * 1000 if "ago" in said else (len(document.given) - place) * _SECOND_US
            became = Became(one.state) if "state" in said else Became.SUCCEEDED if one.ok else Became.FAILED
            step = proposed(one.tool, tool, cast("JsonObject", one.args), principal, now_us - ago_us, Cause(one.cause))
            found.append(Given(step=step, became=became, result=cast("Json", one.result)))
        return tuple(found)

    def _tool(self, way: Way, name: str, tools: Mapping[str, ToolDefinition]) -> ToolDefinition | Literal[False] | None:
        """The saved tool; `None` for a request that is no tool call; false, with a problem, when there is neither."""
        server, _, own = name.partition(".")
        if own.startswith(MESSAGE) and server in self.document.tools:
            return None
        found = tools.get(name)
        if found is None:
            self.add((*way, "tool"), f'no saved tool is called "{name}"', nearest(name, tools))
        return False if found is None else found

    def _principal(self, way: Way, document: CaseDocument) -> Principal:
        who = document.who or (self.document.defaults.who if "defaults" in self.stated else "")
        known = self.document.principals.get(who)
        if known is not None:
            return Principal(id=known.sub, how="token", groups=tuple(known.groups))
        if who:
            self.add(way, f'no principal is called "{who}"', nearest(who, self.document.principals))
        return NOBODY

    def _expected(self, way: Way, document: ExpectDocument, values: Mapping[str, Json]) -> Expected:
        if not document.model_fields_set & {"effect", "where", "else_", "effects"}:
            self.add((*way, "expect"), "an expectation says which effect is due")
        return _expected(document, values)

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


def _schema(tool: ToolDefinition) -> Mapping[str, Json] | None:
    """The input schema of a saved tool; `None` when it has no usable one."""
    held = cast("Json", json.loads(tool.raw))
    schema = held.get("inputSchema") if isinstance(held, Mapping) else None
    return schema if isinstance(schema, Mapping) and tool.properties is not None else None


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


def proposed(
    name: str,
    definition: ToolDefinition | None,
    args: JsonObject,
    principal: Principal,
    now_us: int,
    cause: Cause = Cause.AGENT,
) -> ProposedStep:
    """A call as the proxy would propose it: what does not fit the schema is a flaw."""
    check: Callable[[Json], object] = (definition.check_arguments if definition else None) or (lambda _: None)
    wrong = Failure(reason=Reason.ARGUMENTS_INVALID, summary="the arguments do not fit the schema")
    raw = compact(args)
    server, _, tool = name.partition(".")
    return ProposedStep(
        id=StepId("0" * 16),
        run_id=RUN.id,
        cause=cause,
        principal=principal,
        client=CLIENT,
        tool=definition,
        proposal=Proposal(server=server, tool=tool, arguments=args, raw_arguments=raw, raw=raw, request_id=1),
        flaws=() if check(args) is None else (wrong,),
        proposed_at_us=now_us,
        began_ns=0,
    )


def _combinations(matrix: Mapping[str, list[Json]]) -> Iterator[dict[str, Json]]:
    for values in itertools.product(*matrix.values()):
        yield dict(zip(matrix, values, strict=True))


def _filled(value: Json, values: Mapping[str, Json], unused: set[str]) -> JsonObject:
    filled = _fill(value, values, unused)
    return dict(filled) if isinstance(filled, Mapping) else {}


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
        risk=document.risk if "risk" in said else None,
        would=Effect(document.would) if "would" in said else None,
        masks=tuple(document.masks) if "masks" in said else None,
    )
