"""Skinned meshes of a glTF file as parts, in the file's rest pose."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from avatar3d.export.gltf_file import AvatarFileError, GltfFile
from avatar3d.export.read_materials import MaterialReader
from avatar3d.export.read_skeleton import FileSkeleton
from avatar3d.mesh.normals import vertex_normals, weld_by_position
from avatar3d.structures import PART_KINDS, Mesh, MorphTargets, Part, Skin

FLAT = 1e-12
"""Square metres: triangles of twice this area are dropped."""
SAME_MOTION = 1e-5
"""Entries of rest transforms that differ less than this, single precision's rounding, are equal."""
WORDS = (
    ("lashes", ("lash", "eyelash")), ("brows", ("brow", "eyebrow")),
    ("glasses", ("glass", "eyewear", "spectacle")),
    ("teeth", ("teeth", "tooth", "gum")), ("tongue", ("tongue",)),
    ("beard", ("beard", "mustache", "moustache", "facialhair")), ("hair", ("hair", "ponytail", "bang")),
    ("hat", ("hat", "cap", "headwear", "helmet")), ("eyes", ("eye", "iris", "cornea", "pupil")),
    ("shoes", ("shoe", "boot", "footwear", "sneaker")),
    ("bottom", ("bottom", "pants", "trouser", "skirt", "jeans", "shorts")),
    ("jewellery", ("earring", "necklace", "jewel")),
    ("top", ("top", "shirt", "jacket", "outfit", "dress", "cloth", "hoodie", "sweater", "coat")),
)  # fmt: skip
"""How names of meshes begin, by kind; a mesh of none of them is taken for body."""


def read_parts(file: GltfFile, bones: FileSkeleton, remarks: list[str]) -> tuple[Part, ...]:
    """One part per primitive of the scene's meshes; levels of detail below the first are left out.

    Raises `AvatarFileError` when nothing can be used.
    """
    materials = MaterialReader(file, remarks)
    parts: list[Part] = []
    for node in _shown_nodes(file, bones.node_parents):
        entry = file.entry("nodes", node)
        if "mesh" not in entry:
            continue
        mesh = file.entry("meshes", entry["mesh"])
        name = str(entry.get("name") or mesh.get("name") or f"mesh_{node}")
        primitives = mesh["primitives"]
        for n, primitive in enumerate(primitives):
            label = name if len(primitives) == 1 else f"{name}_{n + 1}"
            part = _PartReader(file, bones, materials, remarks, label).read(primitive, mesh, node)
            if part is not None:
                parts.append(part)
    if not parts:
        raise AvatarFileError("holds no triangles that follow a skeleton")
    taken = {*bones.skeleton.names}
    unique = []
    for part in parts:
        free, n = part.name, 2
        while free in taken:
            free, n = f"{part.name}_{n}", n + 1
        taken.add(free)
        unique.append(Part(free, part.kind, part.mesh, part.skin, part.morphs))
    return tuple(unique)


def target_names(mesh: dict, count: int) -> tuple[str, ...]:
    """Names of a mesh's face shapes, wherever programs write them; numbers where they do not."""
    primitive = mesh["primitives"][0]
    names = mesh.get("extras", {}).get("targetNames") or primitive.get("extras", {}).get("targetNames") or []
    names = [str(name) for name in names[:count]]
    return (*names, *(f"shape_{n}" for n in range(len(names), count)))


def _shown_nodes(file: GltfFile, parents: list[int]) -> Iterator[int]:
    """Nodes of the main scene, or all if there is none, without lower levels of detail (MSFT_lod)."""
    nodes = file.entries("nodes")
    scenes = file.entries("scenes")
    roots = file.entry("scenes", file.document.get("scene", 0)).get("nodes", []) if scenes else None
    lower = {n for node in nodes for n in node.get("extensions", {}).get("MSFT_lod", {}).get("ids", [])}
    for node in range(len(nodes)):
        chain = [node]
        while parents[chain[-1]] >= 0:
            chain.append(parents[chain[-1]])
        if (roots is None or chain[-1] in roots) and not lower.intersection(chain):
            yield node


@dataclass(frozen=True)
class _PartReader:
    file: GltfFile
    bones: FileSkeleton
    materials: MaterialReader
    remarks: list[str]
    name: str

    def read(self, primitive: dict, mesh: dict, node: int) -> Part | None:
        """A primitive as a part, or None with a remark if it has no triangles."""
        if primitive.get("mode", 4) != 4:
            self.remarks.append(f"{self.name}: only triangle lists are read; it is left out")
            return None
        vertices = self._attribute(primitive, "POSITION", 3).astype(np.float64)
        if not np.isfinite(vertices).all():
            raise AvatarFileError(f"{self.name}: {_count_bad(vertices)} vertices are not finite numbers")
        faces = self._faces(primitive, vertices)
        if len(faces) == 0:
            self.remarks.append(f"{self.name}: has no triangles and is left out")
            return None
        used, faces = np.unique(faces, return_inverse=True)
        faces = faces.reshape(-1, 3)
        joints, weights = self._skin(primitive, node, len(vertices), used)
        linear, shift = self._rest_motion(node, joints, weights)
        moved = np.einsum("vij,vj->vi", linear, vertices[used]) + shift
        if not np.abs(moved).max() < 1e6:
            raise AvatarFileError(f"{self.name}: reaches to {np.abs(moved).max():g} m; scale it down")
        points = torch.from_numpy(moved).float()
        faces_tensor = torch.from_numpy(faces.astype(np.int64))
        uv = np.zeros((len(used), 2))
        if "TEXCOORD_0" in primitive["attributes"]:
            uv = np.nan_to_num(self._attribute(primitive, "TEXCOORD_0", 2, len(vertices))[used])
        return Part(
            self.name,
            self._kind(mesh, primitive),
            Mesh(
                points,
                faces_tensor,
                self._normals(primitive, len(vertices), used, linear, points, faces_tensor),
                torch.from_numpy(uv.astype(np.float32)),
                self.materials.read(primitive.get("material")),
            ),
            Skin(torch.from_numpy(joints), torch.from_numpy(weights).float()),
            self._morphs(primitive, mesh, len(vertices), used, linear),
        )

    def _attribute(self, primitive: dict, name: str, width: int, count: int | None = None) -> np.ndarray:
        if name not in primitive["attributes"]:
            raise AvatarFileError(f"{self.name}: has no {name}")
        values = self.file.accessor(primitive["attributes"][name])
        if values.ndim != 2 or values.shape[1] != width or (count is not None and len(values) != count):
            raise AvatarFileError(f"{self.name}: {name} has the shape {values.shape}")
        return values

    def _faces(self, primitive: dict, vertices: np.ndarray) -> np.ndarray:
        """(F, 3) triangles with an area."""
        index = self.file.accessor(primitive["indices"]) if "indices" in primitive else np.arange(len(vertices))
        if index.ndim != 1 or index.dtype.kind not in "ui" or (len(index) and int(index.max()) >= len(vertices)):
            raise AvatarFileError(f"{self.name}: triangles refer to vertices that are not there")
        faces = index[: len(index) // 3 * 3].astype(np.int64).reshape(-1, 3)
        corner = vertices[faces]
        area = np.linalg.norm(np.cross(corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0]), axis=1)
        flat = int((area <= FLAT).sum())
        if flat:
            self.remarks.append(f"{self.name}: {flat} triangles without an area are left out")
        faces = faces[area > FLAT]
        edges = np.sort(faces[:, [[0, 1], [1, 2], [2, 0]]].reshape(-1, 2), axis=1)
        crowded = int((np.unique(edges, axis=0, return_counts=True)[1] > 2).sum()) if len(edges) else 0
        if crowded:
            self.remarks.append(
                f"{self.name}: {crowded} edges belong to more than two triangles; kept as they are"
            )
        return faces

    def _skin(self, primitive: dict, node: int, count: int, used: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(V, 4) joints of the skeleton and weights that sum to 1, the four largest."""
        if "skin" not in self.file.entry("nodes", node) or "JOINTS_0" not in primitive["attributes"]:
            rigid = np.zeros((len(used), 4), np.int64)
            rigid[:, 0] = self.bones.joint_above(node)
            return rigid, np.tile([1.0, 0, 0, 0], (len(used), 1))
        of_skin = np.array([self.bones.joint_of_node[j] for j in self._skin_entry(node)["joints"]])
        sets = [n for n in range(8) if f"JOINTS_{n}" in primitive["attributes"]]
        slots = np.concatenate([self._attribute(primitive, f"JOINTS_{n}", 4, count)[used] for n in sets], axis=1)
        weights = np.concatenate(
            [self._attribute(primitive, f"WEIGHTS_{n}", 4, count)[used] for n in sets], axis=1
        )
        weights = weights.astype(np.float64)
        if not np.isfinite(weights).all() or (weights < 0).any():
            raise AvatarFileError(
                f"{self.name}: {_count_bad(weights, weights < 0)} vertices have no valid weights"
            )
        slots = np.where(weights > 0, slots, 0).astype(np.int64)
        if len(slots) and int(slots.max()) >= len(of_skin):
            raise AvatarFileError(f"{self.name}: vertices follow joints that the skin does not have")
        order = np.argsort(-weights, axis=1, kind="stable")[:, :4]
        kept = np.take_along_axis(weights, order, axis=1)
        total = kept.sum(axis=1, keepdims=True)
        if (total < 1e-6).any():
            raise AvatarFileError(
                f"{self.name}: {int((total < 1e-6).sum())} vertices have no weights; bind them to a bone and "
                "export again"
            )
        if weights.shape[1] > 4 and (weights.sum(axis=1, keepdims=True) - total > 1e-3).any():
            self.remarks.append(f"{self.name}: vertices with more than four joints keep the four heaviest")
        return of_skin[np.take_along_axis(slots, order, axis=1)], kept / total

    def _skin_entry(self, node: int) -> dict:
        return self.file.entry("skins", self.file.entry("nodes", node)["skin"])

    def _rest_motion(self, node: int, joints: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(V, 3, 3) and (V, 3): how each vertex gets from the file's mesh to the rest pose.

        With equal transforms of all joints, as in nearly all files, that is one rigid motion, and none at all if
        the mesh was bound where it rests.
        """
        motions = self._joint_motions(node)
        first = motions[int(joints[0, 0])]
        if all(np.abs(motions[j] - first).max() < SAME_MOTION for j in np.unique(joints[weights > 0]).tolist()):
            if np.abs(first - np.eye(4)).max() < SAME_MOTION:
                first = np.eye(4)
            count = len(joints)
            return np.broadcast_to(first[:3, :3], (count, 3, 3)), np.broadcast_to(first[:3, 3], (count, 3))
        table = np.zeros((max(motions) + 1, 4, 4))
        for joint, motion in motions.items():
            table[joint] = motion
        blended = np.einsum("vk,vkij->vij", weights, table[joints])
        return blended[:, :3, :3], blended[:, :3, 3]

    def _joint_motions(self, node: int) -> dict[int, np.ndarray]:
        """Joint -> rest transform of the vertices that follow it."""
        if "skin" not in self.file.entry("nodes", node):
            return dict.fromkeys(range(len(self.bones.skeleton.names)), self.bones.world[node])
        skin = self._skin_entry(node)
        nodes = skin["joints"]
        inverse = np.tile(np.eye(4), (len(nodes), 1, 1))
        if "inverseBindMatrices" in skin:
            stored = self.file.accessor(skin["inverseBindMatrices"])
            if len(stored) < len(nodes) or stored.shape[1:] != (4, 4) or not np.isfinite(stored).all():
                raise AvatarFileError(f"{self.name}: its skin has broken inverse bind matrices")
            inverse = stored[: len(nodes)].astype(np.float64).transpose(0, 2, 1)
        joints = [self.bones.joint_of_node[n] for n in nodes]
        return {j: self.bones.world[n] @ m for j, n, m in zip(joints, nodes, inverse, strict=True)}

    def _normals(
        self,
        primitive: dict,
        count: int,
        used: np.ndarray,
        linear: np.ndarray,
        points: torch.Tensor,
        faces: torch.Tensor,
    ) -> torch.Tensor:
        if "NORMAL" in primitive["attributes"]:
            stored = self._attribute(primitive, "NORMAL", 3, count)[used].astype(np.float64)
            turned = np.einsum("vij,vj->vi", linear, stored)
            length = np.linalg.norm(turned, axis=1, keepdims=True)
            if np.isfinite(turned).all() and (length > 1e-6).all():
                return torch.from_numpy(turned / length).float()
            self.remarks.append(f"{self.name}: broken normals are computed anew")
        return vertex_normals(points, faces, weld_by_position(points))

    def _morphs(
        self, primitive: dict, mesh: dict, count: int, used: np.ndarray, linear: np.ndarray
    ) -> MorphTargets | None:
        targets = primitive.get("targets", [])
        if not targets:
            return None
        names = target_names(mesh, len(targets))
        if len(set(names)) < len(names):
            raise AvatarFileError(f"{self.name}: two face shapes have the same name")
        deltas = []
        for name, target in zip(names, targets, strict=True):
            if "POSITION" not in target:
                deltas.append(np.zeros((len(used), 3), np.float32))
                continue
            offsets = self.file.accessor(target["POSITION"])
            if offsets.shape != (count, 3) or not np.isfinite(offsets).all():
                raise AvatarFileError(f"{self.name}: the face shape {name!r} is damaged")
            deltas.append(np.einsum("vij,vj->vi", linear, offsets[used]).astype(np.float32))
        return MorphTargets(names, torch.from_numpy(np.stack(deltas)))

    def _kind(self, mesh: dict, primitive: dict) -> str:
        written = mesh.get("extras", {}).get("kind")
        if written in PART_KINDS:
            return written
        material = self.materials.read(primitive.get("material")).name
        for label in (self.name, material):
            tokens = [t.lower() for t in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", label)]
            for kind, words in WORDS:
                if any(token.startswith(words) for token in tokens):
                    return kind
        return "body"


def _count_bad(values: np.ndarray, wrong: np.ndarray | bool = False) -> int:
    return int((~np.isfinite(values) | wrong).any(axis=1).sum())
