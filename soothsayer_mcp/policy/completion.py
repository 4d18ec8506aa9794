"""What `complete: {require: ...}` asks of a run, ready to be looked up. Arguments of calls have no part in it."""

from collections.abc import Iterable

from soothsayer_mcp.model.dues import Item
from soothsayer_mcp.model.json import Json, canonical
from soothsayer_mcp.policy.dues import NO_ARGUMENTS, Form, pattern_of
from soothsayer_mcp.policy.paths import Place
from soothsayer_mcp.policy.subjects import last_write, subjects_of


def plan_completion(specs: Iterable[Form], place: Place, places: Iterable[Place]) -> tuple[Item, ...]:
    """Prepare the `step` items; the same one, said twice, once.

    Each server names its files in its own way, and a write through any of them makes the step one that is too old.
    """
    named = [place, *places]
    found: dict[bytes, Item] = {}
    for spec in specs:
        newer = [last_write(text) for text in _texts(spec.get("not_before"))]
        subjects = [
            subject
            for one in newer
            for where in named
            for subject in subjects_of(one, NO_ARGUMENTS, where, where.links, place.root)
        ]
        item = Item(
            kind="step",
            spec=spec,
            rule="complete",
            root=place.root,
            newer_than=tuple(dict.fromkeys(subjects)),
            pattern=pattern_of(spec),
        )
        found.setdefault(canonical(spec), item)
    return tuple(found.values())


def _texts(value: Json) -> list[str]:
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []
