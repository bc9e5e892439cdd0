"""The prompt reader: a small transformer that says for each attribute what the text says about it, if anything.

Each word enters as a trained vector (if captions taught it) plus a frozen distilled one (which knows its
synonyms). Each attribute has a query of its own that looks for its words: that is what ties "red" to the hat in
"a red hat and a blue shirt".
"""

from __future__ import annotations

import math
import zlib

import torch
from torch import Tensor, nn

NGRAM_BUCKETS = 4096
GRAMS = 12
"""Hashed letter trigrams that stand for the spelling of a word."""


class Reader(nn.Module):
    """Words -> logits. Column 0 to S - 1 are statements, column S + a: attribute a is not mentioned.

    `attribute_of` gives the attribute index of each statement, in ascending order. `vocabulary` counts trained
    words; index 0 is an untrained word. `distilled` is the length of the frozen vectors (0: none), `ngrams` adds
    hashed spelling.
    """

    def __init__(
        self,
        attribute_of: list[int],
        vocabulary: int,
        distilled: int,
        ngrams: bool = False,
        width: int = 128,
        depth: int = 2,
        heads: int = 4,
    ) -> None:
        super().__init__()
        attributes = max(attribute_of) + 1
        self.sizes = torch.bincount(torch.tensor(attribute_of)).tolist()
        self.trained = nn.Embedding(vocabulary, width)
        self.distilled = nn.Linear(distilled, width, bias=False) if distilled else None
        self.ngrams = nn.EmbeddingBag(NGRAM_BUCKETS, width, mode="mean") if ngrams else None
        self.blocks = nn.ModuleList(ReaderBlock(width, heads) for _ in range(depth))
        self.query = nn.Parameter(torch.randn(attributes, width) / math.sqrt(width))
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.slot = nn.Linear(width, width)
        self.said = nn.Parameter(torch.randn(len(attribute_of), width) / math.sqrt(width))
        self.said_bias = nn.Parameter(torch.full((len(attribute_of),), -2.0))
        self.silent = nn.Parameter(torch.zeros(attributes, width))
        self.silent_bias = nn.Parameter(torch.full((attributes,), 2.0))
        nn.init.normal_(self.trained.weight, std=0.3)
        with torch.no_grad():
            self.trained.weight[0] = 0.0

    def forward(self, words: Tensor, vectors: Tensor, grams: Tensor | None, mask: Tensor) -> Tensor:
        """(B, S + A) logits from trained indices (B, T), frozen vectors (B, T, K), mask (B, T) of real words.

        `grams` (B, T, G) are hashed spelling buckets where the model was built with them.
        """
        h = self.trained(words)
        if self.distilled is not None:
            h = h + self.distilled(vectors * vectors.shape[-1] ** 0.5)
        if self.ngrams is not None and grams is not None:
            h = h + self.ngrams(grams.flatten(0, 1)).view(*words.shape, -1)
        h = h * mask[..., None]
        hidden = (~mask)[:, None, :]
        for block in self.blocks:
            h = block(h, mask, hidden)
        h = nn.functional.layer_norm(h, h.shape[-1:])
        scores = torch.einsum("aw,btw->bat", self.query, self.key(h)).masked_fill(hidden, -1e9)
        slots = torch.einsum("bat,btw->baw", scores.softmax(-1), self.value(h))
        slots = nn.functional.gelu(self.slot(nn.functional.layer_norm(slots + self.query, slots.shape[-1:])))
        # One small product per attribute: each statement looks at its own attribute's slot alone.
        parts = zip(slots.unbind(1), self.said.split(self.sizes), strict=True)
        said = torch.cat([slot @ rows.T for slot, rows in parts], 1) + self.said_bias
        silent = (slots * self.silent).sum(-1) + self.silent_bias
        return torch.cat([said, silent], 1)


class ReaderBlock(nn.Module):
    """Five neighbouring words mixed by a linear map, self-attention without positions, and a small MLP."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.near = nn.Linear(5 * width, width)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.up = nn.Linear(width, 2 * width)
        self.down = nn.Linear(2 * width, width)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(3))

    def forward(self, h: Tensor, mask: Tensor, hidden: Tensor) -> Tensor:
        batch, length, width = h.shape
        x = self.norms[0](h) * mask[..., None]
        x = nn.functional.pad(x, (0, 0, 2, 2))
        h = h + nn.functional.gelu(self.near(torch.cat([x[:, i : i + length] for i in range(5)], -1)))
        q, k, v = self.qkv(self.norms[1](h)).view(batch, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        attended = nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=~hidden[:, None])
        h = h + self.out(attended.transpose(1, 2).reshape(batch, length, width))
        return h + self.down(nn.functional.gelu(self.up(self.norms[2](h))))


def statement_index(logits: Tensor, sizes: list[int]) -> Tensor:
    """(B, A) index of the likeliest statement of each attribute, -1 where not being mentioned is likelier.

    `sizes` are the attributes' numbers of statements.
    """
    said, silent = logits.split([sum(sizes), len(sizes)], 1)
    best, start = [], 0
    for a, own in enumerate(said.split(sizes, 1)):
        value, index = own.max(1)
        best.append(torch.where(value > silent[:, a], start + index, -1))
        start += sizes[a]
    return torch.stack(best, 1)


def reading_loss(logits: Tensor, target: Tensor, sizes: list[int]) -> Tensor:
    """Cross-entropy summed over attributes, meaned over the batch.

    `sizes` are the attributes' numbers of statements, `target` (B, A) is as `statement_index` gives it.
    """
    statements = sum(sizes)
    total = logits.new_zeros(())
    start = 0
    for a, size in enumerate(sizes):
        own = torch.cat([logits[:, start : start + size], logits[:, statements + a, None]], 1)
        wanted = torch.where(target[:, a] >= 0, target[:, a] - start, size)
        total = total + nn.functional.cross_entropy(own, wanted)
        start += size
    return total


def gram_buckets(word: str, count: int = GRAMS) -> list[int]:
    """Hashed letter trigrams of a word (and the word itself), cycled to a fixed count."""
    marked = f"<{word}>"
    grams = [marked] + [marked[i : i + 3] for i in range(len(marked) - 2)]
    buckets = [zlib.crc32(g.encode()) % NGRAM_BUCKETS for g in grams]
    return (buckets * count)[:count] if len(buckets) < count else buckets[:count]
