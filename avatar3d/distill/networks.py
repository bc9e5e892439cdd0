"""How three kinds of denoisers are asked: noisy latents, steps, text, views, poses in, the raw answer out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import interpolate

from avatar3d.distill.prior import Text

FLUX_GUIDANCE = 3.5
"""What Flux's guidance-distilled models are told to use; the guidance of the loss comes on top."""
ANGLES, MATRIX = 4, 16
"""Numbers that tell a camera."""


@dataclass(frozen=True)
class UNet:
    """SD 1 and 2, SDXL, IF, multi-view models, the prior that ships."""

    model: Any
    size: int
    """Pixels a side of the pictures."""
    statement: int = 0
    """Numbers of `Text.pooled` that go before the camera's; 0 for models that read tokens."""
    controlnet: Any = None

    def __call__(
        self,
        noisy: Float[Tensor, "B C h w"],
        steps: Tensor,
        text: Text,
        angles: Float[Tensor, "B 2"] | None,
        pose: Float[Tensor, "B 3 S S"] | None,
    ) -> Float[Tensor, "B D h w"]:
        labels, added = self.labels(noisy, text, angles), self.added(text)
        down = mid = None
        if self.controlnet is not None and pose is not None:
            down, mid = self.controlnet(
                noisy,
                steps,
                encoder_hidden_states=text.tokens,
                controlnet_cond=resized(pose, self.size).to(noisy),
                class_labels=labels,
                added_cond_kwargs=added,
                return_dict=False,
            )
        return self.model(
            noisy,
            steps,
            encoder_hidden_states=text.tokens,
            class_labels=labels,
            added_cond_kwargs=added,
            down_block_additional_residuals=down,
            mid_block_additional_residual=mid,
            return_dict=False,
        )[0]

    def labels(
        self, noisy: Float[Tensor, "B C h w"], text: Text, angles: Float[Tensor, "B 2"] | None
    ) -> Float[Tensor, "B N"] | None:
        """What goes in beside the time: the statement, then the camera."""
        if self.model.config.class_embed_type is None:
            return None
        assert angles is not None
        if not self.statement:
            count = self.model.config.projection_class_embeddings_input_dim
            return (camera_angles(angles) if count == ANGLES else camera_matrix(angles)).to(noisy)
        assert text.pooled is not None
        return torch.cat([text.pooled, camera_angles(angles).to(text.pooled)], dim=-1).to(noisy)

    def added(self, text: Text) -> dict[str, Tensor] | None:
        """SDXL's vector; picture size, crop, wanted size of a whole picture (Podell et al. 2023, section 2.2)."""
        if self.model.config.addition_embed_type != "text_time":
            return None
        assert text.pooled is not None
        whole = torch.tensor([self.size, self.size, 0, 0, self.size, self.size]).to(text.pooled)
        return {"text_embeds": text.pooled, "time_ids": whole.expand(len(text.pooled), -1)}


@dataclass(frozen=True)
class SD3:
    """The transformer of Esser et al. 2024."""

    model: Any

    def __call__(
        self,
        noisy: Float[Tensor, "B C h w"],
        steps: Tensor,
        text: Text,
        angles: Float[Tensor, "B 2"] | None,
        pose: Float[Tensor, "B 3 S S"] | None,
    ) -> Float[Tensor, "B D h w"]:
        """Views and poses are not looked at."""
        return self.model(
            noisy,
            timestep=steps,
            encoder_hidden_states=text.tokens,
            pooled_projections=text.pooled,
            return_dict=False,
        )[0]


@dataclass(frozen=True)
class Flux:
    """The transformer over 2 x 2 patches with rotary places."""

    model: Any

    def __call__(
        self,
        noisy: Float[Tensor, "B C h w"],
        steps: Tensor,
        text: Text,
        angles: Float[Tensor, "B 2"] | None,
        pose: Float[Tensor, "B 3 S S"] | None,
    ) -> Float[Tensor, "B D h w"]:
        """Views and poses are not looked at."""
        assert text.tokens is not None
        height, width = noisy.shape[-2:]
        guidance = noisy.new_full((len(noisy),), FLUX_GUIDANCE) if self.model.config.guidance_embeds else None
        patches = self.model(
            packed(noisy),
            timestep=steps / 1000,
            encoder_hidden_states=text.tokens,
            pooled_projections=text.pooled,
            guidance=guidance,
            img_ids=patch_places(height // 2, width // 2).to(noisy),
            txt_ids=noisy.new_zeros(text.tokens.shape[1], 3),
            return_dict=False,
        )[0]
        return unpacked(patches, height, width)


Network = UNet | SD3 | Flux
"""(noisy, steps of the scheduler from 0 to 1000, text, angles, pose) -> answer; in the denoiser's dtype but for
steps and angles."""


def packed(latents: Float[Tensor, "B C h w"]) -> Float[Tensor, "B N D"]:
    """2 x 2 patches row by row; in each the channels vary slowest."""
    batch, channels, height, width = latents.shape
    cells = latents.reshape(batch, channels, height // 2, 2, width // 2, 2)
    return cells.permute(0, 2, 4, 1, 3, 5).reshape(batch, height * width // 4, channels * 4)


def unpacked(patches: Float[Tensor, "B N D"], height: int, width: int) -> Float[Tensor, "B C h w"]:
    """The way back from `packed`."""
    batch, _, depth = patches.shape
    cells = patches.reshape(batch, height // 2, width // 2, depth // 4, 2, 2)
    return cells.permute(0, 3, 1, 4, 2, 5).reshape(batch, depth // 4, height, width)


def patch_places(rows: int, columns: int) -> Float[Tensor, "N 3"]:
    """(0, row, column) of each patch."""
    row, column = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    return torch.stack([torch.zeros_like(row), row, column], dim=-1).reshape(-1, 3).float()


def camera_angles(angles: Float[Tensor, "B 2"]) -> Float[Tensor, "B 4"]:
    """sin and cos of the azimuth, then of the elevation."""
    azimuth, elevation = angles.unbind(-1)
    return torch.stack([azimuth.sin(), azimuth.cos(), elevation.sin(), elevation.cos()], dim=-1)


def camera_matrix(angles: Float[Tensor, "B 2"]) -> Float[Tensor, "B 16"]:
    """World-from-camera, row by row, of a camera at distance 1 looking at the origin (Shi et al. 2023, MVDream).

    Camera axes are OpenGL's (x right, y up, looking along -z), the world's are Blender's: +Z up, and the front
    looks along -Y.
    """
    (sin_a, sin_e), (cos_a, cos_e) = angles.sin().unbind(-1), angles.cos().unbind(-1)
    zero = torch.zeros_like(sin_a)
    right = torch.stack([cos_a, sin_a, zero], dim=-1)
    back = torch.stack([sin_a * cos_e, -cos_a * cos_e, sin_e], dim=-1)
    up = torch.linalg.cross(back, right)
    top = torch.stack([right, up, back, back], dim=-1)
    bottom = torch.tensor([0.0, 0.0, 0.0, 1.0]).to(top).expand(len(top), 1, 4)
    return torch.cat([top, bottom], dim=1).flatten(1)


def resized(pictures: Float[Tensor, "B 3 H W"], size: int) -> Float[Tensor, "B 3 S S"]:
    """Pictures of another size, without aliasing; differentiable."""
    if pictures.shape[-2:] == (size, size):
        return pictures
    return interpolate(pictures, size=(size, size), mode="bilinear", antialias=True)
