"""What tests keep for the processes that they start is what those look for: otherwise they would just be slower."""

from pathlib import Path

from fidelity.rig import Rig


def test_a_proxy_finds_the_form_that_a_test_kept_for_it(tmp_path: Path) -> None:
    with Rig(tmp_path) as rig:
        (kept,) = (rig.state / "cache").iterdir()
        before = kept.stat().st_mtime_ns
        rig.host.initialize()
        assert list((rig.state / "cache").iterdir()) == [kept]
        assert kept.stat().st_mtime_ns == before
