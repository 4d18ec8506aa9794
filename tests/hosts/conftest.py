from pathlib import Path

import pytest

from hosts.rig import Rig


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(folder=tmp_path)
