"""params.yaml is read strictly: whatever is wrong in it is a ValueError that names the key."""

import copy
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wm.reading import read_yaml
from wm.settings import FACTS, read_settings
from wm.tasks import TASKS, load_task

VALUES: dict[str, Any] = copy.deepcopy(dict(read_yaml(Path(__file__).parents[2] / "params.yaml")))
Keys = tuple[str, ...]


def walk(values: Any, keys: Keys = ()) -> Iterator[tuple[Keys, Any]]:
    """Every key path and what lies there."""
    for key, value in values.items():
        yield (*keys, key), value
        if isinstance(value, dict):
            yield from walk(value, (*keys, key))


ALL = dict(walk(VALUES))
MAPS = [keys for keys, value in ALL.items() if isinstance(value, dict) and keys != ("agents",)]
LEAVES = [keys for keys, value in ALL.items() if not isinstance(value, dict)]
NUMBERS = [keys for keys in LEAVES if type(ALL[keys]) in (int, float)]
WORDS = [keys for keys in LEAVES if isinstance(ALL[keys], str)]
REQUIRED = [keys for keys in ALL if keys[:-1] != ("agents",)]

WRONG: dict[type, list[Any]] = {
    int: ["3", 2.5, True, None, [], {}, math.nan],
    float: ["1e-3", True, None, [1.0], {}, math.nan, math.inf],
    bool: ["yes", 0, 1, None, []],
    str: [1, 0.5, True, None, ["z"], {}],
    list: ["z", 1, None, {}, [None], [[0]], []],
}


def changed(keys: Keys, value: Any) -> dict[str, Any]:
    values = copy.deepcopy(VALUES)
    place = values
    for key in keys[:-1]:
        place = place[key]
    place[keys[-1]] = value
    return values


def removed(keys: Keys) -> dict[str, Any]:
    values = copy.deepcopy(VALUES)
    place = values
    for key in keys[:-1]:
        place = place[key]
    del place[keys[-1]]
    return values


def complaint(values: Any) -> str:
    with pytest.raises(ValueError) as caught:
        read_settings(values)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_the_repositorys_settings_are_valid() -> None:
    settings = read_settings(VALUES)
    assert set(settings.games) == set(settings.tasks)
    assert set(settings.agents) == set(VALUES["agents"])


@given(st.sampled_from(MAPS), st.sampled_from(["x", "stepz", "Seed", "parts "]))
def test_an_unknown_key_is_named(keys: Keys, new: str) -> None:
    assert ".".join((*keys, new)) in complaint(changed((*keys, new), 1))


@given(st.sampled_from([keys for keys in REQUIRED if len(keys) > 1]), st.data())
def test_a_misspelt_key_is_named_and_so_is_the_right_one(keys: Keys, data: st.DataObject) -> None:
    letter = data.draw(st.integers(0, len(keys[-1]) - 1))
    misspelt = keys[-1][:letter] + keys[-1][letter + 1 :] + "_"
    values = removed(keys)
    place = values
    for key in keys[:-1]:
        place = place[key]
    place[misspelt] = ALL[keys]
    message = complaint(values)
    assert ".".join((*keys[:-1], misspelt)) in message
    assert keys[-1] in message


@given(st.sampled_from(REQUIRED))
def test_a_missing_key_is_named(keys: Keys) -> None:
    assert ".".join(keys) in complaint(removed(keys))


@given(st.sampled_from(LEAVES), st.data())
def test_a_wrong_type_is_named(keys: Keys, data: st.DataObject) -> None:
    kind = type(ALL[keys])
    wrong = data.draw(st.sampled_from(WRONG[kind]))
    assert ".".join(keys) in complaint(changed(keys, wrong))


@given(st.sampled_from(MAPS), st.sampled_from([None, 3, "x", [1]]))
def test_a_value_in_place_of_a_map_is_named(keys: Keys, wrong: Any) -> None:
    assert ".".join(keys) in complaint(changed(keys, wrong))


@given(st.sampled_from(NUMBERS), st.integers(max_value=-1) | st.floats(max_value=-1e-9, allow_infinity=False))
def test_a_number_below_its_range_is_named(keys: Keys, low: float) -> None:
    value = float(low) if isinstance(ALL[keys], float) else math.floor(low)
    assert ".".join(keys) in complaint(changed(keys, value))


@given(st.sampled_from(NUMBERS), st.sampled_from([2**31, 10**400]))
def test_a_number_above_its_range_is_named(keys: Keys, high: int) -> None:
    assert ".".join(keys) in complaint(changed(keys, high))


@given(st.sampled_from(WORDS), st.text(min_size=1, max_size=8))
def test_a_word_that_is_not_allowed_is_named(keys: Keys, word: str) -> None:
    allowed = {
        "pool": ("cpu", "gpu"),
        "place": ("reality", "dream"),
        "precision": ("float32", "bfloat16", "int8"),
    }
    if word in (*allowed.get(keys[-1], ()), *(value for value in ALL.values() if isinstance(value, str))):
        return
    assert ".".join(keys) in complaint(changed(keys, word))


@given(st.text(max_size=12))
def test_an_agents_name_is_one_that_dvc_can_address(name: str) -> None:
    values = changed(("agents", name), VALUES["agents"]["carracing"])
    good = all(
        part and part.isascii() and part.isalnum() and part == part.lower() for part in name.split("-")
    )
    if good:
        assert name in read_settings(values).agents
    else:
        assert repr(name) in complaint(values)


@pytest.mark.parametrize(
    ("agent", "changes", "named"),
    [
        ("carracing-z", {"reads": ["z", "h"]}, "reads"),
        ("carracing", {"reads": ["h"]}, "reads"),
        ("carracing", {"reads": ["z", "z"]}, "reads"),
        ("carracing", {"reads": ["z", "q"]}, "reads"),
        ("carracing", {"place": "dream"}, "place"),
        ("carracing", {"task": "takecove"}, "task"),
        ("takecover", {"memory": "memory/untrained"}, "memory"),
        ("takecover", {"memory": "memory"}, "memory"),
        ("takecover", {"temperature": 0.0}, "temperature"),
    ],
)
def test_an_agent_cannot_have_what_there_is_not(agent: str, changes: dict[str, Any], named: str) -> None:
    values = changed(("agents", agent), VALUES["agents"][agent] | changes)
    assert f"agents.{agent}.{named}" in complaint(values)


def test_patience_needs_a_reward_for_idling() -> None:
    assert "patience" in complaint(changed(("agents", "takecover", "evolution", "patience"), 10))


@pytest.mark.parametrize("parts", [[], [0, 0], [-1], [10**9]])
def test_parts_differ_and_there_is_at_least_one(parts: list[int]) -> None:
    assert "carracing.parts" in complaint(changed(("carracing", "parts"), parts))


def test_a_learning_rate_falls() -> None:
    assert "carracing.vision.final_learning_rate" in complaint(
        changed(("carracing", "vision", "final_learning_rate"), 0.9)
    )


@pytest.mark.parametrize("tasks", [["carracing"], ["carracing", "carracing", "takecover"], [], "takecover"])
def test_every_game_is_listed_once(tasks: Any) -> None:
    with pytest.raises(ValueError, match=r"params\.yaml: tasks"):
        read_settings(changed(("tasks",), tasks))


@pytest.mark.parametrize("name", ["carracing-random", "takecover-random", "takecover-data"])
def test_the_policies_names_are_taken(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} is a policy's name"):
        read_settings(changed(("agents", name), VALUES["agents"]["carracing"]))


@pytest.mark.parametrize("name", TASKS)
def test_what_is_known_of_a_game_without_importing_it_is_true(name: str) -> None:
    task, facts = load_task(name), FACTS[name]
    assert facts.ends == task.ends
    assert facts.renderers == task.renderers
    assert facts.has_idle_reward == (task.idle_reward is not None)


def test_numbers_are_read_as_dvc_reads_them(tmp_path: Path) -> None:
    file = tmp_path / "params.yaml"
    file.write_text("rate: 1e-3\nlist:\n- 1\n")
    assert read_yaml(file) == {"rate": 0.001, "list": [1]}


@pytest.mark.parametrize(
    "text",
    ["a: [", "- 1\n", "3", "\t", "a: !!bool maybe", "a: !!int abc", "a: 2020-13-45", f"a: {'9' * 5000}"],
)
def test_a_file_that_is_not_a_map_is_refused(text: str, tmp_path: Path) -> None:
    file = tmp_path / "params.yaml"
    file.write_text(text)
    with pytest.raises(ValueError, match=r"params\.yaml"):
        read_yaml(file)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="does not exist"):
        read_yaml(tmp_path / "params.yaml")
