"""Owners of URIs among several servers."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from soothsayer_mcp.model.json import Json
from soothsayer_mcp.proxy import resources
from soothsayer_mcp.proxy.resources import Owners, Template, TemplateError


@pytest.mark.parametrize(
    ("template", "fits", "does_not"),
    [
        ("file:///{name}", ["file:///a.txt", "file:///a:b,c"], ["file:///", "file:///a/b", "file:///a?q", "file:/a"]),
        ("file:///{+path}", ["file:///a", "file:///a/b?c#d"], ["file:///", "http:///a"]),
        ("db://{t}/rows/{id}", ["db://t/rows/7"], ["db://t/rows/", "db://t/cols/7", "db://t/x/rows/7"]),
        ("w://c{?q,lang}", ["w://c", "w://c?q=1", "w://c?q=1&lang=de"], ["w://cc", "w://c#q"]),
        ("w://c?a=1{&b}", ["w://c?a=1", "w://c?a=1&b=2"], ["w://c", "w://c?a=1#b"]),
        ("w://c{#part}", ["w://c", "w://c#x/y"], ["w://cx"]),
        ("w://c{/a,b}", ["w://c", "w://c/x/y"], ["w://cx", "w://c/x?y"]),
        ("w://c{/a*}/end", ["w://c/end", "w://c/x/y/end"], ["w://c/x/y"]),
        ("w://c{/a}", ["w://c", "w://c/x"], ["w://c/x/y"]),
        ("w://c{.ext}", ["w://c", "w://c.tar.gz"], ["w://c/", "w://ctar"]),
        ("w://c{;p,q}", ["w://c", "w://c;p=1;q=2"], ["w://c/p"]),
        ("w://{a:3}", ["w://abc"], ["w://"]),
        ("w://{a}{b}", ["w://xy"], ["w://x"]),
        ("exact://uri", ["exact://uri"], ["exact://uri/", "exact://URI"]),
    ],
)
def test_a_template_fits_what_it_can_expand_to(template: str, fits: list[str], does_not: list[str]) -> None:
    """RFC 6570, each operator."""
    read = Template(template)
    assert [uri for uri in fits if not read.matches(uri)] == []
    assert [uri for uri in does_not if read.matches(uri)] == []


@pytest.mark.parametrize("text", ["a{b", "a}b", "a{}", "a{b{c}}", "{" + ",".join("a" * 40) + "}"])
def test_a_template_that_cannot_be_read_is_an_error(text: str) -> None:
    with pytest.raises(TemplateError):
        Template(text)


@given(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="/?#{}"), min_size=1), min_size=1, max_size=5))
def test_each_expansion_of_a_template_fits_it(values: list[str]) -> None:
    template = "x://" + "/".join(f"{{v{n}}}" for n in range(len(values)))
    uri = "x://" + "/".join(values)
    assert Template(template).matches(uri) == (len(uri) <= resources.URI_LIMIT)


def test_a_template_made_to_be_slow_is_not() -> None:
    """Thirty adjacent variables over the longest URI: polynomial for a regular expression, one pass each here."""
    assert not Template("a://" + "{+v}" * 30 + "!").matches("a://" + "x" * (resources.URI_LIMIT - 4))
    assert not Template("a://{v}").matches("a://" + "x" * resources.URI_LIMIT)


def test_a_list_decides_before_a_link_an_answer_and_a_template() -> None:
    owners = Owners(("one", "two", "three", "four"))
    owners.learn_templates("one", ["x://{name}"])
    assert owners.owner("x://a") == "one"
    owners.learn_answer("two", "x://a")
    assert owners.owner("x://a") == "two"
    owners.learn_result("three", {"content": [{"type": "resource_link", "uri": "x://a", "name": "a"}]})
    assert owners.owner("x://a") == "three"
    owners.learn_listed("four", ["x://a"])
    assert owners.owner("x://a") == "four"


def test_of_two_claims_the_first_in_config_order_has_it() -> None:
    owners = Owners(("one", "two", "three"))
    owners.learn_listed("three", ["x://a", "x://only"])
    owners.learn_listed("two", ["x://a"])
    assert owners.owner("x://a") == "two"


def test_uris_that_only_look_alike_are_different() -> None:
    owners = Owners(("one", "two"))
    owners.learn_listed("one", ["file:///etc/motd"])
    for other in (
        "file://_etc/motd",
        "file:///etc/motd/",
        "FILE:///etc/motd",
        "file:///etc/%6dotd",
        "file:///etc/motd ",
    ):
        assert owners.owner(other) is None
        assert owners.candidates(other, ("two", "one")) == ("one", "two")


@pytest.mark.parametrize(
    "result",
    [
        {"content": [{"type": "text", "text": "x"}, {"type": "resource", "resource": {"uri": "x://a", "text": ""}}]},
        {"content": [{"type": "resource_link", "uri": "x://a"}]},
        {"messages": [{"role": "user", "content": {"type": "resource_link", "uri": "x://a"}}]},
        {"messages": [{"role": "user", "content": [{"type": "resource", "resource": {"uri": "x://a"}}]}]},
        {"contents": [{"uri": "x://a", "text": ""}]},
    ],
)
def test_links_and_embedded_resources_name_their_owner(result: Json) -> None:
    owners = Owners(("one", "two"))
    owners.learn_result("two", result)
    assert owners.candidates("x://a", ("one", "two")) == ("two",)


@pytest.mark.parametrize("result", [None, 7, [], {}, {"content": 7}, {"content": [7, {"type": "resource"}]}])
def test_a_result_of_any_shape_is_survived(result: Json) -> None:
    assert list(resources.linked_uris(result)) == []


def test_nobody_is_asked_for_a_uri_of_our_own_and_nobody_can_claim_one() -> None:
    owners = Owners(("one",))
    owners.learn_result("one", {"content": [{"type": "resource_link", "uri": "Soothsayer:digest/x"}]})
    assert owners.owner("Soothsayer:digest/x") is None
    assert owners.candidates("soothsayer:digest/x", ("one",)) == ()


def test_unclaimed_uris_are_asked_of_those_that_have_resources_in_config_order() -> None:
    owners = Owners(("one", "two", "three"))
    assert owners.candidates("x://a", {"three", "one"}) == ("one", "three")
    assert [code for code in (-32602, -32002, -32603, None, True, "x") if resources.is_not_mine(code)] == [
        -32602,
        -32002,
    ]


def test_changed_lists_void_what_was_listed_and_keep_what_was_linked() -> None:
    owners = Owners(("one",))
    owners.learn_listed("one", ["x://listed"])
    owners.learn_templates("one", ["t://{a}"])
    owners.learn_result("one", {"content": [{"type": "resource_link", "uri": "x://linked"}]})
    owners.void_lists("one")
    assert owners.owner("x://listed") is None
    assert owners.owner("t://1") is None
    assert owners.owner("x://linked") == "one"


def test_remembered_links_are_bounded_and_the_oldest_go_first() -> None:
    owners = Owners(("one",))
    blocks: Json = [{"type": "resource_link", "uri": f"x://{n}"} for n in range(resources.LINKED_LIMIT + 1)]
    owners.learn_result("one", {"content": blocks})
    assert owners.owner("x://0") is None
    assert owners.owner("x://1") == "one"


def test_a_completion_goes_to_the_server_that_lists_its_template() -> None:
    owners = Owners(("one", "two"))
    assert owners.learn_templates("one", ["broken{", "x://{a}"]) == ("broken{",)
    owners.learn_templates("two", ["x://{b}"])
    assert owners.template_owner("x://{b}") == "two"
    assert owners.template_owner("x://value") == "one"
    assert owners.template_owner("y://{b}") is None
