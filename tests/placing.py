"""How a test puts a file where a process may be reading the one before."""

from pathlib import Path


def put(path: Path, text: str) -> None:
    """Put a text in place whole: who reads the file meanwhile reads this text or the one before, never half of one."""
    fresh = path.with_name(f".{path.name}.new")
    fresh.write_text(text, encoding="utf-8")
    fresh.replace(path)
