"""M: the paper's shape, windows that cross episodes' ends, and no knowledge of the future."""

import pytest
import torch

from wm.cell import Cell
from wm.memory import Memory


@pytest.mark.parametrize(
    ("latent_size", "actions", "hidden_size", "ends", "parameters"),
    [(32, 3, 256, False, 422_368), (64, 1, 512, True, 1_678_785)],
)
def test_it_has_the_paper_s_parameters_and_pytorch_s_second_bias(
    latent_size: int, actions: int, hidden_size: int, ends: bool, parameters: int
) -> None:
    memory = Memory(latent_size, actions, hidden_size, 5, ends)
    assert sum(p.numel() for p in memory.parameters()) - 4 * hidden_size == parameters


def window(rows: int, steps: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    stream = torch.Generator().manual_seed(seed)
    z, actions = torch.randn(rows, steps, 4, generator=stream), torch.randn(rows, steps, 2, generator=stream)
    return z, actions, torch.rand(rows, steps, generator=stream) < 0.2


@pytest.mark.parametrize("ends", [False, True])
def test_a_window_equals_its_steps_one_row_and_one_step_at_a_time(ends: bool) -> None:
    memory = Memory(4, 2, 8, 3, ends).initialise(1)
    cell = Cell(memory, "float32")
    z, actions, restarts = window(3, 11)
    start = (torch.randn(3, 8), torch.randn(3, 8))
    outputs, last = memory(z, actions, restarts, start)
    together = memory.split(outputs)
    for row in range(3):
        state = (start[0][row : row + 1], start[1][row : row + 1])
        for step in range(11):
            at = (slice(row, row + 1), step)
            if restarts[row, step]:
                state = memory.initial(1)
            state = cell.step(z[at], actions[at], restarts[at], state)
            alone = cell.predict(state[0])
            for part, whole in zip(alone.z, together.z, strict=True):
                torch.testing.assert_close(part[0], whole[row, step], atol=1e-5, rtol=1e-5)
            torch.testing.assert_close(alone.done[0], together.done[row, step], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(state[0][0], last[0][row], atol=1e-5, rtol=1e-5)


def test_predictions_do_not_depend_on_the_future() -> None:
    memory = Memory(4, 2, 8, 3, True).initialise(2)
    z, actions, restarts = window(2, 9)
    before, _ = memory(z, actions, restarts, memory.initial(2))
    z[:, 5:], actions[:, 5:], restarts[:, 5:] = 7.0, -3.0, True
    after, _ = memory(z, actions, restarts, memory.initial(2))
    torch.testing.assert_close(before[:, :5], after[:, :5])
    assert not torch.allclose(before[:, 5:], after[:, 5:])


def test_two_windows_with_the_state_carried_equal_one() -> None:
    memory = Memory(4, 2, 8, 3, True).initialise(3)
    z, actions, restarts = window(2, 12)
    whole, _ = memory(z, actions, restarts, memory.initial(2))
    first, state = memory(z[:, :5], actions[:, :5], restarts[:, :5], memory.initial(2))
    second, _ = memory(z[:, 5:], actions[:, 5:], restarts[:, 5:], state)
    torch.testing.assert_close(torch.cat([first, second], 1), whole, atol=1e-6, rtol=1e-5)
