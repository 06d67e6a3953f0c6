"""The `wm-planner` command: exit codes, one-line errors, and what --help must not load."""

from __future__ import annotations

import argparse
import importlib
import json
import subprocess
import sys
from types import SimpleNamespace

import pytest

from wm_planner.cli import main as cli
from wm_planner.errors import ConfigError
from wm_planner.models import catalog


@pytest.fixture
def command(monkeypatch):
    """A command 'probe' whose run does what the test says."""

    def install(run):
        def add_parser(subparsers: argparse._SubParsersAction) -> None:
            subparsers.add_parser("probe").add_argument("--times", type=int, default=1)

        monkeypatch.setitem(cli.COMMANDS, "probe", "probe_module")
        module = SimpleNamespace(add_parser=add_parser, run=run)
        monkeypatch.setitem(sys.modules, "probe_module", module)

    return install


def raising(error):
    def run(args):
        raise error

    return run


def test_exit_code_is_the_commands(command):
    command(lambda args: args.times)
    assert cli.main(["probe", "--times", "7"]) == 7


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (ConfigError("a.yaml: bad"), 2, "wm-planner: error: a.yaml: bad\n"),
        (KeyboardInterrupt(), 130, ""),
        (OSError(13, "Permission denied", "/a"), 2, "wm-planner: error: /a: Permission denied\n"),
        (
            OSError(28, "No space left"),
            2,
            "wm-planner: error: standard output or a temporary file: No space left; make room "
            "there\n",
        ),
    ],
)
def test_errors_become_exit_codes(command, capsys, error, code, message):
    command(raising(error))
    assert cli.main(["probe"]) == code
    assert capsys.readouterr() == ("", message)


@pytest.mark.parametrize(
    "words",
    [
        "ablation --config a.yaml --output out",
        "plot landscape --task wall --output a.png",
        "frontier --config a.yaml --output out",
    ],
)
@pytest.mark.parametrize(("threads", "end"), [("0", "at least 1"), ("100000", "at most 1024")])
def test_threads_that_torch_cannot_have_are_refused(capsys, words: str, threads: str, end: str):
    assert cli.main([*words.split(), "--threads", threads]) == 2
    assert f"--threads must be {end}, got {threads}" in capsys.readouterr().err


def test_missing_library_is_named(command, capsys):
    command(raising(ModuleNotFoundError("No module named 'torch'", name="torch.nn")))
    assert cli.main(["probe"]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and "'probe' needs the Python module 'torch.nn'" in err


@pytest.mark.parametrize("error", [ModuleNotFoundError("x", name="wm_planner.x"), OSError("x")])
def test_bugs_keep_their_traceback(command, error):
    command(raising(error))
    with pytest.raises(type(error)):
        cli.main(["probe"])


def test_a_reader_that_leaves_is_no_error():
    code = "from wm_planner.cli.main import main; raise SystemExit(main(['info', 'wall-base']))"
    child = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    child.stdout.close()
    assert (child.stderr.read(), child.wait()) == ("", 1)


def test_unknown_command_is_one_line_with_a_suggestion(capsys):
    assert cli.main(["colect", "--task", "wall"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("wm-planner: error: unknown command 'colect'. Did you mean 'collect'?")
    assert err.count("\n") == 1


@pytest.mark.parametrize("name", list(cli.COMMANDS))
def test_every_command_has_help(name, capsys):
    importlib.import_module(cli.COMMANDS[name])
    assert cli.main([name, "--help"]) == 0
    assert f"usage: wm-planner {name}" in capsys.readouterr().out


def test_help_loads_neither_torch_nor_ros_nor_the_simulator():
    code = (
        "import sys\n"
        "from wm_planner.cli.main import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "print([m for m in ('torch', 'rclpy', 'mujoco', 'gymnasium') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    *usage, loaded = done.stdout.splitlines()
    assert loaded == "[]"
    assert all(any(line.split()[:1] == [name] for line in usage) for name in cli.COMMANDS)


def test_bad_value_is_one_line_and_exit_2(capsys, tmp_path):
    arguments = ["--num-trajectories", "1", "--output", str(tmp_path / "out")]
    assert cli.main(["collect", "--task", "wal", *arguments]) == 2
    err = capsys.readouterr().err
    assert err.startswith("wm-planner: error: unknown task 'wal'. Did you mean 'wall'?")
    for option, value in (("--steps", "0"), ("--seed", "-1")):
        assert cli.main(["collect", "--task", "wall", option, value, *arguments]) == 2
        assert option in capsys.readouterr().err
    (tmp_path / "out").mkdir()
    assert cli.main(["collect", "--task", "wall", *arguments]) == 2
    assert "out: exists already" in capsys.readouterr().err


def test_info_lists_and_describes(capsys, tmp_path, monkeypatch):
    card = {"schema": 1, "task": "wall", "model": {"image_size": 64}}
    card["preprocess"] = {"image_size": 64, "frame_skip": 5}
    card |= {"planner": {"horizon": 5}, "info": {"seed": 3}, "sha256": "0"}
    for name in ("wall-base", "pusht-base"):
        (tmp_path / name).mkdir()
        (tmp_path / name / catalog.CARD).write_text(json.dumps(card))
    monkeypatch.setattr(catalog, "SHIPPED", tmp_path)
    assert cli.main(["info"]) == 0
    assert capsys.readouterr().out.split() == ["pusht-base", "wall-base"]
    assert cli.main(["info", "wall-base"]) == 0
    out = capsys.readouterr().out
    assert f"directory: {tmp_path / 'wall-base'}" in out and "horizon: 5" in out
    assert cli.main(["info", "wall-bse"]) == 2
    assert "Did you mean 'wall-base'?" in capsys.readouterr().err


def test_collect_depends_on_the_seed_and_not_on_the_workers(tmp_path):
    import numpy as np

    from wm_planner.data.store import TrajectoryStore

    stores = []
    for name, seed, workers in (("a", 3, 1), ("b", 3, 2), ("c", 4, 1)):
        arguments = ["--task", "wall", "--num-trajectories", "2", "--steps", "2"]
        arguments += ["--image-size", "16", "--seed", str(seed), "--workers", str(workers)]
        assert cli.main(["collect", *arguments, "--output", str(tmp_path / name)]) == 0
        stores.append(TrajectoryStore.open(tmp_path / name))
    one, two, other = stores
    for name in ("images", "proprio", "actions", "states"):
        np.testing.assert_array_equal(getattr(one, name), getattr(two, name))
    assert not np.array_equal(one.states, other.states)
    assert one.images.shape == (2, 3, 16, 16, 3) and one.actions.shape == (2, 2, 10)
    assert one.meta["seed"] == 3 and one.embodiment.frame_skip == 5
