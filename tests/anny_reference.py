"""What anny itself computes for random people: the reference of the body template.

    pip install -e '.[template]' && python -m tests.anny_reference

writes `tests/data/anny.safetensors`, small enough to compare with everywhere.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from avatar3d.body.controls import LOCAL_CHANGES, PHENOTYPES
from avatar3d.body.template import load_template
from avatar3d.rotations import axis_angle_to_quaternion, quaternion_to_matrix

FIXTURE = Path(__file__).parent / "data" / "anny.safetensors"
PEOPLE = 8
KEPT = 200


def random_inputs(seed: int) -> dict[str, Tensor]:
    """Phenotypes (P, 11), local changes (P, L), action weights (P, 52), joint rotation vectors (P, J, 3)."""
    generator = np.random.default_rng(seed)
    template = load_template()
    phenotype = generator.uniform(0.02, 0.98, (PEOPLE, len(PHENOTYPES)))
    phenotype[:, PHENOTYPES.index("age")] = np.linspace(0.0, 0.98, PEOPLE)
    phenotype[:, PHENOTYPES.index("firmness")] = 0.5
    actions = np.zeros((PEOPLE, len(template.action_names)))
    for person, start in enumerate(np.linspace(0, actions.shape[1], PEOPLE + 1).astype(int)[:-1]):
        actions[person, start : start + 7] = generator.uniform(0.1, 1.0, len(actions[person, start : start + 7]))
    arrays = {
        "phenotype": phenotype,
        "local": generator.uniform(-1, 1, (PEOPLE, len(LOCAL_CHANGES))),
        "actions": actions,
        "turns": generator.normal(0, 0.25, (PEOPLE, len(template.bone_names), 3)),
    }
    return {k: torch.from_numpy(v).float() for k, v in arrays.items()}


def anny_results(inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rest and posed vertices (P, V, 3) of anny with the template's four weights, in the avatar's frame."""
    from scripts.compile_template import load_anny, to_avatar_frame

    template = load_template()
    model = load_anny()
    keep = template.base_vertex
    joints = torch.zeros_like(model.vertex_bone_indices)
    weights = torch.zeros_like(model.vertex_bone_weights)
    joints[keep, :4] = template.joints.to(joints)
    weights[keep, :4] = template.weights.to(weights)
    weights[weights.sum(1) == 0, 0] = 1.0
    model.vertex_bone_indices.copy_(joints)
    model.vertex_bone_weights.copy_(weights)
    model.set_skinning_method(None)
    rest, posed = [], []
    for person in range(PEOPLE):
        kwargs = {
            "phenotype_kwargs": dict(zip(PHENOTYPES, inputs["phenotype"][person].tolist(), strict=True)),
            "local_changes_kwargs": dict(zip(LOCAL_CHANGES, inputs["local"][person].tolist(), strict=True)),
            "facial_actions": dict(zip(template.action_names, inputs["actions"][person].tolist(), strict=True)),
        }
        still = model(**kwargs)
        frames = still["rest_bone_poses"][0, :, :3, :3]
        x, y, z = inputs["turns"][person].double().unbind(-1)
        turns = quaternion_to_matrix(axis_angle_to_quaternion(torch.stack([x, -z, y], dim=-1)))
        local = torch.eye(4).double().repeat(1, len(turns), 1, 1)
        local[0, :, :3, :3] = frames.transpose(1, 2) @ turns @ frames
        moved = model(pose_parameters=local.to(frames), pose_parameterization="local-bone-world", **kwargs)
        rest.append(to_avatar_frame(still["rest_vertices"][0, keep].numpy()))
        posed.append(to_avatar_frame(moved["vertices"][0, keep].numpy()))
    return {"rest": torch.from_numpy(np.stack(rest)), "posed": torch.from_numpy(np.stack(posed))}


def main() -> None:
    """Write the fixture."""
    inputs = random_inputs(seed=0)
    results = anny_results(inputs)
    moving = load_template().actions.norm(dim=-1).amax(0).argsort(descending=True)
    generator = np.random.default_rng(1)
    face = moving[: KEPT * 10 : 20].numpy()
    rest = generator.choice(results["rest"].shape[1], KEPT - len(face), replace=False)
    kept = torch.from_numpy(np.unique(np.concatenate([face, rest])))
    FIXTURE.parent.mkdir(exist_ok=True)
    save_file(inputs | {k: v[:, kept].float().contiguous() for k, v in results.items()} | {"kept": kept}, FIXTURE)
    print(f"wrote {FIXTURE.stat().st_size} bytes")


if __name__ == "__main__":
    main()
