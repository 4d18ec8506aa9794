"""What is on record of a step, put together so that its decision can be explained: policy, tool, caller, links."""

import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import cast

from soothsayer_mcp.adapters import schemas
from soothsayer_mcp.adapters.policy_files.load import load
from soothsayer_mcp.adapters.policy_files.positions import Pairs, Scalar, examine
from soothsayer_mcp.adapters.policy_files.problems import LoadErrors
from soothsayer_mcp.adapters.store.reader import Reader
from soothsayer_mcp.cli.exits import Exit
from soothsayer_mcp.cli.problems import Problem
from soothsayer_mcp.model.call import Cause, Client, PinState, Principal, RunId, ToolDefinition
from soothsayer_mcp.model.decision import Mode
from soothsayer_mcp.model.facts import Facts, Origin, Questions, Seen, Tally, TallyQuestion
from soothsayer_mcp.model.failure import Failure, Reason
from soothsayer_mcp.model.json import Digest, Json, JsonObject, canonical, digest
from soothsayer_mcp.model.run import NOTHING_COUNTED, Counters, DeclaredBy, Intent, Run, RunRules, RunScope, RunState
from soothsayer_mcp.model.value import dataclass
from soothsayer_mcp.policy.policy import Policy
from soothsayer_mcp.trace.query import Filter, term
from soothsayer_mcp.trace.rows import EntryRow, RunStory, StepRow, Story


@dataclass(frozen=True, slots=True, kw_only=True)
class Recall:
    """What the record says of one step, beside its row."""

    step: StepRow
    policy_digest: str
    sources: Mapping[str, str]
    """Path -> text of the policy's files as they were; empty when they are not on record."""
    ground: "Ground"
    observing: bool
    decided_at_us: int
    """When the step was proposed, where its decision read that; else when it was written down."""
    arguments: JsonObject
    raw_arguments: bytes
    principal: Principal
    client: Client
    pin: PinState
    flaws: tuple[Failure, ...]
    facts: Facts
    counters: Counters
    """Those of the run's counters that the decision read; the others are not on record with it."""
    counted: frozenset[str]
    """The names of those."""
    origins: tuple[Seen, ...]
    """Where the values that it asked about stood before, in the order of its questions."""
    intent: Intent | None
    scope: RunScope | None
    """What its run was opened for."""
    definition: str
    """The digest of the tool's definition; empty when no server offered the tool."""
    effect: str
    rules: tuple[str, ...]
    decided: bytes
    """All that the decision said, by `decided_fields`."""
    masked: bool
    """Whether something of the arguments is masked in the record."""
    notes: tuple[str, ...]

    @property
    def workspace(self) -> str:
        """The folder that the work was in."""
        return self.ground.machine.get("workspace", "")

    @property
    def run(self) -> Run:
        """The run as decisions looked at it."""
        return Run(
            id=RunId(self.step.run),
            principal=self.principal,
            state=RunState.OPEN,
            version=0,
            counters=self.counters,
            intent=self.intent,
            scope=self.scope,
        )

    def known(self, questions: Questions) -> Facts:
        """What is on record of these questions."""
        asked = questions.values
        if len(asked) != len(self.origins):
            return self.facts
        return replace(self.facts, values=dict(zip(asked, self.origins, strict=True)))

    def tool(self, reader: Reader) -> ToolDefinition | None:
        """The tool as it was defined then; `None` when no server offered it."""
        if not self.definition:
            return None
        raw = reader.definition(self.definition)
        if raw is None:
            return ToolDefinition(
                server=self.step.server,
                name=self.step.tool,
                raw=b"{}",
                digest=Digest(self.definition),
                pin=self.pin,
                properties=frozenset(self.arguments),
            )
        return make_definition(self.step.server, self.step.tool, raw, self.pin)

    def load_policy(self, state: Path, *, mode: Mode | None) -> Policy | None:
        """Load the recorded policy from its recorded text; `None` when that does not give the same policy again.

        The files are laid out in a temporary folder as they lay, so that what they use is found; the digest decides.
        """
        mode = mode or (Mode.OBSERVE if self.observing else None)
        return _loaded(self.sources, self.ground, Digest(self.policy_digest), state, mode=mode)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ground:
    """What a recorded policy stood on when it decided, beside its text."""

    named: Mapping[str, Sequence[str]]
    """Scope -> the files that were named for it; empty where that is not on record."""
    tiers: tuple[str, ...]
    machine: Mapping[str, str]
    """What its variables for folders stood for."""
    folders: Mapping[str, str]
    """What folders that its rules name led to, where that is another."""

    @property
    def key(self) -> str:
        """What tells it from others."""
        return canonical([dict(self.machine), dict(self.folders), [*self.tiers]]).decode()

    @classmethod
    def read(cls, reader: Reader, digest: str, entry: EntryRow | None, context: JsonObject, workspace: str) -> "Ground":
        """Put it together; where a record says nothing of a folder, it is the one that the call's context has."""
        said = reader.policy_loaded(digest, entry)
        named = said.get("named")
        told = {"home": _text(context.get("home")), "workspace": _text(context.get("workspace")) or workspace}
        return cls(
            named={scope: [*map(_text, _items(files))] for scope, files in named.items()}
            if isinstance(named, Mapping)
            else {},
            tiers=tuple(map(_text, _items(said.get("tiers")))),
            machine={word: folder for word, folder in {**told, **_texts(said.get("machine"))}.items() if folder},
            folders=_texts(context.get("folders")),
        )


def run_rules(reader: Reader, run: str, state: Path) -> RunRules:
    """What the policy of the run's newest step, as it is on record, says of its end. Raises `Problem`."""
    row = reader.run(run).run
    digest, mode, entry = Digest(row.policy), None, None
    context: JsonObject = {}
    steps = reader.steps(Filter(terms=(term("run", run),)), reader.now(), limit=MOST_STEPS)
    step = next((one for one in steps if one.cause == Cause.AGENT), None)
    if step is not None:
        story = reader.story(step)
        entry, context = story.entry("step.intent", "step.refused", "step.asked"), _parsed(story, "context")
        digest = Digest(step.policy)
        mode = Mode.OBSERVE if entry is not None and entry.fields.get("mode") == Mode.OBSERVE else None
    sources = reader.policy_sources(digest)
    said = [_complete_of(path, text) for path, text in sources.items()]
    if step is not None and not sources:
        # What it required cannot be told, and nothing may pass for everything.
        text = (
            f"the policy of step {step.run[:4]}.{step.no} is not on record, so what it requires of the run is not known"
        )
        raise Problem(text, id="not-kept", exit=Exit.NO, fix="end it with --failed")
    if all("require" not in one for one in said):
        return RunRules(refuse_unverified=any(one.get("unverified") == "refuse" for one in said))
    ground = Ground.read(reader, digest, entry, context, row.workspace)
    policy = _loaded(sources, ground, digest, state, mode=mode)
    if policy is None:
        text = "the policy of the run requires something to complete it, and cannot be loaded from the record"
        raise Problem(text, id="not-kept", exit=Exit.NO, fix="end it with --failed")
    return policy.run_rules


def _complete_of(path: str, text: str) -> Mapping[str, object]:
    """What a file says below `complete`: its plain values; of a list only that it is there."""
    tree, _ = examine(text.encode(), path)
    stated = None if tree is None else tree.get("complete")
    if not isinstance(stated, Pairs):
        return {}
    return {pair.key: pair.value.value if isinstance(pair.value, Scalar) else None for pair in stated.pairs}


def _loaded(
    sources: Mapping[str, str], ground: Ground, digest: Digest, state: Path, *, mode: Mode | None
) -> Policy | None:
    if not sources:
        return None
    named, machine = ground.named, ground.machine
    with tempfile.TemporaryDirectory(prefix="soothsayer-") as folder:
        laid = {path: _lay(Path(folder), path, text) for path, text in sources.items()}
        above = {
            scope: tuple(laid[path] for path in named.get(scope, ()) if path in laid)
            for scope in ("org", "project", "user")
        }
        for names in [above["user"]] if above["user"] else _selections([*laid.values()]):
            try:
                policy = load(
                    names,
                    organisation=above["org"],
                    project=above["project"],
                    mode_override=mode,
                    workspace=machine.get("workspace"),
                    home=machine.get("home"),
                    temp=machine.get("temp"),
                    state=machine.get("state") or state,
                    known_tools={},
                    tiers=ground.tiers or None,
                    follow=lambda folder: ground.folders.get(folder, folder),
                )
            except LoadErrors:
                continue
            if policy.digest == digest:
                return policy
    return None


MOST_STEPS = 200
"""Of a run's newest steps, how many are looked through for one of the agent's."""

FIELDS = frozenset(Counters._fields)

MASKED = "\u2039masked:"
"""How a masked value begins."""

MOST_FILES = 5
"""Of more files than this, not every selection is tried."""


def _selections(files: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """Which of a policy's files may have been named; the others are used by them. The record does not say which."""
    sizes = range(1, len(files) + 1) if len(files) <= MOST_FILES else (1, len(files))
    for count in sizes:
        yield from combinations(files, count)


def _lay(folder: Path, path: str, text: str) -> str:
    place = folder.joinpath(*(part for part in Path(path).parts if part not in {"/", "..", Path(path).anchor}))
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(text, encoding="utf-8")
    return str(place)


def recall(reader: Reader, step: StepRow) -> Recall:
    """Put together what is on record of a step. Raises `Problem` when its arguments are not kept."""
    story = reader.story(step)
    entry = story.entry("step.intent", "step.refused", "step.asked")
    if entry is None:
        raise Problem(f"the decision of step {step.step} is not on record", id="not-found", exit=Exit.NO)
    fields = entry.fields
    arguments, raw_arguments, notes = _arguments(story)
    context = _parsed(story, "context")
    # What was masked in the record is not known any more.
    links = {path: end for path, end in _texts(context.get("links")).items() if MASKED not in end}
    run = reader.run(step.run)
    return Recall(
        step=step,
        scope=run.scope,
        policy_digest=step.policy,
        sources=reader.policy_sources(step.policy),
        ground=Ground.read(reader, step.policy, entry, context, _text(context.get("root")) or run.run.workspace),
        observing=fields.get("mode") == Mode.OBSERVE,
        decided_at_us=_moment(context.get("now"), step.at_us),
        arguments=arguments,
        raw_arguments=raw_arguments,
        principal=_principal(context.get("principal"), step),
        client=_client(context.get("client"), step),
        pin=_pin(context.get("definition")),
        flaws=tuple(_flaws(context.get("flaws"))),
        facts=Facts(links=links, tallies=_tallies(context.get("tallies"))),
        counters=_counters(context.get("counted")),
        counted=frozenset(_mapping(context.get("counted"))),
        origins=tuple(map(_seen, _items(context.get("origins")))),
        intent=_intent(run),
        definition=_text(fields.get("definition")),
        effect=step.effect,
        rules=tuple(_rule_ids(fields.get("rules"))),
        decided=decided_fields(fields),
        masked=any(payload.part == "args" and payload.masked for payload in story.payloads),
        notes=tuple(notes),
    )


DECIDED = ("effect", "mode", "would", "rules", "obligations", "tier", "risk", "policy")


def decided_fields(body: Mapping[str, Json]) -> bytes:
    """Of an entry, what its decision said."""
    return canonical({name: body[name] for name in DECIDED if name in body})


def _arguments(story: Story) -> tuple[JsonObject, bytes, list[str]]:
    payload = story.payload("args")
    if payload is None:
        return {}, b"", []
    if payload.text is None:
        text = f"the arguments of step {story.step.step} are not kept ({payload.kept}), so no rule can be tried on them"
        raise Problem(text, id="not-kept", exit=Exit.NO)
    value = _parsed(story, "args")
    notes: list[str] = []
    if payload.masked:
        notes.append("values that were masked in the record are read as masked: a rule that looks at them may differ")
    raw = payload.text.encode(errors="surrogatepass")
    if len(raw) < payload.size_bytes:
        raw = raw.ljust(payload.size_bytes)  # Limits on the size of arguments look at what was sent.
    return value, raw, notes


def _parsed(story: Story, part: str) -> JsonObject:
    payload = story.payload(part)
    if payload is None or payload.text is None:
        return {}
    try:
        value = cast("Json", json.loads(payload.text))
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _text(value: Json) -> str:
    return value if isinstance(value, str) else ""


def _moment(value: Json, otherwise: int) -> int:
    return value if isinstance(value, int) else otherwise


def _texts(value: Json) -> dict[str, str]:
    return {key: _text(held) for key, held in value.items()} if isinstance(value, Mapping) else {}


def _items(value: Json) -> Sequence[Json]:
    return value if isinstance(value, Sequence) and not isinstance(value, str) else ()


def _tallies(value: Json) -> dict[TallyQuestion, Tally]:
    found: dict[TallyQuestion, Tally] = {}
    asked, told = len(TallyQuestion._fields), len(Tally._fields)
    for one in _items(value):
        row = _items(one)
        numbers = [number for number in row[asked - 1 :] if isinstance(number, int)]
        if len(row) == asked + told and len(numbers) == told + 1:
            mark, holder, key = map(_text, row[: asked - 1])
            found[TallyQuestion(mark, holder, key, numbers[0])] = Tally._make(numbers[1:])
    return found


def _principal(value: Json, step: StepRow) -> Principal:
    if not isinstance(value, Mapping):
        return Principal(id=step.principal, how="recorded")
    groups = tuple(_text(group) for group in _items(value.get("groups")))
    return Principal(id=_text(value.get("id")), how=_text(value.get("how")), groups=groups)


def _client(value: Json, step: StepRow) -> Client:
    if not isinstance(value, Mapping):
        return Client(name=step.host)
    return Client(name=_text(value.get("name")), version=_text(value.get("version")))


def _mapping(value: Json) -> Mapping[str, Json]:
    return value if isinstance(value, Mapping) else {}


def _counters(value: Json) -> Counters:
    if not isinstance(value, Mapping):
        return NOTHING_COUNTED
    return Counters(**{name: count for name, count in value.items() if name in FIELDS and isinstance(count, int)})


def _seen(value: Json) -> Seen:
    known, missed, *_ = [*_items(value), (), ()]
    return Seen(_origins(known), _origins(missed))


def _origins(value: Json) -> frozenset[Origin]:
    return frozenset(Origin(word) for word in _items(value) if isinstance(word, str) and word in set(Origin))


def _intent(run: RunStory) -> Intent | None:
    if run.intent_by not in set(DeclaredBy):
        return None
    return Intent(text=run.intent, declared_by=DeclaredBy(run.intent_by))


def _pin(value: Json) -> PinState:
    return PinState(value) if isinstance(value, str) and value in set(PinState) else PinState.PINNED


def _flaws(value: Json) -> list[Failure]:
    found: list[Failure] = []
    for flaw in _items(value):
        pair = _items(flaw)
        if len(pair) == 2 and pair[0] in set(Reason):  # noqa: PLR2004 - reason and summary
            found.append(Failure(reason=Reason(_text(pair[0])), summary=_text(pair[1])))
    return found


def _rule_ids(value: Json) -> list[str]:
    return [_text(rule.get("id")) for rule in _items(value) if isinstance(rule, Mapping)]


def definition_of(reader: Reader, server: str, tool: str) -> ToolDefinition | None:
    """What a server defines its tool as now, as far as it is on record, with how that stands to the pin."""
    found = reader.present_definition(server, tool)
    if found is None:
        return None
    raw, state = found
    return make_definition(server, tool, raw, _pin(state))


def make_definition(server: str, tool: str, raw: bytes, pin: PinState) -> ToolDefinition:
    """A definition as a connection would have it, from its wire object."""
    try:
        value = cast("Json", json.loads(raw))
    except (ValueError, RecursionError):
        value = {}
    whole = value if isinstance(value, dict) else {}
    annotations, schema = whole.get("annotations"), whole.get("inputSchema")
    properties = schema.get("properties", {}) if isinstance(schema, dict) else None
    return ToolDefinition(
        server=server,
        name=tool,
        raw=raw,
        digest=digest(canonical(whole)),
        pin=pin,
        annotations=annotations if isinstance(annotations, dict) else {},
        properties=frozenset(properties) if isinstance(properties, Mapping) else None,
        check_arguments=schemas.compile_input(schema) if isinstance(schema, dict) else None,
    )
