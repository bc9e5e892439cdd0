"""Prompts to what a model is told of them: one recipe per family of models, each prompt once.

The recipes are those that the models were trained with. They differ in the layer that is read, in how many tokens
there are, and in whether padding is hidden from the encoder:

    SD 1 and 2    CLIP's last layer, 77 tokens                                   (Rombach et al. 2022, section 3.3)
    IF            T5 of the lower-case prompt, 77 tokens, padding hidden         (after Saharia et al. 2022)
    SDXL          two CLIPs' last layer but one side by side, the second's vector (Podell et al. 2023, section 2.1)
    SD3           the same two, filled up with zeros, then T5; both vectors       (Esser et al. 2024, section 4)
    Flux          T5; CLIP's vector
    statement     no tokens: a caller's function makes one vector of the prompt
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import pad

from avatar3d.distill.prior import PriorError, Text, joined

EncodePerson = Callable[[Sequence[str]], Tensor]
"""B prompts -> (B, S): what they say of a person, as S numbers."""
Read = Callable[[str], Text]
"""One prompt -> its Text, with one row."""
LONG, SHORT = 512, 256
"""Tokens of T5: Flux with guidance; Flux without, and SD3."""
CLIP_TOKENS = 77
"""Also of IF's T5."""


@dataclass(frozen=True)
class Encoder:
    """A tokenizer, the model that reads its tokens, and how many of them."""

    tokenizer: Any
    model: Any
    length: int

    def __call__(self, prompt: str, hide_padding: bool = False) -> Any:
        """The model's output, with all hidden states."""
        tokens = self.tokenizer(
            [prompt], padding="max_length", max_length=self.length, truncation=True, return_tensors="pt"
        ).to(self.model.device)
        mask = tokens.attention_mask if hide_padding else None
        return self.model(tokens.input_ids, attention_mask=mask, output_hidden_states=True)


@dataclass
class TextReader:
    """Reads each prompt once and keeps what came out."""

    read: Read | None
    """None after `release`."""
    limits: tuple[tuple[Any, int], ...] = ()
    """Tokenizers, and the most tokens that are read of theirs."""
    room: Callable[[], AbstractContextManager[None]] = nullcontext
    """Entered while prompts are read: brings the encoders to the device."""
    kept: dict[str, Text] = field(default_factory=dict)

    def __call__(self, prompts: Sequence[str]) -> Text:
        """Raises `PriorError` for a new prompt after `release`."""
        new = [prompt for prompt in dict.fromkeys(prompts) if prompt not in self.kept]
        if new and self.read is None:
            raise PriorError(
                f"The text encoder was released before it read {new[0]!r}; read all prompts first, "
                "or load the prior again."
            )
        if new and self.read is not None:
            with torch.no_grad(), self.room():
                self.kept |= {prompt: self.read(prompt) for prompt in new}
        return joined([self.kept[prompt] for prompt in prompts])

    def release(self) -> None:
        """Let go of the encoders; prompts that were read stay known."""
        self.read = None
        self.room = nullcontext

    def cut(self, prompt: str) -> str:
        """The words at the end of a prompt that no encoder reads; "" if there are none."""
        words = prompt.split()
        if not self.limits:
            return ""
        return " ".join(words[max(words_read(words, tokenizer, length) for tokenizer, length in self.limits) :])


def words_read(words: Sequence[str], tokenizer: Any, length: int) -> int:
    """How many of the words fit whole into that many tokens."""

    def fits(count: int) -> bool:
        return len(tokenizer(" ".join(words[:count]), verbose=False).input_ids) <= length

    if fits(len(words)):
        return len(words)
    low, high = 0, len(words)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


def clip_text(clip: Encoder, prompt: str) -> Text:
    """SD 1 and 2. CLIPs that say so in their config are not shown the padding."""
    hide = bool(getattr(clip.model.config, "use_attention_mask", False))
    return Text(tokens=clip(prompt, hide).last_hidden_state)


def t5_text(t5: Encoder, prompt: str) -> Text:
    """IF."""
    return Text(tokens=t5(prompt.lower().strip(), hide_padding=True).last_hidden_state)


def two_clips(clips: Sequence[Encoder], prompt: str) -> tuple[Float[Tensor, "1 L D"], list[Tensor]]:
    """Last layers but one, side by side; what each makes of the whole, (1, P) where it has a projection."""
    outputs = [clip(prompt) for clip in clips]
    return torch.cat([out.hidden_states[-2] for out in outputs], dim=-1), [out[0] for out in outputs]


def sdxl_text(clips: Sequence[Encoder], zeros: bool, prompt: str) -> Text:
    """SDXL. With `zeros` the empty prompt is all zeros, as in training."""
    tokens, vectors = two_clips(clips, prompt)
    text = Text(tokens, vectors[-1])
    return Text(torch.zeros_like(tokens), torch.zeros_like(vectors[-1])) if zeros and prompt == "" else text


def sd3_text(clips: Sequence[Encoder], t5: Encoder | None, width: int, prompt: str) -> Text:
    """SD3; zeros stand for a T5 that was left out to save memory."""
    tokens, vectors = two_clips(clips, prompt)
    tokens = pad(tokens, (0, width - tokens.shape[-1]))
    sentence = tokens.new_zeros(1, SHORT, width) if t5 is None else t5(prompt).last_hidden_state.to(tokens)
    return Text(torch.cat([tokens, sentence], dim=1), torch.cat(vectors, dim=-1))


def flux_text(clip: Encoder, t5: Encoder, prompt: str) -> Text:
    """Flux."""
    return Text(t5(prompt).last_hidden_state, clip(prompt).pooler_output)


def person_text(encode_person: EncodePerson, width: int, prompt: str) -> Text:
    """A statement of `width` numbers; the empty prompt states nothing, which is all zeros."""
    if prompt == "":
        return Text(pooled=torch.zeros(1, width))
    numbers = encode_person([prompt])
    if numbers.shape != (1, width):
        raise PriorError(
            f"This prior reads statements of {width} numbers, but the encoder of prompts gives "
            f"{tuple(numbers.shape[1:])}; load the prior and the encoder of the same version."
        )
    return Text(pooled=numbers)


def encoder_of(parts: Mapping[str, Any], number: int, length: int | None = None) -> Encoder | None:
    """The pipeline's text encoder with that number, if any. Without a length it is what the encoder can read."""
    ending = "" if number == 1 else f"_{number}"
    tokenizer, model = parts.get(f"tokenizer{ending}"), parts.get(f"text_encoder{ending}")
    if tokenizer is None or model is None:
        return None
    places = getattr(model.config, "max_position_embeddings", CLIP_TOKENS)
    return Encoder(tokenizer, model, length or min(tokenizer.model_max_length, places))
