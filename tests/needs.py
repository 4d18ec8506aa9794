"""What a test needs of the machine. Where `SOOTHSAYER_REQUIRE` names it, its absence is a failure and no skip."""

import os
import shutil

import pytest


def need(name: str, *, found: bool, remedy: str) -> None:
    """Skip the running test unless `found`; fail it where this machine promised to have `name`."""
    if found:
        return
    if name in os.environ.get("SOOTHSAYER_REQUIRE", "").split(","):
        pytest.fail(f"{name} is required here (SOOTHSAYER_REQUIRE) and was not found: {remedy}")
    pytest.skip(f"needs {name}: {remedy}")


def need_command(name: str) -> str:
    """Find a program, or skip; its absolute path."""
    path = shutil.which(name)
    need(name, found=path is not None, remedy=f"install {name}")
    assert path is not None
    return path
