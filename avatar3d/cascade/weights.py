"""The cascade's weights: how each part is saved for shipping, and loaded."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from torch import Tensor

from avatar3d.cascade.autoencoder import AutoEncoder, AutoEncoderConfig
from avatar3d.cascade.base import Base, BaseConfig, BaseDenoiser
from avatar3d.cascade.regression import Regression
from avatar3d.cascade.upsampler import DetailConfig, Upsampler
from avatar3d.fields.decoder import DecoderConfig
from avatar3d.weights import WeightsError, load_state, load_tensors, save_tensors, weights_path

AUTOENCODER_KIND, BASE_KIND = "avatar3d.autoencoder", "avatar3d.base"
DETAIL_KIND, UPSAMPLER_KIND = "avatar3d.detail", "avatar3d.upsampler"


def save_autoencoder(tensors: Mapping[str, Tensor], config: AutoEncoderConfig) -> Path:
    """Write the shipped file as float16."""
    path = weights_path("autoencoder.safetensors")
    save_tensors(path, _halves(tensors), _metadata(AUTOENCODER_KIND, asdict(config)))
    return path


def load_autoencoder(path: Path | None = None) -> AutoEncoder:
    """The shipped auto-encoder, or another. Raises `WeightsError`."""
    path = path or weights_path("autoencoder.safetensors")
    tensors, values = _read(path, AUTOENCODER_KIND)
    field = DecoderConfig(**values.pop("field"))
    model = AutoEncoder(AutoEncoderConfig(latent=values["latent"], widths=tuple(values["widths"]), field=field))
    load_state(model, tensors, path)
    return model.eval().requires_grad_(False)


def save_base(base: Base) -> Path:
    """Write the shipped file: the regression's weights as they are, all else as float16."""
    r = base.regression
    regression = {"examples": r.examples, "basis": r.basis, "mean": r.mean}
    scales = {"deviation": base.deviation, "spread": base.spread, "latent_center": base.center}
    tensors = _halves(regression | scales)
    tensors |= {"weights": r.weights, "center": r.center, "relevance": r.relevance}
    tensors |= {f"denoiser.{name}": t for name, t in _halves(base.denoiser.state_dict()).items()}
    config = {"sizes": asdict(base.denoiser.config), "scale": r.scale, "degree": r.degree}
    path = weights_path("base.safetensors")
    save_tensors(path, tensors, _metadata(BASE_KIND, config))
    return path


def load_base(path: Path | None = None) -> Base:
    """The shipped base, or another. Raises `WeightsError`."""
    path = path or weights_path("base.safetensors")
    tensors, values = _read(path, BASE_KIND)
    sizes = values["sizes"]
    denoiser = BaseDenoiser(BaseConfig(**{**sizes, "widths": tuple(sizes["widths"])}))
    own = {name.removeprefix("denoiser."): t for name, t in tensors.items() if name.startswith("denoiser.")}
    load_state(denoiser, own, path)
    try:
        fitted = [
            tensors[name].float() for name in ("examples", "weights", "basis", "mean", "center", "relevance")
        ]
        scales = [tensors[name].float() for name in ("deviation", "spread", "latent_center")]
    except KeyError as error:
        raise WeightsError(f"{path} lacks the tensor {error}: restore the file") from error
    examples, weights, basis, mean, center, relevance = fitted
    regression = Regression(examples, weights, basis, mean, center, relevance, values["scale"], values["degree"])
    deviation, spread, latent_center = scales
    return Base(regression, deviation, spread, latent_center, denoiser.eval().requires_grad_(False))


def save_upsampler(model: Upsampler) -> Path:
    """Write the shipped file as float16."""
    path = weights_path("upsampler.safetensors")
    save_tensors(path, _halves(model.state_dict()), _metadata(UPSAMPLER_KIND, asdict(model.config)))
    return path


def load_upsampler(path: Path | None = None) -> Upsampler:
    """The shipped upsampler, or another. Raises `WeightsError`."""
    path = path or weights_path("upsampler.safetensors")
    tensors, values = _read(path, UPSAMPLER_KIND)
    model = Upsampler(DetailConfig(**values))
    load_state(model, tensors, path)
    return model.eval().requires_grad_(False)


def _halves(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: t.half() if t.is_floating_point() else t for name, t in tensors.items()}


def _metadata(kind: str, config: dict) -> dict[str, str]:
    return {"type": kind, "version": "1", "config": json.dumps(config)}


def _read(path: Path, kind: str) -> tuple[dict[str, Tensor], dict]:
    tensors, metadata = load_tensors(path, kind)
    try:
        return tensors, json.loads(metadata["config"])
    except (KeyError, ValueError) as error:
        raise WeightsError(f"{path} has damaged metadata ({error}): restore the file") from error
