"""How many sampling steps the base and the upsampler need: distance from a solution of many steps.

    python scripts/sampling_curve.py

Prints, for every sampler and number of network evaluations, the root mean square difference of the latents from
those of 100 steps of DPM-Solver++ 2M with the same noise, as a share of the latents' standard deviation.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import tyro

from avatar3d.cascade.sampling import base_planes, default_cascade
from avatar3d.cascade.upsampler import FINE_SIZE
from avatar3d.diffusion.samplers import ddim, dpm_solver_2m, heun
from avatar3d.engine.population import sample
from avatar3d.spec import spec_to_vector

SAMPLERS = {"Euler (DDIM)": (ddim, 1), "Heun": (heun, 2), "DPM-Solver++ 2M": (dpm_solver_2m, 1)}
"""Sampler, and network evaluations in a step."""


@dataclass(frozen=True)
class Config:
    people: int = 4
    evaluations: tuple[int, ...] = (4, 8, 12, 20, 32)
    seed: int = 0


def main(config: Config) -> None:
    cascade = default_cascade()
    generator = np.random.default_rng(config.seed)
    specs = [sample(generator) for _ in range(config.people)]
    vectors = torch.stack([torch.from_numpy(spec_to_vector(spec)) for spec in specs])
    noise = torch.randn(
        len(specs), *cascade.base.deviation.shape, generator=torch.Generator().manual_seed(config.seed)
    )
    best = cascade.base.sample(vectors, noise, 100)
    scale = float(best.std())
    print("base: evaluations    " + "".join(f"{n:>8}" for n in config.evaluations))
    for name, (sampler, cost) in SAMPLERS.items():
        errors = [
            float((cascade.base.sample(vectors, noise, n // cost, sampler=sampler) - best).square().mean().sqrt())
            for n in config.evaluations
        ]
        print(f"{name:<20}" + "".join(f"{error / scale:8.4f}" for error in errors))
    planes = base_planes(cascade, best[:1])
    fine_noise = torch.randn(
        1, *planes.shape[1:3], FINE_SIZE, FINE_SIZE, generator=torch.Generator().manual_seed(1)
    )
    target = cascade.upsampler.upsample(planes, fine_noise, 50)
    size = float((target - cascade.upsampler.upsample(planes, 0 * fine_noise, 2)).square().mean().sqrt())
    print("upsampler (DDIM), share of the noise's own effect")
    for count in (2, 4, 8, 16):
        error = (cascade.upsampler.upsample(planes, fine_noise, count) - target).square().mean().sqrt()
        print(f"{count:>4} steps {float(error) / max(size, 1e-9):8.4f}")


if __name__ == "__main__":
    main(tyro.cli(Config))
