"""Where policies of an organisation and of a project come from, and that neither a user nor a project loosens them."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from policy_kit import judge
from soothsayer_mcp.adapters.policy_files.cache import digest_file
from soothsayer_mcp.adapters.policy_files.load import load_standing
from soothsayer_mcp.adapters.policy_files.places import PROJECT_POLICY, Organisation, standing
from soothsayer_mcp.adapters.policy_files.problems import LoadErrors
from soothsayer_mcp.adapters.policy_files.reload import PolicyWatch
from soothsayer_mcp.adapters.policy_files.signed import new_key, sign, signature_of, why_not
from soothsayer_mcp.model.decision import Mode
from soothsayer_mcp.policy.policy import Policy

ORG = 'soothsayer: policy/v1\nname: org\ndefault: leave\nrules: [{deny: "Never.", id: never, tools: fs.send}]\n'
USER = "soothsayer: policy/v1\nname: mine\ndefault: allow\n"
PROJECT = 'soothsayer: policy/v1\nname: ours\nrules: [{ask: "Ask.", id: ask, tools: "fs.write* | absent.tool"}]\n'


@pytest.fixture
def org(tmp_path: Path) -> Path:
    folder = tmp_path / "org"
    folder.mkdir()
    (folder / "policy.yaml").write_text(ORG)
    return folder / "policy.yaml"


@pytest.fixture
def mine(tmp_path: Path) -> str:
    (tmp_path / "mine.yaml").write_text(USER)
    return str(tmp_path / "mine.yaml")


def loaded(mine: str, tmp_path: Path, named: Organisation | None = None, mode: Mode | None = None) -> Policy:
    return load_standing(
        (mine,), named, mode_override=mode, workspace=str(tmp_path), state=tmp_path / "state", known_servers=["fs"]
    )


def signed(org: Path, *, expires: str = "") -> Organisation:
    key = sign(org, sorted(org.parent.glob("*.yaml")), new_key(), expires=expires, digest=digest_file)
    return Organisation(policy=str(org), key=key)


def test_the_machines_policy_the_configured_one_and_the_projects_are_found(tmp_path: Path, org: Path) -> None:
    assert standing(str(tmp_path), None, system=tmp_path / "none").organisation == ()
    (tmp_path / ".soothsayer").mkdir()
    (tmp_path / PROJECT_POLICY).write_text(PROJECT)
    (org.parent / "policy.pub").write_text("ed25519:ab\n")
    found = standing(str(tmp_path), Organisation(policy="/x/y.yaml"), system=org.parent)
    assert found.organisation == (str(org), "/x/y.yaml")
    assert found.project == (str(tmp_path / PROJECT_POLICY),)
    assert found.keys == {str(org): "ed25519:ab"}
    assert set(found.looked) >= {str(org), str(tmp_path / PROJECT_POLICY), signature_of(str(org))}


def test_a_key_file_that_says_nothing_lets_nothing_pass(tmp_path: Path, org: Path) -> None:
    (org.parent / "policy.pub").write_text("\n")
    key = standing(str(tmp_path), None, system=org.parent).keys[str(org)]
    assert why_not(str(org), key, {}, datetime.now(UTC)) is not None


def test_each_scope_decides_and_the_strictest_holds(tmp_path: Path, org: Path, mine: str) -> None:
    (tmp_path / ".soothsayer").mkdir()
    (tmp_path / PROJECT_POLICY).write_text(PROJECT)
    policy = loaded(mine, tmp_path, Organisation(policy=str(org)))
    assert [scope.kind.value for scope in policy.scopes] == ["org", "project", "user"]
    effects = {name: judge(policy, name).effect.value for name in ("fs.send", "fs.write_file", "fs.read")}
    assert effects == {"fs.send": "deny", "fs.write_file": "ask", "fs.read": "allow"}
    assert policy.named["project"] == (str(tmp_path / PROJECT_POLICY),)


@pytest.mark.pitfall("P-POLICY-04")
def test_neither_observing_nor_an_allow_of_ones_own_loosens_an_organisations_deny(
    tmp_path: Path, org: Path, mine: str
) -> None:
    (tmp_path / ".soothsayer").mkdir()
    (tmp_path / PROJECT_POLICY).write_text(
        'soothsayer: policy/v1\nname: ours\ndefault: allow\nrules: [{allow: "All.", id: all, tools: "fs.*"}]\n'
    )
    policy = loaded(mine, tmp_path, Organisation(policy=str(org)), Mode.OBSERVE)
    assert judge(policy, "fs.send").effect.value == "deny"
    assert judge(policy, "fs.read").effect.value == "allow"


def test_a_projects_policy_that_appears_later_takes_force(tmp_path: Path, mine: str) -> None:
    watch = PolicyWatch(lambda: loaded(mine, tmp_path))
    assert judge(watch.check(), "fs.write_file").effect.value == "allow"
    (tmp_path / ".soothsayer").mkdir()
    (tmp_path / PROJECT_POLICY).write_text(PROJECT)
    assert judge(watch.check(), "fs.write_file").effect.value == "ask"


def test_a_signed_policy_loads_and_one_that_is_changed_afterwards_does_not(
    tmp_path: Path, org: Path, mine: str
) -> None:
    (org.parent / "more.yaml").write_text('soothsayer: policy/v1\nname: more\nrules: [{deny: "No.", tools: fs.pay}]\n')
    org.write_text(ORG + "use: [more.yaml]\n")
    named = signed(org, expires="2999-12-31")
    watch = PolicyWatch(lambda: loaded(mine, tmp_path, named))
    assert judge(watch.current(), "fs.pay").effect.value == "deny"
    (org.parent / "more.yaml").write_text("soothsayer: policy/v1\nname: more\nabout: nothing\n")
    assert judge(watch.check(), "fs.pay").effect.value == "deny"
    assert watch.problem is not None
    assert "more.yaml is not what was signed [policy-signature]" in str(watch.problem)


@pytest.mark.parametrize(
    ("change", "wanted"),
    [
        (None, "there is no policy.yaml.sig beside it"),
        ("{", "its signature cannot be read"),
        ("[]", "its signature is not of the format signature/v1"),
        ({"signature": "00"}, "its signature is not one of ed25519:"),
        ({"signature": "no hex"}, "its signature is not one of ed25519:"),
        ({"expires": "2999-01-01"}, "its signature is not one of ed25519:"),
        ({"files": {}}, "its signature is not one of ed25519:"),
    ],
)
def test_an_organisations_policy_without_a_good_signature_does_not_load(
    tmp_path: Path, org: Path, mine: str, change: dict[str, object] | str | None, wanted: str
) -> None:
    named = signed(org, expires="2998-01-01")
    file = Path(signature_of(str(org)))
    if change is None:
        file.unlink()
    elif isinstance(change, str):
        file.write_text(change)
    else:
        file.write_text(json.dumps({**json.loads(file.read_text()), **change}))
    with pytest.raises(LoadErrors, match=wanted):
        loaded(mine, tmp_path, named)


def test_another_key_and_a_past_day_do_not_load(tmp_path: Path, org: Path, mine: str) -> None:
    first = signed(org)
    with pytest.raises(LoadErrors, match="its signature is not one of"):
        loaded(mine, tmp_path, Organisation(policy=str(org), key="ed25519:" + "0" * 64))
    assert loaded(mine, tmp_path, first).rule_count == 1
    past = signed(org, expires="2020-01-01")
    with pytest.raises(LoadErrors, match="its signature expired on 2020-01-01"):
        loaded(mine, tmp_path, past)


def test_a_kept_form_does_not_outlive_its_signature(tmp_path: Path, org: Path, mine: str) -> None:
    named = signed(org)
    assert loaded(mine, tmp_path, named).rule_count == 1
    Path(signature_of(str(org))).unlink()
    with pytest.raises(LoadErrors, match="is not signed"):
        loaded(mine, tmp_path, named)


def test_the_last_day_counts(org: Path) -> None:
    named = signed(org, expires="2027-01-31")
    digests = {str(org): digest_file(org.read_bytes())}
    assert why_not(str(org), named.key, digests, datetime(2027, 1, 31, 23, 59, tzinfo=UTC)) is None
    assert why_not(str(org), named.key, digests, datetime(2027, 2, 1, tzinfo=UTC)) is not None
