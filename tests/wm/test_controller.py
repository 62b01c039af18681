import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from wm.controller import Controllers, ControllerShape, input_size, load_controller, save_controller

CPU = torch.device("cpu")
SHAPES = st.builds(
    ControllerShape,
    inputs=st.integers(1, 9),
    hidden_size=st.integers(0, 5),
    outputs=st.integers(1, 4),
    bias=st.booleans(),
)


@pytest.mark.parametrize(
    ("reads", "latent_size", "memory_size", "hidden_size", "outputs", "bias", "size"),
    [
        (("z", "h"), 32, 256, 0, 3, True, 867),
        (("z",), 32, 256, 40, 3, True, 1443),
        (("z", "c", "h"), 64, 512, 0, 1, False, 1088),
    ],
)
def test_parameter_counts_are_the_papers(reads, latent_size, memory_size, hidden_size, outputs, bias, size):
    inputs = input_size(reads, latent_size, memory_size)
    assert ControllerShape(inputs, hidden_size, outputs, bias).size == size


@given(SHAPES, st.integers(0, 2**31 - 1))
def test_flatten_undoes_unflatten(shape, seed):
    flat = torch.from_numpy(np.random.default_rng(seed).standard_normal((3, shape.size), np.float32))
    assert torch.equal(shape.flatten(shape.unflatten(flat)), flat)
    assert torch.equal(shape.flatten(shape.unflatten(flat[0])), flat[0])


def network(shape: ControllerShape, flat: np.ndarray) -> torch.nn.Sequential:
    """C as torch's own layers, filled by hand from the flat vector."""
    sizes = (
        [shape.inputs, shape.hidden_size, shape.outputs]
        if shape.hidden_size
        else [shape.inputs, shape.outputs]
    )
    layers: list[torch.nn.Module] = []
    rest = torch.from_numpy(flat)
    for columns, rows in zip(sizes, sizes[1:], strict=False):
        layer = torch.nn.Linear(columns, rows, bias=shape.bias)
        for tensor in layer.parameters():
            tensor.data = rest[: tensor.numel()].reshape(tensor.shape)
            rest = rest[tensor.numel() :]
        layers += [layer, torch.nn.Tanh()]
    assert not len(rest)
    return torch.nn.Sequential(*layers[:-1])


@given(SHAPES, st.integers(0, 2**31 - 1))
def test_every_row_acts_with_its_own_parameters(shape, seed):
    generator = np.random.default_rng(seed)
    parameters = generator.standard_normal((4, shape.size), np.float32)
    inputs = torch.from_numpy(generator.standard_normal((4, shape.inputs), np.float32))
    controllers = Controllers(shape, parameters, CPU)
    with torch.no_grad():
        expected = torch.cat([network(shape, p)(x[None]) for p, x in zip(parameters, inputs, strict=True)])
    assert torch.allclose(controllers.act(inputs), expected, atol=1e-5)
    controllers.keep(np.array([False, True, False, True]))
    assert torch.allclose(controllers.act(inputs[[1, 3]]), expected[[1, 3]], atol=1e-5)


def test_save_and_load_is_the_identity_and_other_shapes_are_refused(tmp_path):
    shape = ControllerShape(inputs=5, hidden_size=4, outputs=2, bias=True)
    parameters = np.random.default_rng(0).standard_normal(shape.size).astype(np.float32)
    (tmp_path / "controller" / "someone").mkdir(parents=True)
    save_controller(tmp_path / "controller" / "someone" / "weights.safetensors", shape, parameters)
    assert np.array_equal(load_controller("someone", shape, tmp_path), parameters)
    with pytest.raises(ValueError, match=r"hidden\.weight has the shape \(4, 5\)"):
        load_controller("someone", ControllerShape(6, 4, 2, True), tmp_path)
    with pytest.raises(ValueError, match="hidden"):
        load_controller("someone", ControllerShape(5, 0, 2, True), tmp_path)
    with pytest.raises(ValueError, match="nobody.*does not exist"):
        load_controller("nobody", shape, tmp_path)
