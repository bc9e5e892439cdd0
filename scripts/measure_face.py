"""Measure what the face shapes of many people do: folds, lids, lips, teeth and tongue, worst case of each shape.

python scripts/measure_face.py --people 50
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from avatar3d.body import lids, lips
from avatar3d.body.pose import morph_part
from avatar3d.body.shape import shape_body
from avatar3d.body.visemes import actions_of, with_composed
from avatar3d.engine.attach import Figure
from avatar3d.engine.mouth import GUM, make_mouth
from avatar3d.engine.population import sample
from avatar3d.mesh.intersections import buried_depths, segment_crossings, self_intersections
from avatar3d.spec import AvatarSpec
from avatar3d.structures import Avatar, Part

EXTREMES = (
    AvatarSpec(age=5.0),
    AvatarSpec(age=92.0, weight=0.9),
    AvatarSpec(age=92.0, weight=0.1, gender=1.0),
    AvatarSpec(asian=1.0, african=0.0, european=0.0, face={"eye_epicanthus": 1.0, "eye_fold": 1.0}),
    AvatarSpec(asian=0.0, african=1.0, european=0.0, gender=1.0),
    AvatarSpec(asian=0.0, african=0.0, european=1.0, gender=0.0, weight=1.0),
    AvatarSpec(face={"eye_size": 1.0, "eye_height_middle": 1.0, "eye_depth_inner": 1.0}),
    AvatarSpec(face={"eye_size": -1.0, "eye_height_middle": -1.0, "eye_depth_outer": -1.0}),
    AvatarSpec(face={"upper_lip_volume": 1.0, "lower_lip_volume": 1.0, "mouth_width": 1.0, "jaw_drop": 1.0}),
    AvatarSpec(
        face={"upper_lip_volume": -1.0, "lower_lip_height": -1.0, "mouth_width": -1.0, "chin_forward": 1.0}
    ),
)


def people(count: int, seed: int = 11) -> list[AvatarSpec]:
    """The extremes, and random people of whom every other one has eight random face controls at 1 or -1."""
    generator = np.random.default_rng(seed)
    specs = list(EXTREMES)
    while len(specs) < count:
        spec = sample(generator)
        if len(specs) % 2:
            controls = generator.choice(sorted(spec.face), 8, replace=False)
            spec = replace(spec, face=spec.face | {str(c): float(generator.choice([-1.0, 1.0])) for c in controls})
        specs.append(spec)
    return specs[:count]


@dataclass(frozen=True)
class Head:
    """One person's face with its mouth parts, which carry the composed shapes too."""

    spec: AvatarSpec

    @cached_property
    def figure(self) -> Figure:
        return Figure(shape_body(self.spec))

    @cached_property
    def mouth(self) -> dict[str, Part]:
        """`teeth_upper`, `teeth_lower` and `tongue`."""
        parts = tuple(make_mouth(self.spec, self.figure))
        avatar = with_composed(Avatar(self.spec, self.figure.body.skeleton, parts))
        return {part.name: part for part in avatar.parts}

    @cached_property
    def faces(self) -> np.ndarray:
        """(F, 3) triangles of the head."""
        faces, heights = self.figure.skin_faces.numpy(), self.figure.vertices[:, 1].numpy()
        return faces[heights[faces].min(axis=1) > float(self.figure.body.bone("neck")[1]) - 0.05]

    @cached_property
    def mouth_faces(self) -> np.ndarray:
        """(F, 3) triangles around the mouth."""
        points = self.figure.vertices.numpy()
        middle = points[list(lips.corner_vertices(self.figure.body.template))].mean(axis=0)
        near = np.abs(points - middle).max(axis=1) < 0.08 * self.size
        return self.faces[near[self.faces].all(axis=1)]

    @cached_property
    def size(self) -> float:
        """Of the head, 1 for an adult of the usual pupil distance."""
        eyes = self.figure.body.bone("leftEye") - self.figure.body.bone("rightEye")
        return float(eyes.norm()) / 0.0616

    @cached_property
    def throat(self) -> np.ndarray:
        """(3,) a point in the mouth behind the teeth, on the midline at the height of the bite."""
        upper = self.mouth["teeth_upper"].mesh.vertices.numpy()
        front = upper[:, 2].max()
        return np.array([0.0, upper[:, 1].min() + 0.001, front - 0.022 * self.size])

    @cached_property
    def cuts_at_rest(self) -> np.ndarray:
        return self_intersections(self.skin({}), self.faces)

    @cached_property
    def cut_tongue_at_rest(self) -> set[int]:
        return cut_tongue(self, {})

    def crowns(self, name: str) -> np.ndarray:
        """(N,) whether a vertex of a row of teeth belongs to a tooth, not to the gum."""
        return self.mouth[name].mesh.uv[:, 1].numpy() < GUM

    @cached_property
    def buried_at_rest(self) -> np.ndarray:
        return buried_depths(self.skin({}), self.faces)

    def skin(self, expression: Mapping[str, float]) -> np.ndarray:
        """(V, 3) welded vertices with a face."""
        names = self.figure.body.template.action_names
        moved = self.figure.vertices.double()
        for name, weight in actions_of(expression).items():
            moved = moved + weight * self.figure.actions[names.index(name)].double()
        return moved.numpy()

    def part(self, name: str, expression: Mapping[str, float]) -> np.ndarray:
        """(N, 3) vertices of a part of the mouth with a face."""
        return morph_part(self.mouth[name], dict(expression)).vertices.double().numpy()


def fold_depth(head: Head, expression: Mapping[str, float]) -> float:
    """Millimetres by which skin lies inside other skin of the head, beyond what it does at rest."""
    depths = buried_depths(head.skin(expression), head.faces)
    return float(1e3 * (depths - head.buried_at_rest).clip(min=0).max())


def cut_area(head: Head, expression: Mapping[str, float]) -> float:
    """Square millimetres of the head's triangles that cut others, beyond those that do at rest.

    Lips and lids that touch count with the triangles along their line.
    """
    vertices = head.skin(expression)
    pairs = self_intersections(vertices, head.faces)
    known = {tuple(pair) for pair in head.cuts_at_rest.tolist()}
    new = [pair for pair in pairs.tolist() if tuple(pair) not in known]
    a, b, c = vertices[head.faces[np.unique(np.array(new, dtype=np.int64))]].transpose(1, 0, 2)
    return float(0.5e6 * np.linalg.norm(np.cross(b - a, c - a), axis=1).sum())


def past_skin(head: Head, name: str, expression: Mapping[str, float], least: int = 1) -> float:
    """Millimetres by which teeth have left the mouth through lips, cheeks or gums; 0 when they are inside.

    `least` 1 counts what is in the flesh, 2 only what comes out of it on the other side. Of teeth only the crowns
    count: their necks and the gums are sunk into the flesh.
    """
    points = head.part(name, expression)[head.crowns(name)]
    starts = np.broadcast_to(head.throat, points.shape)
    count, share = segment_crossings(starts, points, head.skin(expression), head.mouth_faces)
    way = np.linalg.norm(points - head.throat, axis=1)
    return float(1e3 * np.where(count >= least, (1 - np.minimum(share, 1.0)) * way, 0.0).max())


def lip_gap(head: Head, expression: Mapping[str, float]) -> tuple[float, float]:
    """Largest and smallest opening between the lips, millimetres; negative where they overlap."""
    gap = lips.openings(head.figure.body.template, head.skin(expression))
    return float(1e3 * gap.max()), float(1e3 * gap.min())


def lid_depth(head: Head, expression: Mapping[str, float]) -> float:
    """Millimetres by which a lid is inside its eyeball."""
    vertices, template, worst = head.skin(expression), head.figure.body.template, 0.0
    for side in ("left", "right"):
        center, radius = lids.eye_sphere(template, head.figure.vertices.numpy(), side)
        distance = np.linalg.norm(vertices[lids.lid_grid(template, side)[2:]] - center, axis=-1)
        worst = max(worst, float(1e3 * (radius - distance.min())))
    return worst


def lid_gap(head: Head, expression: Mapping[str, float]) -> tuple[float, float]:
    """Largest and smallest opening between the lids of both eyes, millimetres."""
    vertices, template = head.skin(expression), head.figure.body.template
    gaps = [opening(vertices[lids.lid_margin(template, side)]) for side in ("left", "right")]
    return 1e3 * max(g.max() for g in gaps), 1e3 * min(g.min() for g in gaps)


def opening(margin: np.ndarray) -> np.ndarray:
    """(40,) height of the upper margin over the lower one along one eye, metres."""
    corner = lids.OUTER_CORNER
    across = margin[corner] - margin[0]
    along = (margin - margin[0]) @ across / (across @ across)
    lower, upper = np.arange(corner + 1), np.r_[0, np.arange(len(margin) - 1, corner - 1, -1)]
    share = np.linspace(0.05, 0.95, 40)
    heights = [np.interp(share, np.maximum.accumulate(along[p]), margin[p, 1]) for p in (upper, lower)]
    return heights[0] - heights[1]


def cut_tongue(head: Head, expression: Mapping[str, float]) -> set[int]:
    """Triangles of the tongue that crowns of teeth or skin cut."""
    tongue, faces = head.part("tongue", expression), head.mouth["tongue"].mesh.faces.numpy()
    others = [(head.skin(expression), head.mouth_faces)]
    for name in ("teeth_upper", "teeth_lower"):
        triangles = head.mouth[name].mesh.faces.numpy()
        others.append((head.part(name, expression), triangles[head.crowns(name)[triangles].all(axis=1)]))
    cut: set[int] = set()
    for points, triangles in others:
        pairs = self_intersections(
            np.concatenate([tongue, points]), np.concatenate([faces, triangles + len(tongue)])
        )
        cut |= set(pairs[(pairs[:, 0] < len(faces)) & (pairs[:, 1] >= len(faces)), 0].tolist())
    return cut


def tongue_cut_area(head: Head, expression: Mapping[str, float]) -> float:
    """Square millimetres of the tongue that teeth or skin cut, beyond its root, which is in the flesh at rest."""
    index = np.array(sorted(cut_tongue(head, expression) - head.cut_tongue_at_rest), dtype=np.int64)
    faces = head.mouth["tongue"].mesh.faces.numpy()
    a, b, c = head.part("tongue", expression)[faces[index]].transpose(1, 0, 2)
    return float(0.5e6 * np.linalg.norm(np.cross(b - a, c - a), axis=1).sum())


COMBINATIONS: dict[str, dict[str, float]] = {
    "jawOpen + mouthClose": {"jawOpen": 1.0, "mouthClose": 1.0},
    "half jawOpen + mouthClose": {"jawOpen": 0.5, "mouthClose": 0.5},
    "jawOpen .35 + tongueOut": {"jawOpen": 0.35, "tongueOut": 1.0},
    "mouthPress both": {"mouthPressLeft": 1.0, "mouthPressRight": 1.0},
    "mouthRoll both": {"mouthRollLower": 1.0, "mouthRollUpper": 1.0},
    "eyeBlink + eyeLookDown": {"eyeBlinkLeft": 1.0, "eyeLookDownLeft": 1.0},
    "eyeBlink + eyeLookUp": {"eyeBlinkLeft": 1.0, "eyeLookUpLeft": 1.0},
    "eyeBlink + eyeSquint": {"eyeBlinkLeft": 1.0, "eyeSquintLeft": 1.0},
}  # fmt: skip


def expressions() -> dict[str, dict[str, float]]:
    """Every action, composed shape and preset at weight 1, and combinations."""
    presets = {f"VRM {name}": weights for name, weights in VRM_PRESETS.items() if weights not in COMPOSED.values()}
    return {name: {name: 1.0} for name in (*ARKIT, *COMPOSED)} | presets | COMBINATIONS


COLUMNS = (
    "skin in skin",
    "cut mm2",
    "lips open",
    "overlap",
    "teeth out",
    "tongue out",
    "tongue cut",
    "in eyeball",
)


def measures(head: Head, expression: Mapping[str, float]) -> tuple[float, ...]:
    """The values of `COLUMNS`: millimetres, but square millimetres for what is cut."""
    template, skin = head.figure.body.template, head.skin(expression)
    return (
        fold_depth(head, expression),
        cut_area(head, expression),
        lip_gap(head, expression)[0],
        float(1e3 * lips.overlaps(template, skin).max()),
        max(past_skin(head, name, expression) for name in ("teeth_upper", "teeth_lower")),
        max(past_skin(head, name, expression, least=2) for name in ("teeth_upper", "teeth_lower")),
        tongue_cut_area(head, expression),
        lid_depth(head, expression),
    )


@dataclass(frozen=True)
class Measure:
    """How many people; the first ten are extremes."""

    people: int = 50
    seed: int = 11


if __name__ == "__main__":
    config = tyro.cli(Measure)
    heads = [Head(spec) for spec in people(config.people, config.seed)]
    print(f"worst of {len(heads)} people\n{'':28s}" + "".join(f"{name:>13s}" for name in COLUMNS))
    for label, weights in track(expressions().items(), description="face shapes"):
        worst = np.max([measures(head, weights) for head in heads], axis=0)
        print(f"{label:28s}" + "".join(f"{value:13.2f}" for value in worst))
