"""A yes for good: a rule at the end of the policy file, which is shown as a diff before anything is answered."""

import difflib
import os
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path, PurePath

from soothsayer_mcp.adapters.policy_files.append import AppendError, replace_text, with_rule
from soothsayer_mcp.adapters.policy_files.places import PACKAGED_NAME
from soothsayer_mcp.adapters.policy_files.problems import LoadErrors
from soothsayer_mcp.cli.exits import Exit
from soothsayer_mcp.cli.output import Output
from soothsayer_mcp.cli.policy import explain_call, ground_of
from soothsayer_mcp.cli.problems import Problem
from soothsayer_mcp.console import render
from soothsayer_mcp.console.explanation import Explained
from soothsayer_mcp.console.text import escape
from soothsayer_mcp.evidence.grants import asks_by_rule, rule_of, why_no_rule, why_not_remembered
from soothsayer_mcp.model.ask import Ask
from soothsayer_mcp.model.decision import Effect
from soothsayer_mcp.model.json import JsonObject
from soothsayer_mcp.model.value import dataclass

DAYS = 90
"""How long such a rule holds where nobody says otherwise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """A change of a policy file that nobody has made yet."""

    file: Path
    before: str
    after: str

    def show(self, output: Output) -> None:
        """Show what would change."""
        lines = difflib.unified_diff(
            self.before.splitlines(), self.after.splitlines(), str(self.file), str(self.file), n=2, lineterm=""
        )
        output.page(render.diff([escape(line) for line in lines]))

    def write(self) -> None:
        """Make the change. Raises `Problem` when the file is another by now."""
        try:
            replace_text(self.file, self.before, self.after)
        except (AppendError, OSError) as error:
            text = f"the call was approved once, and no rule was written: {error}"
            raise Problem(text, id="policy-file", exit=Exit.NO, where=str(self.file)) from error


def planned(output: Output, ask: Ask, *, by: str, policy: str, until: str) -> Planned:
    """The change by which calls like this one are allowed. Raises `Problem` where none would allow it."""
    short = ask.id[:6]
    why = why_not_remembered(ask)
    if why:
        raise Problem(f"{short}: {why}", id="not-remembered", exit=Exit.NO, fix="approve it once")
    in_force = _in_force(output, policy)
    why = why_no_rule(ask)
    if why:
        where, fix = _mending(output, ask, in_force)
        raise Problem(f"{short}: {why}", id="not-remembered", exit=Exit.NO, where=where, fix=fix)
    now = datetime.now(UTC)
    rule = rule_of(ask.card, by=by, day=f"{now:%Y-%m-%d}", until=until or f"{now + timedelta(days=DAYS):%Y-%m-%d}")
    file = _file(in_force, policy)
    try:
        before = file.read_bytes().decode()
        after = with_rule(before, rule, str(file))
    except (OSError, ValueError, AppendError) as error:
        raise Problem(f"no rule can be appended: {error}", id="policy-file", where=str(file)) from error
    names = tuple(str(file) if Path(name).absolute() == file else name for name in in_force)
    effect = _tried(output, ask, names, file, after)
    if effect is not Effect.ALLOW:
        text = f"{short}: with the rule the policy would still {effect} this call; another scope, or another rule, does"
        raise Problem(text, id="not-remembered", exit=Exit.NO, fix="approve it once, or --for run")
    return Planned(file=file, before=before, after=after)


def _in_force(output: Output, policy: str) -> tuple[str, ...]:
    """The policies that the call was asked about under, as far as whoever answers knows."""
    own = [name for name in ground_of(output, ()).names if PACKAGED_NAME.fullmatch(name) is None]
    # Without a configuration a proxy is started with `--policy FILE`, and whoever answers names that file.
    return ground_of(output, (policy,) if policy and not own else ()).names


def _mending(output: Output, ask: Ask, names: tuple[str, ...]) -> tuple[str, str]:
    """Where the rule that asks is written, and what may be done about it; no place where no rule asks."""
    fix = "approve it once, or --for run"
    if not asks_by_rule(ask):
        return "", fix
    stand: Mapping[str, tuple[str, int]] = {}
    with suppress(LoadErrors, Problem):
        stand = _explained(output, ask, names).lines
    found = [stand[rule] for rule in ask.rule.split() if rule in stand]
    if not found:
        return "", f"{fix}; soothsayer policy explain tells where a rule is written"
    (file, line), *others = found
    places = " and ".join(f"{PurePath(path).name}:{no}" for path, no in ((file, line), *others))
    mend = f"narrow what asks at {places}, so that it leaves such calls out, or make it an allow with a check"
    return f"{file}:{line}", f"{fix}; or {mend}"


def _file(names: Sequence[str], chosen: str) -> Path:
    """The file that the rule goes into: one of those in force, and none of those that are shipped."""
    own = [Path(name).absolute() for name in names if PACKAGED_NAME.fullmatch(name) is None]
    if chosen:
        own = [file for file in own if file == Path(chosen).absolute()]
    if len(own) != 1:
        text = "several policy files are in force" if own else "no policy file of yours is in force here"
        fix = (
            "name one with --policy"
            if own
            else "name the configuration of the proxy with -c, or its file with --policy"
        )
        raise Problem(text, id="policy-file", fix=fix)
    return own[0]


def _tried(output: Output, ask: Ask, names: tuple[str, ...], file: Path, after: str) -> Effect:
    """What the policy says of the very call once the rule is there. Raises `Problem` when it does not load then."""
    # Beside the file, so that what it uses is found.
    descriptor, fresh = tempfile.mkstemp(prefix=f".{file.name}.", suffix=".yaml", dir=file.parent)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(after.encode())
        told = _explained(output, ask, tuple(fresh if name == str(file) else name for name in names))
    except LoadErrors as error:
        text = f"the policy would not load with the rule: {error.problems[0].text}"
        raise Problem(text, id="policy-file", where=str(file)) from error
    finally:
        Path(fresh).unlink(missing_ok=True)
    return told.explanation.decision.effect


def _explained(output: Output, ask: Ask, names: tuple[str, ...]) -> Explained:
    """What these policies say of the very call. Raises `LoadErrors` and `Problem`."""
    args = ask.card.get("args")
    arguments: JsonObject = dict(args) if isinstance(args, dict) else {}
    return explain_call(output, names, str(ask.card.get("server")), str(ask.card.get("tool")), arguments)
