"""DoomTakeCover: ViZDoom's own `take_cover.cfg`, one step per tic, frames shrunk to 64x64.

The settings are the original's (supplement A.1 and A.5 of the paper; `doomreal.py` and `extract.py` in
github.com/hardmaru/WorldModelsExperiments): at most 2100 steps, start at tic 14, no frame skip, a random
action held for 1 to 10 steps as data. The game renders at 160x120 and its screens are shrunk as by Pillow's
bilinear resize; its status bar is off as shipped.
"""

import os
import shlex
import sys
import tempfile
from pathlib import Path

import gymnasium
import numpy as np
import vizdoom

from wm.errors import Failure
from wm.tasks import FRAME_SHAPE, Game, Task

HORIZON = 2100
START_TIC = 14  # before it the monsters are not there yet
BUTTONS = ([1, 0], [0, 0], [0, 1])  # move left, stand, move right

GAME_ERRORS = (
    vizdoom.ViZDoomErrorException,
    vizdoom.ViZDoomIsNotRunningException,
    vizdoom.ViZDoomUnexpectedExitException,
    vizdoom.SharedMemoryException,
    vizdoom.MessageQueueException,
)

# The game does not notice when the process that plays it is killed, so it is started in a way that the
# kernel ends it then (Linux), and in a folder of its own, because it writes into its working directory.
LAUNCHER = """\
import os, signal, sys
folder, parent, game, *arguments = sys.argv[1:]
if sys.platform == "linux":
    import ctypes
    PR_SET_PDEATHSIG = 1
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != int(parent):
        sys.exit(1)
os.chdir(folder)
os.execv(game, [game, *arguments])
"""


class GameDied(Failure):
    """The game did not start, or its process ended while an episode was played."""


class TakeCover:
    """The real game: ends at death (`terminated`) or after 2100 steps (`truncated`); reward 1 a step.

    The first frame is that of tic 14. After the last step there is no new picture: the frame before it is
    returned again. GameDied, at once, when the game process has died.
    """

    def __init__(self) -> None:
        from wm.tasks.takecover.shrink import Shrinker

        self._shrinker = Shrinker()
        self._frame = np.zeros(FRAME_SHAPE, np.uint8)
        self._game = _start_game()

    def reset(self, seed: int) -> np.ndarray:
        """Start the episode of `seed` (0 <= seed < 2**31); the first frame, uint8 [64, 64, 3]."""
        try:
            self._game.set_seed(seed)
            self._game.new_episode()
            self._frame = self._shrinker.shrink(self._game.get_state().screen_buffer)
        except GAME_ERRORS as error:
            raise _dead_game(error) from error
        return self._frame

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool]:
        """Move by `action` (float32 [1]: -1 left, 0 stand, 1 right): frame, reward, terminated, truncated."""
        try:
            self._game.make_action(BUTTONS[int(action[0]) + 1])
            state = self._game.get_state()
            if state is not None:
                self._frame = self._shrinker.shrink(state.screen_buffer)
                return self._frame, 1.0, False, False
            survived = not self._game.is_player_dead()
        except GAME_ERRORS as error:
            raise _dead_game(error) from error
        return self._frame, 1.0, not survived, survived

    def close(self) -> None:
        """End the game process."""
        self._game.close()


def _start_game() -> vizdoom.DoomGame:
    """A running game whose folder and segments have no name any more: nothing is left after a kill."""
    game = vizdoom.DoomGame()
    game.load_config(str(Path(vizdoom.scenarios_path) / "take_cover.cfg"))
    game.set_screen_resolution(vizdoom.ScreenResolution.RES_160X120)
    game.set_screen_format(vizdoom.ScreenFormat.RGB24)
    game.set_window_visible(False)
    game.set_sound_enabled(False)
    game.set_episode_start_time(START_TIC)
    game.set_episode_timeout(HORIZON)  # counted from the start tic
    game.set_doom_config_path(os.devnull)  # the engine saves its own settings when it ends
    with tempfile.TemporaryDirectory(prefix="wm-takecover-", ignore_cleanup_errors=True) as folder:
        launcher = _write_launcher(Path(folder))
        if not os.access(launcher, os.X_OK):  # ViZDoom would crash
            raise GameDied(f"no program may be run in {tempfile.gettempdir()}: set TMPDIR elsewhere")
        game.set_vizdoom_path(str(launcher))
        try:
            game.init()
        except GAME_ERRORS as error:
            raise GameDied(f"ViZDoom did not start: {error}") from error
    for name in ("SM", "MQCtr", "MQDoom"):
        # Both sides have opened them by now.
        Path(f"/dev/shm/ViZDoom{name}{game.get_instance_id()}").unlink(missing_ok=True)
    return game


def _write_launcher(folder: Path) -> Path:
    """An executable in `folder` that becomes the game there. ViZDoom takes a path, not a command line."""
    start = folder / "start.py"
    start.write_text(LAUNCHER)
    game = Path(vizdoom.__file__).with_name("vizdoom")
    parts = (sys.executable, "-I", "-S", start, folder, os.getpid(), game)
    command = shlex.join([str(part) for part in parts])
    launcher = folder / "vizdoom"
    launcher.write_text(f'#!/bin/sh\nexec {command} "$@"\n')
    launcher.chmod(0o700)
    return launcher


def _dead_game(error: Exception) -> GameDied:
    return GameDied(f"the Take Cover game died: {error}")


class HeldRandomPolicy:
    """A random action held for a random 1 to `persistence` steps (10 in `extract.py`)."""

    def __init__(self, rng: np.random.Generator, persistence: int) -> None:
        self._rng = rng
        self._longest = persistence
        self._action = np.zeros(1, np.float32)
        self._left = 0

    def act(self) -> np.ndarray:
        """The next action, float32 [1]."""
        if self._left == 0:
            self._action = _random_action(self._rng)
            self._left = int(self._rng.integers(1, self._longest + 1))
        self._left -= 1
        return self._action.copy()


class RandomPolicy:
    """Left, stand or right with equal chance at every step."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng = rng

    def act(self) -> np.ndarray:
        """The next action, float32 [1]."""
        return _random_action(self._rng)


def _random_action(rng: np.random.Generator) -> np.ndarray:
    return np.array([rng.integers(-1, 2)], np.float32)


def squash(raw: np.ndarray) -> np.ndarray:
    """C's outputs [..., 1] as moves, float32 [..., 1]: tanh, below -1/3 left, above 1/3 right, else stand.

    Supplement A.5: "divides the range of the single output into three parts".
    """
    bounded = np.tanh(raw)
    return ((bounded > 1 / 3).astype(np.float32) - (bounded < -1 / 3).astype(np.float32)).astype(np.float32)


def from_space(choice: object) -> np.ndarray:
    """An element of Discrete(3) (0 left, 1 stand, 2 right) as a move, float32 [1]."""
    return np.array([int(choice) - 1], np.float32)  # type: ignore[call-overload]


def make_game(renderer: str) -> Game:
    """Start the game; it draws for itself, hence "native"."""
    assert renderer == "native", renderer
    return TakeCover()


TASK = Task(
    name="takecover",
    action_size=1,
    horizon=HORIZON,
    ends=True,
    kept_above=100,
    idle_reward=None,
    renderers=("native",),
    make_game=make_game,
    squash=squash,
    data_policy=HeldRandomPolicy,
    random_policy=RandomPolicy,
    action_space=gymnasium.spaces.Discrete(3),
    from_space=from_space,
)
