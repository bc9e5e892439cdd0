"""Priors of diffusers' pipelines: tiny ones of each family, random weights, saved and loaded through the door."""

from __future__ import annotations

import json
import math
import shutil

import pytest
import torch
from diffusers import (
    AutoencoderKL,
    ControlNetModel,
    DDIMScheduler,
    DDPMScheduler,
    FlowMatchEulerDiscreteScheduler,
    FluxPipeline,
    FluxTransformer2DModel,
    IFPipeline,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from torch import nn
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    T5Config,
    T5EncoderModel,
    T5Tokenizer,
)

from avatar3d.distill import diffusers_door
from avatar3d.distill.diffusers_door import load_prior, prior_from_pipeline
from avatar3d.distill.hint import Hint, load_hint, save_hint
from avatar3d.distill.networks import camera_angles, packed, unpacked
from avatar3d.distill.prior import PriorError, Text

WORDS = ["an", "old", "man", "with", "glasses", "a", "red", "hat"]
PROMPTS = ["an old man with glasses", "a red hat"]
TIMES = torch.tensor([0.1234, 0.7])
ANGLES = torch.tensor([[0.3, 0.1], [-2.0, 0.5]])
LONG_PROMPT = " ".join(WORDS * 12)


def clip_tokenizer():
    letters = [chr(c) for c in range(ord("a"), ord("z") + 1)]
    pieces, merges = set(letters) | {f"{c}</w>" for c in letters}, []
    for word in WORDS:
        parts = [*word[:-1], word[-1] + "</w>"]
        while len(parts) > 1:
            merge = (parts[0], parts[1])
            if merge not in merges:
                merges.append(merge)
            parts = ["".join(merge), *parts[2:]]
            pieces.add(parts[0])
    vocab = {piece: i for i, piece in enumerate([*sorted(pieces), "<|startoftext|>", "<|endoftext|>"])}
    return CLIPTokenizer(vocab=vocab, merges=merges, model_max_length=77)


def t5_tokenizer():
    letters = [chr(c) for c in range(ord("a"), ord("z") + 1)]
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0)]
    pieces += [(f"▁{word}", -1.0) for word in WORDS] + [(c, -4.0) for c in letters if c not in WORDS]
    return T5Tokenizer(vocab=pieces, extra_ids=0, model_max_length=512)


def clip(projected=False, width=16):
    tokenizer = clip_tokenizer()
    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=77,
        projection_dim=12,
        bos_token_id=len(tokenizer) - 2,
        eos_token_id=len(tokenizer) - 1,
        pad_token_id=len(tokenizer) - 1,
    )
    return (CLIPTextModelWithProjection if projected else CLIPTextModel)(config)


def t5(width=16):
    config = T5Config(vocab_size=64, d_model=width, d_kv=8, d_ff=16, num_layers=1, num_heads=2)
    return T5EncoderModel(config)


def unet(**options):
    base = {
        "sample_size": 8,
        "in_channels": 4,
        "out_channels": 4,
        "block_out_channels": (8, 16),
        "layers_per_block": 1,
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
        "cross_attention_dim": 16,
        "attention_head_dim": 8,
        "norm_num_groups": 4,
    }
    return UNet2DConditionModel(**(base | options))


def vae(**options):
    base = {
        "block_out_channels": (8, 8),
        "down_block_types": ("DownEncoderBlock2D",) * 2,
        "up_block_types": ("UpDecoderBlock2D",) * 2,
        "latent_channels": 4,
        "norm_num_groups": 4,
        "sample_size": 16,
        "scaling_factor": 0.7,
    }
    return AutoencoderKL(**(base | options))


def sd(prediction="epsilon", **options):
    return StableDiffusionPipeline(
        vae=vae(),
        text_encoder=clip(),
        tokenizer=clip_tokenizer(),
        unet=unet(**options),
        scheduler=DDIMScheduler(prediction_type=prediction, beta_schedule="scaled_linear"),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def sdxl():
    added = {"addition_embed_type": "text_time", "addition_time_embed_dim": 8}
    return StableDiffusionXLPipeline(
        vae=vae(),
        text_encoder=clip(),
        text_encoder_2=clip(projected=True),
        tokenizer=clip_tokenizer(),
        tokenizer_2=clip_tokenizer(),
        unet=unet(cross_attention_dim=32, projection_class_embeddings_input_dim=60, **added),
        scheduler=DDIMScheduler(prediction_type="v_prediction"),
    )


def deep_floyd():
    return IFPipeline(
        tokenizer=t5_tokenizer(),
        text_encoder=t5(),
        unet=unet(
            in_channels=3,
            out_channels=6,
            encoder_hid_dim=16,
            encoder_hid_dim_type="text_proj",
            addition_embed_type="text",
            addition_embed_type_num_heads=2,
        ),
        scheduler=DDPMScheduler(beta_schedule="squaredcos_cap_v2", variance_type="learned_range"),
        safety_checker=None,
        feature_extractor=None,
        watermarker=None,
        requires_safety_checker=False,
    )


def sd3():
    return StableDiffusion3Pipeline(
        transformer=SD3Transformer2DModel(
            sample_size=8,
            patch_size=2,
            in_channels=4,
            num_layers=1,
            attention_head_dim=8,
            num_attention_heads=2,
            joint_attention_dim=40,
            caption_projection_dim=16,
            pooled_projection_dim=24,
            out_channels=4,
            pos_embed_max_size=8,
        ),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
        vae=vae(shift_factor=0.2),
        text_encoder=clip(projected=True),
        tokenizer=clip_tokenizer(),
        text_encoder_2=clip(projected=True),
        tokenizer_2=clip_tokenizer(),
        text_encoder_3=t5(40),
        tokenizer_3=t5_tokenizer(),
    )


def flux(guidance=True):
    return FluxPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
        vae=vae(shift_factor=0.2),
        text_encoder=clip(),
        tokenizer=clip_tokenizer(),
        text_encoder_2=t5(24),
        tokenizer_2=t5_tokenizer(),
        transformer=FluxTransformer2DModel(
            in_channels=16,
            num_layers=1,
            num_single_layers=1,
            attention_head_dim=8,
            num_attention_heads=2,
            joint_attention_dim=24,
            pooled_projection_dim=16,
            guidance_embeds=guidance,
            axes_dims_rope=(2, 2, 4),
        ),
    )


def views(count):
    return sd(class_embed_type="projection", projection_class_embeddings_input_dim=count)


BUILDERS = {
    "sd": sd,
    "sd2": lambda: sd("v_prediction"),
    "clean": lambda: sd("sample"),
    "sdxl": sdxl,
    "if": deep_floyd,
    "sd3": sd3,
    "flux": flux,
    "schnell": lambda: flux(False),
    "angles": lambda: views(4),
    "matrix": lambda: views(16),
}
ANSWERS = {"sd": "noise", "sd2": "velocity", "clean": "clean", "sdxl": "velocity", "if": "noise", "sd3": "flow"}
SIZES = {"flux": 16, "schnell": 16}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Name -> folder of a saved pipeline; made when first asked for."""
    root, made = tmp_path_factory.mktemp("priors"), {}

    def folder(name):
        if name not in made:
            torch.manual_seed(len(name))
            made[name] = root / name
            BUILDERS[name]().save_pretrained(made[name])
        return made[name]

    return folder


@pytest.fixture(scope="module")
def priors(folders):
    """Name -> (loaded prior, the pipeline by diffusers' own loader)."""
    made = {}

    def pair(name):
        if name not in made:
            pipe = type(BUILDERS[name]()).from_pretrained(folders(name))
            made[name] = load_prior(folders(name), size=SIZES.get(name)), pipe
        return made[name]

    return pair


@pytest.fixture(scope="module")
def shipped(tmp_path_factory):
    """A folder like that of the prior that ships, with statements of 5 numbers."""
    folder = tmp_path_factory.mktemp("shipped")
    torch.manual_seed(5)
    plain = {"down_block_types": ("DownBlock2D",) * 2, "up_block_types": ("UpBlock2D",) * 2}
    plain |= {"mid_block_type": "UNetMidBlock2D", "class_embed_type": "projection", "in_channels": 3}
    unet(out_channels=3, projection_class_embeddings_input_dim=9, **plain).save_pretrained(folder / "unet")
    options = {"prediction_type": "v_prediction", "beta_schedule": "squaredcos_cap_v2"}
    DDIMScheduler(**options).save_pretrained(folder / "scheduler")
    index = {"_class_name": "AvatarPrior", "unet": ["diffusers", "UNet2DConditionModel"]}
    index |= {"scheduler": ["diffusers", "DDIMScheduler"]}
    (folder / "model_index.json").write_text(json.dumps(index))
    return folder


def statement(prompts):
    return torch.tensor([[len(p), p.count("a"), p.count("e"), 1.0, 2.0] for p in prompts]) / 10


def noise(prior, seed=0):
    return torch.randn(2, *prior.latent, generator=torch.Generator().manual_seed(seed))


def own_text(name, pipe):
    """What the pipeline itself makes of the prompts: tokens, pooled."""
    with torch.no_grad():
        if name in ("sdxl",):
            tokens, _, pooled, _ = pipe.encode_prompt(PROMPTS, do_classifier_free_guidance=False)
        elif name == "sd3":
            tokens, _, pooled, _ = pipe.encode_prompt(PROMPTS, None, None, do_classifier_free_guidance=False)
        elif name in ("flux", "schnell"):
            length = 512 if name == "flux" else 256
            tokens, pooled, _ = pipe.encode_prompt(PROMPTS, None, max_sequence_length=length)
        elif name == "if":
            tokens, pooled = pipe.encode_prompt(PROMPTS, do_classifier_free_guidance=False)[0], None
        else:
            tokens, pooled = pipe.encode_prompt(PROMPTS, "cpu", 1, False)[0], None
    return tokens, pooled


def own_answer(name, pipe, noisy, tokens, pooled):
    """The pipeline's own model, called as its authors do."""
    steps = (TIMES * 999).round().long()
    if name == "sdxl":
        ids = pipe._get_add_time_ids((16, 16), (0, 0), (16, 16), torch.float32, 12).expand(2, 6)
        added = {"text_embeds": pooled, "time_ids": ids}
        return pipe.unet(noisy, steps, tokens, added_cond_kwargs=added).sample
    if name == "if":
        return pipe.unet(noisy, steps, tokens).sample.split(3, dim=1)[0]
    if name == "sd3":
        return pipe.transformer(noisy, tokens, pooled, TIMES * 1000).sample
    if name in ("flux", "schnell"):
        cells = pipe._pack_latents(noisy, 2, 4, 8, 8)
        ids = pipe._prepare_latent_image_ids(2, 4, 4, "cpu", torch.float32)
        scale = torch.full((2,), 3.5) if name == "flux" else None
        zeros = torch.zeros(tokens.shape[1], 3)
        out = pipe.transformer(cells, tokens, pooled, TIMES, ids, zeros, scale).sample
        return pipe._unpack_latents(out, 16, 16, 2)
    (sin_a, sin_e), (cos_a, cos_e) = ANGLES.sin().T, ANGLES.cos().T
    if name == "angles":
        return pipe.unet(noisy, steps, tokens, torch.stack([sin_a, cos_a, sin_e, cos_e], -1)).sample
    if name == "matrix":
        return pipe.unet(noisy, steps, tokens, torch.stack([looking(a, e) for a, e in ANGLES.tolist()])).sample
    return pipe.unet(noisy, steps, tokens).sample


def looking(azimuth, elevation):
    """Camera to world by cross products in a Y-up world, then turned to Z up: y -> z, z -> -y."""
    place = torch.tensor([math.cos(elevation) * math.sin(azimuth), math.sin(elevation)])
    place = torch.cat([place, torch.tensor([math.cos(elevation) * math.cos(azimuth)])])
    right = torch.linalg.cross(-place, torch.tensor([0.0, 1.0, 0.0]))
    right = right / right.norm()
    matrix = torch.eye(4)
    matrix[:3] = torch.stack([right, torch.linalg.cross(right, -place), place, place], dim=1)
    return (torch.tensor([[1.0, 0, 0, 0], [0, 0, -1, 0], [0, 1, 0, 0], [0, 0, 0, 1]]) @ matrix).flatten()


@pytest.mark.parametrize("name", BUILDERS)
def test_answers_are_those_of_the_pipelines_own_model(name, priors):
    prior, pipe = priors(name)
    tokens, pooled = own_text(name, pipe)
    text = prior.encode_text(PROMPTS)
    torch.testing.assert_close(text.tokens, tokens)
    torch.testing.assert_close(text.pooled, pooled)
    noisy, angles = noise(prior), ANGLES if prior.sees_views else None
    answer = prior.predict(noisy, TIMES, text, angles)
    assert answer.shape == noisy.shape and not answer.requires_grad
    with torch.no_grad():
        torch.testing.assert_close(answer, own_answer(name, pipe, noisy, tokens, pooled))
    assert torch.equal(answer, prior.predict(noisy, TIMES, text, angles))
    assert not torch.equal(answer, prior.predict(noisy, TIMES, text.rows(torch.tensor([1, 0])), angles))
    assert prior.answer == ANSWERS.get(name, "flow" if name in SIZES else "noise")
    assert prior.sees_views == (name in ("angles", "matrix"))


@pytest.mark.parametrize("name", ["sd", "sdxl", "if", "sd3", "flux"])
def test_levels_are_the_schedulers(name, priors):
    prior, pipe = priors(name)
    clean, draw = noise(prior), noise(prior, 1)
    alpha, sigma = prior.levels(TIMES)
    ours = alpha.view(-1, 1, 1, 1) * clean + sigma.view(-1, 1, 1, 1) * draw
    if prior.answer == "flow":
        scheduler = FlowMatchEulerDiscreteScheduler()
        near = scheduler.timesteps[(scheduler.timesteps - 700).abs().argmin()]
        alpha, sigma = prior.levels(near[None] / 1000)
        one = scheduler.scale_noise(clean[:1], near[None], draw[:1])
        torch.testing.assert_close(alpha * clean[:1] + sigma * draw[:1], one)
    else:
        torch.testing.assert_close(ours, pipe.scheduler.add_noise(clean, draw, (TIMES * 999).round().long()))
        assert prior.levels(torch.zeros(1))[1] < 0.05 and prior.levels(torch.ones(1))[0] < 0.1


@pytest.mark.parametrize("name", ["sd", "sd3", "flux", "if"])
def test_encode_is_the_scaled_mean_and_differentiable(name, priors):
    prior, pipe = priors(name)
    rgb = torch.rand(2, 3, prior.size, prior.size, generator=torch.Generator().manual_seed(2)).requires_grad_()
    latents = prior.encode(rgb)
    expected = 2 * rgb - 1
    if name != "if":
        shift = pipe.vae.config.shift_factor or 0
        expected = (pipe.vae.encode(expected).latent_dist.mean - shift) * 0.7
    torch.testing.assert_close(latents, expected)
    assert latents.shape[1:] == prior.latent
    latents.square().sum().backward()
    assert rgb.grad.abs().amax(dim=(1, 2, 3)).gt(0).all()
    assert prior.encode(torch.rand(1, 3, 40, 40)).shape[1:] == prior.latent
    decoded = prior.decode(latents.detach())
    assert decoded.shape == rgb.shape and decoded.min() >= 0 and decoded.max() <= 1
    if name == "if":
        torch.testing.assert_close(decoded, rgb.detach())


def test_patches_round_trip():
    latents = torch.arange(2 * 4 * 6 * 8).view(2, 4, 6, 8).float()
    assert torch.equal(unpacked(packed(latents), 6, 8), latents)
    assert torch.equal(packed(latents)[0, 1, :4], latents[0, 0, :2, 2:4].flatten())


def test_each_prompt_is_read_once_and_encoders_can_go(folders):
    pipe = StableDiffusionPipeline.from_pretrained(folders("sd"))
    prior, calls = prior_from_pipeline(pipe), []
    pipe.text_encoder.register_forward_hook(lambda *_: calls.append(1))
    first = prior.encode_text([*PROMPTS, PROMPTS[0]])
    assert len(calls) == 2 and torch.equal(first.tokens[0], first.tokens[2])
    prior.release_text_encoder()
    assert torch.equal(prior.encode_text(PROMPTS).tokens, first.tokens[:2]) and len(calls) == 2
    with pytest.raises(PriorError, match="released"):
        prior.encode_text(["a hat"])


def test_empty_prompt_of_sdxl_is_zeros(priors):
    text = priors("sdxl")[0].encode_text(["", "a hat"])
    assert not text.tokens[0].any() and not text.pooled[0].any() and text.tokens[1].any()


def test_words_that_are_not_read(priors):
    for name in ("sd", "if"):
        prior = priors(name)[0]
        cut = prior.cut(LONG_PROMPT)
        assert prior.cut(PROMPTS[0]) == "" and LONG_PROMPT.endswith(cut)
        kept, tokenizer = LONG_PROMPT.removesuffix(cut).split(), priors(name)[1].tokenizer
        assert len(tokenizer(" ".join(kept)).input_ids) <= 77
        assert len(tokenizer(" ".join([*kept, cut.split()[0]])).input_ids) > 77
    assert priors("sd3")[0].cut(LONG_PROMPT) == ""


def test_half_precision_answers_in_the_dtype_of_the_latents(folders, priors):
    prior = load_prior(folders("sd"), dtype=torch.bfloat16)
    whole = priors("sd")[0]
    rgb = torch.rand(1, 3, 16, 16)
    latents = prior.encode(rgb)
    assert latents.dtype == torch.float32 and prior.dtype == torch.bfloat16
    torch.testing.assert_close(latents, whole.encode(rgb), atol=0.05, rtol=0.05)
    noisy = noise(prior)
    answer = prior.predict(noisy, TIMES, prior.encode_text(PROMPTS))
    expected = whole.predict(noisy, TIMES, whole.encode_text(PROMPTS))
    assert answer.dtype == torch.float32
    torch.testing.assert_close(answer, expected, atol=0.1, rtol=0.1)


def test_offload_changes_no_answer(folders, priors):
    prior, whole = load_prior(folders("sd"), offload=True), priors("sd")[0]
    noisy = noise(prior)
    ours = prior.predict(noisy, TIMES, prior.encode_text(PROMPTS))
    assert torch.equal(ours, whole.predict(noisy, TIMES, whole.encode_text(PROMPTS)))


def test_models_are_frozen_but_inputs_may_ask_for_gradients(priors):
    prior, _ = priors("sd")
    noisy = noise(prior).requires_grad_()
    prior.predict(noisy, TIMES, prior.encode_text(PROMPTS)).sum().backward()
    assert noisy.grad.any()
    assert not any(p.requires_grad for p in prior.network.model.parameters())


def test_the_prior_that_ships(shipped):
    prior = load_prior(shipped, encode_person=statement)
    assert prior.latent == (3, 8, 8) and prior.size == 8 and prior.sees_views and prior.answer == "velocity"
    text = prior.encode_text(["", PROMPTS[0]])
    assert torch.equal(text.pooled, torch.stack([torch.zeros(5), statement(PROMPTS[:1])[0]]))
    model = UNet2DConditionModel.from_pretrained(shipped / "unet")
    (sin_a, sin_e), (cos_a, cos_e) = ANGLES.sin().T, ANGLES.cos().T
    labels = torch.cat([text.pooled, torch.stack([sin_a, cos_a, sin_e, cos_e], -1)], -1)
    noisy = noise(prior)
    with torch.no_grad():
        expected = model(noisy, (TIMES * 999).round().long(), None, class_labels=labels).sample
    torch.testing.assert_close(prior.predict(noisy, TIMES, text, ANGLES), expected)
    assert prior.cut(LONG_PROMPT) == ""
    with pytest.raises(PriorError, match="azimuth"):
        prior.predict(noisy, TIMES, text)
    with pytest.raises(PriorError, match="encode_person"):
        load_prior(shipped)
    with pytest.raises(PriorError, match="5 numbers"):
        load_prior(shipped, encode_person=lambda p: torch.zeros(len(p), 3)).encode_text(["a"])


def test_poses_go_through_the_controlnet(folders, tmp_path, priors):
    pipe = priors("sd")[1]
    torch.manual_seed(3)
    control = ControlNetModel.from_unet(pipe.unet, conditioning_embedding_out_channels=(4, 8))
    for parameter in control.parameters():
        nn.init.normal_(parameter, std=0.1)
    control.save_pretrained(tmp_path / "fits")
    prior = load_prior(folders("sd"), controlnet=tmp_path / "fits")
    noisy, text, steps = noise(prior), prior.encode_text(PROMPTS), (TIMES * 999).round().long()
    pose = torch.rand(2, 3, 16, 16)
    with torch.no_grad():
        down, mid = control(noisy, steps, text.tokens, pose, return_dict=False)
        expected = pipe.unet(
            noisy,
            steps,
            text.tokens,
            down_block_additional_residuals=down,
            mid_block_additional_residual=mid,
        ).sample
    torch.testing.assert_close(prior.predict(noisy, TIMES, text, pose=pose), expected)
    assert not torch.allclose(prior.predict(noisy, TIMES, text), expected)
    ControlNetModel.from_unet(pipe.unet).save_pretrained(tmp_path / "other")
    with pytest.raises(PriorError, match="another model"):
        load_prior(folders("sd"), controlnet=tmp_path / "other")
    with pytest.raises(PriorError, match="transformer"):
        load_prior(folders("sd3"), controlnet=tmp_path / "fits")


def test_lora_is_added_to_the_weights(folders, priors, tmp_path, monkeypatch):
    from peft import LoraConfig
    from peft.utils import get_peft_model_state_dict

    pipe = StableDiffusionPipeline.from_pretrained(folders("sd"))
    plain = {key: value.clone() for key, value in pipe.unet.state_dict().items()}
    torch.manual_seed(4)
    pipe.unet.add_adapter(LoraConfig(r=2, lora_alpha=2, target_modules=["to_q"], init_lora_weights=False))
    layers = get_peft_model_state_dict(pipe.unet)
    StableDiffusionPipeline.save_lora_weights(tmp_path, unet_lora_layers=layers)
    for key in [key for key in layers if key.endswith("lora_A.weight")]:
        product = layers[key.replace("lora_A", "lora_B")] @ layers[key]
        plain[key.replace("lora_A.", "")] += 0.5 * product
    merged = unet()
    merged.load_state_dict(plain)
    prior = load_prior(folders("sd"), lora=tmp_path, lora_scale=0.5)
    noisy, text = noise(prior), prior.encode_text(PROMPTS)
    with torch.no_grad():
        expected = merged(noisy, (TIMES * 999).round().long(), text.tokens).sample
    answer = prior.predict(noisy, TIMES, text)
    torch.testing.assert_close(answer, expected)
    assert not torch.allclose(answer, priors("sd")[0].predict(noisy, TIMES, text))
    monkeypatch.setattr(diffusers_door.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(PriorError, match=r"pip install 'avatar3d\[lora\]'"):
        load_prior(folders("sd"), lora=tmp_path)


def test_what_is_wrong_is_said(folders, tmp_path):
    with pytest.raises(PriorError, match="There is no"):
        load_prior(tmp_path / "nothing")
    with pytest.raises(PriorError, match="model_index"):
        load_prior(tmp_path)
    (tmp_path / "model_index.json").write_text("{")
    with pytest.raises(PriorError, match="broken"):
        load_prior(tmp_path)
    (tmp_path / "model_index.json").write_text('{"_class_name": "StableDiffusionPipeline"}')
    with pytest.raises(PriorError, match="no unet"):
        load_prior(tmp_path)
    with pytest.raises(PriorError, match="not a pipeline"):
        prior_from_pipeline(7)
    with pytest.raises(PriorError, match="multiple of 2"):
        load_prior(folders("sd"), size=17)
    with pytest.raises(PriorError, match=r"no LoRA for this model|can not be read"):
        load_prior(folders("sd"), lora=folders("sd") / "unet")


def test_broken_files_are_said(folders, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(folders("sd"), folder)
    weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(PriorError, match="can not be read"):
        load_prior(folder)
    weights.unlink()
    with pytest.raises(PriorError, match=r"unet/\*.safetensors"):
        load_prior(folder)


def test_what_needs_more_than_a_prompt_is_no_prior():
    with pytest.raises(PriorError, match="9 channels"):
        prior_from_pipeline(sd(in_channels=9))
    with pytest.raises(PriorError, match="neither 4 angles"):
        prior_from_pipeline(views(7))


@pytest.mark.parametrize("kind", ["GatedRepoError", "RepositoryNotFoundError", "LocalEntryNotFoundError"])
def test_the_hub_says_no(kind, monkeypatch):
    import huggingface_hub
    from huggingface_hub import errors

    def refuse(*_, **__):
        made = getattr(errors, kind)
        raise made.__new__(made)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", refuse)
    expected = {"GatedRepoError": "https://huggingface.co/some/model", "RepositoryNotFoundError": "hf auth login"}
    with pytest.raises(PriorError, match=expected.get(kind, "hf download some/model")):
        load_prior("some/model")


def test_text_of_one_batch_can_be_taken_apart(priors):
    text = priors("sd")[0].encode_text(PROMPTS)
    assert isinstance(text, Text) and text.mask is None and text.rows(slice(0, 1)).tokens.shape[0] == 1


def test_a_prior_with_a_hint_denoises_what_is_beyond_it(shipped, tmp_path):
    folder = shutil.copytree(shipped, tmp_path / "prior")
    unet = UNet2DConditionModel.from_config(UNet2DConditionModel.load_config(folder / "unet"), in_channels=7)
    unet.save_pretrained(folder / "unet")
    generator = torch.Generator().manual_seed(5)
    hint = Hint(
        torch.randn(60, 4, generator=generator),
        torch.randn(4, 256, generator=generator) / 8,
        torch.full((256,), 0.4),
    )
    save_hint(hint, folder / "hint.safetensors")
    prior = load_prior(folder, encode_person=statement)
    assert prior.latent == (3, 8, 8)
    text, noisy = prior.encode_text(["", PROMPTS[0]]), noise(prior)
    behind = torch.tensor([[1.0, 0.0, 0.5], [0.2, 0.3, 0.4]])
    over = load_hint(folder / "hint.safetensors").over(text.pooled, ANGLES, behind)
    alpha, sigma = (x.view(-1, 1, 1, 1) for x in prior.levels(TIMES))
    beyond = torch.cat([noisy - alpha * over[:, :3], over], 1)
    labels = torch.cat([text.pooled, camera_angles(ANGLES)], -1)
    with torch.no_grad():
        rest = prior.network.model(beyond, (TIMES * 999).round().long(), None, class_labels=labels).sample
    answer = prior.predict(noisy, TIMES, text, ANGLES, None, behind)
    torch.testing.assert_close(answer, rest - sigma * over[:, :3])
    assert not torch.allclose(answer, prior.predict(noisy, TIMES, text, ANGLES))
