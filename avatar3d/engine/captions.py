"""Captions: what a person might type for an avatar, with what the words ask of its spec.

Which attributes are mentioned never depends on their values, so that what a caption leaves open keeps the
population's distribution given what it says.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from avatar3d.engine.columns import columns_from_vectors
from avatar3d.engine.grammar import compose
from avatar3d.engine.statements import Constraint, attributes, matrix, statements
from avatar3d.engine.wordings import Split
from avatar3d.spec import AvatarSpec, spec_to_vector

POPULARITY = {
    "gender": 14.0, "age": 9.0, "hair_style": 4.0, "hair_color": 4.0, "beard_style": 3.0, "eyewear": 4.0,
    "hat": 3.0, "top": 4.0, "top_color": 3.0, "bottom": 2.0, "ancestry": 2.5, "weight": 2.0, "height": 2.0,
    "expression": 2.0, "eye_color": 2.0, "shoes": 1.5,
}  # fmt: skip
"""How often an attribute is mentioned, relative to the others' 1."""

_NEEDS = {
    "beard_length": "beard_style", "hat_color": "hat", "lipstick_color": "lipstick",
    "eyeshadow_color": "eyeshadow", "top_pattern_color": "top_pattern",
}  # fmt: skip
"""Attributes that can only be said together with another."""


@dataclass(frozen=True)
class Caption:
    text: str
    mentioned: dict[str, Constraint]
    """What the text says, by attribute; all of it holds for the captioned spec."""


def caption(
    spec: AvatarSpec, generator: np.random.Generator, split: Split = "train", count: int | None = None
) -> Caption:
    """Describe a random subset of a spec's attributes (`count` of them, if given) in random words."""
    columns = columns_from_vectors(spec_to_vector(spec)[None])
    true = np.array([bool(matrix(s.said, columns)[0]) for s in statements().values()])
    said = choose(true, generator, count)
    return Caption(compose(said, generator, split), constraints(said))


def constraints(said: dict[str, str]) -> dict[str, Constraint]:
    """What the statements (attribute -> statement name) ask of a spec, leniently read."""
    return {attribute: statements()[name].constraint for attribute, name in said.items()}


def choose(
    true: np.ndarray,
    generator: np.random.Generator,
    count: int | None = None,
    focus: str | None = None,
    chosen: Sequence[str] | None = None,
) -> dict[str, str]:
    """Statements to make about one person, attribute -> name, in random order.

    `true` (S,) tells which statements hold. `focus` is a statement to make in any case; `chosen` are the
    attributes to mention where one of their statements holds (the default draws `count` of them).
    """
    names = chosen if chosen is not None else choose_attributes(generator, count)
    said: dict[str, str] = {}
    if focus:
        said[focus.split(".")[0]] = focus
    for attribute in (*names, *tuple(said)):
        # What an attribute needs is said whether or not the attribute itself can be: else silence would inform.
        if attribute in _NEEDS:
            _say(_NEEDS[attribute], said, true, generator)
        if attribute == "glasses_color" and "glasses" not in said:
            _say("eyewear", said, true, generator)
        _say(attribute, said, true, generator)
    return said


def choose_attributes(generator: np.random.Generator, count: int | None = None) -> list[str]:
    """Distinct attributes, popular ones more often, whatever the person is like."""
    if count is None:
        low, high = ((1, 3), (3, 6), (6, 13))[int(np.searchsorted((0.40, 0.80), generator.random()))]
        count = int(generator.integers(low, high))
    names = tuple(attributes())
    # Efraimidis and Spirakis 2006: the largest u ** (1 / w) are a weighted draw without replacement.
    keys = generator.random(len(names)) ** (1.0 / _weights())
    return [names[i] for i in np.argsort(-keys)[:count]]


def _weights() -> np.ndarray:
    return np.array([POPULARITY.get(name, 1.0) for name in attributes()])


def _say(attribute: str, said: dict[str, str], true: np.ndarray, generator: np.random.Generator) -> None:
    if attribute in said:
        return
    options = [name for name in attributes()[attribute] if true[_index()[name]]]
    if attribute == "age":
        exact = [name for name in options if name.startswith("age.is_")]
        decade = [name for name in options if name.endswith("0s")]
        words = [name for name in options if name not in exact and name not in decade]
        dice = generator.random()
        options = exact if dice < 0.25 else decade if dice < 0.45 else words
    if options:
        said[attribute] = options[int(generator.random() * len(options))]


_INDEX: dict[str, int] = {}


def _index() -> dict[str, int]:
    if not _INDEX:
        _INDEX.update({name: i for i, name in enumerate(statements())})
    return _INDEX
