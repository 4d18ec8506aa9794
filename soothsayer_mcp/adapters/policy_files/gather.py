"""Reads policy files and what they use, checks each and all together, and joins them into one plain form.

Loaded only when no kept form fits: this is where YAML and pydantic are.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import field
from importlib.metadata import version
from pathlib import Path

from soothsayer_mcp.adapters.lab import CONDITIONS, TERM_CONDITIONS
from soothsayer_mcp.adapters.policy_files.build import Form, Gathered, digest_of, patterns_of, rule_of
from soothsayer_mcp.adapters.policy_files.documents.policy import check
from soothsayer_mcp.adapters.policy_files.documents.rules import heads
from soothsayer_mcp.adapters.policy_files.names import rule_id
from soothsayer_mcp.adapters.policy_files.places import PACKAGED_NAME, Request, find
from soothsayer_mcp.adapters.policy_files.positions import Pairs, examine, mark_of
from soothsayer_mcp.adapters.policy_files.positions import Path as Way
from soothsayer_mcp.adapters.policy_files.problems import START, LoadErrors, Mark, Problem, nearest
from soothsayer_mcp.adapters.policy_files.schema_fit import condition_faults, declared_by, possible_of
from soothsayer_mcp.model.call import CONTROL
from soothsayer_mcp.model.decision import Effect
from soothsayer_mcp.model.json import Json, JsonObject, canonical
from soothsayer_mcp.model.undo import RESTORE
from soothsayer_mcp.model.value import dataclass
from soothsayer_mcp.policy.fit import misfits
from soothsayer_mcp.policy.lint import flaws
from soothsayer_mcp.policy.match import parse_key
from soothsayer_mcp.policy.paths import component
from soothsayer_mcp.policy.rules import Rule, ToolPattern
from soothsayer_mcp.policy.scene import MESSAGE
from soothsayer_mcp.policy.sight import NAMES, TERM_NAMES
from soothsayer_mcp.proxy.control import TABLE

JUDGES = ("cel-expr-python", "google-re2", "idna", "jsonschema-rs")
"""Libraries whose versions are part of what a policy means."""


_OURS: Mapping[str, Form | None] = {
    **{tool.name: {"properties": {name: {} for name in tool.takes}} for tool in TABLE},
    RESTORE: None,
}


@dataclass(slots=True, kw_only=True)
class _File:
    path: str
    kind: str
    top: bool
    form: JsonObject
    tree: Pairs
    rules: list[tuple[JsonObject, Rule, int]] = field(default_factory=list[tuple[JsonObject, Rule, int]])
    """Plain form, rule, and its place in the file's list."""
    labels: list[JsonObject] = field(default_factory=list[JsonObject])
    terms: list[JsonObject] = field(default_factory=list[JsonObject])
    tiers: list[JsonObject] = field(default_factory=list[JsonObject])
    without: list[frozenset[str]] = field(default_factory=list[frozenset[str]])
    """For each way by which the file joins, the rule ids that are left out."""

    @property
    def name(self) -> str:
        return str(self.form["name"])

    def mark(self, *way: str | int, key: bool = False) -> Mark:
        return mark_of(self.tree, way, key=key)


def gather(
    requests: Sequence[Request],
    known_servers: frozenset[str] | None,
    known_tools: Mapping[str, Mapping[str, Form | None]] | None,
    known_tiers: tuple[str, ...] | None,
) -> Gathered:
    """Read, check and join. Raises `LoadErrors` with everything that is wrong."""
    reader = _Gatherer(known_servers=known_servers, known_tools={**(known_tools or {}), CONTROL: _OURS})
    scopes = [reader.scope(request) for request in requests]
    reader.check_together(known_tiers)
    if reader.problems:
        raise LoadErrors(reader.problems, watch=reader.contents)
    judges = {name: version(name) for name in JUDGES}
    about = next((str(file.form["about"]) for file in reader.files.values() if file.top and "about" in file.form), "")
    form: JsonObject = {
        "name": "+".join(dict.fromkeys(file.name for file in reader.files.values() if file.top)),
        "about": about,
        "digest": digest_of(scopes, judges),
        "scopes": list(scopes),
    }
    return Gathered(form=form, files={path: raw for path, raw in reader.contents.items() if raw is not None})


@dataclass(slots=True, kw_only=True)
class _Gatherer:
    known_servers: frozenset[str] | None
    known_tools: Mapping[str, Mapping[str, Form | None]]
    problems: list[Problem] = field(default_factory=list[Problem])
    contents: dict[str, bytes | None] = field(default_factory=dict[str, bytes | None])
    files: dict[tuple[str, str], _File] = field(default_factory=dict[tuple[str, str], _File])

    def add(self, file: str, mark: Mark, kind: str, text: str, near: str = "") -> None:
        self.problems.append(Problem(file=file, mark=mark, id=f"policy-{kind}", text=text, nearest=near))

    def scope(self, request: Request) -> JsonObject:
        for path in request.files:
            self._visit(path, request.kind, (), without=frozenset(), asked_by=None)
        files = [file for file in self.files.values() if file.kind == request.kind]
        for file in files:
            self._check_file(file)
        self._check_ids(files)
        kept = [(file, rule) for file in files for rule in self._kept(file)]
        if not self.problems:
            self._lint(kept)
        return _joined(request.kind, files, [rule[0] for _, rule in kept])

    def check_together(self, known_tiers: tuple[str, ...] | None) -> None:
        """Check what only all scopes together tell, and what the configuration knows."""
        if self.problems:
            return
        weighs = any(file.terms for file in self.files.values())
        roles = self._roles()
        for file in self.files.values():
            self._check_tiers(file, known_tiers, weighs=weighs)
            for form, rule, number in file.rules:
                if "approvers" in form:
                    form["approvers"] = [
                        self._approvers(file, ("rules", number, "approvers"), said, roles)
                        for said in _list(form, "approvers")
                    ]
                self._check_people(file, form, number, roles)
                if "risk" in form and not weighs:
                    text = "no policy here has risk terms, so the risk is always 0"
                    self.add(file.path, file.mark("rules", number, "risk", key=True), "never", text)
                if rule.effect is Effect.ALLOW and rule.when and "who.client" in CONDITIONS.read(rule.when).names:
                    text = "what a client says of itself allows nothing; name a sub or a group"
                    self.add(file.path, file.mark("rules", number, "when"), "client-trust", text)

    def _roles(self) -> dict[str, list[Json]]:
        """Who may answer in which role, by all files of the organisation."""
        roles: dict[str, list[Json]] = {}
        for file in self.files.values():
            for role, people in _section(file.form, "roles").items():
                if file.kind != "org":
                    text = "only the organisation's policy says who may answer"
                    self.add(file.path, file.mark("roles", role, key=True), "scope", text)
                held = roles.setdefault(role, [])
                held += people if isinstance(people, list) else []
                for part in ("name", "key"):
                    if len({str(one[part]) for one in map(_held, held)}) < len(held):
                        text = f"two people of a role share a {part}"
                        self.add(file.path, file.mark("roles", role, key=True), "value", text)
        return roles

    def _check_people(self, file: _File, form: JsonObject, number: int, roles: Mapping[str, list[Json]]) -> None:
        """Put the people of its role into each item that needs one's yes."""
        items = [dict(one) for one in _list(form, "require")]
        for place, item in enumerate(items):
            human = item.get("human")
            if not isinstance(human, Mapping):
                continue
            way = ("rules", number, "require", place, "human")
            if "when" in human and "who.client" in CONDITIONS.read(str(human["when"])).names:
                text = "what a client says of itself spares nobody; name a sub or a group"
                self.add(file.path, file.mark(*way, "when"), "client-trust", text)
            if "role" in human:
                item["human"] = self._approvers(file, (*way, "role"), human, roles)
        if items:
            form["require"] = [*items]

    def _approvers(self, file: _File, way: Way, said: Form, roles: Mapping[str, list[Json]]) -> JsonObject:
        """Whose answers a rule needs, with the people of the role."""
        role, count = str(said["role"]), said.get("count", 1)
        people = roles.get(role, [])
        if role not in roles:
            text = f'the organisation\'s policy has no role "{role}"'
            near = nearest(role, roles)
            self.add(file.path, file.mark(*way), "value", text, near)
        elif isinstance(count, int) and count > len(people):
            text = f'{count} people of "{role}" are needed, and it has {len(people)}'
            self.add(file.path, file.mark(*way), "never", text)
        return {**said, "people": sorted(people, key=canonical)}

    def _check_tiers(self, file: _File, known: tuple[str, ...] | None, *, weighs: bool) -> None:
        for number, form in enumerate(file.tiers):
            name = str(form["name"])
            if known is not None and name not in known:
                text = f'the configuration has no tier "{name}"; its `tiers` say what each means'
                self.add(file.path, file.mark("next", "tiers", number, "name"), "value", text, nearest(name, known))
            if "risk" in form and not weighs:
                text = "no policy here has risk terms, so the risk is always 0"
                self.add(file.path, file.mark("next", "tiers", number, "risk", key=True), "never", text)

    def _visit(
        self,
        path: str,
        kind: str,
        stack: tuple[str, ...],
        *,
        without: frozenset[str],
        asked_by: tuple[str, Mark] | None,
    ) -> None:
        if path in stack:
            file, mark = asked_by or (path, START)
            self.add(file, mark, "use", "policies use each other in a circle")
            return
        known = self.files.get((path, kind))
        if known is not None:
            known.without.append(without)
            known.top = known.top or asked_by is None
            return
        read_file = self._read(path, asked_by)
        if read_file is None:
            return
        form, tree = read_file
        file = _File(path=path, kind=kind, top=asked_by is None, form=form, tree=tree, without=[without])
        self.files[path, kind] = file
        self._rules(file)
        for number, use in enumerate(_list(form, "use")):
            mark = file.mark("use", number)
            target = self._target(file, str(use["policy"]), mark)
            if target is not None:
                left_out = frozenset(map(str, _texts(use.get("without"))))
                self._visit(target, kind, (*stack, path), without=left_out, asked_by=(path, mark))
                self._check_without(target, kind, left_out, path, mark)

    def _read(self, path: str, asked_by: tuple[str, Mark] | None) -> tuple[JsonObject, Pairs] | None:
        try:
            raw = Path(path).read_bytes()
        except OSError as error:
            self.contents[path] = None
            file, mark = asked_by or (path, START)
            what = "there is no such policy file" if isinstance(error, FileNotFoundError) else "the file cannot be read"
            which = f": {path}" if asked_by else ""
            why = "" if isinstance(error, FileNotFoundError) else f" ({error.strerror})"
            self.add(file, mark, "file", f"{what}{which}{why}")
            return None
        self.contents[path] = raw
        tree, problems = examine(raw, path)
        self.problems.extend(problems)
        if tree is None:
            return None
        form, problems = check(tree, path)
        self.problems.extend(problems)
        return (form, tree) if form else None

    def _target(self, file: _File, named: str, mark: Mark) -> str | None:
        if PACKAGED_NAME.fullmatch(named):
            found = find(named)
            if found is None:
                self.add(file.path, mark, "use", f'no policy called "{named}" is shipped')
            return None if found is None else str(found)
        folder = Path(file.path).parent
        target = folder / named
        if not target.resolve().is_relative_to(folder.resolve()):
            self.add(file.path, mark, "use", f'"{named}" leads out of the folder of this file')
            return None
        return str(target)

    def _check_without(self, target: str, kind: str, left_out: frozenset[str], path: str, mark: Mark) -> None:
        used = self.files.get((target, kind))
        ids = {str(form["id"]).partition("/")[2] for form, _, _ in used.rules} if used is not None else set[str]()
        for rule in sorted(left_out - ids) if used is not None else ():
            self.add(path, mark, "use", f'"{rule}" is no rule of that policy', nearest(rule, ids))

    def _rules(self, file: _File) -> None:
        for number, stated in enumerate(_list(file.form, "rules")):
            head = heads(stated)
            if len(head) != 1:
                text = "a rule has exactly one of deny, ask, allow and also" + (
                    f", not {' and '.join(head)}" if head else ""
                )
                self.add(file.path, file.mark("rules", number), "key", text)
                continue
            form = self._rule(file, number, stated, head[0])
            file.rules.append((form, rule_of(form), number))
        for number, label in enumerate(_list(file.form, "labels")):
            form = {
                key: self._patterns(file, ("labels", number, key), value) if key in {"tools", "except"} else value
                for key, value in label.items()
            }
            file.labels.append(_ordered(form))
        for number, term in enumerate(_list(file.form, "risk")):
            file.terms.append(_ordered(self._named(file, ("risk", number), term)))
        for number, tier in enumerate(_list(_section(file.form, "next"), "tiers")):
            file.tiers.append(_ordered(self._named(file, ("next", "tiers", number), tier)))

    def _rule(self, file: _File, number: int, stated: Form, head: str) -> JsonObject:
        text = str(stated[head])
        form: JsonObject = {"id": rule_id(file.name, str(stated.get("id", "")), text), "effect": head, "text": text}
        for key, value in self._named(file, ("rules", number), stated).items():
            if key == "expires":
                form["ask_expires_ms" if isinstance(value, str) else "expires_us"] = (
                    int(value) if isinstance(value, str) else value
                )
            elif key not in {head, "id"}:
                form[key] = value
        return _ordered(form)

    def _named(self, file: _File, way: Way, stated: Form) -> JsonObject:
        """What is written down, with the tools that it and its patterns for earlier steps mean named as they are."""
        form: JsonObject = {}
        for key, value in stated.items():
            if key in {"tools", "except"}:
                form[key] = self._patterns(file, (*way, key), value)
            elif key in {"after", "unless_after"} and isinstance(value, list):
                form[key] = [self._pattern(file, (*way, key), _held(one)) for one in value]
            elif key == "history":
                form[key] = {
                    name: self._pattern(file, (*way, key), _held(one)) if name == "of" else one
                    for name, one in _held(value).items()
                }
            else:
                form[key] = value
        return form

    def _pattern(self, file: _File, way: Way, pattern: Form) -> JsonObject:
        """A pattern for earlier steps, with its tools named as they are."""
        return {
            key: self._patterns(file, way, value) if key in {"tools", "except"} else value
            for key, value in pattern.items()
        }

    def _patterns(self, file: _File, way: Way, value: Json) -> list[Json]:
        patterns: list[Json] = []
        for text in _texts(value):
            # Positions inside `a | b` are those of the whole text.
            mark = file.mark(*way)
            patterns.append(self._host_name(file, mark, text) if text.startswith("mcp__") else text)
        return patterns

    def _host_name(self, file: _File, mark: Mark, text: str) -> str:
        """Read a tool's name as hosts show it: `mcp__fs__write_file`, `mcp__fs`."""
        parts = text.removeprefix("mcp__").split("__")
        splits = [("__".join(parts[:cut]), "__".join(parts[cut:]) or "*") for cut in range(1, len(parts) + 1)]
        known = (self.known_servers or frozenset()) | _servers(file)
        fitting = [split for split in splits if split[0] in known]
        if len(fitting) > 1:
            names = " and ".join(f"{server}.{tool}" for server, tool in fitting)
            self.add(file.path, mark, "server", f'"{text}" may mean {names}: write one of them')
        server, tool = fitting[0] if fitting else splits[min(1, len(splits)) - 1]
        return f"{server}.{tool}"

    def _check_file(self, file: _File) -> None:
        form = file.form
        stated = str(form.get("scope", file.kind))
        if stated != file.kind:
            text = f"the file is loaded as {file.kind} and cannot make itself {stated}"
            self.add(file.path, file.mark("scope"), "scope", text)
        default = form.get("default")
        if file.kind == "user" and isinstance(default, Mapping) and "leave" in default.values():
            text = "`leave` has a meaning in an org or project policy only"
            self.add(file.path, file.mark("default"), "scope", text)
        methods = form.get("methods")
        if isinstance(methods, Mapping):
            if file.kind == "project":
                self.add(file.path, file.mark("methods", key=True), "scope", "a project cannot let methods pass")
            if methods.get("unknown") == "pass" and form.get("mode") != "observe":
                text = "unknown methods pass only with `mode: observe`"
                self.add(file.path, file.mark("methods", "unknown"), "value", text)
        if file.top and PACKAGED_NAME.fullmatch(Path(file.path).stem) and find(Path(file.path).stem) == Path(file.path):
            return
        if file.top and file.kind != "project":
            # A project names the servers of all its people; few have all of them.
            self._check_names(file)

    def _check_names(self, file: _File) -> None:
        sections: list[tuple[Way, Iterator[Form]]] = [
            ((name,), _list(file.form, name)) for name in ("rules", "labels", "risk")
        ]
        sections.append((("next", "tiers"), _list(_section(file.form, "next"), "tiers")))
        for section, stated in sections:
            for number, entry in enumerate(stated):
                for key in ("tools", "except"):
                    for text in map(str, self._patterns_quietly(file, entry.get(key))):
                        self._check_tool(file, (*section, number, key), text)
                for way, pattern in _earlier(entry):
                    self._check_pattern(file, (*section, number, *way), pattern)
                for way, tool in _asked(entry):
                    self._check_tool(file, (*section, number, *way), tool)
        for number, item in enumerate(_list(_held(file.form.get("complete")), "require")):
            self._check_pattern(file, ("complete", "require", number, "step", "tools"), _held(item.get("step")))
        for form, _, number in file.rules:
            self._check_arguments(file, form, ("rules", number))
        for number, form in enumerate(file.terms):
            self._check_arguments(file, form, ("risk", number))

    def _check_pattern(self, file: _File, way: Way, pattern: Form) -> None:
        for key in ("tools", "except"):
            for text in map(str, self._patterns_quietly(file, pattern.get(key))):
                self._check_tool(file, way, text)
                if text.partition(".")[2].startswith(MESSAGE):
                    self.add(file.path, file.mark(*way), "value", f'"{text}" is no step: only tool calls are counted')

    def _patterns_quietly(self, file: _File, value: Json) -> list[Json]:
        before = len(self.problems)
        patterns = self._patterns(file, (), value)
        del self.problems[before:]
        return patterns

    def _check_tool(self, file: _File, way: Way, text: str) -> None:
        server, _, tool = text.partition(".")
        mark = file.mark(*way)
        if self.known_servers is not None and not set("*?") & set(server):
            servers = self.known_servers | _servers(file) | {CONTROL}
            if server not in servers:
                near = nearest(server, servers)
                self.add(file.path, mark, "server", f'no server is called "{server}"', near)
                return
        tools = self.known_tools.get(server)
        if tools is None or tool.startswith(MESSAGE) or set("*?") & set(tool) or tool in tools:
            return
        self.add(file.path, mark, "tool", f'the server {server} has no tool "{tool}"', nearest(tool, tools))

    def _check_arguments(self, file: _File, form: JsonObject, place: Way) -> None:
        """Refuse what no tool of the rule lets an argument be; where a tool is not known nothing is said."""
        schemas = self._schemas(patterns_of(form, "tools")) or ()
        declared = frozenset[str]().union(*map(declared_by, schemas))
        if not declared:
            return
        args, when = form.get("args"), form.get("when")
        named = [
            (file.mark(*place, "args", key, key=True), way[0])
            for key in (args if isinstance(args, Mapping) else ())
            for way in parse_key(key)
        ]
        if isinstance(when, str):
            conditions = TERM_CONDITIONS if place[0] == "risk" else CONDITIONS
            fields = conditions.read(when).fields
            named += [(file.mark(*place, "when"), member) for name, member in sorted(fields) if name == "args"]
        for mark, name in named:
            if isinstance(name, str) and name not in declared:
                text = f'no tool of this rule has an argument "{name}"'
                self.add(file.path, mark, "arg", text, nearest(name, declared))
        self._check_fit(file, form, place, schemas)

    def _check_fit(self, file: _File, form: JsonObject, place: Way, schemas: Sequence[Form]) -> None:
        """Refuse matchers and conditions that the schemas of a rule's tools let nothing fit."""
        for key, spec in _held(form.get("args")).items():
            possible = possible_of(schemas, parse_key(key))
            for one in misfits(_held(spec), possible) if possible else ():
                mark = file.mark(*place, "args", key, *map(_index, one.at))
                near = nearest(one.value, one.near) if one.near else ""
                self.problems.append(Problem(file=file.path, mark=mark, id=one.id, text=one.text, nearest=near))
        when = form.get("when")
        if isinstance(when, str):
            names = TERM_NAMES if place[0] == "risk" else NAMES
            for line, column, text in condition_faults(when, schemas, names):
                told = f"at {line}:{column} of the condition: {text}"
                self.add(file.path, file.mark(*place, "when"), "when", told)

    def _schemas(self, patterns: Sequence[ToolPattern]) -> list[Form] | None:
        """The input schemas of the tools that some patterns mean; `None` where one is not known."""
        schemas: list[Form] = []
        for pattern in patterns:
            tools = self.known_tools.get(pattern.server)
            if tools is None or pattern.names_messages:
                return None
            for tool, schema in tools.items():
                if component(pattern.tool)(tool):
                    if schema is None:
                        return None
                    schemas.append(schema)
        return schemas

    def _check_ids(self, files: Sequence[_File]) -> None:
        seen: dict[str, tuple[_File, int]] = {}
        for file in files:
            for form, _, number in file.rules:
                name = str(form["id"])
                if name in seen:
                    other, there = seen[name]
                    where = f"line {other.mark('rules', there).line}" + ("" if other is file else f" of {other.path}")
                    text = f"the rule id {name} is already used in {where}; give one of them an `id`"
                    self.add(file.path, file.mark("rules", number), "id", text)
                seen.setdefault(name, (file, number))

    @staticmethod
    def _kept(file: _File) -> list[tuple[JsonObject, Rule, int]]:
        # A rule is gone only if every way by which the file joins leaves it out.
        first, *others = file.without
        left_out = first.intersection(*others)
        return [rule for rule in file.rules if str(rule[0]["id"]).partition("/")[2] not in left_out]

    def _lint(self, kept: Sequence[tuple[_File, tuple[JsonObject, Rule, int]]]) -> None:
        where = {rule.id: (file, number) for file, (_, rule, number) in kept}
        for flaw in flaws([rule for _, (_, rule, _) in kept]):
            file, number = where[flaw.rule]
            if flaw.id == "policy-dead-rule" and not file.top:
                # What is used may well be covered by who uses it.
                continue
            mark = file.mark("rules", number, *flaw.path, key=bool(flaw.path))
            self.problems.append(Problem(file=file.path, mark=mark, id=flaw.id, text=flaw.text))


_KEPT = frozenset({"require", "verify", "undo", "capture", "settle"})
"""What is filled into calls, where the order of a list counts."""
_STRICTNESS = ("leave", "allow", "ask", "deny")


def _joined(kind: str, files: Sequence[_File], rules: Sequence[JsonObject]) -> JsonObject:
    """Join the files of one scope: rules, labels and servers of all, default and mode of those that were named."""
    tops = [file for file in files if file.top]
    defaults = [default for file in tops if isinstance(default := file.form.get("default"), Mapping)]

    def cell(name: str) -> Json:
        # A cell that nobody fills asks; in a project nobody has said anything.
        words = [str(default.get(name, "ask")) for default in defaults]
        return max(words, key=_STRICTNESS.index, default="leave" if kind == "project" else "ask")

    servers: JsonObject = {}
    for file in reversed(files):
        # The file that was named first has the last word about a server.
        stated = file.form.get("servers")
        if isinstance(stated, Mapping):
            servers.update(stated)
    observing = bool(tops) and all(file.form.get("mode") == "observe" for file in tops)
    return {
        "kind": kind,
        "name": "+".join(file.name for file in tops),
        "mode": "observe" if observing else "enforce",
        "default": {name: cell(name) for name in ("read", "other", "checked")},
        "servers": servers,
        "labels": [label for file in files for label in file.labels],
        "risk": [term for file in files for term in file.terms],
        "tiers": [tier for file in files for tier in file.tiers],
        "rules": list(rules),
        "pins": [pins for file in files if (pins := file.form.get("pins"))],
        "arguments": [stated for file in files if (stated := file.form.get("arguments"))],
        "complete": [stated for file in files if (stated := file.form.get("complete"))],
        "budgets": [stated for file in files if (stated := file.form.get("budgets"))],
        "next": [stated for file in files if (stated := _without_tiers(file))],
        "run": [stated for file in files if (stated := file.form.get("run"))],
        "methods": [methods for file in tops if (methods := file.form.get("methods"))],
        "payloads": [trace["payloads"] for trace in _traces(files) if "payloads" in trace],
        "masks": sorted((_in_order(mask) for trace in _traces(files) for mask in _list(trace, "mask")), key=canonical),
    }


def _without_tiers(file: _File) -> JsonObject:
    """What a file says of what follows a step, beside tiers, which are named with their tools."""
    return {key: value for key, value in _section(file.form, "next").items() if key != "tiers"}


def _traces(files: Sequence[_File]) -> Iterator[Form]:
    for file in files:
        trace = file.form.get("trace")
        if isinstance(trace, Mapping):
            yield trace


def _ordered(form: JsonObject) -> JsonObject:
    """Sort every list of a rule or label: order in a file means nothing, so it may not change the digest."""
    ordered = {key: value if key in _KEPT else _in_order(value) for key, value in sorted(form.items())}
    return {key: value for key, value in ordered.items() if value is not None}


def _in_order(value: Json) -> Json:
    if isinstance(value, Mapping):
        return {key: _in_order(held) for key, held in sorted(value.items())}
    if isinstance(value, list):
        return sorted((_in_order(item) for item in value), key=canonical)
    return value


def _index(part: str) -> str | int:
    """A place in a list as marks have it."""
    return int(part) if part.isdecimal() else part


def _held(value: Json) -> Form:
    return value if isinstance(value, Mapping) else {}


def _earlier(entry: Form) -> Iterator[tuple[Way, Form]]:
    """The patterns for earlier steps that a rule names, and where."""
    for key in ("after", "unless_after"):
        stated = entry.get(key)
        for one in stated if isinstance(stated, list) else ():
            yield (key,), _held(one)
    history = entry.get("history")
    if isinstance(history, Mapping) and "of" in history:
        yield ("history", "of"), _held(history["of"])


def _asked(entry: Form, way: Way = ()) -> Iterator[tuple[Way, str]]:
    """The tools that what a rule or label owes calls, or looks for among earlier steps, and where."""
    for key in ("require", "verify", "any"):
        for number, item in enumerate(_list(entry, key)):
            yield from _asked(item, (*way, key, number))
    for key in ("capture", "undo", "settle", "readback", "check", "of", "count"):
        held = entry.get(key)
        if isinstance(held, Mapping):
            if isinstance(tool := held.get("tool"), str) and tool:
                yield (*way, key, "tool"), tool
            yield from _asked(held, (*way, key))
    step = entry.get("step")
    if isinstance(step, Mapping):
        for key in ("tools", "except"):
            yield from (((*way, "step", key), text) for text in _texts(step.get(key)))


def _servers(file: _File) -> frozenset[str]:
    servers = file.form.get("servers")
    return frozenset(servers) if isinstance(servers, Mapping) else frozenset()


def _section(form: JsonObject, key: str) -> JsonObject:
    value = form.get(key)
    return dict(value) if isinstance(value, Mapping) else {}


def _list(form: Form, key: str) -> Iterator[Form]:
    value = form.get(key)
    for item in value if isinstance(value, list) else ():
        if isinstance(item, Mapping):
            yield item


def _texts(value: Json) -> list[str]:
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []
