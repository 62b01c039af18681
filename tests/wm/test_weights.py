"""Weights: what was saved comes back, the bytes are the content's alone, and damage is said in one line."""

from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from wm import weights

TENSORS = {"b": torch.arange(6.0).view(2, 3), "a": torch.tensor([1.5, -2.0])}
SHAPES = {name: tensor.shape for name, tensor in TENSORS.items()}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    weights.save(tmp_path / "w.safetensors", TENSORS)
    return tmp_path / "w.safetensors"


def test_what_was_saved_comes_back(path: Path) -> None:
    loaded = weights.load(path, SHAPES)
    assert all(torch.equal(loaded[name], TENSORS[name]) for name in TENSORS)


def test_the_bytes_depend_on_nothing_but_the_content(path: Path) -> None:
    other = path.with_name("other.safetensors")
    weights.save(other, dict(reversed(TENSORS.items())))
    assert other.read_bytes() == path.read_bytes()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_a_file_cut_short_anywhere_is_refused(path: Path, data: st.DataObject) -> None:
    whole = path.read_bytes()
    cut = path.with_name("cut.safetensors")
    cut.write_bytes(whole[: data.draw(st.integers(0, len(whole) - 1))])
    with pytest.raises(ValueError, match="damaged"):
        weights.load(cut, SHAPES)


def test_other_names_shapes_and_numbers_are_refused(path: Path) -> None:
    with pytest.raises(ValueError, match="holds other weights"):
        weights.load(path, {**SHAPES, "c": torch.Size([1])})
    with pytest.raises(ValueError, match="latent_size"):
        weights.load(path, {**SHAPES, "a": torch.Size([3])})
    weights.save(path, {**TENSORS, "a": torch.tensor([1.0, float("nan")])})
    with pytest.raises(ValueError, match="not finite"):
        weights.load(path, SHAPES)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"none\.safetensors does not exist"):
        weights.load(tmp_path / "none.safetensors", SHAPES)


def test_matrices_of_any_height_and_one_width(tmp_path: Path) -> None:
    rows = {"means": torch.ones(4, 3), "logvars": torch.zeros(4, 3)}
    weights.save(tmp_path / "rows.safetensors", weights.join(rows=rows, other={"d": torch.ones(1)}))
    loaded = weights.load_rows(tmp_path / "rows.safetensors", {"means": 3, "logvars": 3}, "rows")
    assert torch.equal(loaded["means"], rows["means"])
    with pytest.raises(ValueError, match="latent_size"):
        weights.load_rows(tmp_path / "rows.safetensors", {"means": 2, "logvars": 2}, "rows")


def test_each_part_of_a_file_is_read_by_itself(tmp_path: Path) -> None:
    weights.save(tmp_path / "w.safetensors", weights.join(memory=TENSORS, starts={"c": torch.ones(2)}))
    loaded = weights.load(tmp_path / "w.safetensors", SHAPES, "memory")
    assert loaded.keys() == TENSORS.keys() and torch.equal(loaded["b"], TENSORS["b"])
    with pytest.raises(ValueError, match="holds other weights"):
        weights.load(tmp_path / "w.safetensors", SHAPES, "starts")
