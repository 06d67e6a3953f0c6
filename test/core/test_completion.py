"""Shell completion, and the example at the end of each command's help."""

from __future__ import annotations

import shlex
import subprocess

import pytest

from wm_planner.cli.examples import BEGIN, commands
from wm_planner.cli.main import build_parser, main

PARSER = build_parser()
ALL = dict(commands(PARSER))


@pytest.mark.parametrize("name", ALL)
def test_help_ends_with_an_example_that_the_command_takes(name):
    last = ALL[name].format_help().splitlines()[-1]
    assert last.startswith(f"{BEGIN}wm-planner {name}")
    PARSER.parse_args(shlex.split(last.removeprefix(BEGIN))[1:])


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_knows_commands_options_and_tasks(shell, capsys):
    pytest.importorskip("shtab")
    assert main(["completion", shell]) == 0
    script = capsys.readouterr().out
    for word in ("doctor", "robot", "dry-run", "point_maze", "arm_reach-base", "gradient-cem"):
        assert word in script


def test_bash_completes(capsys, tmp_path):
    pytest.importorskip("shtab")
    assert main(["completion", "bash"]) == 0
    script = tmp_path / "wm-planner"
    script.write_text(capsys.readouterr().out)
    ask = (
        f"source {script}; COMP_WORDS=(wm-planner sim --task po); COMP_CWORD=3; "
        "eval $(complete -p wm-planner | sed -E 's/.*-F ([^ ]+).*/\\1/'); echo ${COMPREPLY[@]}"
    )
    done = subprocess.run(
        ["bash", "-c", ask], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout.split() == ["point_maze", "point_maze_published"], done.stderr
