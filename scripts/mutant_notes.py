"""Mutants that no test notices: `scripts/mutants/MODULE.toml` says why, and MODULE.json what a run measured."""

import json
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol, cast

NOTES = Path(__file__).parent / "mutants"

_KEYS = {"inside", "line", "change", "nth", "why"}


class Change(Protocol):
    """What a note needs to know of a mutant."""

    @property
    def inside(self) -> str:
        """The function it is in; empty for what an import evaluates."""
        ...

    @property
    def text(self) -> str:
        """The line as it stands in the source."""
        ...

    @property
    def change(self) -> str:
        """What is changed in it."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """Why no test notices a mutant."""

    why: str
    same: bool
    """Whether the mutant changes nothing that a test could notice; such a one is not counted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Survivor:
    """A mutant that a whole run left alive."""

    inside: str
    line: str
    change: str
    why: str
    same: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """What a run over all mutants of a module measured."""

    module: str
    date: str
    command: str
    mutants: int
    noticed: int
    survivors: tuple[Survivor, ...]

    @property
    def excused(self) -> int:
        """How many of the survivors change nothing."""
        return sum(one.same for one in self.survivors)

    @property
    def rate(self) -> float:
        """The share that was noticed of those that a test could notice."""
        counted = self.mutants - self.excused
        return self.noticed / counted if counted else 1.0


class StaleNoteError(Exception):
    """A note is about no mutant, or about one that has a note already, or is not written as notes are."""


def notes_of(module: str, mutants: Sequence[Change], folder: Path = NOTES) -> dict[int, Note]:
    """Tell the note of each mutant that has one, by the mutant's place in the list."""
    path = folder / f"{module}.toml"
    if not path.is_file():
        return {}
    held = tomllib.loads(path.read_text(encoding="utf-8"))
    if not held.keys() <= {"same", "left"}:
        raise StaleNoteError(f"{path.name} has the tables `same` and `left`, and no other")
    notes: dict[int, Note] = {}
    for kind in ("same", "left"):
        for row in cast("list[dict[str, Any]]", held.get(kind, [])):
            for number in _meant(path.name, row, mutants):
                if number in notes:
                    raise StaleNoteError(f"{path.name}: two notes are about one mutant: {row}")
                notes[number] = Note(why=row["why"], same=kind == "same")
    return notes


def _meant(name: str, row: Mapping[str, Any], mutants: Sequence[Change]) -> list[int]:
    if not row.keys() <= _KEYS or not row.get("why") or not isinstance(row.get("inside"), str):
        raise StaleNoteError(f"{name}: a note has inside, line, change, why and at most nth: {row}")
    about = (row["inside"], row.get("line"), row.get("change"))
    found = [number for number, one in enumerate(mutants) if (one.inside, one.text, one.change) == about]
    nth = row.get("nth")
    chosen = found if nth is None else found[nth - 1 : nth]
    if not chosen:
        raise StaleNoteError(f"{name}: no mutant is like this any more, so the note goes or is mended: {row}")
    return chosen


def keep(figure: Figure, folder: Path = NOTES) -> None:
    """Write down what a run measured."""
    text = json.dumps({**asdict(figure), "survivors": [asdict(one) for one in figure.survivors]}, indent=1)
    (folder / f"{figure.module}.json").write_text(f"{text}\n", encoding="utf-8")


def figures(folder: Path = NOTES) -> list[Figure]:
    """Tell what was measured last, in the order of the modules' names."""
    found: list[Figure] = []
    for path in sorted(folder.glob("*.json")):
        held = json.loads(path.read_text(encoding="utf-8"))
        survivors = tuple(Survivor(**one) for one in held.pop("survivors"))
        found.append(Figure(**held, survivors=survivors))
    return found
