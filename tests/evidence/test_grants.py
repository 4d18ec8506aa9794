from hypothesis import example, given
from hypothesis import strategies as st

from soothsayer_mcp.evidence.grants import bound_to, fits, shape_of
from soothsayer_mcp.model.decision import Decision, Effect, Mode, RuleMatch
from soothsayer_mcp.model.failure import Reason
from soothsayer_mcp.model.json import Digest, Json
from soothsayer_mcp.testing.factories import make_step

scalars = st.none() | st.booleans() | st.integers() | st.text(max_size=6)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
)
names = st.sampled_from(["path", "file", "n", "text"])
paths = st.lists(st.sampled_from(["a", "b", "..", ".", "", "~", "%2e%2e", "c d"]), max_size=5).map("/".join)


@given(st.dictionaries(names, values | paths.map(lambda text: f"/{text}"), max_size=4))
@example({"path": "//"})
def test_a_call_fits_the_shape_made_of_it(arguments: dict[str, Json]) -> None:
    assert fits(shape_of(arguments), arguments)


@given(st.dictionaries(names, values, max_size=4), st.dictionaries(names, values, max_size=4))
def test_without_paths_a_shape_is_one_call(one: dict[str, Json], other: dict[str, Json]) -> None:
    shape = shape_of(one)
    if fits(shape, other) and not any("under" in part for part in shape.values() if isinstance(part, dict)):
        assert one == other


@given(paths, paths)
def test_no_path_outside_the_folder_fits(one: str, other: str) -> None:
    shape = shape_of({"path": f"/srv/{one}/x"})
    arguments: dict[str, Json] = {"path": f"/etc/{other}"}
    assert not fits(shape, arguments) or arguments["path"] == f"/srv/{one}/x"


def test_true_is_no_number_and_a_list_no_text() -> None:
    assert not fits(shape_of({"n": 1}), {"n": True})
    assert not fits(shape_of({"n": 1}), {"n": 1.0})
    assert not fits(shape_of({"path": "/srv/a/b"}), {"path": ["/srv/a/b"]})


def test_a_yes_to_one_rule_answers_no_other_that_asks_later() -> None:
    def asked_by(*rules: str) -> str:
        matches = tuple(RuleMatch(id=rule, effect=Effect.ASK, text="") for rule in rules)
        decision = Decision(
            effect=Effect.ASK,
            reason=Reason.NOBODY_TO_ASK,
            rules=matches,
            mode=Mode.ENFORCE,
            policy_digest=Digest("sha256:00"),
        )
        return bound_to("server", make_step(), decision)

    assert asked_by("p/look", "p/tainted") == asked_by("p/tainted", "p/look")
    assert asked_by("p/look") != asked_by("p/look", "p/tainted")
