"""Putting keys into the `_meta` of a message, whatever is there of it, and changing no other byte."""

from collections.abc import Mapping

from soothsayer_mcp.model.json import compact
from soothsayer_mcp.wire.frame import Edit, Frame, Insert


def meta_edits(frame: Frame, holder: str, keys: Mapping[str, bytes]) -> tuple[Edit, ...]:
    """Give the edits after which `_meta` of `params` or `result` (the `holder`) has these keys with these values.

    A holder or `_meta` that is absent or no object is put in its place.
    """
    within = frame.message.get(holder)
    meta = within.get("_meta") if isinstance(within, dict) else None
    if isinstance(meta, dict):
        return tuple(Insert((holder, "_meta"), key, raw) for key, raw in keys.items())
    made = b"{" + b",".join(compact(key) + b":" + raw for key, raw in keys.items()) + b"}"
    if isinstance(within, dict):
        return (Insert((holder,), "_meta", made),)
    return (Insert((), holder, b'{"_meta":' + made + b"}"),)
