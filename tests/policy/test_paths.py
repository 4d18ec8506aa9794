import os
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from policy_kit import RUN, effect, judge, policy_from, step
from soothsayer_mcp.model.decision import Effect
from soothsayer_mcp.model.facts import Facts
from soothsayer_mcp.policy.decide import decide
from soothsayer_mcp.policy.paths import Case, Place, Readings, component, globs, read, resolve, spellings
from soothsayer_mcp.policy.policy import Policy

HERE = Place(root="/w", home="/home/u")
WINDOWS = Place(root="C:/w", home="C:/Users/u", windows=True, case=Case.FOLDED)


def allows(folder: Path, matchers: str, path: str, *, servers: str = "", workspace: str = "/w") -> bool:
    text = f'{servers}default: deny\nrules: [{{allow: "It.", args: {{path: {matchers}}}}}]\n'
    return effect(policy_from(text, folder, workspace=workspace), "fs.read", {"path": path}) == "allow"


def denies(folder: Path, matchers: str, path: str, *, servers: str = "") -> bool:
    text = f'{servers}default: allow\nrules: [{{deny: "It.", args: {{path: {matchers}}}}}]\n'
    return effect(policy_from(text, folder), "fs.read", {"path": path}) == "deny"


def look(paths: Sequence[str]) -> Facts:
    """Look links up on the real file system, as the proxy does."""
    return Facts(links={path: os.path.realpath(path) for path in paths if "\0" not in path})


def decided_here(policy: Policy, path: str) -> str:
    proposed = step("fs.read", {"path": path})
    return decide(policy, RUN, proposed, look(policy.questions(proposed).links)).effect.value


@pytest.mark.parametrize(
    "path",
    [
        "/w-evil/a",
        "/w/../etc/a",
        "/w/%2e%2e/a",
        "/w/%252e%252e/a",
        "/w/%25252e%25252e/a",
        "/w/%2525252e%2525252e/a",
        "/w/..%2fa",
        "/w\\..\\..\\etc",
        "..\\etc\\a",
        "../etc/a",
        "/w/./../etc",
        "//etc/w",
        "/W/a",
        "/etc",
        "~",
        "~/x",
        "~root/x",
        "/w/$HOME",
        "/w/%HOME%/a",
        "/w/a\0b",
        "/w/%00",
        "/w/%ff",
        "file:///etc/a",
        "file://other/w/a",
        "FILE:/etc/a",
        "file:///w/%2e%2e/etc",
    ],
)
def test_no_spelling_leads_out_of_an_allowed_folder(tmp_path: Path, path: str) -> None:
    assert not allows(tmp_path, "{under: /w}", path)


@pytest.mark.parametrize(
    "path",
    [
        "/w/a",
        "/w",
        "a",
        "./a",
        "",
        "a/../b",
        "/w//a",
        "/w/./b",
        "/w/a%20b",
        "/w/x..y",
        "file:///w/a",
        "/w/..a",
        "/w/a/...",
    ],
)
def test_what_is_inside_is_allowed(tmp_path: Path, path: str) -> None:
    assert allows(tmp_path, "{under: /w}", path)


@pytest.mark.parametrize(
    "path",
    [
        "~/.ssh/id",
        "~/.ssh",
        "/home/u/.ssh/id",
        "/home//u/./.ssh/id",
        "/home/x/../u/.ssh/id",
        "../home/u/.ssh/id",
        "%7e/.ssh/id",
        "/home/u/%2essh/id",
        "/home/u/%252essh/id",
        "file:///home/u/.ssh/id",
        "file://localhost/home/u/.ssh/id",
        "\\home\\u\\.ssh\\id",
        "/HOME/u/.SSH/id",
        "$HOME/.ssh/id",
        "~u/.ssh/id",
        '["~/.ssh/id"]',
    ],
)
def test_no_spelling_gets_past_a_denied_folder(tmp_path: Path, path: str) -> None:
    assert denies(tmp_path, '{under: "~/.ssh"}', path)


@pytest.mark.parametrize("path", ["~/.sshx/id", "/home/u/ssh", "/other/.ssh/id", "notes"])
def test_a_denied_folder_is_no_prefix_of_a_text(tmp_path: Path, path: str) -> None:
    assert not denies(tmp_path, '{under: "~/.ssh"}', path)


@pytest.mark.parametrize(
    "path", [".env", ".//.env", "a/.env.local", "/x/.env", "%2eenv", "a/../.env", ".ENV", "./a/.Env.x"]
)
def test_a_glob_sees_dot_files_anywhere(tmp_path: Path, path: str) -> None:
    assert denies(tmp_path, '{glob: ["**/.env", "**/.env.*"]}', path)
    assert not denies(tmp_path, '{glob: ["**/.env", "**/.env.*"]}', "a/.environment")


@pytest.mark.pitfall("P-POLICY-03")
def test_paths_are_compared_through_links_and_by_component(tmp_path: Path) -> None:
    """That a link swapped between decision and dispatch refuses the call is shown in `tests/governor`."""
    work = tmp_path / "w"
    (work / "sub").mkdir(parents=True)
    (tmp_path / "w-evil").mkdir()
    etc = tmp_path / "etc"
    etc.mkdir()
    (work / "link").symlink_to(etc)
    text = """
servers: {fs: {files: local}}
rules:
  - {allow: "In the work tree.", args: {path: {under: "${workspace}"}}}
  - {deny: "No environment files.", args: {path: {glob: "**/.env*"}}}
"""
    policy = policy_from(text, tmp_path, workspace=str(work))
    for outside in (
        f"{tmp_path}/w-evil/a",
        f"{work}/../etc/a",
        f"{work}/%2e%2e/a",
        f"{work}/link/a",
        f"{work}/link/new",
        f"{work}/link/../a",
        "link/a",
        ".env",
        ".//.env",
        "a/.env.local",
    ):
        assert decided_here(policy, outside) != "allow", outside
    for inside in (f"{work}/sub/a", "sub/new/deep", "a", f"{work}/sub/../b"):
        assert decided_here(policy, inside) == "allow", inside


def test_a_workspace_that_is_itself_a_link_still_holds_its_files(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "named").symlink_to(tmp_path / "real")
    text = 'servers: {fs: {files: local}}\nrules: [{allow: "Here.", args: {path: {under: "${workspace}"}}}]\n'
    policy = policy_from(text, tmp_path, workspace=str(tmp_path / "named"))
    assert decided_here(policy, "a") == "allow"
    assert decided_here(policy, f"{tmp_path}/real/a") == "allow"
    assert decided_here(policy, f"{tmp_path}/other/a") == "ask"
    denying = text.replace("rules:", "default: allow\nrules:").replace("allow: ", "deny: ")
    policy = policy_from(denying, tmp_path, workspace=str(tmp_path / "named"))
    assert decided_here(policy, f"{tmp_path}/real/a") == "deny"
    assert decided_here(policy, f"{tmp_path}/other/a") == "allow"


def test_a_link_that_could_not_be_looked_up_is_a_doubt(tmp_path: Path) -> None:
    local = "servers: {{fs: {{files: local}}}}\ndefault: {default}\n"
    text = local + "rules: [{{{head}: x, args: {{path: {{under: {folder}}}}}}}]\n"
    allow = policy_from(text.format(default="deny", head="allow", folder="/w"), tmp_path)
    assert judge(allow, "fs.read", {"path": "/w/a"}, links={"/w/a": "/w/a"}).effect is Effect.ALLOW
    assert judge(allow, "fs.read", {"path": "/w/a"}, links={"/w/a": "/etc/a"}).effect is Effect.DENY
    assert judge(allow, "fs.read", {"path": "/w/a"}).effect is Effect.DENY
    deny = policy_from(text.format(default="allow", head="deny", folder="/etc"), tmp_path)
    assert judge(deny, "fs.read", {"path": "/w/a"}, links={"/w/a": "/w/a"}).effect is Effect.ALLOW
    assert judge(deny, "fs.read", {"path": "/w/a"}, links={"/w/a": "/etc/a"}).effect is Effect.DENY
    assert judge(deny, "fs.read", {"path": "/w/a"}).effect is Effect.DENY


def test_links_are_asked_for_only_where_a_rule_needs_them(tmp_path: Path) -> None:
    text = (
        'servers: {fs: {files: local}, far: {}}\nrules: [{deny: "It.", tools: "*.read", args: {path: {under: /etc}}}]\n'
    )
    policy = policy_from(text, tmp_path)
    assert policy.questions(step("fs.read", {"path": "/w/../a"})).links == ("/a", "/w/../a")
    assert policy.questions(step("fs.read", {"path": ["a", "/b%20c"]})).links == ("/w/a", "/b%20c", "/b c")
    assert policy.questions(step("fs.read", {"x": "/a"})).links == ()
    assert policy.questions(step("fs.write", {"path": "/a"})).links == ()
    assert policy.questions(step("far.read", {"path": "/a"})).links == ()
    assert len(policy.questions(step("fs.read", {"path": [f"/a/{n}" for n in range(5000)]})).links) == 1000


@pytest.mark.parametrize(
    ("servers", "allow_folded", "deny_folded"),
    [
        ("", False, True),
        ("servers: {fs: {os: linux}}\n", False, False),
        ("servers: {fs: {os: macos}}\n", True, True),
        ("servers: {fs: {case: exact}}\n", False, False),
        ("servers: {fs: {case: folded}}\n", True, True),
    ],
)
def test_case_counts_as_the_system_counts_it(
    tmp_path: Path, servers: str, allow_folded: bool, deny_folded: bool
) -> None:
    for matchers in ("{under: /srv/App}", '{glob: "/srv/App/**"}'):
        assert allows(tmp_path, matchers, "/SRV/app/x", servers=servers) is allow_folded
        assert denies(tmp_path, matchers, "/SRV/app/x", servers=servers) is deny_folded
        assert allows(tmp_path, matchers, "/srv/App/x", servers=servers)


def test_a_not_turns_round_which_reading_counts(tmp_path: Path) -> None:
    assert not allows(tmp_path, "{not: {under: /etc}}", "/w/%2e%2e/etc/x")
    assert not allows(tmp_path, "{not: {under: /etc}}", "/ETC/x")
    assert allows(tmp_path, "{not: {under: /etc}}", "/w/x")
    assert denies(tmp_path, "{not: {under: /w}}", "/w/%2e%2e/etc/x")
    assert denies(tmp_path, "{not: {under: /w}}", "/W/x")
    assert not denies(tmp_path, "{not: {under: /w}}", "/w/x")
    assert denies(tmp_path, "{not: {under: /w}}", "/w/$x")


def test_relative_patterns_are_relative_to_the_servers_root(tmp_path: Path) -> None:
    servers = "servers: {fs: {root: /srv/data, home: /srv/home}}\n"
    assert allows(tmp_path, "{under: in}", "in/a", servers=servers)
    assert allows(tmp_path, "{under: in}", "/srv/data/in/a", servers=servers)
    assert not allows(tmp_path, "{under: in}", "/w/in/a", servers=servers)
    assert allows(tmp_path, '{glob: "in/*.txt"}', "/srv/data/in/a.txt", servers=servers)
    assert allows(tmp_path, '{under: "~/x"}', "/srv/home/x/y", servers=servers)


@pytest.mark.parametrize(
    ("pattern", "path", "wanted"),
    [
        ("*.py", "/w/a.py", True),
        ("*.py", "/w/a/b.py", False),
        ("**/*.py", "/w/a/b.py", True),
        ("**/*.py", "/b.py", True),
        ("/etc/**", "/etc", True),
        ("/etc/**", "/etc/a/b", True),
        ("/etc/**", "/etcx", False),
        ("/a/**/z", "/a/z", True),
        ("/a/**/z", "/a/b/c/z", True),
        ("/a/**/z", "/a/b/c/z/y", False),
        ("/a/**/b/**/c", "/a/x/b/b/y/c", True),
        ("/a?c", "/abc", True),
        ("/a?c", "/ac", False),
        ("/a[bx]c", "/axc", True),
        ("/a[!bx]c", "/axc", False),
        ("/a[a-f]c", "/aec", True),
        ("/a[a-f]c", "/agc", False),
        ("/{a,b}/c", "/b/c", True),
        ("/{a,b}/c", "/d/c", False),
        ("**/.git/**", "/w/.git/config", True),
        ("**/.git/**", "/w/x.git/config", False),
        ("~/x*", "/home/u/xy", True),
        ("/a*b*c", "/aXbYc", True),
        ("/a*b*c", "/aXcYb", False),
        ("/*", "/.hidden", True),
    ],
)
def test_a_glob_compares_by_component(pattern: str, path: str, wanted: bool) -> None:
    compiled = globs(pattern, HERE, folded=False)
    assert any(one.matches(resolve(path)) for one in compiled) is wanted


@pytest.mark.parametrize(
    "pattern", ["/a[b", "/{a", "/a}", "/{a,{b}}", "/a/*/../b", "/{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}", "$x"]
)
def test_a_glob_that_cannot_be_read_is_refused(pattern: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        globs(pattern, HERE, folded=False)


def test_globs_take_no_time_that_explodes() -> None:
    stars = globs("/" + "**/a/" * 12 + "z", HERE, folded=False)
    began = time.thread_time()
    assert not any(one.matches(("a",) * 2_000) for one in stars)
    assert not component("*a" * 20 + "b")("a" * 5_000)
    assert time.thread_time() - began < 2


@pytest.mark.parametrize(
    "path",
    [
        "C:a",
        "\\\\server\\share",
        "\\\\?\\C:\\w",
        "C:\\w\\con",
        "C:\\w\\NUL.txt",
        "C:\\w\\a:b",
        "C:\\w\\a.",
        "C:\\w\\a ",
        "C:\\w\\PROGRA~1",
        "\\w\\a",
        "/w/a",
    ],
)
def test_windows_forms_of_a_path_are_doubts(path: str) -> None:
    assert read(path, WINDOWS, {}).doubt is not None


def test_windows_paths_compare_by_component_and_folded() -> None:
    for path in ("C:\\w\\a", "c:/W/A", "a", ".\\a", "C:\\w\\x\\..\\a", "file:///C:/w/a"):
        readings = read(path, WINDOWS, {})
        assert ("c:", "w", "a") in readings.folded, path
    assert read("C:\\..\\..\\x", WINDOWS, {}).folded == (("c:", "x"),)


def test_readings_answer_for_all_or_for_one() -> None:
    readings = Readings(exact=(("a",), ("b",)), folded=(("a",), ("b",)))
    assert readings.answer(every=True, fold=False, test=lambda path: path == ("a",)) is False
    assert readings.answer(every=False, fold=False, test=lambda path: path == ("a",)) is True


def test_spellings_of_a_long_path_are_few() -> None:
    found, _ = spellings("file:///" + "%25" * 1_000 + "\\a" * 1_000)
    assert len(found) < 20
