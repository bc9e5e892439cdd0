"""The one door to diffusers: folders, hub ids and loaded pipelines become priors."""

from __future__ import annotations

import importlib.util
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from avatar3d.distill.hint import load_hint
from avatar3d.distill.networks import UNet
from avatar3d.distill.pipelines import KNOWN, DiffusersPrior, assemble, schedule_of
from avatar3d.distill.prior import PriorError, Text
from avatar3d.distill.text_encoders import EncodePerson, TextReader

HUB_ID = re.compile(r"[\w-][\w.-]*/[\w.-]+")
FILES = ["model_index.json", "*.json", "*/*.json", "*/*.safetensors", "*/*.txt", "*/*.model", "*.safetensors"]
VARIANTS = ["*.fp16.*", "*.bf16.*", "*.non_ema.*", "*.fp32.*"]
HINT = "hint.safetensors"
UNUSED = ("safety_checker", "feature_extractor", "image_encoder", "watermarker")


def load_prior(
    source: Path | str,
    *,
    dtype: torch.dtype | None = None,
    device: torch.device | str = "cpu",
    size: int | None = None,
    offload: bool = False,
    lora: Path | str | None = None,
    lora_scale: float = 1.0,
    controlnet: Path | str | None = None,
    encode_person: EncodePerson | None = None,
) -> DiffusersPrior:
    """A prior of a folder in diffusers' format or a hub id (downloaded once, if there is a network).

    `size` is in pixels a side, if other than the model's own. `offload` keeps text encoders off the device while
    they do not read. A LoRA (a file, a folder or a hub id) is merged into the weights, times `lora_scale`. A
    folder without text encoder needs `encode_person`: B prompts -> (B, S). Only safetensors are read.

    Raises `PriorError` when files are missing, broken or of another kind of model.
    """
    folder = _folder(source, "model_index.json")
    index = _index(folder)
    worded = any(name.startswith("text_encoder") for name in index)
    if "unet" not in index and "transformer" not in index:
        raise PriorError(f"{source} has no unet and no transformer, so it is no prior: {KNOWN}.")
    if lora is not None and not worded:
        raise PriorError(
            f"{source} has no text encoder; LoRAs are for text-to-image pipelines. Leave the LoRA out."
        )
    _check_weights(source, folder, index)
    with _readable(source):
        pipe = _pipeline(folder, dtype) if worded else None
        parts: Mapping[str, Any] = _plain_parts(folder, index, dtype) if pipe is None else pipe.components
    if pipe is not None and lora is not None:
        _merge_lora(pipe, lora, lora_scale)
    control = None if controlnet is None else _controlnet(controlnet, dtype)
    config = {} if pipe is None else pipe.config
    return assemble(parts, config, str(source), torch.device(device), size, offload, control, encode_person)


def prior_from_pipeline(
    pipe: Any,
    *,
    size: int | None = None,
    controlnet: Any = None,
    encode_person: EncodePerson | None = None,
) -> DiffusersPrior:
    """A prior of a loaded pipeline, where its denoiser is. The pipeline's models are frozen, and not copied.

    Raises `PriorError` for what is not text-to-image.
    """
    parts = getattr(pipe, "components", None)
    if not isinstance(parts, Mapping):
        raise PriorError(f"A {type(pipe).__name__} is not a pipeline of diffusers: {KNOWN}.")
    denoiser = parts.get("unet") if parts.get("unet") is not None else parts.get("transformer")
    device = torch.device("cpu") if denoiser is None else denoiser.device
    name = type(pipe).__name__
    return assemble(parts, pipe.config, name, device, size, False, controlnet, encode_person)


def random_stable_diffusion(width: float, device: torch.device | str = "cpu") -> DiffusersPrior:
    """A prior of Stable Diffusion 1.5's shape with random weights and `width` times its channels, for timing."""
    from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel

    def channels(*full: int) -> tuple[int, ...]:
        return tuple(max(32, int(width * n) // 32 * 32) for n in full)

    unet = UNet2DConditionModel(
        sample_size=64, block_out_channels=channels(320, 640, 1280, 1280), cross_attention_dim=768
    )
    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=channels(128, 256, 512, 512), layers_per_block=2, latent_channels=4, sample_size=512,
    )  # fmt: skip
    for model in (unet, vae):
        model.requires_grad_(False).eval().to(device)
    schedule = schedule_of(DDIMScheduler(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012), "SD")
    reader = TextReader(lambda prompt: Text(tokens=torch.zeros(1, 77, 768)))
    return DiffusersPrior(
        f"SD 1.5 at {width:g} of its width", "noise", 512, (4, 64, 64), False, torch.device(device), unet.dtype,
        schedule, UNet(unet, 512), reader, vae,
    )  # fmt: skip


def _folder(source: Path | str, wanted: str | None) -> Path:
    """The local folder of a path or hub id."""
    path = Path(source).expanduser()
    if not path.exists() and isinstance(source, str) and HUB_ID.fullmatch(source):
        path = _from_hub(source)
    if not path.exists():
        raise PriorError(
            f"There is no {source}. Give a folder in diffusers' format or a hub id; "
            f"`hf download OWNER/NAME --local-dir {source}` gets one."
        )
    if wanted is not None and not (path / wanted).is_file():
        raise PriorError(f"{source} has no {wanted}: it is not a folder in diffusers' format.")
    return path


def _from_hub(name: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

    try:
        return Path(snapshot_download(name, allow_patterns=FILES, ignore_patterns=VARIANTS))
    except GatedRepoError as error:
        raise PriorError(
            f"{name} is behind a licence: accept it at https://huggingface.co/{name}, "
            "run `hf auth login`, and try again."
        ) from error
    except RepositoryNotFoundError as error:
        raise PriorError(
            f"There is no folder {name}, and no such model on the hub; if it is private, run `hf auth login`."
        ) from error
    except (OSError, ValueError) as error:
        raise PriorError(
            f"{name} is neither a folder here nor in the cache, and the hub does not answer. "
            f"Where there is a network, run `hf download {name}`."
        ) from error


def _index(folder: Path) -> dict[str, tuple[str, str]]:
    """Parts that the folder says it has -> library and class."""
    try:
        entries = json.loads((folder / "model_index.json").read_text("utf-8"))
        if not isinstance(entries["_class_name"], str):
            raise PriorError(f"{folder} brings its own pipeline code, which is not run: {KNOWN}.")
        lists = {name: entry for name, entry in entries.items() if isinstance(entry, list) and len(entry) == 2}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise PriorError(f"{folder}/model_index.json is broken ({error}); get the model again.") from error
    return {name: (entry[0], entry[1]) for name, entry in lists.items() if entry[0] and name not in UNUSED}


def _check_weights(source: Path | str, folder: Path, index: Mapping[str, tuple[str, str]]) -> None:
    """Models (they have a config.json) need safetensors."""
    again = f"Get it again: `hf download {source}`" if HUB_ID.fullmatch(str(source)) else "Get the model again"
    for name in index:
        part = folder / name
        if not part.is_dir():
            raise PriorError(f"{source} lacks the folder {name}. {again}.")
        models = name.split("_")[0] not in ("scheduler", "tokenizer")
        if models and not list(part.glob("*.safetensors")):
            raise PriorError(f"{source} has no {name}/*.safetensors (pickled weights are not read). {again}.")


@contextmanager
def _readable(source: Path | str) -> Iterator[None]:
    """Whatever goes wrong inside diffusers is said in one line."""
    try:
        yield
    except PriorError:
        raise
    except Exception as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:300]
        raise PriorError(f"{source} can not be read ({reason}). Get its files again, or take another.") from error


def _pipeline(folder: Path, dtype: torch.dtype | None) -> Any:
    from diffusers import DiffusionPipeline

    entries = json.loads((folder / "model_index.json").read_text("utf-8"))
    left_out: dict[str, Any] = {name: None for name in UNUSED if name in entries}
    if "requires_safety_checker" in entries:
        left_out["requires_safety_checker"] = False
    return DiffusionPipeline.from_pretrained(
        str(folder), torch_dtype=dtype or torch.float32, use_safetensors=True, local_files_only=True, **left_out
    )


def _plain_parts(folder: Path, index: Mapping[str, tuple[str, str]], dtype: torch.dtype | None) -> dict[str, Any]:
    """The parts of a folder that no pipeline class of diffusers is for: a UNet that reads statements."""
    from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel

    if "unet" not in index:
        raise PriorError(f"{folder} has no text encoder: {KNOWN}.")
    options: dict[str, Any] = {"torch_dtype": dtype or torch.float32, "use_safetensors": True}
    parts: dict[str, Any] = {
        "unet": UNet2DConditionModel.from_pretrained(folder / "unet", **options),
        "scheduler": DDIMScheduler.from_pretrained(folder / "scheduler"),
    }
    if (folder / HINT).exists():
        parts["hint"] = load_hint(folder / HINT)
    if "vae" in index:
        parts["vae"] = AutoencoderKL.from_pretrained(folder / "vae", **options)
    return parts


def _controlnet(source: Path | str, dtype: torch.dtype | None) -> Any:
    from diffusers import ControlNetModel

    folder = _folder(source, "config.json")
    with _readable(source):
        kind = json.loads((folder / "config.json").read_text("utf-8")).get("_class_name")
        if kind != ControlNetModel.__name__:
            raise PriorError(f"{source} is no ControlNet (its config.json says {kind}). Name one.")
        return ControlNetModel.from_pretrained(folder, torch_dtype=dtype or torch.float32, use_safetensors=True)


def _merge_lora(pipe: Any, source: Path | str, scale: float) -> None:
    """Adds the LoRA's products to the weights (Hu et al. 2022, equation 3)."""
    if importlib.util.find_spec("peft") is None:
        raise PriorError("LoRAs need peft: `pip install 'avatar3d[lora]'`.")
    if not hasattr(pipe, "load_lora_weights"):
        raise PriorError(f"A {type(pipe).__name__} takes no LoRA. Leave it out.")
    path = _folder(source, None)
    files = [path] if path.is_file() else sorted(path.glob("*.safetensors"))
    if len(files) != 1 or files[0].suffix != ".safetensors":
        raise PriorError(f"{source} should be or hold one .safetensors file with a LoRA; name the file.")
    with _readable(source):
        pipe.load_lora_weights(str(files[0].parent), weight_name=files[0].name, local_files_only=True)
        if not any(pipe.get_list_adapters().values()):
            raise PriorError(f"{source} holds no LoRA for this model.")
        pipe.fuse_lora(lora_scale=scale)
        pipe.unload_lora_weights()
