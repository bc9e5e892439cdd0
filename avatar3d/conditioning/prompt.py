"""From a prompt to specs: read what it says, then sample people of whom that is true.

understanding = understand("old man with a dragon")     # statements, and the words used and not used
spec, = sample_specs("old man with glasses", seed=0)
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from avatar3d.conditioning.model import TextModel, condition, correct, encode, load_text_model
from avatar3d.conditioning.reader import statement_index
from avatar3d.conditioning.words import BOUNDARY, tokenize
from avatar3d.diffusion.guidance import guide
from avatar3d.diffusion.levels import steps
from avatar3d.diffusion.samplers import Denoise, dpm_solver_2m
from avatar3d.errors import InputError
from avatar3d.spec import AvatarSpec, SpecError, spec_from_vector, vector_size
from avatar3d.weights import weights_path

MAX_CHARACTERS = 1000
SEEDS = 2**63
HELP = (
    "say who it is and what can be seen, in English: for example 'old man with glasses', "
    "'tall black woman with braids in a red dress', 'smiling teenage boy, freckles, green hoodie'"
)
_NEAR = 0.62
"""Least cosine between an untaught word and the nearest taught one for its meaning to count."""


class PromptError(InputError, ValueError):
    """A prompt that can not be used; the message says why and what can be said instead."""


@dataclass(frozen=True)
class Understanding:
    """What a prompt was taken to say."""

    statements: tuple[str, ...]
    """`attribute.value`, for example `eyewear.glasses`."""
    used: tuple[str, ...]
    """Words that say something about the person, as they were typed, in order."""
    unused: tuple[str, ...]
    """Words that mean nothing here ("dragon"). Small words such as "with" are in neither list."""
    corrected: dict[str, str]
    """Misspelled words and what they were read as."""


@lru_cache(maxsize=1)
def default_model() -> TextModel:
    """The model that ships, loaded once. Raises `WeightsError` when its files are missing or broken."""
    return load_text_model(weights_path("text_to_spec.safetensors"), weights_path("words.safetensors"))


def understand(prompt: str, model: TextModel | None = None) -> Understanding:
    """Read a prompt. Raises `PromptError` for one that is empty, unreadable, or says nothing about a person."""
    check_prompt(prompt)
    model = model or default_model()
    config, tokens = model.config, tokenize(prompt)
    spelled = [t if t in config.idle or t == BOUNDARY else correct(t, config, model.lexicon) for t in tokens]
    known = set(config.content) | set(config.persons)
    doubtful = [i for i, w in enumerate(spelled) if w not in known and w not in config.idle and w != BOUNDARY]
    meant = {i for i in doubtful if nearness(spelled[i], model) >= _NEAR}
    if meant:
        meant &= _changing(spelled, sorted(meant), model)
    unused = [i for i in doubtful if i not in meant]
    kept = [w for i, w in enumerate(spelled) if i not in unused]
    used = [t for i, t in enumerate(tokens) if spelled[i] in known or i in meant]
    if not used:
        what = f"nothing in it can be used ({_listed(tokens[i] for i in unused)})" if unused else "it says nothing"
        raise PromptError(f"the prompt can not be used: {what}; {HELP}")
    (statements,) = read([" ".join(kept)], model)
    corrected = {t: w for t, w in zip(tokens, spelled, strict=True) if t != w}
    return Understanding(tuple(statements), _once(used), _once(tokens[i] for i in unused), corrected)


def check_prompt(prompt: str) -> None:
    """Raises `PromptError` unless the prompt is text of a sensible length in the Latin script."""
    if not prompt.strip():
        raise PromptError(f"the prompt is empty: {HELP}")
    if len(prompt) > MAX_CHARACTERS:
        raise PromptError(
            f"the prompt has {len(prompt)} characters, at most {MAX_CHARACTERS} are read: shorten it; {HELP}"
        )
    for character in prompt:
        if unicodedata.category(character) in ("Cc", "Cs", "Cn", "Co") and character not in "\t\n\r":
            raise PromptError(f"the prompt holds the character {character!r}, which is not text: {HELP}")
    letters = [c for c in prompt if c.isalpha()]
    latin = [c for c in letters if "LATIN" in unicodedata.name(c, "")]
    if len(latin) < 0.7 * len(letters):
        raise PromptError(f"the prompt is in a script that is not read here, English is understood: {HELP}")
    if not letters and not any(c.isdigit() for c in prompt):
        raise PromptError(f"the prompt has no words: {HELP}")


def sample_specs(
    prompt: str,
    seed: int,
    count: int = 1,
    *,
    guidance: float = 1.0,
    step_count: int = 24,
    model: TextModel | None = None,
) -> list[AvatarSpec]:
    """People of whom the prompt is true; number i has the seed `seed + i` and does not depend on `count`.

    Raises `PromptError` for a prompt that can not be used and `SpecError` for a seed or a count out of range.
    """
    if not 0 <= seed < SEEDS:
        raise SpecError(f"seed must be a whole number from 0 to 2**63 - 1, got {seed}")
    if count < 1:
        raise SpecError(f"count must be at least 1, got {count}")
    model = model or default_model()
    understanding = understand(prompt, model)
    return sample_from(
        understanding.statements, seed, count, guidance=guidance, step_count=step_count, model=model
    )


def sample_from(
    statements: Sequence[str], seed: int, count: int = 1, *, guidance: float = 1.0, step_count: int = 24,
    model: TextModel | None = None,
) -> list[AvatarSpec]:  # fmt: skip
    """As `sample_specs`, from statements that were read already."""
    model = model or default_model()
    said = condition([statements], model.config)
    specs = []
    for i in range(count):
        own = (seed + i) % SEEDS
        noise = torch.randn(1, vector_size(), generator=torch.Generator().manual_seed(own))
        vector = sample_vectors(said, noise, model, guidance=guidance, step_count=step_count)[0]
        specs.append(spec_from_vector(vector, seed=own))
    return specs


def ordinary(prompt: str) -> AvatarSpec:
    """The most ordinary person of whom a prompt is true: no chance, what the sampler makes of no noise.

    `AvatarSpec()` for a prompt that says nothing about a person.
    """
    try:
        said = understand(prompt).statements
    except PromptError:
        return AvatarSpec()
    model = default_model()
    silent = torch.zeros(1, vector_size())
    return spec_from_vector(sample_vectors(condition([said], model.config), silent, model)[0], seed=0)


@torch.no_grad()
def sample_vectors(
    said: Tensor, noise: Tensor, model: TextModel, *, guidance: float = 1.0, step_count: int = 24,
    sampler: Callable[[Denoise, Tensor, Tensor], Tensor] = dpm_solver_2m,
) -> np.ndarray:  # fmt: skip
    """(B, D) spec vectors from conditions (B, S) and normal noise (B, D)."""
    silence = torch.zeros_like(said)

    def denoise(x: Tensor, t: Tensor) -> Tensor:
        times = t.to(x).expand(len(x))
        conditional = model.denoiser(x, times, said)
        if guidance == 1.0:
            return conditional
        return guide(conditional, model.denoiser(x, times, silence), guidance)

    return sampler(denoise, noise, steps(step_count)).numpy()


@torch.no_grad()
def read(texts: Sequence[str], model: TextModel) -> list[list[str]]:
    """The statements that each text makes, whatever its words are."""
    words, vectors, grams, mask = encode(texts, model.config, model.lexicon)
    found = statement_index(model.reader(words, vectors, grams, mask), model.reader.sizes)
    return [[model.config.statements[k] for k in row if k >= 0] for row in found.tolist()]


def nearness(word: str, model: TextModel) -> float:
    """Cosine between a word and the nearest one that captions teach; 0 for words without a vector.

    1 for a word that contains a taught one of five letters or more ("goateed"), or begins like one.
    """
    if any((len(c) > 4 and c in word) or (len(c) > 5 and word.startswith(c[:5])) for c in model.config.content):
        return 1.0
    row = model.lexicon.row(word)
    if row < 0:
        return 0.0
    return float((_content_vectors(model) @ model.lexicon.vectors[row]).max())


_CONTENT: dict[int, np.ndarray] = {}


def _content_vectors(model: TextModel) -> np.ndarray:
    key = id(model.lexicon)
    if key not in _CONTENT:
        rows = [model.lexicon.row(w) for w in model.config.content if w.isalpha()]
        _CONTENT[key] = model.lexicon.vectors[[r for r in rows if r >= 0]]
    return _CONTENT[key]


def _changing(words: list[str], positions: Sequence[int], model: TextModel) -> set[int]:
    """Those positions whose word makes a difference to what the text says."""
    without = [" ".join(w for j, w in enumerate(words) if j != i) for i in positions]
    whole, *parts = read([" ".join(words), *without], model)
    return {i for i, part in zip(positions, parts, strict=True) if part != whole}


def _once(words) -> tuple[str, ...]:
    return tuple(dict.fromkeys(words))


def _listed(words) -> str:
    return ", ".join(repr(w) for w in _once(words))
