"""Train the two parts of the text model: the prompt reader, and the diffusion over spec vectors.

    python scripts/train_text.py --part reader   --out outputs/text/reader
    python scripts/train_text.py --part denoiser --out outputs/text/denoiser
    python scripts/train_text.py --part export   --out outputs/text

The same command resumes after any interruption, with the same result: every step draws its data from its own
number. `export` puts both into `assets/weights/text_to_spec.safetensors`, the averaged weights as float16.
"""

from __future__ import annotations

import json
import math
import os
import re
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
import tyro
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Subset

from avatar3d.conditioning.model import MODEL_TYPE, TextConfig, build_denoiser, build_reader, condition, encode
from avatar3d.conditioning.reader import reading_loss
from avatar3d.conditioning.words import Lexicon, load_lexicon, tokenize
from avatar3d.diffusion.levels import T_MAX, T_MIN
from avatar3d.engine.captions import choose
from avatar3d.engine.grammar import compose
from avatar3d.engine.pairs import People, draw, free_statements, make_people, people_from, splice
from avatar3d.engine.statements import attributes, statements
from avatar3d.engine.wordings import TENS, number_words, wordings
from avatar3d.weights import load_tensors, save_tensors, weights_path


@dataclass(frozen=True)
class Config:
    part: Literal["reader", "denoiser", "export"]
    out: Path = Path("outputs/text")
    steps: int = 6000
    batch: int = 256
    rate: float = 2e-3
    """Peak learning rate; it warms up for 200 steps and falls to 2 % along a cosine."""
    seed: int = 0
    encoder: Literal["both", "own", "distilled"] = "both"
    """What a word enters the reader as: a trained vector with a distilled one, a trained one with hashed
    spelling, or a distilled one alone."""
    save_every: int = 200
    pool: int = 30000
    """People that the draws of `block` steps share."""
    block: int = 100
    workers: int = 0
    """Processes that make the batches; the result does not depend on it."""
    device: str = "cpu"


def main(config: Config) -> None:
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    if config.part == "export":
        export(config.out)
        return
    config.out.mkdir(parents=True, exist_ok=True)
    lexicon = load_lexicon(weights_path("words.safetensors"))
    text = text_config(config.encoder)
    torch.manual_seed(config.seed)
    model: nn.Module = build_reader(text, lexicon) if config.part == "reader" else build_denoiser(text)
    print(f"{config.part}: {sum(p.numel() for p in model.parameters()) / 1e6:.2f} M parameters", flush=True)
    model.to(config.device)
    if config.part == "reader":
        train(model, ReaderBatches(text, lexicon, config), reader_loss(model, text), text, config)
    else:
        train(model, DenoiserBatches(text, config), denoiser_loss(model), text, config)


def text_config(encoder: str) -> TextConfig:
    """Statements, trained vocabulary and content words, as the training wordings give them."""
    stop = _words_of("idle", "text")
    content: set[str] = set()
    other = {*tokenize(GRAMMAR_WORDS), ","}
    for block, roles in wordings().items():
        for role in roles if block != "idle" else ():
            general = block.startswith("carriers.") or block.endswith((".generic", ".person"))
            (other if general else content).update(_words_of(block, role))
    content |= {str(n) for n in range(100)} | {w for n in range(100) for w in tokenize(number_words(n))}
    content |= {f"{ten.removesuffix('y')}ies" for ten in TENS.values()}
    vocabulary = content | other
    content -= stop
    persons = _words_of("nouns.person", "noun") - content - stop
    order = tuple(attributes())
    return TextConfig(
        statements=tuple(statements()),
        attribute_of=tuple(order.index(n.split(".")[0]) for n in statements()),
        vocabulary=tuple(sorted(vocabulary)),
        content=tuple(sorted(content)),
        persons=tuple(sorted(persons)),
        idle=tuple(sorted(((other - persons - content - _words_of("carriers.filler", "text")) | stop) - {","})),
        encoder=encoder,
    )


def _words_of(block: str, role: str) -> set[str]:
    """Words of the training wordings, without the pronoun fields."""
    phrases = wordings()[block][role]["train"]
    return {w for phrase in phrases for w in tokenize(re.sub(r"\{\w+\}", " ", phrase))}


GRAMMAR_WORDS = (
    "a an the and who is are he she they his her their has have wears wear with in that colored possess possesses "
    "sport sports"
)


class Crowd:
    """The people whom the steps of one block draw from; only the latest block is kept."""

    def __init__(self, config: Config, stream: int) -> None:
        self._config, self._stream = config, stream
        self._block = -1
        self._people: People | None = None

    def at(self, step: int) -> People:
        """Made anew for each block from the block's own number."""
        block = step // self._config.block
        if block != self._block or self._people is None:
            generator = np.random.default_rng((self._config.seed, self._stream, block))
            self._block, self._people = block, make_people(generator, self._config.pool)
        return self._people


class ReaderBatches(Dataset):
    """Step -> fresh captions, half of them of people and half of free combinations, as the reader takes them.

    A batch comes in parts of captions of like length, so that short ones are not padded to the longest.
    """

    def __init__(self, text: TextConfig, lexicon: Lexicon, config: Config) -> None:
        self._text, self._lexicon, self._config = text, lexicon, config
        self._crowd = Crowd(config, 0)
        self._column = {name: i for i, name in enumerate(text.statements)}
        self._extras = _distractors(text, lexicon)

    def __len__(self) -> int:
        return self._config.steps

    def __getitem__(self, step: int) -> list[tuple]:
        generator = np.random.default_rng((self._config.seed, 1, step))
        people = self._crowd.at(step)
        target = torch.full((self._config.batch, len(attributes())), -1)
        texts = []
        for i in range(self._config.batch):
            said = draw(people, generator)[1] if i % 2 else free_statements(generator)
            texts.append(compose(said, generator, "train", self._extras))
            for name in said.values():
                column = self._column[name]
                target[i, self._text.attribute_of[column]] = column
        order = np.argsort([len(t) for t in texts], kind="stable")
        parts = []
        for rows in np.array_split(order, 5):
            words, vectors, grams, mask = encode([texts[i] for i in rows], self._text, self._lexicon)
            words, vectors, grams = forgetful(words, vectors, grams, generator)
            parts.append((words, vectors, grams, mask, target[rows]))
        return parts


def reader_loss(model: nn.Module, text: TextConfig):
    """parts of a batch -> loss."""
    sizes = np.bincount(text.attribute_of).tolist()

    def loss(parts: list[tuple]) -> dict[str, Tensor]:
        count = sum(len(part[0]) for part in parts)
        total = parts[0][1].new_zeros(())
        for words, vectors, grams, mask, target in parts:
            part = reading_loss(model(words, vectors, grams, mask), target, sizes)
            total = total + part * (len(words) / count)
        return {"reading": total}

    return loss


def forgetful(words: Tensor, vectors: Tensor, grams: Tensor | None, generator: np.random.Generator):
    """Make some words look untaught: without their trained vector, with a blurred meaning or no spelling.

    What is left must then do, as it must for words that captions never taught.
    """
    dice = torch.from_numpy(generator.random((4, *words.shape), dtype=np.float32))
    words = torch.where(dice[0] < 0.3, 0, words)
    blur = torch.from_numpy(generator.standard_normal(vectors.shape, dtype=np.float32))
    blurred = nn.functional.normalize(vectors + 0.09 * blur, dim=-1)
    told = (vectors.abs().sum(-1, keepdim=True) > 0) & (dice[2, ..., None] > 0.1)
    vectors = torch.where(dice[1, ..., None] < 0.6, blurred, vectors) * told
    if grams is not None:
        grams = torch.where(dice[3, ..., None] < 0.15, 0, grams)
    return words, vectors, grams


def _distractors(text: TextConfig, lexicon: Lexicon) -> list[str]:
    """English words that are far in meaning from every word that captions teach."""
    generator = np.random.default_rng(5)
    words = list(lexicon.rows)
    some = [words[i] for i in generator.choice(len(words), 6000, replace=False) if len(words[i]) > 2]
    content = lexicon.vectors[[lexicon.rows[w] for w in text.content if w in lexicon.rows]]
    near = (lexicon.vectors[[lexicon.rows[w] for w in some]] @ content.T).max(1)
    return [w for w, n in zip(some, near, strict=True) if n < 0.5]


class DenoiserBatches(Dataset):
    """Step -> fresh people with statements about them, noise and times; a tenth of the conditions are emptied."""

    def __init__(self, text: TextConfig, config: Config) -> None:
        self._text, self._config = text, config
        self._crowd = Crowd(config, 2)

    def __len__(self) -> int:
        return self._config.steps

    def __getitem__(self, step: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        batch = self._config.batch
        generator = np.random.default_rng((self._config.seed, 3, step))
        people = self._crowd.at(step)
        vectors = np.empty((batch, people.vectors.shape[1]), dtype=np.float32)
        said: list[list[str]] = []
        odd = batch // 25
        spliced = people_from(splice(people, generator, odd))
        for i in range(batch):
            if i < odd:
                vectors[i] = spliced.vectors[i]
                own = choose(spliced.true[i], generator)
            else:
                row, own = draw(people, generator, int(generator.geometric(0.12)))
                vectors[i] = people.vectors[row]
            said.append([] if generator.random() < 0.1 else list(own.values()))
        noise = torch.from_numpy(generator.standard_normal(vectors.shape, dtype=np.float32))
        even = (np.arange(batch) + generator.random()) / batch
        t = torch.from_numpy((T_MIN + (T_MAX - T_MIN) * generator.permutation(even)).astype(np.float32))
        return torch.from_numpy(vectors), noise, t, condition(said, self._text)


def denoiser_loss(model: nn.Module):
    """A batch -> losses of numbers and of choices."""

    def loss(batch: tuple[Tensor, Tensor, Tensor, Tensor]) -> dict[str, Tensor]:
        numbers, choices = model.loss(*batch)  # type: ignore[operator]
        return {"numbers": numbers, "choices": choices}

    return loss


def train(model: nn.Module, batches: Dataset, batch_loss, text: TextConfig, config: Config) -> None:
    """Adam with a cosine schedule and an average of the weights; a checkpoint holds all that resuming needs."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=config.rate, betas=(0.9, 0.99), weight_decay=0.01)
    average = {k: v.clone() for k, v in model.state_dict().items()}
    checkpoint, start = config.out / "checkpoint.pt", 0
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True, map_location=config.device)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        average, start = state["average"], state["step"]
        print(f"resumed at step {start}", flush=True)
    sums: dict[str, float] = {}
    began = time.process_time()
    rest = Subset(batches, range(start, config.steps))
    loader = DataLoader(
        rest, batch_size=None, num_workers=config.workers, prefetch_factor=4 if config.workers else None
    )
    for step, batch in enumerate(loader, start):
        rate = min(1.0, (step + 1) / 200) * (0.51 + 0.49 * math.cos(math.pi * step / config.steps))
        for group in optimizer.param_groups:
            group["lr"] = config.rate * rate
        losses = batch_loss(on(batch, config.device))
        optimizer.zero_grad(set_to_none=True)
        torch.stack(list(losses.values())).sum().backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        decay = min(0.999, (step + 1) / (step + 10))
        with torch.no_grad():
            for name, value in model.state_dict().items():
                average[name].lerp_(value, 1.0 - decay)
        for name, value in losses.items():
            sums[name] = sums.get(name, 0.0) + value.item()
        if (step + 1) % config.save_every == 0 or step + 1 == config.steps:
            done = (step % config.save_every) + 1
            means = " ".join(f"{k} {v / min(done, step + 1 - start):.4f}" for k, v in sums.items())
            print(f"step {step + 1} {means} cpu {time.process_time() - began:.0f} s", flush=True)
            sums = {}
            state = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
            state |= {"average": average, "step": step + 1}
            torch.save(state, checkpoint.with_suffix(".tmp"))
            checkpoint.with_suffix(".tmp").replace(checkpoint)
            metadata = {"type": f"avatar3d.{config.part}", "version": "1", "text": json.dumps(asdict(text))}
            save_tensors(config.out / "average.safetensors", {k: v.cpu() for k, v in average.items()}, metadata)


def on(batch, device: str):
    """A batch (tensors in lists and tuples) on a device."""
    if isinstance(batch, Tensor):
        return batch.to(device, non_blocking=True)
    if isinstance(batch, (list, tuple)):
        return type(batch)(on(item, device) for item in batch)
    return batch


def export(folder: Path) -> None:
    """Both averages in one file, as float16."""
    tensors: dict[str, Tensor] = {}
    for part in ("denoiser", "reader"):
        own, metadata = load_tensors(folder / part / "average.safetensors", f"avatar3d.{part}")
        values = json.loads(metadata["text"])
        trained = text_config(values["encoder"])
        for name in ("statements", "vocabulary") if part == "reader" else ("statements",):
            if tuple(values[name]) != getattr(trained, name):
                raise SystemExit(f"the {name} changed since the {part} was trained: train it again")
        tensors |= {f"{part}.{name}": t.half() if t.is_floating_point() else t for name, t in own.items()}
    path = weights_path("text_to_spec.safetensors")
    text = json.dumps(asdict(trained))
    save_tensors(path, tensors, {"type": MODEL_TYPE, "version": "1", "text": text})
    print(f"wrote {path}, {path.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main(tyro.cli(Config))
