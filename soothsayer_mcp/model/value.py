"""Dataclasses that are cheap to declare: what the standard library would compile at import is made at first use.

A proxy declares over two hundred of them before its first answer and uses a third. Each costs the standard library six
compilations; here it costs none until it is constructed, and then one.
"""

import dataclasses
import reprlib
from collections.abc import Callable, Mapping
from dataclasses import MISSING, Field, FrozenInstanceError
from operator import attrgetter
from types import MemberDescriptorType
from typing import Any, NoReturn, TypeVar, cast, dataclass_transform

_Class = TypeVar("_Class")


@dataclass_transform(field_specifiers=(dataclasses.field,))
def dataclass(
    *, frozen: bool = False, slots: bool = False, kw_only: bool = False, eq: bool = True
) -> Callable[[type[_Class]], type[_Class]]:
    """Do what `dataclasses.dataclass` does; `fields` and `replace` of the standard library work on what it makes."""

    def made(cls: type[_Class]) -> type[_Class]:
        own = set(cls.__dict__)
        declare = dataclasses.dataclass(init=False, repr=False, eq=False, slots=slots, kw_only=kw_only)
        made = declare(cls)
        every = cast("Mapping[str, Field[Any]]", getattr(made, "__dataclass_fields__"))  # noqa: B009 - for pyright
        fields = [one for one in every.values() if getattr(one, "_field_type").name == "_FIELD"]  # noqa: B009 - the same
        members: dict[str, object] = {"__init__": _at_first_use(made, fields, frozen=frozen)}
        if "__repr__" not in own:
            members["__repr__"] = _repr
        if eq:
            members |= _compared(tuple(one.name for one in fields if one.compare), own, frozen=frozen)
        if frozen:
            members |= {"__setattr__": _refuse_set, "__delattr__": _refuse_delete}
        if frozen and slots:
            members |= {"__getstate__": _get_state, "__setstate__": _set_state}
        for name, member in members.items():
            setattr(made, name, member)
        return made

    return made


def _at_first_use(cls: type, fields: list[Field[Any]], *, frozen: bool) -> Callable[..., None]:
    def first(self: object, /, *args: object, **named: object) -> None:
        real = _constructor(cls, fields, frozen=frozen)
        setattr(cls, "__init__", real)  # noqa: B010 - a plain assignment does not type-check
        real(self, *args, **named)

    return first


def _constructor(cls: type, fields: list[Field[Any]], *, frozen: bool) -> Callable[..., None]:
    """Compile the constructor of a class, as the standard library would have."""
    after = getattr(cls, "__post_init__", None)
    known: dict[str, object] = {"_missing": MISSING, "_set": object.__setattr__}
    positional: list[str] = []
    named: list[str] = []
    lines: list[str] = []
    for one in fields:
        name, value = one.name, one.name
        if one.default_factory is not MISSING:
            known[f"_make_{name}"] = one.default_factory
            value = f"_make_{name}() if {name} is _missing else {name}" if one.init else f"_make_{name}()"
            spelled = f"{name}=_missing"
        elif one.default is not MISSING:
            known[f"_default_{name}"] = one.default
            value = name if one.init else f"_default_{name}"
            spelled = f"{name}=_default_{name}"
        else:
            spelled = name
        if one.init:
            (named if one.kw_only else positional).append(spelled)
            lines.append(_assignment(cls, name, value, known, frozen=frozen))
        elif value != name:
            lines.append(_assignment(cls, name, value, known, frozen=frozen))
    if after is not None:
        lines.append("self.__post_init__()")
    takes = ", ".join(["self", *positional, *(["*", *named] if named else [])])
    text = "\n ".join([f"def __init__({takes}):", *(lines or ["pass"])])
    exec(text, known)  # noqa: S102 - made of the names of a class of ours, as the standard library makes it
    made = cast("Callable[..., None]", known["__init__"])
    made.__qualname__ = f"{cls.__qualname__}.__init__"
    return made


def _assignment(cls: type, name: str, value: str, known: dict[str, object], *, frozen: bool) -> str:
    if not frozen:
        return f"self.{name} = {value}"
    slot = getattr(cls, name, None)
    if isinstance(slot, MemberDescriptorType):
        known[f"_set_{name}"] = slot.__set__
        return f"_set_{name}(self, {value})"
    return f"_set(self, {name!r}, {value})"


def _compared(names: tuple[str, ...], own: set[str], *, frozen: bool) -> dict[str, object]:
    """Comparing, and hashing what does not change, by all members at once."""
    values = _values_of(names)

    def same(self: object, other: object) -> bool:
        if other.__class__ is self.__class__:
            return values(self) == values(other)
        return NotImplemented

    def hashed(self: object) -> int:
        return hash(values(self))

    members: dict[str, object] = {}
    if "__eq__" not in own:
        members["__eq__"] = same
        if "__hash__" not in own:
            members["__hash__"] = hashed if frozen else None
    elif "__hash__" not in own and frozen:
        members["__hash__"] = hashed
    return members


def _values_of(names: tuple[str, ...]) -> Callable[[object], tuple[object, ...]]:
    if len(names) > 1:
        return attrgetter(*names)
    if not names:
        return lambda _self: ()
    (name,) = names
    return lambda self: (getattr(self, name),)


@reprlib.recursive_repr()
def _repr(self: object) -> str:
    shown = [f"{one.name}={getattr(self, one.name)!r}" for one in _fields(self) if one.repr]
    return f"{self.__class__.__qualname__}({', '.join(shown)})"


def _refuse_set(self: object, name: str, value: object) -> NoReturn:
    del self, value
    raise FrozenInstanceError(f"cannot assign to field {name!r}")


def _refuse_delete(self: object, name: str) -> NoReturn:
    del self
    raise FrozenInstanceError(f"cannot delete field {name!r}")


def _get_state(self: object) -> list[object]:
    return [getattr(self, one.name) for one in _fields(self)]


def _set_state(self: object, state: list[object]) -> None:
    for one, value in zip(_fields(self), state, strict=True):
        object.__setattr__(self, one.name, value)


def _fields(self: Any) -> tuple[Field[Any], ...]:
    return dataclasses.fields(self)
