"""What `model.value.dataclass` makes is what the standard library makes, made later."""

import copy
import dataclasses
from collections.abc import Callable
from dataclasses import FrozenInstanceError, field
from typing import Any

import pytest

from soothsayer_mcp.model.value import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """Two numbers and a list."""

    x: int
    y: int = 2
    seen: list[int] = field(default_factory=list[int])
    note: str = field(default="", compare=False, repr=False)


@dataclass(frozen=True, kw_only=True)
class Base:
    """Has a dictionary."""

    a: int


@dataclass(frozen=True, kw_only=True)
class Later(Base):
    """Learned one thing more."""

    b: tuple[int, ...] = ()


@dataclass(slots=True)
class Changing:
    """Takes its members by position."""

    first: int
    second: str = "s"
    made: list[str] = field(default_factory=list[str], init=False)
    fixed: int = field(default=7, init=False)


@dataclass(frozen=True, slots=True)
class Checked:
    """Looks at itself when it is made."""

    low: int
    high: int

    def __post_init__(self) -> None:
        if self.low > self.high:
            raise ValueError(self.low)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Alone:
    """Is only itself."""

    x: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Own:
    """Compares and shows itself in its own way."""

    x: int

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Own)

    def __hash__(self) -> int:
        return 5

    def __repr__(self) -> str:
        return "own"


@dataclass(frozen=True, slots=True)
class Nothing:
    """Has no members."""


def test_members_get_what_was_given_or_their_defaults() -> None:
    point = Point(x=1)
    assert (point.x, point.y, point.seen, point.note) == (1, 2, [], "")
    assert Point(x=1, y=5, seen=[3], note="n").seen == [3]
    assert Point(x=1).seen is not Point(x=1).seen
    changing = Changing(1)
    assert (changing.first, changing.second, changing.made, changing.fixed) == (1, "s", [], 7)
    assert Changing(1, "t") == Changing(first=1, second="t")


@pytest.mark.parametrize(
    "make",
    [
        Point,
        lambda: Point(x=1, z=2),  # pyright: ignore[reportCallIssue]
        lambda: Point(1),  # pyright: ignore[reportCallIssue]
        lambda: Changing(1, made=[]),  # pyright: ignore[reportCallIssue]
        lambda: Nothing(1),  # pyright: ignore[reportCallIssue]
    ],
)
def test_what_no_member_takes_is_refused(make: Callable[[], object]) -> None:
    for _ in range(2):  # the first construction and every later one
        with pytest.raises(TypeError):
            make()


@pytest.mark.parametrize("value", [Point(x=1), Later(a=1), Checked(1, 2)])
def test_what_is_frozen_stays_as_it_is(value: Any) -> None:
    name = dataclasses.fields(value)[0].name
    with pytest.raises(FrozenInstanceError):
        setattr(value, name, 9)
    with pytest.raises(FrozenInstanceError):
        delattr(value, name)
    with pytest.raises(FrozenInstanceError):
        value.other = 9


def test_what_is_not_frozen_changes_and_has_no_hash() -> None:
    changing = Changing(1)
    changing.first = 4
    assert changing.first == 4
    with pytest.raises(TypeError):
        hash(changing)
    with pytest.raises(AttributeError):
        changing.other = 1  # pyright: ignore[reportAttributeAccessIssue]


def test_equal_are_values_of_one_class_with_equal_members() -> None:
    assert Later(a=1, b=(2,)) == Later(a=1, b=(2,))
    assert hash(Later(a=1, b=(2,))) == hash(Later(a=1, b=(2,)))
    assert Later(a=1) != Later(a=2)
    assert Base(a=1) != Later(a=1)
    assert Base(a=1) == Base(a=1)
    assert hash(Base(a=1)) == hash(Base(a=1))
    assert Point(x=1, note="a") == Point(x=1, note="b")
    assert Nothing() == Nothing()
    assert hash(Nothing()) == hash(Nothing())
    assert Alone() != Alone()
    assert len({Alone(), Alone()}) == 2
    assert Own(x=1) == Own(x=2)
    assert hash(Own(x=1)) == 5


def test_they_show_their_members() -> None:
    assert repr(Point(x=1)) == "Point(x=1, y=2, seen=[])"
    assert repr(Later(a=1, b=(2,))) == "Later(a=1, b=(2,))"
    assert repr(Own(x=1)) == "own"
    assert repr(Nothing()) == "Nothing()"


def test_the_standard_library_takes_them_for_its_own() -> None:
    assert dataclasses.is_dataclass(Point)
    assert [one.name for one in dataclasses.fields(Later)] == ["a", "b"]
    assert dataclasses.replace(Point(x=1, seen=[2]), x=3) == Point(x=3, seen=[2])
    assert dataclasses.asdict(Later(a=1, b=(2,))) == {"a": 1, "b": (2,)}
    with pytest.raises(ValueError, match="5"):
        dataclasses.replace(Checked(1, 2), low=5)


@pytest.mark.parametrize("value", [Point(x=1, seen=[2]), Later(a=1, b=(2,)), Changing(3), Nothing()])
def test_they_are_copied(value: object) -> None:
    assert copy.copy(value) == value
    assert copy.deepcopy(value) == value


def test_frozen_slots_give_and_take_their_state() -> None:
    taken: Any = Point.__new__(Point)
    taken.__setstate__(Point(x=1, seen=[2]).__getstate__())
    assert taken == Point(x=1, seen=[2])


def test_they_are_matched_by_position_and_by_name() -> None:
    match Changing(1, "t"):
        case Changing(first, "t"):
            assert first == 1
        case _:
            pytest.fail("no match")
    match Point(x=1):
        case Point(x=1, y=y):
            assert y == 2
        case _:
            pytest.fail("no match")


def test_slots_leave_no_room_for_a_dictionary() -> None:
    assert not hasattr(Point(x=1), "__dict__")
    assert hasattr(Later(a=1), "__dict__")
