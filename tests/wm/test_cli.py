"""The command line: one clear line for what is wrong, the right exit code, and quick answers."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from wm import __main__ as command
from wm import cli
from wm.preset import write_preset
from wm.settings import read_settings
from wm.workers import WorkerDied

ROOT = Path(__file__).parents[2]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with small settings in which commands run."""
    shutil.copy(ROOT / "params.yaml", tmp_path)
    write_preset("smoke", tmp_path / "params.yaml")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WM_STATE", str(tmp_path / "state"))
    for name in ("WM_WORKERS", "WM_DEVICE", "WM_RESUME"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "wm", *arguments],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)} | environment,
        timeout=120,
    )


def complaint(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """What is said of bad input: one line, exit code 2."""
    try:
        code = command.main(list(arguments))
    except SystemExit as end:  # argparse's way
        code = int(str(end.code))
    text = capsys.readouterr().err
    assert code == 2, text
    assert text.count("\n") == 1 and text.startswith("wm: "), text
    return text


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["vision", "carracin"], "did you mean carracing?"),
        (["controller", "takecovr"], "did you mean takecover?"),
        (["evaluation", "nobody"], "allowed: "),
        (["rollouts", "takecover", "7"], "takecover.parts"),
        (["rollouts", "takecover", "one"], "PART"),
        (["watch", "takecove", "--place", "dream"], "did you mean takecover?"),
        (["watch", "takecover", "--place", "heaven"], "heaven"),
        (["watch", "takecover", "--place", "reality", "--temperature", "1"], "--place dream"),
        (["watch", "takecover", "--place", "dream", "--temperature", "0"], "--temperature"),
        (["watch", "takecover", "--place", "dream", "--steps", "0"], "--steps"),
        (["preset", "huge"], "allowed: smoke, laptop, overnight, paper"),
        (["watch", "takecover", "--place", "dram"], "did you mean dream?"),
        (["watch", "takecover", "--place", "dream", "--out", "x.png"], "--out must end in .gif"),
        (["watch", "takecover", "--place", "dream", "--out", "nowhere/x.gif"], "nowhere/x.gif"),
        (["watch", "takecover", "--place", "dream", "--out", "/proc/x.gif"], "/proc/x.gif"),
        (["chek"], "did you mean check?"),
        (["nothing"], "nothing"),
        ([], "COMMAND"),
    ],
)
def test_bad_arguments(
    arguments: list[str], says: str, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert says in complaint(capsys, *arguments)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("WM_WORKERS", "0"),
        ("WM_WORKERS", "two"),
        ("WM_DEVICE", "gpu"),
        ("WM_RESUME", "no"),
        ("WM_STATE", "params.yaml"),
        ("WM_STATE", "/proc/x"),
    ],
)
def test_bad_environment(
    name: str, value: str, home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(name, value)
    for arguments in (["check"], ["vision", "takecover"]):
        text = complaint(capsys, *arguments)
        assert name in text and repr(value) in text


def test_bad_settings_stop_a_stage_before_it_is_imported(home: Path) -> None:
    text = (home / "params.yaml").read_text()
    (home / "params.yaml").write_text(text.replace("learning_rate", "learnin_rate", 1))
    for arguments in (["check"], ["vision", "carracing"], ["tables"]):
        done = run(*arguments)
        assert done.returncode == 2
        assert done.stderr.count("\n") == 1 and "Traceback" not in done.stderr
        assert "carracing.vision.learnin_rate" in done.stderr and "did you mean learning_rate?" in done.stderr


def test_no_settings_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert "params.yaml" in complaint(capsys, "check")


@pytest.mark.parametrize(
    ("arguments", "missing"),
    [
        (["vision", "takecover"], "data/takecover/rollouts"),
        (["latents", "carracing"], "data/carracing/rollouts"),
        (["memory", "takecover"], "data/takecover/latents"),
        (["controller", "carracing"], "data/carracing"),
        (["evaluation", "takecover"], "data/controller/takecover"),
        (["tables"], "data/evaluation"),
        (["watch", "carracing-z", "--place", "reality"], "data/controller/carracing-z"),
    ],
)
def test_missing_inputs(
    arguments: list[str], missing: str, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert missing in complaint(capsys, *arguments)


def test_check_is_quick_and_imports_no_torch(home: Path) -> None:
    program = "import sys, wm.__main__ as m; code = m.main(['check']); print('torch' in sys.modules, code)"
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    assert done.stdout.splitlines()[-1] == "False 0", done.stderr


def test_a_full_disk_is_said_plainly(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(values: object) -> None:
        raise OSError(28, "No space left on device", "data/x")

    monkeypatch.setattr("wm.stages.tables.run", lambda: full(None))
    assert "no space left on the device (data/x)" in complaint(capsys, "tables")


def test_a_dead_worker_is_a_failure(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def die() -> None:
        raise WorkerDied("worker process 7 was killed by SIGKILL")

    monkeypatch.setattr("wm.stages.tables.run", die)
    assert command.main(["tables"]) == 1
    assert capsys.readouterr().err == "wm: worker process 7 was killed by SIGKILL\n"
    line = json.loads((home / "state" / "log" / "tables.jsonl").read_text())
    assert line["outcome"] == "WorkerDied"


@pytest.mark.parametrize("error", [AssertionError, ValueError, RuntimeError])
def test_a_mistake_of_ours_or_of_a_library_is_not_hidden(
    error: type[Exception], home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def break_down() -> None:
        raise error("broken")

    monkeypatch.setattr("wm.stages.tables.run", break_down)
    with pytest.raises(error):
        command.main(["tables"])


def test_the_log_says_where_a_result_came_from(home: Path) -> None:
    for _ in range(2):
        assert run("untrained", "takecover", WM_STATE=str(home / "state")).returncode == 0
    lines = (home / "state" / "log" / "untrained@takecover.jsonl").read_text().splitlines()
    entries = [json.loads(line) for line in lines]
    assert len(entries) == 2
    assert entries[0]["stage"] == "untrained@takecover" and entries[0]["outcome"] == "finished"
    assert entries[0]["versions"]["torch"] and entries[0]["device"] and entries[0]["peak_mib"] > 10


def test_stages_bear_the_names_of_dvc() -> None:
    assert cli.title("tables", []) == "tables"
    assert cli.title("vision", ["takecover"]) == "vision@takecover"
    assert cli.title("rollouts", ["takecover", 3]) == "rollouts-takecover@3"


def test_sigterm_ends_a_stage_without_a_traceback(home: Path) -> None:
    settings = (home / "params.yaml").read_text().replace("episodes: 8", "episodes: 5000", 1)
    (home / "params.yaml").write_text(settings)
    process = subprocess.Popen(
        [sys.executable, "-m", "wm", "rollouts", "takecover", "0"],
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT), "WM_WORKERS": "1"},
    )
    deadline = time.monotonic() + 60
    while not list((home / "state").rglob("*.lock")) and time.monotonic() < deadline:
        time.sleep(0.1)
    process.terminate()
    _, text = process.communicate(timeout=60)
    assert process.returncode == 143
    assert "Traceback" not in text
    assert not (home / "data" / "takecover" / "rollouts" / "0").exists()


@pytest.mark.parametrize(
    "arguments", [[], *([name] for name, _, _ in cli.STAGES), ["preset"], ["check"], ["watch"]]
)
def test_help(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        command.main([*arguments, "--help"])
    assert end.value.code == 0
    text = capsys.readouterr().out
    assert "usage: wm" in text
    if not arguments:
        assert "examples:" in text and all(name in text for name, _, _ in cli.STAGES)


def test_every_stage_of_the_pipeline_has_a_command(home: Path) -> None:
    settings = read_settings(json.loads(json.dumps(dict(cli.read_yaml(Path("params.yaml"))))))
    modules = {path.stem for path in (ROOT / "wm" / "stages").glob("*.py")} - {"__init__", "watch"}
    assert {name for name, _, _ in cli.STAGES} == modules
    assert settings.tasks
