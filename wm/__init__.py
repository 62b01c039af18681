"""World Models (Ha and Schmidhuber, 2018) as a pipeline, and as environments for anyone's agents.

Importing the package registers its Gymnasium environments; see `wm.environments` and `wm.pixels`.
"""

import gymnasium

for _title, _task in (("CarRacing", "carracing"), ("TakeCover", "takecover")):
    for _kind, _place in (("", "Reality"), ("Dream", "Dream")):
        gymnasium.register(
            f"wm/{_title}{_kind}-v0",
            entry_point=f"wm.environments:{_place}Env",
            vector_entry_point=f"wm.environments:{_place}VectorEnv",
            kwargs={"task": _task},
        )
    gymnasium.register(f"wm/{_title}Pixels-v0", entry_point="wm.pixels:PixelsEnv", kwargs={"task": _task})
