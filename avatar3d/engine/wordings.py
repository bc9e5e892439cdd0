"""The words of captions: what `wordings.txt` lists, and numbers in words."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Literal

Split = Literal["train", "held_out"]
"""Every wording is either trained on, or held out to measure what the model makes of new words."""

_TEN_NAMES = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
TENS = {10 * i: name for i, name in enumerate(_TEN_NAMES, 2)}
_SMALL = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
    "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen",
)  # fmt: skip


@cache
def wordings() -> dict[str, dict[str, dict[Split, tuple[str, ...]]]]:
    """block -> role -> split -> wordings, as `wordings.txt` lists them."""
    found: dict[str, dict[str, dict[Split, tuple[str, ...]]]] = {}
    for line in Path(__file__).with_name("wordings.txt").read_text(encoding="utf-8").splitlines():
        if line.startswith("["):
            block = found.setdefault(line.strip("[]"), {})
        elif line and not line.startswith("#"):
            role, _, rest = line.partition(": ")
            train, _, held_out = rest.partition(" | ")
            block[role] = {"train": tuple(train.split(", "))}
            block[role]["held_out"] = tuple(held_out.split(", ")) if held_out else ()
    return found


def number_words(number: int) -> str:
    """0 to 99 in words: 78 -> "seventy-eight"."""
    if number < 20:
        return _SMALL[number]
    ten, one = number // 10 * 10, number % 10
    return TENS[ten] + (f"-{_SMALL[one]}" if one else "")
