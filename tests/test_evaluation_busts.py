"""Tables of methods, on balls instead of busts: what they must be is known."""

import json
import math

import pytest
import torch

from avatar3d.evaluation.busts import BUSTS_TYPE, draw, draw_truth, inside, read_subjects, table_row, yardsticks
from avatar3d.evaluation.judge import Judge, JudgeConfig, verdicts
from avatar3d.evaluation.surfaces import surface_distance
from avatar3d.fields.box import bust_camera
from avatar3d.render.trace import trace_field
from avatar3d.spec import AvatarSpec, spec_to_json
from avatar3d.structures import PART_KINDS, FieldSample
from avatar3d.weights import save_tensors

SIZE = 64
BOUNDS = torch.tensor([[-0.2, 1.3, -0.2], [0.2, 1.7, 0.2]])


class Ball:
    """Half top, half skin; the color is its own."""

    def __init__(self, radius: float, color: float) -> None:
        self.radius, self.color, self.bounds = radius, color, BOUNDS

    def __call__(self, points):
        offset = points - self.bounds.mean(0)
        logits = torch.zeros(len(points), len(PART_KINDS))
        logits[:, PART_KINDS.index("body")] = offset[:, 1]
        logits[:, PART_KINDS.index("top")] = -offset[:, 1]
        return FieldSample(offset.norm(dim=-1) - self.radius, torch.full_like(points, self.color), logits)


BALLS = [Ball(0.10 + 0.02 * k, 0.2 + 0.15 * k) for k in range(4)]


@pytest.fixture(scope="module")
def shard(tmp_path_factory):
    path = tmp_path_factory.mktemp("busts") / "bust-000000-004.safetensors"
    pictures, labels = [], []
    for ball in BALLS:
        seen = trace_field(ball, bust_camera(BOUNDS, 0.0, SIZE), background=None, normals=False)
        rgba = torch.cat([seen.rgb, seen.alpha[..., None]], -1)
        pictures.append((255 * rgba + 0.5).to(torch.uint8).expand(2, -1, -1, -1))
        labels.append(seen.labels.to(torch.uint8).expand(2, -1, -1))
    people = [
        {"spec": json.loads(spec_to_json(AvatarSpec(seed=k))), "caption": f"ball {k}", "said": ["hat.none"]}
        for k in range(4)
    ]
    tensors = {
        "pictures": torch.stack(pictures), "picture_labels": torch.stack(labels), "bounds": BOUNDS.expand(4, 2, 3),
        "number": torch.arange(4),
    }  # fmt: skip
    save_tensors(path, tensors, {"type": BUSTS_TYPE, "version": "1", "people": json.dumps(people)})
    return path


@pytest.fixture(scope="module")
def judge():
    torch.manual_seed(0)
    return Judge(JudgeConfig((8, 16, 16, 16), 12)).eval()


def test_the_truth_scores_as_truth_and_the_neighbor_does_not(shard):
    subjects = read_subjects([shard], SIZE)
    assert [s.prompt for s in subjects] == [f"ball {k}" for k in range(4)]
    drawn = draw(lambda some: [BALLS[int(s.row["number"])] for s in some], subjects, portion=3)
    for scores, control in zip(drawn.scores, drawn.control, strict=True):
        assert scores.psnr > 45
        assert scores.silhouette_iou == 1.0
        assert scores.top_error < 0.01
        assert control.silhouette_iou < 0.85
        assert control.top_error == pytest.approx(0.15, abs=0.01) or control.top_error > 0.4
    assert draw_truth(subjects).scores[0].psnr == math.inf


def test_table_of_right_and_wrong(shard, judge):
    subjects = read_subjects([shard], SIZE)
    measure = yardsticks(judge, subjects, subjects)
    right = table_row(draw(lambda some: [BALLS[int(s.row["number"])] for s in some], subjects), measure)
    wrong = table_row(draw(lambda some: [BALLS[0] for _ in some], subjects), measure)
    assert right["perceptual"] < 0.1 * wrong["perceptual"]
    assert right["frechet"] < 0.1 * wrong["frechet"]
    assert right["nearest_training"] == [0, 1, 2, 3]
    assert "glasses" not in right["judge"]
    assert right["control"]["psnr"] < right["psnr"]


def test_pictures_shrink(shard):
    whole, half = read_subjects([shard], SIZE), read_subjects([shard], SIZE // 2)
    mean = whole[1].truth.rgb.view(SIZE // 2, 2, SIZE // 2, 2, 3).mean((1, 3))
    assert torch.allclose(half[1].truth.rgb, mean, atol=1e-6)
    assert half[1].truth.labels.shape == (SIZE // 2, SIZE // 2)
    assert half[1].camera.width == SIZE // 2
    with pytest.raises(ValueError, match="divisor"):
        read_subjects([shard], 48)


def test_surfaces_of_balls():
    cameras = [bust_camera(BOUNDS, math.radians(a), 96) for a in (0.0, 90.0, 180.0, 270.0)]
    small, large = (
        [inside(trace_field(Ball(r, 0.5), c, normals=False), c, BOUNDS) for c in cameras] for r in (0.120, 0.123)
    )
    found = surface_distance(small, large, cameras)
    assert found.median == pytest.approx(0.003, abs=2e-4)
    assert found.p95 < 0.006


def test_only_what_is_in_the_box_counts():
    camera = bust_camera(BOUNDS, 0.0, 48)
    seen = trace_field(Ball(0.15, 0.5), camera, normals=False)
    upper = inside(seen, camera, torch.tensor([[-1.0, 1.5, -1.0], [1.0, 2.0, 1.0]]))
    rows = torch.isfinite(upper.depth).any(1).nonzero()[:, 0]
    assert 0 < int(rows.max()) <= 24


def test_verdicts_are_specs(judge):
    seen = verdicts(judge, torch.rand(3, 3, 80, 80))
    assert len(seen) == 3
    assert all(5 <= s.age <= 95 and 0 <= s.gender <= 1 for s in seen)
