"""What every mapping in a policy file is read by, and where in the file each of its errors stands."""

import re
from typing import Annotated, ClassVar, Literal, Self, TypeVar, cast, get_args, get_origin

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator
from pydantic_core import ErrorDetails

from soothsayer_mcp.adapters.policy_files.documents.fields import bad, cut
from soothsayer_mcp.adapters.policy_files.positions import Pairs, Path, mark_of, plain
from soothsayer_mcp.adapters.policy_files.problems import Problem, nearest
from soothsayer_mcp.model.json import JsonObject


class Document(BaseModel):
    """A mapping whose keys are all known, with at least one of them said."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    later: ClassVar[frozenset[str]] = frozenset()
    """Keys of the language that this version does not have."""

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        # `who:` with nothing below it would want nothing of anybody.
        if not self.model_fields_set:
            raise bad("value", "at least one key is due")
        return self

    def stated(self) -> JsonObject:
        """The keys that are there, as JSON."""
        return cast("JsonObject", self.model_dump(mode="json", by_alias=True, exclude_unset=True))


Model = TypeVar("Model", bound=Document)


def validate(model: type[Model], tree: Pairs, file: str) -> tuple[Model | None, list[Problem]]:
    """Check a file against a model: the document, or everything that is wrong with it."""
    try:
        return model.model_validate(plain(tree)), []
    except ValidationError as error:
        return None, [_problem(detail, tree, file, model) for detail in error.errors(include_url=False)]


_EXPECTED = re.compile(r"'([^']*)'")
_TYPES = {
    "string_type": "a text is due; quote it",
    "int_type": "a whole number is due",
    "bool_type": "true or false is due",
    "list_type": "a list is due",
    "dict_type": "keys and values are due",
    "model_type": "keys and values are due",
    "model_attributes_type": "keys and values are due",
    "too_short": "at least one is due",
    "greater_than_equal": "the number is too small",
    "less_than_equal": "the number is too large",
}


def _problem(detail: ErrorDetails, tree: Pairs, file: str, root: type[Document]) -> Problem:
    path: Path = tuple(step for step in detail["loc"] if step != "[key]")
    kind = detail["type"]
    word = str(path[-1]) if path else ""
    if kind == "extra_forbidden":
        model = _model_at(root, path[:-1])
        mark = mark_of(tree, path, key=True)
        if model is not None and word in model.later:
            text = f'"{word}" is not supported yet: this version does not have it'
            return Problem(file=file, mark=mark, id="policy-key", text=text)
        near = nearest(word, [] if model is None else _keys(model))
        return Problem(file=file, mark=mark, id="policy-key", text=f'unknown key "{word}"', nearest=near)
    mark = mark_of(tree, path)
    if kind == "missing":
        return Problem(file=file, mark=mark_of(tree, path[:-1]), id="policy-key", text=f'the key "{word}" is missing')
    if kind == "literal_error":
        expected = _EXPECTED.findall(str(detail.get("ctx", {}).get("expected", "")))
        given = detail["input"]
        text = f"{cut(given)} is none of {', '.join(expected) or 'true'}"
        return Problem(file=file, mark=mark, id="policy-key", text=text, nearest=nearest(str(given), expected))
    if kind.startswith("policy-"):
        return Problem(file=file, mark=mark, id=kind, text=detail["msg"])
    return Problem(file=file, mark=mark, id="policy-type", text=_TYPES.get(kind, detail["msg"]))


def _keys(model: type[Document]) -> list[str]:
    return [field.alias or name for name, field in model.model_fields.items()]


def _model_at(root: type[Document], path: Path) -> type[Document] | None:
    """The model that a position in the file is read by."""
    model: object = root
    for step in path:
        model = _step(model, step)
    return _as_model(model)


def _step(annotation: object, step: str | int) -> object:
    model = _as_model(annotation)
    if model is not None:
        fields = {field.alias or name: field.annotation for name, field in model.model_fields.items()}
        return fields.get(str(step))
    for part in _parts(annotation):
        if get_origin(part) in {list, dict}:
            return get_args(part)[-1]
    return None


def _as_model(annotation: object) -> type[Document] | None:
    for part in _parts(annotation):
        if isinstance(part, type) and get_origin(part) is None and issubclass(part, Document):
            return part
    return None


def _parts(annotation: object) -> list[object]:
    """Look through `Annotated` and unions."""
    if get_origin(annotation) is Annotated:
        return _parts(get_args(annotation)[0])
    if get_origin(annotation) in {list, dict, Literal}:
        return [annotation]
    inner = get_args(annotation)
    return [part for one in inner for part in _parts(one)] if inner else [annotation]
