"""Times, durations, sizes and counts as people read them."""
# ruff: noqa: PLR2004 - the numbers are those of the formats: thousands, digits shown

from datetime import UTC, datetime, timedelta, tzinfo

_MINUTE_US, _HOUR_US, _DAY_US = 60_000_000, 3_600_000_000, 86_400_000_000


def duration(us: float | None) -> str:
    """A duration at three digits at most: `0.3 ms`, `2.5 ms`, `41 s`, `3 min`, `2 h`, `5 d`; `-` when unknown."""
    if us is None:
        return "-"
    if us < 1_000_000:
        ms = us / 1000
        return f"{ms:.1f} ms" if ms < 9.95 else f"{ms:.0f} ms"
    if us < 2 * _MINUTE_US:
        s = us / 1_000_000
        return f"{s:.1f} s" if s < 9.95 else f"{s:.0f} s"
    if us < 2 * _HOUR_US:
        return f"{us / _MINUTE_US:.0f} min"
    if us < 2 * _DAY_US:
        return f"{us / _HOUR_US:.0f} h"
    return f"{us / _DAY_US:.0f} d"


def size(count: int) -> str:
    """A number of bytes: `812 B`, `1.3 kB`, `8.4 MB`."""
    amount = float(count)
    if amount < 1000:
        return f"{count} B"
    for unit in ("kB", "MB", "GB"):
        amount /= 1000
        if amount < 999.5:
            return f"{amount:.1f} {unit}" if amount < 9.95 else f"{amount:.0f} {unit}"
    return f"{amount / 1000:.1f} TB"


def count(number: int, noun: str, plural: str = "") -> str:
    """A number and its noun: `1 step`, `12,480 steps`."""
    word = noun if number == 1 else plural or f"{noun}s"
    return f"{number:,} {word}"


def _moment(at_us: int) -> datetime:
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=at_us)


def rfc3339(at_us: int | None) -> str | None:
    """A moment for programs: RFC 3339, UTC, six decimals."""
    return None if at_us is None else _moment(at_us).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def clock_time(at_us: int, now_us: int, zone: tzinfo | None = None) -> str:
    """A moment for people, local: the time alone for today, with the date before."""
    at, now = _moment(at_us).astimezone(zone), _moment(now_us).astimezone(zone)
    if at.date() == now.date():
        return at.strftime("%H:%M:%S")
    if at.year == now.year:
        return at.strftime("%m-%d %H:%M")
    return at.strftime("%Y-%m-%d")


def full_time(at_us: int, zone: tzinfo | None = None) -> str:
    """A moment for people, local, with date and offset."""
    text = _moment(at_us).astimezone(zone).strftime("%Y-%m-%d %H:%M:%S %z")
    return f"{text[:-2]}:{text[-2:]}"


def ago(at_us: int, now_us: int) -> str:
    """How long ago a moment was."""
    return "now" if now_us - at_us < 1_000_000 else f"{duration(now_us - at_us)} ago"
