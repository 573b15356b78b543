"""One way to write each kind of number, and texts that others wrote."""

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from alignment_extraction.statistics import Interval

NONE = "\u2013"
"""What stands where there is no number."""

_HIDDEN = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufeff]")
_POWERS = {10**3: "a thousand", 10**6: "a million", 10**9: "a billion"}


def estimate(row: Mapping[str, Any], name: str) -> Interval:
    """A row's estimate; its bounds are `{name}_low` and `{name}_high`, or else `low` and `high`."""
    ends = ("low", "high") if f"{name}_low" not in row else (f"{name}_low", f"{name}_high")
    values = (row[column] for column in (name, *ends))
    return Interval(*(math.nan if value is None else float(value) for value in values))


def visible(text: str) -> str:
    """`text` with control and direction characters shown as their code point, `⟨U+202E⟩`."""
    return _HIDDEN.sub(lambda match: f"\u27e8U+{ord(match[0]):04X}\u27e9", text)


def _decimal(value: float, decimals: int) -> str:
    return f"{value:z,.{decimals}f}".replace("-", "\u2212")


def _decimals(spread: float) -> int:
    """So many that half an interval's width has one or two significant digits."""
    if not math.isfinite(spread) or spread <= 0:
        return 1
    return min(6, max(0, math.ceil(-math.log10(spread / 3) - 1e-6)))


def count(value: float | None) -> str:
    """A number of things: 51, 2,650; below ten and not whole, two significant digits: 0.31."""
    if value is None or math.isnan(value):
        return NONE
    if abs(value) >= 10 or value == round(value):
        return _decimal(value, 0)
    if abs(value) < 0.01:
        return f"< {_decimal(0.01, 2)}"
    return _decimal(value, 1 if abs(value) >= 1 else 2)


def percent(value: float | None) -> str:
    """A rate between 0 and 1 in per cent, with two significant digits: 4.2 %."""
    if value is None or math.isnan(value):
        return NONE
    value *= 100
    spread = 10 ** math.floor(math.log10(abs(value))) / 2 if value else 5
    return f"{_decimal(value, _decimals(spread))} %"


def interval(found: Interval | None, unit: str) -> str:
    """An estimate with its interval: `51 (39 to 66)`, `4.2 % (3.6 to 4.9)`, `0 % (at most 0.04)`.

    The unit is `count`, `rate` (shown in per cent), `points` (a difference of rates) or `number`.
    """
    if found is None or math.isnan(found.estimate):
        return NONE
    value, low, high = found
    if math.isnan(low) or math.isnan(high):
        low = high = value
    if unit == "count":
        texts, sign = [count(number) for number in found], ""
    else:
        scale = 1 if unit == "number" else 100
        digits = _decimals(scale * (high - low) / 2)
        texts = [_decimal(number * scale, digits) for number in (value, low, high)]
        sign = {"rate": " %", "points": " points"}.get(unit, "")
    if low == high == value or (len({*texts}) == 1 and texts[0].startswith("<")):
        return f"{texts[0]}{sign}"
    if value == 0 and low == 0:
        return f"0{sign} (at most {texts[2]})"
    return f"{texts[0]}{sign} ({texts[1]} to {texts[2]})"


def cell(row: Mapping[str, Any], column: str) -> str:
    """What a table shows of a row: a value, `name:percent`, or an estimate, `name:unit`."""
    name, _, unit = column.partition(":")
    if unit:
        return percent(row[name]) if unit == "percent" else interval(estimate(row, name), unit)
    value = row[name]
    if value is None or value != value:
        return NONE
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str):
        return value
    return f"{value:,.4g}" if isinstance(value, float) else f"{value:,}"


def samples(number: float) -> str:
    """A number of samples: `a million`, `10,000`."""
    return _POWERS.get(int(number), f"{number:,.0f}")


def plural(number: float, noun: str) -> str:
    """`1 row`, `2,650 rows`."""
    return f"{count(number)} {noun}{'' if number == 1 else 's'}"


def listed(names: Sequence[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
