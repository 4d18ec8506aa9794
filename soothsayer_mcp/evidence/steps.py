"""Items about earlier steps: the latest one that fits has to have succeeded, and nothing may have changed since."""

import hmac
import json
from collections.abc import Mapping, Sequence

from soothsayer_mcp.evidence.admit import lapsed
from soothsayer_mcp.evidence.gap import Gap
from soothsayer_mcp.evidence.scope import AbsentError, Values, shown, take
from soothsayer_mcp.model.dues import Held, Item, Seen
from soothsayer_mcp.model.evidence import Evidence, Level
from soothsayer_mcp.model.failure import Reason
from soothsayer_mcp.model.json import Json, canonical


def keyed(key: bytes, value: Json) -> str:
    """What is kept of a value that a later step is compared with."""
    return hmac.new(key, b"seen\0" + canonical(value), "sha256").hexdigest()


def judge_step(
    item: Item,
    seen: Seen | None,
    held: Held,
    *,
    id_: str,
    values: Values,
    files: Mapping[str, str],
    now_us: int,
    policy: str = "",
) -> Evidence | Gap:
    """Judge one item; `files` holds the present digest of each glob that must be unchanged, as far as it is known.

    A step of another run counts only under the same `policy`: another one may take its arguments, or what success is,
    for something else.
    """
    title, do = title_of(item.spec), do_of(item.spec)

    def gap(reason: Reason, why: str) -> Gap:
        return Gap(reason=reason, title=title, why=why, do=do)

    if seen is None:
        return gap(Reason.ABSENT, "no such step is on record")
    across = crosses(item.spec)
    if across and seen.policy != policy:
        return gap(Reason.ABSENT, f"the latest one, {seen.step}, was decided by another policy")
    failed = _passed(seen)
    if failed is not None:
        return gap(*failed)
    least = item.spec.get("min_level")
    if isinstance(least, str) and seen.level < least:
        return gap(Reason.LEVEL_TOO_LOW, f"{seen.step} is {seen.level}, {least} is needed")
    wrong = _mismatch(item, seen, values)
    if wrong is not None:
        return gap(*wrong)
    max_age = item.spec.get("max_age")
    evidence = Evidence(
        id=id_,
        kind="step",
        level=Level(seen.level),
        subject=",".join(item.newer_than) or f"step:{seen.step}",
        source={"step": f"{seen.run}.{seen.no}"},
        began=seen.began,
        at_us=seen.at_us,
        expires_us=seen.at_us + max_age * 1000 if isinstance(max_age, int) else None,
        spend=f"step:{seen.run}.{seen.no}" if item.spec.get("single_use") is True else "",
        newer_than=item.newer_than,
        made_by=(seen.run, seen.no),
        pattern=item.pattern,
        across=across,
        title=title,
        do=do,
        root=item.root,
    )
    why = lapsed(evidence, held, now_us)
    if why is not None:
        return gap(why[0], f"{seen.step} passed, but {why[1]}")
    changed = _changed(item, seen, files)
    return evidence if changed is None else gap(*changed)


def _passed(seen: Seen) -> tuple[Reason, str] | None:
    """Why a step is no pass; `None` when it is one."""
    if not seen.sure:
        return Reason.ABSENT, f"it cannot be told whether {seen.step} was one"
    if not seen.ended:
        return Reason.ABSENT, f"{seen.step} has not ended, or its outcome is not known"
    if not seen.succeeded:
        return Reason.CONTRADICTED, f"the latest one, {seen.step}, did not succeed ({seen.why})"
    return None


def _changed(item: Item, seen: Seen, files: Mapping[str, str]) -> tuple[Reason, str] | None:
    """Which files are not as the step found and left them."""
    for glob in texts(item.spec.get("unchanged")):
        now = files.get(glob)
        if now is None:
            return Reason.UNREACHABLE, "its files cannot be read"
        if glob not in seen.before or seen.before[glob] != seen.after.get(glob):
            return Reason.STALE, f"{seen.step} passed, but {shown(glob)} changed, or was not seen whole, meanwhile"
        if now != seen.after[glob]:
            return Reason.STALE, f"{seen.step} passed, but {shown(glob)} changed after it"
    return None


def _mismatch(item: Item, seen: Seen, values: Values) -> tuple[Reason, str] | None:
    match = item.spec.get("match")
    for left, right in match.items() if isinstance(match, Mapping) else ():
        try:
            wanted = take(str(right), values)
        except AbsentError as absent:
            return Reason.ABSENT, str(absent)
        kept = seen.results.get(left)
        if kept is None:
            return Reason.ABSENT, f"{seen.step} has no {left}"
        if not hmac.compare_digest(kept, keyed(seen.key, wanted)):
            return Reason.CONTRADICTED, f"{left} of {seen.step} is not {right}, which is {shown(wanted)}"
    return None


def crosses(spec: Mapping[str, Json]) -> bool:
    """Whether steps of other runs may serve."""
    return spec.get("cross_run") is True


def title_of(spec: Mapping[str, Json]) -> str:
    """What an item about a step asks for, in words."""
    return f"a successful {call_of(spec)}"


def do_of(spec: Mapping[str, Json]) -> str:
    """What would satisfy it: policy's own words, or made from the item."""
    do = spec.get("do")
    return do if isinstance(do, str) else f"call {call_of(spec)}"


def call_of(spec: Mapping[str, Json]) -> str:
    """The call that an item means, with the arguments that it spells out."""
    tools = " or ".join(texts(spec.get("tools"))) or "any tool"
    args = spec.get("args")
    exact = {
        key: matcher["is"]
        for key, matcher in (args.items() if isinstance(args, Mapping) else ())
        if isinstance(matcher, Mapping) and "is" in matcher
    }
    return f"{tools} with {json.dumps(exact)}" if exact else tools


def texts(value: Json) -> Sequence[str]:
    """A list of texts, or none."""
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []
