"""Tri-planes: look-up against a naive loop, gradients, coordinates, files and what is refused."""

from __future__ import annotations

import math
from itertools import combinations

import pytest
import torch
from safetensors.torch import load_file, save_file

from avatar3d.fields.decoder import Decoder, DecoderConfig, TriPlaneField
from avatar3d.fields.files import TriPlaneFileError, load_triplane, save_triplane
from avatar3d.fields.gather import gather_rows
from avatar3d.fields.triplane import PLANE_AXES, from_box, look_up, to_box, unwarp, warp
from avatar3d.structures import PART_KINDS, TriPlane

BOUNDS = torch.tensor([[-0.23, 1.35, -0.2], [0.23, 1.85, 0.21]], dtype=torch.float64)


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    """Doubles in [-1, 1]."""
    return 2 * torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) - 1


def naive(plane: torch.Tensor, x: float, y: float) -> list[float]:
    """Bilinear value of a plane (C, R, R) at warped coordinates; cell n has its center at (2 n + 1) / R - 1."""
    size = plane.shape[-1]
    column = min(max(0.5 * (x + 1) * size - 0.5, 0.0), size - 1.0)
    row = min(max(0.5 * (y + 1) * size - 0.5, 0.0), size - 1.0)
    i, j = min(int(row), size - 2), min(int(column), size - 2)
    a, b = row - i, column - j
    p = plane
    upper = p[:, i, j] * (1 - b) + p[:, i, j + 1] * b
    lower = p[:, i + 1, j] * (1 - b) + p[:, i + 1, j + 1] * b
    return (upper * (1 - a) + lower * a).tolist()


def test_every_pair_of_axes_once():
    assert sorted(PLANE_AXES) == list(combinations(range(3), 2))


def test_look_up_equals_a_naive_loop():
    planes, points = random(2, 3, 4, 7, 7), 1.2 * random(2, 40, 3, seed=1)
    found = look_up(planes, points)
    for batch in range(2):
        for n, at in enumerate(warp(points[batch]).tolist()):
            for plane, (x, y) in enumerate(PLANE_AXES):
                expected = naive(planes[batch, plane], at[x], at[y])
                assert found[batch, plane, :, n].tolist() == pytest.approx(expected, abs=1e-12)


def test_each_plane_ignores_the_third_axis():
    planes, points = random(1, 3, 3, 5, 5), 0.9 * random(1, 30, 3, seed=2)
    before = look_up(planes, points)
    for plane, axes in enumerate(PLANE_AXES):
        other = ({0, 1, 2} - set(axes)).pop()
        moved = points.clone()
        moved[..., other] *= -0.5
        after = look_up(planes, moved)
        assert torch.equal(after[:, plane], before[:, plane])
        assert not torch.allclose(after, before)


def test_gradients_to_planes_and_coordinates():
    planes, points = random(1, 3, 3, 5, 5).requires_grad_(), (0.8 * random(1, 9, 3, seed=3)).requires_grad_()
    assert torch.autograd.gradcheck(look_up, (planes, points))


def test_gradients_of_the_field_to_points():
    """So that normals are right: the decoder's distance by central differences."""
    torch.manual_seed(0)
    decoder = Decoder(DecoderConfig(4, 16)).double()
    field = TriPlaneField(TriPlane(random(3, 4, 8, 8), BOUNDS, "test"), decoder)
    points = from_box(0.8 * random(20, 3, seed=4), BOUNDS).requires_grad_()
    (gradient,) = torch.autograd.grad(field(points).distance.sum(), points)
    for axis in range(3):
        step = torch.zeros(3, dtype=torch.float64)
        step[axis] = 1e-7
        difference = (field(points + step).distance - field(points - step).distance) / 2e-7
        assert torch.allclose(gradient[:, axis], difference, atol=1e-6)


def test_the_kernels_are_the_look_up():
    """Values and both gradients, inside of the box and outside, with every thread's share."""
    planes, points = random(3, 5, 9, 9).float(), 1.3 * random(9000, 3, seed=7).float()
    slopes = random(9000, 15, seed=8).float()
    results = []
    for plain in (True, False):
        inputs = planes.clone().requires_grad_(), points.clone().requires_grad_()
        if plain:
            rows = look_up(inputs[0][None], inputs[1][None])[0].permute(2, 0, 1).flatten(1)
        else:
            rows = gather_rows(*inputs)
        results.append((rows.detach(), *torch.autograd.grad((rows * slopes).sum(), inputs)))
    for expected, got, tolerance in zip(*results, (1e-5, 2e-3, 1e-3), strict=True):
        assert float(((expected - got).abs() > tolerance).float().mean()) < 1e-3
        assert float(expected.abs().max()) > 0.5


def test_the_field_is_the_same_in_single_and_double_precision():
    """That is: through the kernels and through `look_up`."""
    torch.manual_seed(0)
    decoder, planes = Decoder(DecoderConfig(4, 16)), random(3, 4, 8, 8).float()
    points = from_box(random(300, 3, seed=9), BOUNDS)
    single = TriPlaneField(TriPlane(planes, BOUNDS.float(), "test"), decoder)(points.float())
    double = TriPlaneField(TriPlane(planes.double(), BOUNDS, "test"), decoder.double())(points)
    assert torch.allclose(single.distance.double(), double.distance, atol=1e-5)
    assert torch.allclose(single.rgb.double(), double.rgb, atol=1e-4)
    assert torch.allclose(single.logits.double(), double.logits, atol=1e-4)


def test_warp_has_its_inverse_and_keeps_the_box():
    points = random(500, 3, seed=5)
    assert torch.allclose(unwarp(warp(points)), points, atol=1e-12)
    assert torch.allclose(warp(unwarp(points)), points, atol=1e-12)
    corners = torch.cartesian_prod(*3 * [torch.tensor([-1.0, 1.0], dtype=torch.float64)])
    assert torch.allclose(warp(corners), corners)


def test_box_coordinates():
    points = random(100, 3, seed=6)
    assert torch.allclose(to_box(from_box(points, BOUNDS), BOUNDS), points)
    assert torch.allclose(to_box(BOUNDS, BOUNDS), torch.tensor([[-1.0] * 3, [1.0] * 3], dtype=torch.float64))


def test_distances_are_in_metres_and_colors_in_range():
    decoder = Decoder(DecoderConfig(4, 8)).double()
    for parameter in decoder.leave.parameters():
        torch.nn.init.zeros_(parameter)
    with torch.no_grad():
        decoder.leave.bias[0] = 0.5
    sample = TriPlaneField(TriPlane(100 * random(3, 4, 8, 8), BOUNDS, "test"), decoder)(
        from_box(random(50, 3), BOUNDS)
    )
    assert torch.allclose(sample.distance, torch.tensor(0.5 * 0.25).double())
    assert bool(((sample.rgb >= 0) & (sample.rgb <= 1)).all()) and sample.logits.shape == (50, len(PART_KINDS))


@pytest.fixture
def path(tmp_path):
    file = tmp_path / "head.safetensors"
    save_triplane(file, TriPlane(random(3, 4, 8, 8).half(), BOUNDS.half(), "faces-1"))
    return file


def rewrite(path, metadata=None, **tensors):
    """The file with other tensors (None: without them) and other metadata."""
    held = {name: tensor for name, tensor in {**load_file(path), **tensors}.items() if tensor is not None}
    save_file(held, path, {"type": "avatar3d.triplane", "version": "1", "decoder": "faces-1"} | (metadata or {}))


def test_files_hold_what_was_saved(path):
    loaded = load_triplane(path, "faces-1")
    assert torch.equal(loaded.planes, random(3, 4, 8, 8).half()) and torch.equal(loaded.bounds, BOUNDS.half())
    assert loaded.decoder == "faces-1" and loaded.planes.dtype == torch.float16
    assert load_triplane(path).decoder == "faces-1"


def test_a_file_without_decoder_is_refused(path):
    save_file(load_file(path), path, {"type": "avatar3d.triplane", "version": "1"})
    with pytest.raises(TriPlaneFileError, match="lacks its decoder"):
        load_triplane(path)


@pytest.mark.parametrize("keep", [0, 100, -1])
def test_truncated_files_are_refused(path, keep):
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(TriPlaneFileError, match=r"damaged.*restore it \(a tri-plane is made by"):
        load_triplane(path)


def test_missing_and_foreign_files_are_refused(path, tmp_path):
    with pytest.raises(TriPlaneFileError, match="no weights at"):
        load_triplane(tmp_path / "nothing.safetensors")
    rewrite(path, {"type": "avatar3d.other"})
    with pytest.raises(TriPlaneFileError, match=r"holds avatar3d\.other, expected avatar3d\.triplane"):
        load_triplane(path)


def test_another_decoder_is_refused(path):
    with pytest.raises(TriPlaneFileError, match=r"made for the decoder faces-1 .* faces-2: use the weights"):
        load_triplane(path, "faces-2")


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"planes": torch.zeros(3, 4, 8, 7)}, r"shape \(3, 4, 8, 7\)"),
        ({"planes": torch.zeros(2, 4, 8, 8)}, r"shape \(2, 4, 8, 8\)"),
        ({"planes": torch.zeros(3, 2, 8, 8)}, r"shape \(3, 2, 8, 8\)"),
        ({"planes": torch.zeros(3, 4, 8, 8, dtype=torch.int64)}, "torch.int64"),
        ({"planes": torch.full((3, 4, 8, 8), math.nan)}, "not finite"),
        ({"bounds": torch.tensor([[0.0] * 3, [math.inf] * 3])}, "not finite"),
        ({"bounds": torch.tensor([[0.0, 0.0, 1.0], [1.0, 1.0, 1.0]])}, "low and a high corner"),
        ({"bounds": torch.zeros(6)}, "low and a high corner"),
        ({"planes": None}, "lacks its planes"),
        ({"bounds": None}, "lacks its bounds"),
    ],
)
def test_broken_tensors_are_refused(path, tensors, message):
    rewrite(path, **tensors)
    with pytest.raises(TriPlaneFileError, match=message):
        load_triplane(path)


def test_broken_planes_are_not_saved(tmp_path):
    planes = torch.zeros(3, 4, 8, 8)
    planes[1, 2, 3, 4] = math.nan
    with pytest.raises(TriPlaneFileError, match=r"not finite: nothing was written"):
        save_triplane(tmp_path / "x.safetensors", TriPlane(planes, BOUNDS.float(), "faces-1"))
    assert not list(tmp_path.iterdir())


def test_points_that_are_no_numbers_read_and_write_only_the_planes():
    planes = torch.randn(3, 4, 8, 8, requires_grad=True)
    points = torch.tensor([[math.nan, 0.1, 0.2], [math.inf, -math.inf, 0.0], [0.1, 0.2, 0.3]])
    rows = gather_rows(planes, points)
    assert rows.shape == (3, 12)
    assert torch.isfinite(rows[2]).all()
    rows[2].sum().backward()
    assert torch.isfinite(planes.grad).all()
