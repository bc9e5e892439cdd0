"""How much of a distillation step is not the prior's own time (goal: at most 25 %).

    python scripts/benchmark_distill.py                  # a U-Net shaped like Stable Diffusion 1.5's, narrower
    python scripts/benchmark_distill.py --width 1        # its real size, 860 M random weights
    python scripts/benchmark_distill.py --width 0        # the prior that ships

Weights are random: times do not depend on them. Prints seconds a step, the prior's share (U-Net and VAE encoder,
backward through the encoder not counted as the prior's), and the rest.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
import tyro

from avatar3d.distill.binding import encode_prompts
from avatar3d.distill.diffusers_door import random_stable_diffusion
from avatar3d.distill.loop import Running, run_stage
from avatar3d.distill.presets import load
from avatar3d.distillation import Wish, next_scene, open_prior


@dataclass(frozen=True)
class Config:
    width: float = 0.125
    """Channels, times those of Stable Diffusion 1.5; 0 for the prior that ships."""
    method: str = "fast"
    steps: int = 4
    batch: int = 1
    device: str = "cpu"
    threads: int = 2


def main(config: Config) -> None:
    torch.set_num_threads(config.threads)
    wish = Wish("a pineapple" if config.width else "old man", method=config.method, device=config.device)
    prior = random_stable_diffusion(config.width, config.device) if config.width else open_prior(wish)
    stage = replace(load(config.method).stages[-1], steps=config.steps, batch=config.batch)
    scene = next_scene(None, stage, wish, 1 << 30)
    prompts = encode_prompts(prior, wish.prompt)
    run_stage(scene, prior, prompts, replace(stage, steps=1), Running(device=config.device))
    outcome = run_stage(scene, prior, prompts, stage, Running(device=config.device))
    rest = outcome.seconds - outcome.prior_seconds
    print(
        f"{outcome.seconds / outcome.steps:.3f} s a step of {config.batch} pictures, "
        f"{100 * rest / outcome.seconds:.1f} % of it outside the prior ({rest / outcome.steps:.3f} s)"
    )


if __name__ == "__main__":
    main(tyro.cli(Config))
