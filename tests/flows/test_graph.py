"""The graph is DVC's: what the flows rely on of its internals, on the real dvc.yaml and on a toy."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from dvc.dependency import param
from ruamel.yaml import YAML

from flows.graph import (
    read_graph,
    read_reasons,
    set_params,
    stale_without_data,
    with_ancestors,
    words,
)
from tests.flows.toy import ROOT, Toy


@pytest.fixture
def toy(tmp_path: Path) -> Toy:
    return Toy(tmp_path / "toy", {"a": [], "b": ["a"], "c": ["a"]}, {"c": "gpu"})


def test_the_graph_of_this_repository_is_that_of_dvc_stage_list() -> None:
    graph = read_graph(ROOT)
    listed = subprocess.check_output(
        [sys.executable, "-m", "dvc", "stage", "list", "--name-only"], cwd=ROOT, text=True
    )
    assert sorted(graph) == sorted(listed.split())
    assert graph["vision@takecover"].needs >= {"rollouts-takecover@0"}
    assert graph["vision@takecover"].pool == "gpu" and graph["tables"].pool == "cpu"
    assert "data/takecover/vision/weights.safetensors" in graph["vision@takecover"].outs
    assert graph["controller@carracing-z"].needs == {"vision@carracing"}
    assert "memory@takecover" in with_ancestors(graph, ["evaluation@takecover"])
    assert not any("takecover" in name for name in with_ancestors(graph, ["evaluation@carracing"]))


def test_params_are_parsed_once(toy: Toy, monkeypatch: pytest.MonkeyPatch) -> None:
    toy.run("dvc", "repro")
    plain, parsed = param.load_path, []
    monkeypatch.setattr(param, "load_path", lambda path, fs: (parsed.append(path), plain(path, fs))[1])
    first, _ = read_graph(toy.folder), stale_without_data(toy.folder)
    assert parsed == [str(toy.folder / "params.yaml")] * 2
    toy.set({"a": 1, "b": 2, "c": 1})
    second = read_graph(toy.folder)
    assert [name for name in first if first[name].work != second[name].work] == ["b"]


def test_a_misspelt_stage_is_named_with_the_nearest(toy: Toy) -> None:
    with pytest.raises(ValueError, match="'vison@takecover' is no stage; did you mean vision@takecover"):
        with_ancestors(read_graph(ROOT), ["vison@takecover"])


def test_an_unknown_pool_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="the pool of a is 'tpu'; allowed: cpu, gpu"):
        read_graph(Toy(tmp_path / "toy", {"a": []}, {"a": "tpu"}).folder)


def test_a_broken_dvc_yaml_is_said_plainly(toy: Toy) -> None:
    (toy.folder / "dvc.yaml").write_text("stages: [")
    with pytest.raises(ValueError, match=r"dvc\.yaml"):
        read_graph(toy.folder)


def test_reasons_are_those_of_dvc_status(toy: Toy) -> None:
    toy.run("dvc", "repro")
    assert read_reasons(toy.folder) == {}
    toy.set({"a": 1, "b": 2, "c": 1})
    assert words(read_reasons(toy.folder)["b"]) == "changed deps: params.yaml (b)"
    (toy.folder / "c.out").unlink()
    assert words(read_reasons(toy.folder)["c"]) == "changed outs: c.out deleted"


def test_params_are_set_as_dvc_sets_them(toy: Toy) -> None:
    set_params(toy.folder, ["b=2.5"])
    assert YAML(typ="safe").load(toy.folder / "params.yaml") == {"a": 1, "b": 2.5, "c": 1}
    with pytest.raises(ValueError, match="-S d=1"):
        set_params(toy.folder, ["d=1"])
    with pytest.raises(ValueError, match="-S b: must be KEY=VALUE"):
        set_params(toy.folder, ["b"])


def test_setting_a_param_changes_one_line_of_our_own(tmp_path: Path) -> None:
    shutil.copy(ROOT / "params.yaml", tmp_path)
    set_params(tmp_path, ["agents.takecover.temperature=1.234"])
    before = (ROOT / "params.yaml").read_text().splitlines()
    after = (tmp_path / "params.yaml").read_text().splitlines()
    assert len(before) == len(after)
    changed = [line for line, old in zip(after, before, strict=True) if line != old]
    assert changed == ["    temperature: 1.234"]


def test_flows_import_neither_wm_nor_torch() -> None:
    script = "import sys, flows.pipeline; print([m for m in ('wm', 'torch') if m in sys.modules])"
    assert subprocess.check_output([sys.executable, "-c", script], cwd=ROOT, text=True).strip() == "[]"
    for path in (ROOT / "wm").rglob("*.py"):
        assert "prefect" not in path.read_text(), path
