"""Every key that people write has a line that says what it means: in the reference, and in their editor."""

from typing import get_args

import pytest

from soothsayer_mcp.adapters.policy_files.documents.document import Document
from soothsayer_mcp.adapters.policy_files.editor_schema import KINDS
from soothsayer_mcp.adapters.policy_files.key_texts import KEY_TEXTS


def models(root: type[Document], seen: set[type[Document]]) -> set[type[Document]]:
    """Every model that a file of this kind is read by."""
    if root not in seen:
        seen.add(root)
        open_types: list[object] = [field.annotation for field in root.model_fields.values()]
        while open_types:
            one = open_types.pop()
            if isinstance(one, type) and issubclass(one, Document):
                models(one, seen)
            open_types.extend(get_args(one))
    return seen


@pytest.mark.parametrize("kind", KINDS)
def test_every_key_is_described_and_nothing_else_is(kind: str) -> None:
    for model in models(KINDS[kind], set()):
        keys = {field.alias or name for name, field in model.model_fields.items()}
        texts = KEY_TEXTS.get(model.__name__, {})
        assert keys == set(texts), f"say in key_texts.py what the keys of {model.__name__} mean"
        assert all(texts.values())
