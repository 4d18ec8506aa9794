"""What `policy check` found, in the forms that code hosts and editors read."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

from soothsayer_mcp import __version__
from soothsayer_mcp.cli.policy_test import ENDING
from soothsayer_mcp.cli.problems import Problem
from soothsayer_mcp.model.json import Json
from soothsayer_mcp.policy.lint import Flaw


def untested(files: Sequence[str]) -> tuple[Flaw, ...]:
    """The policy files, of those that are no packaged ones, that have no tests beside them."""
    return tuple(
        Flaw(rule=file, id="policy-untested", text=f"no test tries it: there is no {_suite(path).name} beside it")
        for file in files
        if (path := Path(file)).is_file() and not _suite(path).is_file()
    )


def _suite(policy: Path) -> Path:
    return policy.with_name(policy.name.removesuffix(".yaml") + ENDING)


def github(problems: Iterable[Problem], doubtful: Iterable[Flaw], file: str) -> str:
    """A workflow command a line, which GitHub shows beside the changed lines."""
    lines: list[str] = []
    for problem in problems:
        path, line, column = _place(problem.where)
        place = f"file={_property(path)},line={line},col={column}" if path else ""
        lines.append(f"::error {place},title={problem.id}::{_message(problem.text)}")
    lines += [
        f"::warning file={_property(file)},title={flaw.id}::{_message(f'{flaw.rule}: {flaw.text}')}"
        for flaw in doubtful
    ]
    return "".join(f"{line}\n" for line in lines)


def sarif(problems: Iterable[Problem], doubtful: Iterable[Flaw], file: str) -> str:
    """One run of SARIF 2.1.0, which code scanning takes."""
    results = [_result(problem.id, "error", problem.text, _place(problem.where)) for problem in problems]
    results += [_result(flaw.id, "warning", f"{flaw.rule}: {flaw.text}", (file, 1, 1)) for flaw in doubtful]
    ids = sorted({str(result["ruleId"]) for result in results})
    driver: Json = {"name": "soothsayer", "version": __version__, "rules": [{"id": one} for one in ids]}
    document: Json = {
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{"tool": {"driver": driver}, "results": [*results]}],
    }
    return json.dumps(document, indent=2) + "\n"


def _result(rule: str, level: str, text: str, place: tuple[str, int, int]) -> dict[str, Json]:
    path, line, column = place
    where: Json = {
        "physicalLocation": {
            "artifactLocation": {"uri": Path(path).as_posix()},
            "region": {"startLine": line, "startColumn": column},
        }
    }
    return {"ruleId": rule, "level": level, "message": {"text": text}, "locations": [where] if path else []}


def _place(where: str) -> tuple[str, int, int]:
    """Take `FILE:LINE:COLUMN` apart, as far as it goes."""
    path, numbers = where, list[int]()
    while len(numbers) < 2 and (cut := path.rpartition(":"))[0] and cut[2].isdecimal():  # noqa: PLR2004 - line, column
        path = cut[0]
        numbers.insert(0, int(cut[2]))
    return path, numbers[0] if numbers else 1, numbers[1] if len(numbers) > 1 else 1


def _message(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _message(text).replace(":", "%3A").replace(",", "%2C")


_Report: TypeAlias = Callable[[Iterable[Problem], Iterable[Flaw], str], str]
REPORTS: Mapping[str, _Report] = {"github": github, "sarif": sarif}
FORMATS = ("text", *REPORTS)
