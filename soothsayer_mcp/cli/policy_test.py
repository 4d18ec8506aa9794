"""`policy test`: runs the tests of policies, tells what they leave untried, and whether they would notice a change."""

import sys
from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree as ET

import click
from rich.text import Text

from soothsayer_mcp.adapters.config import find_config
from soothsayer_mcp.adapters.config import load as load_config
from soothsayer_mcp.adapters.policy_files import places
from soothsayer_mcp.adapters.policy_files.mutants import Mutant
from soothsayer_mcp.adapters.policy_files.problems import LoadErrors
from soothsayer_mcp.adapters.policy_files.trial import Trial
from soothsayer_mcp.cli.command import command
from soothsayer_mcp.cli.exits import Exit
from soothsayer_mcp.cli.output import Output
from soothsayer_mcp.cli.problems import Problem, Problems, as_problem
from soothsayer_mcp.console.live import Bar
from soothsayer_mcp.console.text import escape
from soothsayer_mcp.model.json import Json
from soothsayer_mcp.model.value import dataclass
from soothsayer_mcp.policy.suite import SuiteResult

ENDING = ".test.yaml"


@dataclass(frozen=True, slots=True, kw_only=True)
class Tested:
    """A suite that was run."""

    trial: Trial
    result: SuiteResult
    wanted: int
    """Percent of its rules that have to be covered; 0 when only some of the tests were run."""
    unnoticed: tuple[Mutant, ...] = ()
    mutants: int = 0

    @property
    def passed(self) -> bool:
        """Whether nothing is to be complained of."""
        return not (self.result.failed or self.unnoticed or self.result.covered_percent < self.wanted)

    @property
    def file(self) -> str:
        """Where the suite lies."""
        return self.trial.suite.file


@command(
    "policy test",
    more=(
        "FILEs are suites (NAME.test.yaml), policies with a suite beside them, or names of packaged policies; without"
        " any, the policies of the configuration. Exits 1 when a test fails, when too few rules are covered, or when"
        " --mutate finds a change that no test notices."
    ),
)
@click.argument("files", nargs=-1, metavar="[FILE]...")
@click.option("-k", "chosen", metavar="TEXT", default="", help="Only tests with this in their name.")
@click.option("--coverage", type=click.IntRange(0, 100), help="Percent of rules that have to be covered.")
@click.option("--mutate", is_flag=True, help="Change the policy, and list each change that no test notices.")
@click.option("--junit", metavar="FILE", type=click.Path(path_type=Path, dir_okay=False), help="A report for CI.")
def policy_test(  # noqa: D103 - the table says what it does
    output: Output, files: tuple[str, ...], chosen: str, coverage: int | None, *, mutate: bool, junit: Path | None
) -> int:
    if chosen and (mutate or coverage is not None):
        text = "coverage and --mutate are about all tests of a suite, and -k takes only some"
        raise Problem(text, id="usage")
    trials = _trials(_suites(output, files))
    settings = output.settings
    shown = sys.stderr.isatty() and not (settings.no_progress or settings.quiet)
    done: list[Tested] = []
    for trial in trials:
        cases = tuple(case for case in trial.suite.cases if chosen in case.name)
        result = trial.run(cases)
        wanted = 0 if chosen else trial.suite.coverage if coverage is None else coverage
        survivors, tried = (), 0
        if mutate and not result.failed:
            with Bar(f"changing {trial.policy.name}", shown=shown) as bar:
                survivors, tried = trial.unnoticed(bar.step)
        done.append(Tested(trial=trial, result=result, wanted=wanted, unnoticed=survivors, mutants=tried))
    if not any(tested.result.verdicts for tested in done):
        raise Problem(f'no test has "{chosen}" in its name', id="not-found", exit=Exit.NO)
    if junit is not None:
        _write_junit(junit, done)
    if output.as_json:
        output.document({"suites": [_document(tested) for tested in done]})
    else:
        output.page([line for tested in done for line in _lines(tested, partly=bool(chosen))])
    return Exit.DONE if all(tested.passed for tested in done) else Exit.NO


def _suites(output: Output, files: Sequence[str]) -> list[str]:
    named = list(files)
    if not named:
        file = find_config(output.settings.config)
        if file is None:
            raise Problem("no suite is named and there is no configuration", id="usage", fix="name a suite or a policy")
        named = list(load_config(file).policy)
    return [_suite_of(name) for name in named]


def _suite_of(name: str) -> str:
    if name.endswith(ENDING):
        return name
    found = places.find(name) if places.PACKAGED_NAME.fullmatch(name) else Path(name)
    if found is None:
        near = [*places.shipped()]
        raise Problem(f'no policy called "{name}" is shipped', id="policy-file", fix=f"one of {', '.join(near)}")
    beside = found.with_name(found.name.removesuffix(".yaml") + ENDING)
    if not beside.is_file():
        raise Problem(f"{name} has no tests: there is no {beside.name} beside it", id="policy-untested", exit=Exit.NO)
    return str(beside)


def _trials(files: Sequence[str]) -> list[Trial]:
    trials: list[Trial] = []
    problems: list[Problem] = []
    for file in files:
        try:
            trials.append(Trial.read(file))
        except LoadErrors as errors:
            found = as_problem(errors)
            assert isinstance(found, Problems)
            problems += found.problems
    if problems:
        raise Problems(problems)
    return trials


def _lines(tested: Tested, *, partly: bool) -> list[Text]:
    result = tested.result
    style = "bold green" if tested.passed else "bold red"
    head = f"{len(result.verdicts)} tests, {len(result.failed)} failed"
    if not partly:
        head += f"; {result.rules - len(result.uncovered)} of {result.rules} rules covered"
    if tested.mutants:
        head += f"; {len(tested.unnoticed)} of {tested.mutants} changes unnoticed"
    lines = [Text(f"{escape(tested.file)}: ").append(head, style=style)]
    for verdict in result.failed:
        mark = tested.trial.suite.marks[verdict.case.name]
        lines.append(Text(f"  {mark} ").append(escape(verdict.case.name), style="bold"))
        lines += [Text(f"      {escape(text)}") for text in verdict.differences]
    if not partly and result.covered_percent < max(tested.wanted, 100):
        lines += [Text(f"  {escape(one.rule)} {one.lacks}", style="dim") for one in result.uncovered]
    lines += [Text(f"  unnoticed: {escape(one.rule)}: {escape(one.change)}") for one in tested.unnoticed]
    if result.covered_percent < tested.wanted:
        lines.append(Text(f"  {result.covered_percent} % of the rules are covered, {tested.wanted} % are due"))
    return lines


def _document(tested: Tested) -> Json:
    result = tested.result
    return {
        "file": tested.file,
        "policy": tested.trial.policy.name,
        "passed": tested.passed,
        "tests": [
            {
                "name": verdict.case.name,
                "passed": not verdict.differences,
                "where": tested.trial.suite.marks[verdict.case.name],
                "differences": [*verdict.differences],
            }
            for verdict in result.verdicts
        ],
        "rules": result.rules,
        "covered_percent": result.covered_percent,
        "wanted_percent": tested.wanted,
        "uncovered": [{"rule": one.rule, "yes": one.yes, "no": one.no} for one in result.uncovered],
        "changes": tested.mutants,
        "unnoticed": [{"rule": one.rule, "change": one.change} for one in tested.unnoticed],
    }


def _write_junit(file: Path, done: Sequence[Tested]) -> None:
    """One testsuite for each suite; coverage and unnoticed changes are cases of their own."""
    root = ET.Element("testsuites")
    for tested in done:
        name = tested.trial.policy.name
        complaints = [(verdict.case.name, list(verdict.differences)) for verdict in tested.result.verdicts]
        if tested.wanted:
            short = tested.result.covered_percent < tested.wanted
            missing = [f"{one.rule} {one.lacks}" for one in tested.result.uncovered] if short else []
            complaints.append((f"{tested.wanted} % of the rules are covered", missing))
        if tested.mutants:
            complaints.append(("every change is noticed", [f"{one.rule}: {one.change}" for one in tested.unnoticed]))
        failures = sum(bool(texts) for _, texts in complaints)
        suite = ET.SubElement(
            root, "testsuite", name=name, file=tested.file, tests=str(len(complaints)), failures=str(failures)
        )
        for title, texts in complaints:
            case = ET.SubElement(suite, "testcase", classname=name, name=escape(title), file=tested.file)
            if texts:
                failure = ET.SubElement(case, "failure", message=escape(texts[0]))
                failure.text = "\n".join(map(escape, texts))
    try:
        file.write_bytes(ET.tostring(root, encoding="utf-8", xml_declaration=True))
    except OSError as error:
        raise Problem(f"the report cannot be written ({error.strerror})", id="output", where=str(file)) from error
