"""The text model as one loaded thing: reader, denoiser, lexicon, and the names that tie them together."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from avatar3d.conditioning.reader import GRAMS, Reader, gram_buckets
from avatar3d.conditioning.words import Lexicon, load_lexicon, nearest_spelling, tokenize
from avatar3d.diffusion.denoiser import SpecDenoiser
from avatar3d.weights import WeightsError, load_state, load_tensors

MODEL_TYPE = "avatar3d.text_to_spec"
MAX_WORDS = 256
"""Words of a text beyond this many are not read."""


@dataclass(frozen=True)
class TextConfig:
    """What the reader and the denoiser speak about; kept in the metadata of their weights."""

    statements: tuple[str, ...]
    """All that can be said, `attribute.value`: the entries of a condition vector, in order."""
    attribute_of: tuple[int, ...]
    """Index of each statement's attribute."""
    vocabulary: tuple[str, ...]
    """Words with a trained vector; their indices start at 1."""
    content: tuple[str, ...]
    """Those of them that say something about a person."""
    persons: tuple[str, ...]
    """Words for any person: a prompt may consist of them alone."""
    idle: tuple[str, ...]
    """Small words and words of asking, which say nothing and are not reported as unused."""
    encoder: str
    """`both`, `own` or `distilled`: what a word enters the reader as."""

    @cached_property
    def index(self) -> dict[str, int]:
        """Trained index of each word of the vocabulary."""
        return {word: i + 1 for i, word in enumerate(self.vocabulary)}


@dataclass(frozen=True)
class TextModel:
    config: TextConfig
    lexicon: Lexicon
    reader: Reader
    denoiser: SpecDenoiser


def build_reader(config: TextConfig, lexicon: Lexicon) -> Reader:
    trained = len(config.vocabulary) + 1 if config.encoder != "distilled" else 1
    distilled = lexicon.vectors.shape[1] if config.encoder != "own" else 0
    return Reader(list(config.attribute_of), trained, distilled, ngrams=config.encoder != "distilled")


def build_denoiser(config: TextConfig) -> SpecDenoiser:
    return SpecDenoiser(len(config.statements))


def load_text_model(path: Path, words: Path) -> TextModel:
    """Raises `WeightsError` when a file is missing, broken or of another kind."""
    tensors, metadata = load_tensors(path, MODEL_TYPE)
    try:
        values = json.loads(metadata["text"])
        encoder = str(values.pop("encoder"))
        config = TextConfig(encoder=encoder, **{name: tuple(value) for name, value in values.items()})
    except (KeyError, TypeError, ValueError) as error:
        raise WeightsError(f"{path} has damaged metadata ({error}): restore the file") from error
    lexicon = load_lexicon(words)
    reader, denoiser = build_reader(config, lexicon), build_denoiser(config)
    for name, module in (("reader", reader), ("denoiser", denoiser)):
        own = {k.removeprefix(f"{name}."): t for k, t in tensors.items() if k.startswith(f"{name}.")}
        load_state(module, own, path)
        module.eval()
    return TextModel(config, lexicon, reader, denoiser)


def condition(statements: Sequence[Sequence[str]], config: TextConfig) -> Tensor:
    """(B, S) condition vectors: 1 where a statement is made; an age in years also speaks for its neighbors."""
    column = {name: i for i, name in enumerate(config.statements)}
    said = np.zeros((len(statements), len(column)), dtype=np.float32)
    for i, names in enumerate(statements):
        for name in names:
            if name.startswith("age.is_"):
                years = int(name.removeprefix("age.is_"))
                for other in range(years - 6, years + 7):
                    if f"age.is_{other}" in column:
                        said[i, column[f"age.is_{other}"]] = np.exp(-0.5 * ((other - years) / 2.5) ** 2)
            else:
                said[i, column[name]] = 1.0
    return torch.from_numpy(said)


def encode(
    texts: Sequence[str], config: TextConfig, lexicon: Lexicon
) -> tuple[Tensor, Tensor, Tensor | None, Tensor]:
    """What `Reader.forward` takes: trained indices, distilled vectors, spelling buckets or None, and the mask."""
    rows = [tokenize(text)[:MAX_WORDS] or [","] for text in texts]
    length = max(len(row) for row in rows)
    words = np.zeros((len(rows), length), dtype=np.int64)
    vectors = np.zeros((len(rows), length, lexicon.vectors.shape[1]), dtype=np.float32)
    grams = np.zeros((len(rows), length, GRAMS), dtype=np.int64) if config.encoder != "distilled" else None
    mask = np.zeros((len(rows), length), dtype=bool)
    for i, row in enumerate(rows):
        mask[i, : len(row)] = True
        for j, word in enumerate(row):
            spelled = correct(word, config, lexicon)
            if config.encoder != "distilled":
                words[i, j] = config.index.get(spelled, 0)
            k = lexicon.row(spelled)
            if k >= 0:
                vectors[i, j] = lexicon.vectors[k]
            if grams is not None:
                grams[i, j] = gram_buckets(spelled)
    made = torch.from_numpy(grams) if grams is not None else None
    return torch.from_numpy(words), torch.from_numpy(vectors), made, torch.from_numpy(mask)


def correct(word: str, config: TextConfig, lexicon: Lexicon) -> str:
    """The word itself if it is known, else the content word that it is a misspelling of, if any."""
    if word in config.index or not word.isalpha() or lexicon.row(word) >= 0:
        return word
    return nearest_spelling(word, config.content) or word
