"""A small rigged avatar made of spheres, for tests that must not depend on the engine."""

from __future__ import annotations

import torch
import trimesh

from avatar3d.spec import AvatarSpec
from avatar3d.structures import Avatar, Material, Mesh, MorphTargets, Part, Skeleton, Skin

JOINTS = ("hips", "spine", "head", "leftUpperArm")


def sphere_part(
    generator: torch.Generator, name: str, kind: str, centre: tuple[float, float, float], material: Material
) -> Part:
    """A sphere with random weights (repeated joints included), one local, one global and one still morph."""
    ball = trimesh.creation.uv_sphere(radius=0.12, count=[16, 16])
    normals = torch.tensor(ball.vertices, dtype=torch.float32)
    vertices = normals + torch.tensor(centre)
    count = len(vertices)
    uv = torch.stack([torch.atan2(normals[:, 0], normals[:, 2]) / 6.3 + 0.5, 0.5 - 4 * normals[:, 1]], dim=1)
    faces = torch.tensor(ball.faces)
    mesh = Mesh(vertices, faces, torch.nn.functional.normalize(normals, dim=1), uv, material)
    weights = torch.rand(count, 4, generator=generator) ** 2
    skin = Skin(
        torch.randint(0, len(JOINTS), (count, 4), generator=generator),
        weights / weights.sum(dim=1, keepdim=True),
    )
    deltas = torch.zeros(3, count, 3)
    deltas[0, :40] = 0.01 * torch.randn(40, 3, generator=generator)
    deltas[1] = 0.01 * torch.randn(count, 3, generator=generator)
    return Part(name, kind, mesh, skin, MorphTargets(("jawOpen", "mouthSmileLeft", "tongueOut"), deltas))


def synthetic_avatar(seed: int = 0) -> Avatar:
    """Three parts: an opaque textured one, an alpha-tested one and one without morphs or textures."""
    g = torch.Generator().manual_seed(seed)
    skin_texture = torch.rand(256, 256, 3, generator=g)
    bumps = torch.nn.functional.normalize(torch.rand(256, 256, 3, generator=g) + torch.tensor([0, 0, 2.0]), dim=2)
    orm = torch.rand(256, 256, 3, generator=g)
    body = Material(
        "skin",
        base_color=(0.5, 0.6, 0.7, 1.0),
        base_color_texture=skin_texture,
        normal_texture=bumps * 0.5 + 0.5,
        orm_texture=orm,
    )
    strands = Material(
        "strands",
        base_color_texture=torch.rand(64, 64, 4, generator=g),
        orm_texture=orm.clone(),
        alpha_mode="MASK",
        alpha_cutoff=0.3,
        double_sided=True,
    )
    lenses = Material("lenses", base_color=(0.1, 0.1, 0.1, 0.4), alpha_mode="BLEND", roughness=0.05)
    shapeless = sphere_part(g, "glasses_lenses", "glasses", (0.0, 1.6, 0.1), lenses)
    parts = (
        sphere_part(g, "body", "body", (0.0, 1.0, 0.0), body),
        sphere_part(g, "hair", "hair", (0.0, 1.6, 0.0), strands),
        Part(shapeless.name, shapeless.kind, shapeless.mesh, shapeless.skin),
    )
    positions = torch.tensor([[0.0, 0.9, 0.0], [0.0, 1.1, 0.0], [0.0, 1.5, 0.02], [0.2, 1.4, 0.0]])
    skeleton = Skeleton(JOINTS, (-1, 0, 1, 1), positions)
    return Avatar(AvatarSpec(seed=seed), skeleton, parts, {"mouthSmileLeft": 0.5})
