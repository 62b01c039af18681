"""The stage `untrained`: M as it is drawn, for the ablation; it depends on shapes and a seed alone."""

from wm import files, paths, seeds, weights
from wm.memory import PART, make_memory
from wm.reading import read_yaml
from wm.settings import read_settings
from wm.tasks import load_task


def run(task: str) -> None:
    """Writes `data/TASK/memory/untrained`."""
    game = read_settings(read_yaml(paths.PARAMS)).games[task]
    memory = make_memory(load_task(task), game.vision.latent_size, game.memory)
    memory.initialise(seeds.integer(game.memory.seed, "memory", task))
    with files.output_folder(paths.memory(task, "untrained")) as folder:
        weights.save(folder / paths.WEIGHTS, weights.join(**{PART: memory.state_dict()}))
