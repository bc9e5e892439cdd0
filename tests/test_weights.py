"""The door to weights: what is whole loads exactly, what is broken says how."""

import numpy as np
import pytest
import torch
from torch import nn

from avatar3d.weights import WeightsError, load_state, load_tensors, save_tensors, weights_path

META = {"type": "avatar3d.thing", "version": "1"}


@pytest.fixture
def path(tmp_path):
    file = tmp_path / "thing.safetensors"
    save_tensors(file, {"a": torch.arange(6.0).reshape(2, 3), "b": torch.tensor([1, 2])}, META)
    return file


def test_round_trip_is_exact(path):
    tensors, metadata = load_tensors(path, "avatar3d.thing")
    assert torch.equal(tensors["a"], torch.arange(6.0).reshape(2, 3)) and metadata == META


def test_nothing_temporary_stays(path):
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_a_failed_write_leaves_the_old_file(path):
    before = path.read_bytes()
    with pytest.raises(Exception, match=r"."):
        save_tensors(path, {"a": "not a tensor"}, META)  # type: ignore[dict-item]
    assert path.read_bytes() == before and len(list(path.parent.iterdir())) == 1


def test_missing(tmp_path):
    with pytest.raises(WeightsError, match=r"no weights at .*nothing.safetensors: restore"):
        load_tensors(tmp_path / "nothing.safetensors", "avatar3d.thing")


@pytest.mark.parametrize("keep", [0, 4, 40, -1])
def test_truncated(path, keep):
    data = path.read_bytes()
    path.write_bytes(data[:keep])
    with pytest.raises(WeightsError, match="damaged or not a safetensors file"):
        load_tensors(path, "avatar3d.thing")


def test_garbage(path):
    path.write_bytes(np.random.default_rng(0).bytes(5000))
    with pytest.raises(WeightsError, match="damaged or not a safetensors file"):
        load_tensors(path, "avatar3d.thing")


def test_foreign(path):
    with pytest.raises(WeightsError, match=r"holds avatar3d.thing, expected avatar3d.other"):
        load_tensors(path, "avatar3d.other")
    save_tensors(path, {"a": torch.zeros(1)}, {})
    with pytest.raises(WeightsError, match="foreign weights"):
        load_tensors(path, "avatar3d.thing")


def test_another_version(path):
    with pytest.raises(WeightsError, match="layout version 1, this code reads version 2"):
        load_tensors(path, "avatar3d.thing", "2")


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_numbers_that_are_not_finite(path, bad):
    save_tensors(path, {"a": torch.tensor([1.0, bad])}, META)
    with pytest.raises(WeightsError, match="tensor a holds numbers that are not finite"):
        load_tensors(path, "avatar3d.thing")


def test_states_convert_and_complain(path):
    layer = nn.Linear(3, 2)
    good = {"weight": torch.ones(2, 3).half(), "bias": torch.zeros(2).half()}
    load_state(layer, good, path)
    assert layer.weight.dtype == torch.float32 and bool((layer.weight == 1).all())
    with pytest.raises(WeightsError, match="lacks the tensor bias"):
        load_state(layer, {"weight": torch.ones(2, 3)}, path)
    with pytest.raises(WeightsError, match=r"tensor weight has shape \(3, 2\), expected \(2, 3\)"):
        load_state(layer, good | {"weight": torch.ones(3, 2)}, path)
    with pytest.raises(WeightsError, match=r"tensor bias is torch\.int64"):
        load_state(layer, good | {"bias": torch.zeros(2, dtype=torch.int64)}, path)
    with pytest.raises(WeightsError, match="unknown tensor more"):
        load_state(layer, good | {"more": torch.zeros(2)}, path)


def test_the_folder_can_be_chosen(monkeypatch, tmp_path):
    monkeypatch.setenv("AVATAR3D_WEIGHTS", str(tmp_path))
    assert weights_path("x.safetensors") == tmp_path / "x.safetensors"
