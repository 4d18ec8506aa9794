from pathlib import Path

import pytest

from policy_kit import effect, policy_from
from soothsayer_mcp.adapters.patterns import to_ascii
from soothsayer_mcp.policy.addresses import host_pattern, read_host, read_target
from soothsayer_mcp.policy.answers import Unsure


def allows(folder: Path, matchers: str, url: str) -> bool:
    policy = policy_from(f'default: deny\nrules: [{{allow: "There.", args: {{url: {matchers}}}}}]\n', folder)
    return effect(policy, "web.get", {"url": url}) == "allow"


def denies(folder: Path, matchers: str, url: str) -> bool:
    policy = policy_from(f'default: allow\nrules: [{{deny: "There.", args: {{url: {matchers}}}}}]\n', folder)
    return effect(policy, "web.get", {"url": url}) == "deny"


METADATA = [
    "http://169.254.169.254/latest/meta-data",
    "[::ffff:169.254.169.254]",
    "http://[::ffff:a9fe:a9fe]/",
    "2852039166",
    "0xa9fea9fe",
    "http://0xA9.0xFE.0xA9.0xFE/",
    "0251.0376.0251.0376",
    "169.254.43518",
    "169.16689662",
    "169.254.169.254.",
    "a@169.254.169.254.:80",
    "http://a:b@169.254.169.254/",
    "http://169.254.169.254:80/",
    "169.254.169.254:80",
    "http:\\\\169.254.169.254",
    "http:/169.254.169.254",
    "http://169。254。169。254/",
    "http://¹⁶⁹.254.169.254/",
    "http://169.254.169.254\t/",
    " http://169.254.169.254/",
    "http://169.254.169.254%00.example.com/",
]


@pytest.mark.pitfall("P-POLICY-10")
@pytest.mark.parametrize("url", METADATA)
def test_no_spelling_of_an_address_gets_past_a_deny(tmp_path: Path, url: str) -> None:
    assert denies(tmp_path, '{cidr: "169.254.0.0/16"}', url)
    assert not allows(tmp_path, "{host: example.com}", url)


@pytest.mark.pitfall("P-POLICY-10")
@pytest.mark.parametrize(
    "url",
    [
        "example.com.evil.test",
        "evil.test/?example.com",
        "https://evil.test/example.com",
        "https://evil.test#example.com",
        "https://evil.test?x=https://example.com",
        "https://example.com@evil.test/",
        "https://evil.test\\@example.com/",
        "https://evil.test\\.example.com/",
        "https://notexample.com/",
        "https://example.com%2eevil.test/",
        "https:example.com",
        "//example.com/x",
        "https:///example.com",
        "javascript:example.com",
        "https://exa mple.com",
        "https://example.com:99999/",
        "https://example.com:80:80/",
        "https://[example.com]/",
        "https://example..com/",
        "https://-example.com/",
        "https://example.com..",
        "",
    ],
)
def test_an_allowed_host_is_that_host_and_no_other(tmp_path: Path, url: str) -> None:
    assert not allows(tmp_path, "{host: example.com}", url)


@pytest.mark.parametrize(
    "url",
    [
        "example.com",
        "EXAMPLE.com.",
        "https://example.com",
        "https://example.com:8443/a?b#c",
        "HTTPS://Example.COM/",
        "example.com:443",
        "https://\uff45\uff58\uff41mple.com/",
    ],
)
def test_one_host_has_one_normal_form(tmp_path: Path, url: str) -> None:
    assert allows(tmp_path, "{host: example.com}", url)
    assert denies(tmp_path, "{host: example.com}", url)


@pytest.mark.parametrize("url", ["https://10.0.0.1/", "http://169.254.169.254/", "http://[::1]/", "10.0.0.1"])
def test_a_host_that_is_a_name_is_no_address(tmp_path: Path, url: str) -> None:
    target = read_target(url, to_ascii)
    assert not isinstance(target, Unsure)
    # Exactly false: what compares a text with an address by itself may answer NotImplemented, which counts as true.
    assert [host_pattern("acme.test", to_ascii)(host) for host in target.hosts] == [False] * len(target.hosts)
    assert not allows(tmp_path, "{host: acme.test}", url)
    assert not denies(tmp_path, "{host: acme.test}", url)


def test_a_host_that_is_an_address_is_no_name(tmp_path: Path) -> None:
    assert host_pattern("10.0.0.1", to_ascii)("acme.test") is False
    assert not allows(tmp_path, "{host: 10.0.0.1}", "https://acme.test/")


def test_a_star_stands_for_everything_below_a_host_and_not_for_itself(tmp_path: Path) -> None:
    assert allows(tmp_path, '{host: "*.acme.test"}', "https://a.b.acme.test/")
    assert not allows(tmp_path, '{host: "*.acme.test"}', "https://acme.test/")
    assert not denies(tmp_path, '{host: "*.acme.test"}', "https://acme.test/")
    assert not allows(tmp_path, '{host: "*.acme.test"}', "https://xacme.test/")


def test_international_names_compare_in_ascii(tmp_path: Path) -> None:
    assert allows(tmp_path, '{host: "bücher.example"}', "https://xn--bcher-kva.example/")
    assert allows(tmp_path, "{host: xn--bcher-kva.example}", "https://BÜCHER.example/")
    assert not allows(tmp_path, "{host: example.com}", "https://еxample.com/")  # noqa: RUF001 - a Cyrillic letter
    assert not denies(tmp_path, "{host: example.com}", "https://еxample.com/")  # noqa: RUF001 - a Cyrillic letter


def test_where_programs_disagree_on_an_octal_number_both_readings_count(tmp_path: Path) -> None:
    assert denies(tmp_path, '{cidr: "10.0.0.0/8"}', "010.0.0.1")
    assert denies(tmp_path, '{cidr: "8.0.0.0/8"}', "010.0.0.1")
    assert not allows(tmp_path, '{cidr: "10.0.0.0/8"}', "010.0.0.1")
    assert allows(tmp_path, '{cidr: "10.0.0.0/8"}', "10.0.0.1")


@pytest.mark.parametrize(
    ("url", "private"),
    [
        ("http://10.1.2.3/", True),
        ("http://127.0.0.1:8080/", True),
        ("http://[::1]/", True),
        ("http://[fd00::1]/", True),
        ("http://[::ffff:192.168.0.1]/", True),
        ("http://0.0.0.0/", True),
        ("http://0/", True),
        ("http://localhost/", True),
        ("http://app.localhost./", True),
        ("http://224.0.0.1/", True),
        ("http://8.8.8.8/", False),
        ("http://[2606:4700:4700::1111]/", False),
        ("http://example.com/", False),
    ],
)
def test_private_is_what_is_not_globally_routable(tmp_path: Path, url: str, private: bool) -> None:
    assert denies(tmp_path, "{cidr: private}", url) is private


def test_an_allow_by_network_rests_on_no_name(tmp_path: Path) -> None:
    assert not allows(tmp_path, '{cidr: "127.0.0.0/8"}', "http://localhost/")
    assert allows(tmp_path, '{cidr: "127.0.0.0/8"}', "http://127.1/")
    assert allows(tmp_path, '{cidr: "::1/128"}', "http://[0:0:0:0:0:0:0:1]/")


@pytest.mark.parametrize(
    ("url", "wanted"),
    [
        ("https://a.test/", True),
        ("HTTPS://a.test/", True),
        ("http://a.test/", False),
        ("ftp:x", False),
    ],
)
def test_a_scheme_is_compared_without_case(tmp_path: Path, url: str, wanted: bool) -> None:
    assert allows(tmp_path, "{scheme: https}", url) is wanted
    assert denies(tmp_path, "{scheme: https}", url) is wanted


@pytest.mark.parametrize("url", ["a.test", "localhost:80", "java\nscript:x", "https\t://a.test"])
def test_a_scheme_that_cannot_be_told_is_a_doubt(tmp_path: Path, url: str) -> None:
    assert not allows(tmp_path, "{scheme: https}", url)
    assert denies(tmp_path, "{scheme: https}", url)


def test_a_port_is_the_one_written_or_the_schemes_own(tmp_path: Path) -> None:
    assert allows(tmp_path, "{port: 443}", "https://a.test/")
    assert allows(tmp_path, "{port: [80, 8443]}", "https://a.test:8443/")
    assert not allows(tmp_path, "{port: 443}", "https://a.test:80/")
    assert not allows(tmp_path, "{port: 443}", "a.test")
    assert denies(tmp_path, "{port: 443}", "a.test")


@pytest.mark.parametrize(
    "text", ["", "a" * 64 + ".test", "a." * 130 + "test", "1.2.3.4.5", "256.1.1.1", "1.2.3.256", "08.1"]
)
def test_what_is_no_host_is_a_doubt(text: str) -> None:
    assert isinstance(read_host(text, to_ascii), Unsure)


def test_hosts_are_read_in_time_linear_in_the_text() -> None:
    for text in ("http://" + "a." * 100_000, "@" * 200_000, "[" * 200_000, "é" * 200_000, "1" * 200_000, ":" * 200_000):
        assert isinstance(read_target(text, to_ascii), Unsure)
