"""From text to words, and from a word to what is known about it: a spelling, a distilled vector, or neither."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from avatar3d.weights import load_tensors

WORDS_TYPE = "avatar3d.word_vectors"
BOUNDARY = ","
"""The token that stands for any punctuation between words."""


def tokenize(text: str) -> list[str]:
    """Lower-case words, numbers and boundaries: "Pale-skinned, 78" -> ["pale", "skinned", ",", "78"]."""
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
    found = re.findall(r"[a-z]+|\d+|[,.;:!?&+/()]", plain.replace("'", ""))
    tokens = [BOUNDARY if not (t.isalpha() or t.isdigit()) else t for t in found]
    return [t for i, t in enumerate(tokens) if t != BOUNDARY or (i and tokens[i - 1] != BOUNDARY)]


@dataclass(frozen=True)
class Lexicon:
    """Distilled vectors of English words: unit length, close where the meanings are."""

    rows: dict[str, int]
    vectors: np.ndarray
    """(N, K) float32."""

    def row(self, word: str) -> int:
        """Row of the word, or of the word that it is an inflection of; -1 when there is none."""
        for form in _forms(word):
            if form in self.rows:
                return self.rows[form]
        return -1


def load_lexicon(path: Path) -> Lexicon:
    """Raises `WeightsError` when the file is missing or broken."""
    tensors, _ = load_tensors(path, WORDS_TYPE)
    words = tensors["words"].numpy().tobytes().decode().split("\n")
    vectors = tensors["vectors"].numpy().astype(np.float32) * tensors["scale"].numpy()
    return Lexicon({word: i for i, word in enumerate(words)}, vectors)


def _forms(word: str) -> tuple[str, ...]:
    forms = [word]
    for end, replacement in (
        ("ies", "y"),
        ("es", ""),
        ("s", ""),
        ("ings", ""),
        ("ing", ""),
        ("ing", "e"),
        ("ly", ""),
    ):
        if word.endswith(end) and len(word) - len(end) >= 3:
            forms.append(word[: -len(end)] + replacement)
    return tuple(forms)


def nearest_spelling(word: str, candidates: Sequence[str]) -> str | None:
    """The candidate that one slip of the finger (two in long words) turns into the word; None when there is none.

    Slips are a missing, an extra, a wrong letter or two swapped ones. Words under four letters have no slips.
    """
    allowed = 0 if len(word) < 4 else 1 if len(word) < 8 else 2
    best, best_slips = None, allowed + 1
    for candidate in candidates:
        if abs(len(candidate) - len(word)) < best_slips and len(candidate) > 2:
            slips = edit_distance(word, candidate, best_slips)
            if slips < best_slips:
                best, best_slips = candidate, slips
    return best


def edit_distance(a: str, b: str, limit: int) -> int:
    """Optimal string alignment distance, or `limit` when it is at least that."""
    before: list[int] = []
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        new = [i]
        for j, y in enumerate(b, 1):
            cost = min(row[j] + 1, new[j - 1] + 1, row[j - 1] + (x != y))
            if i > 1 and j > 1 and x == b[j - 2] and a[i - 2] == y:
                cost = min(cost, before[j - 2] + 1)
            new.append(cost)
        if min(new) >= limit:
            return limit
        before, row = row, new
    return min(row[-1], limit)
