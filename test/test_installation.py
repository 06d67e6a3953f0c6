"""`make`'s installation: the line that grows, the log, and what a failure shows."""

from __future__ import annotations

import io
import re
import sys

import pytest

from tools import install


@pytest.fixture
def venv(tmp_path, monkeypatch):
    """An environment whose pip is this Python, as a program that a test gives."""
    site = tmp_path / "lib" / "python3" / "site-packages"
    site.mkdir(parents=True)
    (tmp_path / "bin").mkdir()

    def pip(program: str) -> None:
        script = tmp_path / "bin" / "python"
        script.write_text(f"#!{sys.executable}\nfrom pathlib import Path\n{program}")
        script.chmod(0o755)

    monkeypatch.setattr(install, "VENV", tmp_path)
    monkeypatch.setattr(install, "LOG", tmp_path / "install.log")
    return pip


def test_installation_is_quiet_and_keeps_pips_words(venv, tmp_path, capsys):
    venv("for name in 'abcdefgh': print(f'Collecting {name}')")
    assert install.install([["a"], ["b"]], 8) == 0
    assert (tmp_path / "install.log").read_text().count("Collecting") == 16
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) <= 2 and "installed into" in lines[-1]


def test_failure_shows_the_end_of_the_log(venv, capsys):
    venv("for i in range(99): print(f'line {i}')\nprint('ERROR: no x')\nraise SystemExit(3)")
    assert install.install([["a"], ["never run"]], 8) == 3
    out, err = capsys.readouterr()
    assert "ERROR: no x" in out and "line 98" in out and "line 60" not in out
    assert "the whole log is" in err


def test_bar_grows_as_packages_are_found_and_installed(tmp_path):
    screen = io.StringIO()
    screen.isatty = lambda: True
    bar = install.Bar(4, screen, tmp_path)
    lengths = []

    def drawn() -> int:
        bar._told_s = -1e9
        bar.draw()
        return re.findall(r"\[(#*)-*\]", screen.getvalue())[-1].count("#")

    for name in "abcdef":  # two more than were expected
        bar.hear(f"Collecting {name}>=1")
        lengths.append(drawn())
    bar.hear("Downloading torch-2.13.0-cp311.whl (527.3 MB)")
    assert lengths == sorted(lengths) and lengths[-1] == install.WIDTH // 2
    drawn()
    assert "fetching torch (527.3 MB)" in screen.getvalue()
    bar.hear("Installing collected packages: a, b, c, d")
    for name in "abcd":
        (tmp_path / f"{name}-1.dist-info").mkdir()
    assert drawn() == install.WIDTH
    assert "installing 4 of 4" in screen.getvalue()
