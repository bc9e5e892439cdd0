"""Metrics against closed forms; the judge's rules, features and files."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from avatar3d.camera import orbit, project
from avatar3d.evaluation.distributions import copying, frechet_distance, mean_pairwise_distance, spread_ratio
from avatar3d.evaluation.images import (
    color_error,
    face_window,
    iou,
    kind_mask,
    mean_scores,
    psnr,
    score_picture,
)
from avatar3d.evaluation.judge import (
    CHOICES,
    NUMBERS,
    SIZE,
    Judge,
    JudgeConfig,
    accuracy,
    as_input,
    embeddings,
    judge_loss,
    load_judge,
    perceptual_distance,
    save_judge,
    targets,
    verdicts,
)
from avatar3d.evaluation.surfaces import seen_surface, surface_distance
from avatar3d.fields.triplane import WARP_CENTER, from_box
from avatar3d.mesh.nearest import surface_of
from avatar3d.spec import HAIR_STYLES, AvatarSpec
from avatar3d.structures import PART_KINDS, Render
from avatar3d.weights import WeightsError, load_tensors, save_tensors

HAIR, TOP, SKIN = (1 + PART_KINDS.index(kind) for kind in ("hair", "top", "body"))

# -- pictures --------------------------------------------------------------------------------------------------


def test_psnr_of_a_constant_error():
    truth = torch.full((4, 6, 3), 0.5)
    assert psnr(truth + 0.1, truth) == pytest.approx(20.0, abs=1e-4)
    assert psnr(truth, truth) == math.inf
    off = truth.clone()
    off[0] = 1.0
    first = torch.zeros(4, 6, dtype=torch.bool)
    first[0] = True
    assert psnr(off, truth, first) == pytest.approx(-20 * math.log10(0.5))
    assert psnr(off, truth, ~first) == math.inf
    assert math.isnan(psnr(off, truth, first & ~first))


def test_iou_of_rectangles():
    a, b = torch.zeros(10, 10, dtype=torch.bool), torch.zeros(10, 10, dtype=torch.bool)
    a[:, :6], b[:, 4:] = True, True
    assert iou(a, b) == pytest.approx(20 / 100)
    assert iou(a, a) == 1.0
    assert iou(a & ~a, b & ~b) == 1.0


def test_color_error_is_a_median():
    truth = torch.zeros(1, 5, 3)
    picture = torch.tensor([0.1, 0.1, 0.2, 0.9, 0.9])[None, :, None].expand(1, 5, 3)
    assert color_error(picture, truth, torch.ones(1, 5, dtype=torch.bool)) == pytest.approx(0.2)
    assert math.isnan(color_error(picture, truth, torch.zeros(1, 5, dtype=torch.bool)))


def flat_render(labels: torch.Tensor, colors: dict[int, float]) -> Render:
    rgb = torch.full((*labels.shape, 3), 0.8)
    for label, value in colors.items():
        rgb[labels == label] = value
    alpha = (labels > 0).float()
    depth = torch.where(labels > 0, 1.0, torch.inf)
    return Render(rgb, alpha, depth, torch.zeros_like(rgb), labels, torch.zeros(*labels.shape, 2))


def test_scores_of_a_known_change():
    labels = torch.zeros(8, 8, dtype=torch.long)
    labels[:2], labels[2:5, 2:6], labels[5:] = HAIR, SKIN, TOP
    other = labels.clone()
    other[1] = SKIN  # half of the hair is gone
    truth = flat_render(labels, {HAIR: 0.1, SKIN: 0.6, TOP: 0.3})
    picture = flat_render(other, {HAIR: 0.2, SKIN: 0.6, TOP: 0.35})
    face = kind_mask(labels, "body")
    scores = score_picture(picture, truth, face)
    assert scores.hair_iou == pytest.approx(0.5)
    assert scores.top_iou == scores.silhouette_iou == 1.0
    assert scores.top_error == pytest.approx(0.05)
    assert scores.hair_error == pytest.approx(0.1)
    assert scores.skin_error == 0.0
    assert scores.psnr_face == math.inf
    assert scores.psnr < scores.psnr_foreground + 3  # the background is right: fewer pixels, larger error
    bald = score_picture(flat_render(torch.zeros_like(labels), {}), truth, face)
    assert bald.hair_iou == 0.0
    assert math.isnan(bald.hair_error)
    assert mean_scores([scores, bald])["hair_error"] == pytest.approx(scores.hair_error)
    assert mean_scores([scores, bald])["hair_iou"] == pytest.approx(0.25)


def test_face_window_is_around_the_projected_face():
    bounds = torch.tensor([[-0.2, 1.4, -0.2], [0.2, 1.8, 0.2]])
    camera = orbit([0.0, 1.6, 0.0], 1.5, width=100, height=100)
    window = face_window(camera, bounds)
    x, y = project(camera, from_box(torch.tensor(WARP_CENTER), bounds))[0].tolist()
    rows, columns = window.any(1).nonzero()[:, 0], window.any(0).nonzero()[:, 0]
    assert abs(float(columns.float().mean()) + 0.5 - x) < 1
    assert rows[0] < y < rows[-1]
    assert 0.03 < float(window.float().mean()) < 0.4


# -- surfaces --------------------------------------------------------------------------------------------------


def wall(camera, distance: float) -> Render:
    """A plane across the camera's view."""
    labels = torch.ones(camera.height, camera.width, dtype=torch.long)
    labels[:, : camera.width // 4] = 0
    made = flat_render(labels, {})
    return replace(made, depth=torch.where(labels > 0, distance, torch.inf))


def test_distance_of_two_walls_is_their_gap():
    camera = orbit([0.0, 0.0, 0.0], 2.0, width=48, height=40)
    found = surface_distance([wall(camera, 2.0)], [wall(camera, 2.003)], [camera])
    assert found.median == pytest.approx(0.003, abs=1e-5)
    assert found.p95 == pytest.approx(0.003, abs=2e-4)
    same = surface_distance([wall(camera, 2.0)], [wall(camera, 2.0)], [camera])
    assert same.p95 < 1e-6


def test_sampling_leaves_no_floor():
    """Two cameras with other pixels see the same wall: points lie on triangles, not beside points."""
    coarse = orbit([0.0, 0.0, 0.0], 2.0, width=24, height=24)
    fine = orbit([0.0, 0.0, 0.0], 2.0, width=61, height=61)
    vertices, faces = seen_surface(wall(fine, 2.0), fine)
    points, _ = seen_surface(wall(coarse, 2.0), coarse)
    spacing = 2.0 / coarse.focal
    distance = surface_of(vertices, faces).nearest(points).distance
    assert np.median(distance) < 1e-4 * spacing


def test_triangles_do_not_span_jumps():
    camera = orbit([0.0, 0.0, 0.0], 2.0, width=20, height=20)
    near, far = wall(camera, 1.5), wall(camera, 2.0)
    depth = near.depth.clone()
    depth[10:] = far.depth[10:]
    vertices, faces = seen_surface(replace(near, depth=depth), camera)
    lengths = np.linalg.norm(vertices[faces] - vertices[np.roll(faces, 1, axis=1)], axis=-1)
    assert lengths.max() < 0.1
    assert len(faces) == 2 * 14 * (9 + 9)


def test_an_empty_picture_has_no_distance():
    camera = orbit([0.0, 0.0, 0.0], 2.0, width=8, height=8)
    empty = flat_render(torch.zeros(8, 8, dtype=torch.long), {})
    with pytest.raises(ValueError, match="field empty"):
        surface_distance([empty], [wall(camera, 2.0)], [camera])


# -- distributions ---------------------------------------------------------------------------------------------


def with_moments(generator, count: int, mean: np.ndarray, sd: np.ndarray) -> np.ndarray:
    """Samples whose mean and (diagonal) covariance are exactly these."""
    x = generator.standard_normal((count, len(mean)))
    x -= x.mean(0)
    x = x @ np.linalg.inv(np.linalg.cholesky(np.cov(x, rowvar=False))).T
    return x * sd + mean


def test_frechet_distance_of_known_normals():
    generator = np.random.default_rng(0)
    sd, other = np.array([1.0, 2.0, 0.5]), np.array([1.5, 1.0, 0.5])
    a = with_moments(generator, 200, np.zeros(3), sd)
    b = with_moments(generator, 90, np.array([3.0, 0.0, 4.0]), other)
    assert frechet_distance(a, b) == pytest.approx(25 + ((sd - other) ** 2).sum(), rel=1e-4)
    assert frechet_distance(a, a) == pytest.approx(0.0, abs=1e-4)
    assert frechet_distance(a, b) == pytest.approx(frechet_distance(b, a), rel=1e-6)
    turn = np.linalg.qr(generator.standard_normal((3, 3)))[0]
    assert frechet_distance(a @ turn, b @ turn) == pytest.approx(frechet_distance(a, b), rel=1e-6)


def test_frechet_distance_with_fewer_samples_than_dimensions():
    generator = np.random.default_rng(1)
    a = generator.standard_normal((10, 40))
    assert frechet_distance(a, a + 2.0) == pytest.approx(40 * 4.0, rel=1e-6)
    with pytest.raises(ValueError, match="two samples"):
        frechet_distance(a, a[:1])


def test_diversity_of_known_points():
    square = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    assert mean_pairwise_distance(square) == pytest.approx((4 * 1.0 + 2 * math.sqrt(2)) / 6)
    assert spread_ratio(0.5 * square + 7.0, square) == pytest.approx(0.5)
    with pytest.raises(ValueError, match="two members"):
        mean_pairwise_distance(square[:1])


def test_copies_are_found():
    generator = np.random.default_rng(2)
    training, held_out, fresh = (generator.standard_normal((200, 8)) for _ in range(3))
    copies = training[:50] + 0.05 * generator.standard_normal((50, 8))
    found, honest = copying(copies, training, held_out), copying(fresh, training, held_out)
    assert (found.nearest == np.arange(50)).all()
    assert found.ratio < 0.2
    assert found.near == 1.0
    assert 0.9 < honest.ratio < 1.1
    assert honest.near < 0.15


# -- the judge -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def small():
    torch.manual_seed(0)
    return Judge(JudgeConfig((8, 16, 16, 16), 12)).eval()


def test_targets_leave_out_what_can_not_be_seen():
    plain = AvatarSpec(hair_style="bob", hair_color="red", glasses="round")
    specs = [
        plain,
        replace(plain, hat="cap"),
        replace(plain, hat="headscarf"),
        replace(plain, hair_style="bald"),
        replace(plain, hair_grey=0.6),
        replace(plain, hair_grey=0.6, hair_color="white"),
    ]
    style, color, glasses = (CHOICES.index(name) for name in ("hair_style", "hair_color", "glasses"))
    with_thin, without = targets(specs, thin=True), targets(specs, thin=False)
    assert (with_thin.choices[:, style] == -1).tolist() == [False, True, True, False, False, False]
    assert (with_thin.choices[:, color] == -1).tolist() == [False, False, True, True, True, False]
    assert with_thin.choices[0, style] == HAIR_STYLES.index("bob")
    assert (with_thin.choices[:, glasses] == 1).all()
    assert (without.choices[:, glasses] == 0).all()
    age = list(NUMBERS).index("age")
    assert with_thin.numbers[0, age] == pytest.approx((35 - 5) / 90)


def test_loss_and_accuracy_of_perfect_answers(small):
    specs = [AvatarSpec(hair_style="bob", age=20.0), AvatarSpec(hat="cap", hair_style="afro", age=80.0)]
    wanted = targets(specs, thin=True)
    sizes = [len(logits[0]) for logits in small(torch.rand(1, 3, SIZE, SIZE))[0]]
    perfect = [
        30.0 * torch.nn.functional.one_hot(index.clamp_min(0), size).float()
        for index, size in zip(wanted.choices.unbind(1), sizes, strict=True)
    ]
    assert float(judge_loss(perfect, wanted.numbers, wanted)) < 1e-6
    perfect[CHOICES.index("hair_style")][1] = 0.0  # hidden by the cap: nothing is asked
    assert float(judge_loss(perfect, wanted.numbers, wanted)) < 1e-6

    class Oracle(Judge):
        def forward(self, pictures):
            return perfect, wanted.numbers

    oracle = Oracle(small.config)
    agreed = accuracy(oracle, torch.rand(2, 3, SIZE, SIZE), specs, thin=True)
    assert set(agreed) == {*CHOICES, *NUMBERS}
    assert all(share == 1.0 for share in agreed.values())
    other = [replace(s, top="dress", age=s.age - 10) for s in specs]
    agreed = accuracy(oracle, torch.rand(2, 3, SIZE, SIZE), other, thin=True)
    assert agreed["top"] == 0.0
    assert agreed["age"] == 1.0


def test_perceptual_distance(small):
    small.requires_grad_(False)
    a, b = torch.rand(2, 2, 3, 64, 64)
    assert float(perceptual_distance(small, a, a).max()) == 0.0
    both = perceptual_distance(small, a, b)
    assert torch.allclose(both, perceptual_distance(small, b, a))
    assert bool((both > 0).all() & (both <= 4).all())  # unit vectors are at most 2 apart
    small_step = perceptual_distance(small, a, 0.9 * a + 0.1 * b)
    assert bool((small_step < both).all())


def test_pictures_of_any_size_are_averaged_down(small):
    checks = torch.zeros(1, 3, 4 * SIZE, 4 * SIZE)
    checks[..., ::2, ::2] = checks[..., 1::2, 1::2] = 1.0
    assert torch.allclose(as_input(checks), torch.full((1, 3, SIZE, SIZE), 0.5), atol=0.02)
    assert embeddings(small, torch.rand(3, 3, 128, 128)).shape == (3, 12)


def test_judge_files(small, tmp_path):
    path = tmp_path / "judge.safetensors"
    save_judge(small, path)
    pictures = torch.rand(2, 3, SIZE, SIZE)
    again = load_judge(path)
    assert torch.allclose(again.embed(pictures), small.embed(pictures), atol=0.02)
    with pytest.raises(WeightsError, match="no weights"):
        load_judge(tmp_path / "absent.safetensors")
    tensors, metadata = load_tensors(path, "avatar3d.judge")
    save_tensors(path, tensors, {**metadata, "answers": "{}"})
    with pytest.raises(WeightsError, match="other choices"):
        load_judge(path)
    save_tensors(path, tensors, {**metadata, "config": "[]"})
    with pytest.raises(WeightsError, match="damaged metadata"):
        load_judge(path)


def test_the_judge_that_ships_tells_colors_of_skin():
    """A bust of light or dark skin; no more than that is asked of it here."""
    judge = load_judge()
    light, dark = torch.full((3, 64, 64), 0.8), torch.full((3, 64, 64), 0.8)
    for picture, skin in ((light, (0.93, 0.78, 0.68)), (dark, (0.35, 0.22, 0.15))):
        picture[:, 14:42, 22:42] = torch.tensor(skin)[:, None, None]
        picture[:, 42:, 6:58] = torch.tensor([0.2, 0.3, 0.7])[:, None, None]
    found = verdicts(judge, torch.stack([light, dark]))
    assert found[0].skin_tone + 0.3 < found[1].skin_tone
