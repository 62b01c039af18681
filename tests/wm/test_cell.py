"""M as it acts is the LSTM that was trained, step by step, in either number format."""

import pytest
import torch

from tests.wm.test_encoder import BOUNDS, close
from wm.cell import Cell
from wm.memory import Memory


@pytest.mark.parametrize("precision", BOUNDS)
@pytest.mark.parametrize("ends", [True, False])
def test_the_cell_is_the_lstm_step_by_step(precision: str, ends: bool) -> None:
    memory = Memory(6, 3, 16, 5, ends).initialise(1).requires_grad_(False)
    stream = torch.Generator().manual_seed(2)
    z, actions = torch.randn(4, 12, 6, generator=stream), torch.randn(4, 12, 3, generator=stream)
    restarts = torch.zeros(4, 12, dtype=torch.bool)
    restarts[:, 0] = True
    expected, last = memory(z, actions, restarts, memory.initial(4))
    cell, state = Cell(memory, precision), memory.initial(4)
    for step in range(12):
        state = cell.step(z[:, step], actions[:, step], restarts[:, step], state)
        found = cell.predict(state[0])
        for name in ("logits", "means", "logstds"):
            assert close(getattr(found.z, name), getattr(expected.z, name)[:, step], precision)
        assert found.done.shape == ((4,) if ends else (4, 0))
    assert close(state[0], last[0], precision) and close(state[1], last[1], precision)
