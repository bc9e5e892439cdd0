"""Endless training data: people with statements about them, and free combinations of statements."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np

from avatar3d.engine.captions import choose, choose_attributes
from avatar3d.engine.columns import columns_from_vectors
from avatar3d.engine.population import sample_vectors
from avatar3d.engine.statements import attributes, matrix, statements
from avatar3d.spec import vector_layout

OUTFIT = (
    "hat", "hat_color", "top", "top_color", "bottom", "bottom_color", "shoes", "shoes_color", "eyewear",
    "glasses_color", "hair_color", "eye_color", "top_pattern", "top_pattern_color", "lipstick_color",
)  # fmt: skip
"""Attributes whose colors are easily mixed up; a part of the free statements is about many of them at once."""

_EXACT_AGES_COUNT = 12
"""All exact ages together are in focus as often as this many other statements."""


@dataclass(frozen=True)
class People:
    vectors: np.ndarray
    """(N, D) spec vectors."""
    true: np.ndarray
    """(N, S) bool: which statements can be made about whom."""
    rows: dict[str, np.ndarray]
    """Whom a statement can be made about."""


def make_people(generator: np.random.Generator, count: int) -> People:
    return people_from(sample_vectors(generator, count))


def people_from(vectors: np.ndarray) -> People:
    """Look up what can be said about each of (N, D) spec vectors."""
    columns = columns_from_vectors(vectors)
    true = np.stack([matrix(s.said, columns) for s in statements().values()], 1)
    rows = {name: np.flatnonzero(true[:, i]) for i, name in enumerate(statements())}
    return People(vectors, true, rows)


def draw(people: People, generator: np.random.Generator, count: int | None = None) -> tuple[int, dict[str, str]]:
    """A person (row) and statements about them, `count` of them or a random number.

    One statement is in focus: it is drawn first, all statements alike, and the person among those for whom it
    holds. So rare things are seen often, while everything that is not said stays distributed as in the
    population given what is said.
    """
    focus = _focus(generator)
    while len(people.rows[focus]) == 0:
        focus = _focus(generator)
    rows = people.rows[focus]
    row = int(rows[int(generator.random() * len(rows))])
    names = choose_attributes(generator, count)
    return row, choose(people.true[row], generator, focus=focus, chosen=names[1:])


def splice(people: People, generator: np.random.Generator, count: int) -> np.ndarray:
    """(count, D) people who got one more thing from somebody else: bearded women, old men with pink mohawks.

    They are rarer than the population has them, or absent from it, and people ask for them all the same.
    """
    made = people.vectors[generator.integers(len(people.vectors), size=count)].copy()
    for i in range(count):
        focus = _focus(generator)
        rows = people.rows[focus]
        if len(rows):
            giver = people.vectors[rows[int(generator.random() * len(rows))]]
            made[i, _entries(focus)] = giver[_entries(focus)]
    return made


def free_statements(generator: np.random.Generator) -> dict[str, str]:
    """Statements that somebody might make together, whether or not such a person exists."""
    said = {}
    names = [_focus(generator).split(".")[0], *choose_attributes(generator)[1:]]
    if generator.random() < 0.3:
        names = [*(name for name in OUTFIT if generator.random() < 0.5), *names[:2]]
    for attribute in dict.fromkeys(names):
        options = attributes()[attribute]
        said[attribute] = options[int(generator.random() * len(options))]
        if attribute == "age" and generator.random() < 0.6:
            plain = [o for o in options if not o.startswith("age.is_")]
            said[attribute] = plain[int(generator.random() * len(plain))]
    return _consistent(said, generator)


def _consistent(said: dict[str, str], generator: np.random.Generator) -> dict[str, str]:
    def pick(attribute: str, *without: str) -> str:
        options = [o for o in attributes()[attribute] if o not in without]
        return options[int(generator.random() * len(options))]

    age, gender = said.get("age"), said.get("gender")
    minor = age in ("age.child", "age.teen") or (age or "").removeprefix("age.is_") in map(str, range(5, 18))
    if gender in ("gender.boy", "gender.girl") and age and not minor:
        said["gender"] = {"gender.boy": "gender.man", "gender.girl": "gender.woman"}[gender]
    elif gender in ("gender.man", "gender.woman") and minor:
        said["gender"] = {"gender.man": "gender.boy", "gender.woman": "gender.girl"}[gender]
    if said.get("hair_style") == "hair_style.bald":
        said.pop("hair_color", None)
        said.pop("hair_grey", None)
    if "beard_length" in said:
        said["beard_style"] = pick(
            "beard_style", "beard_style.none", "beard_style.stubble", "beard_style.moustache"
        )
    if "hat_color" in said and said.get("hat", "hat.none") == "hat.none":
        said["hat"] = pick("hat", "hat.none")
    for paint in ("lipstick", "eyeshadow"):
        if f"{paint}_color" in said:
            said[paint] = f"{paint}.yes"
    if "top_pattern_color" in said and said.get("top_pattern", "top_pattern.plain") == "top_pattern.plain":
        said["top_pattern"] = pick("top_pattern", "top_pattern.plain")
    if said.get("eyewear") == "eyewear.none":
        said.pop("glasses", None)
        said.pop("glasses_color", None)
    if "glasses_color" in said and "glasses" not in said and "eyewear" not in said:
        said["eyewear"] = pick("eyewear", "eyewear.none")
    return said


@cache
def _focusable() -> tuple[str, ...]:
    return tuple(name for name in statements() if not name.startswith("age.is_"))


def _focus(generator: np.random.Generator) -> str:
    k = int(generator.random() * (len(_focusable()) + _EXACT_AGES_COUNT))
    if k < len(_focusable()):
        return _focusable()[k]
    return f"age.is_{int(generator.integers(5, 96))}"


@cache
def _entries(statement: str) -> np.ndarray:
    """Positions in the spec vector of the fields that a statement speaks of."""
    fields = {test.field for test in statements()[statement].said}
    return np.concatenate([np.arange(e.start, e.start + e.size) for e in vector_layout() if e.name in fields])
