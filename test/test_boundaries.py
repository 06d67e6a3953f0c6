"""Who may import whom, read from the syntax tree: this needs nothing of the package installed."""

from __future__ import annotations

import ast
import contextlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
BASE = {"types", "errors", "config", "registry", "embodiment", "robot_state", ""}
ROS = {"rclpy", "launch", "launch_ros", "ament_index_python", "rosidl_runtime_py"}

# Room -> the other rooms that it may look into. '' is `import wm_planner` itself.
MAY_IMPORT = {
    "": set(),
    "types": set(),
    "errors": set(),
    "extras": set(),
    "config": {"types", "errors", "files", "yaml_text"},
    "registry": {"errors", "config", "extras"},
    "embodiment": {"errors", "config"},
    "files": {"errors"},
    "robot_state": {"errors", "config", "files"},
    "yaml_text": set(),
    "provenance": set(),
    "cluster": {"", "errors", "provenance"},
    "torch_file": {"errors", "files"},
    "topic_names": {"config"},
    "robot": BASE | {"topic_names"},
    "tasks": BASE,
    "parameter_file": {"files"},
    "bringup": BASE | {"models", "robot"},
    "simulation": BASE | {"tasks", "models", "robot", "bringup"},
    "end_with_parent": set(),
    "launching": BASE | {"bringup", "cli", "end_with_parent", "parameter_file"},
    "data": BASE | {"tasks", "robot", "files", "torch_file"},
    "models": BASE | {"tasks", "files", "torch_file"},
    "planning": BASE | {"tasks", "models"},
    "training": BASE | {"files", "provenance", "tasks", "data", "models", "planning"},
    "evaluation": BASE | {"cluster", "files", "provenance", "tasks", "data", "models", "planning"},
    "learning": BASE | {"files", "provenance", "tasks", "data", "models", "planning", "training"},
    "kinematics": BASE | {"robot", "runtime"},
    "runtime": BASE | {"files", "robot", "tasks", "data", "models", "planning"},
    "ros": BASE | {"robot", "tasks", "data"},
    "nodes": BASE
    | {"kinematics", "files", "robot", "tasks", "data", "models", "planning", "runtime", "ros"},
    "view": BASE | {"files", "robot", "data", "models", "runtime", "ros"},
    "cli": BASE
    | {"cluster", "extras", "files", "yaml_text", "parameter_file", "provenance"}
    | {"robot", "simulation", "tasks"}
    | {"bringup", "data", "end_with_parent", "models"}
    | {"kinematics", "planning", "training", "learning", "evaluation", "runtime", "ros", "nodes"}
    | {"view"},
    "sim_bridge": BASE | {"extras", "tasks"},
    "sim_bridge.bridge_node": BASE | {"tasks", "ros", "sim_bridge"},
    "sim_bridge.arm_driver": BASE | {"tasks", "ros", "sim_bridge"},
}
STARTS_PROCESSES = {"bringup", "simulation", "cli"}
# Room -> libraries that it must not know, wherever in the file the import stands.
MUST_NOT_KNOW = {
    **dict.fromkeys(("", "types", "errors", "extras", "config", "registry"), "torch ros mujoco"),
    **dict.fromkeys(("files", "yaml_text", "parameter_file", "provenance"), "torch ros mujoco"),
    "cluster": "torch ros mujoco",
    "end_with_parent": "torch ros mujoco",
    **dict.fromkeys(("torch_file", "embodiment", "topic_names", "robot_state"), "torch ros mujoco"),
    **dict.fromkeys(("tasks", "bringup", "simulation", "data", "robot"), "torch ros mujoco"),
    "launching": "torch mujoco",
    "kinematics": "torch ros",
    **dict.fromkeys(("models", "training", "learning", "evaluation", "runtime"), "ros mujoco"),
    "planning": "ros mujoco disk",
    "ros": "torch mujoco",
    "view": "torch mujoco",
    "nodes": "mujoco",
    "cli": "mujoco",
    "sim_bridge": "torch ros",
    "sim_bridge.bridge_node": "torch",
    "sim_bridge.arm_driver": "torch",
}
LIBRARIES = {
    "torch": {"torch", "transformers", "safetensors"},
    "mujoco": {"mujoco"},
    "disk": {"os", "pathlib", "shutil", "tempfile", "io", "logging", "datetime"},
}


def room_of(module: str) -> str | None:
    """Room of a dotted module name; None for a module of somebody else."""
    package, _, rest = module.partition(".")
    if package == "sim_bridge":
        return module if module in MAY_IMPORT else "sim_bridge"
    if package != "wm_planner":
        return None
    room = rest.partition(".")[0]
    return "" if room.startswith("__") else room  # `from wm_planner import __version__`


def imports(source: str, module: str) -> list[str]:
    """Dotted names that a module imports, at any depth of the file."""
    names = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parent = module.split(".")[: -node.level]
                base = ".".join([*parent, base]).rstrip(".")
            if base in ("wm_planner", "sim_bridge"):
                names += [f"{base}.{alias.name}" for alias in node.names]
            else:
                names.append(base)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            names += named(node.value, module)
    return names


def named(text: str, module: str) -> list[str]:
    """What a string imports: a module's name, with or without an object of it, or a program.

    Rooms that start processes name the modules that these run; they import none of them.
    """
    if re.fullmatch(r"(wm_planner|sim_bridge)(\.\w+)+(:\w+)?", text):
        name = text.partition(":")[0]
        is_module = (ROOT / name.replace(".", "/")).with_suffix(".py").is_file()
        return [name] if is_module and room_of(module) not in STARTS_PROCESSES else []
    if "import " in text:
        with contextlib.suppress(SyntaxError, ValueError):
            return imports(text, module)
    return []


def is_library(name: str, kind: str) -> bool:
    top = name.partition(".")[0]
    if kind == "ros":
        return top in ROS or top.endswith(("_msgs", "_srvs", "_interfaces"))
    return top in LIBRARIES[kind]


def violations(source: str, module: str) -> list[str]:
    """What a module imports and must not."""
    room = room_of(module)
    found = []
    for name in imports(source, module):
        other = room_of(name)
        if other is None:
            kinds = MUST_NOT_KNOW[room].split()
            found += [f"{module}: {name}" for kind in kinds if is_library(name, kind)]
        elif other != room and other not in MAY_IMPORT[room]:
            found.append(f"{module}: {name}")
    return found


def modules() -> list[tuple[str, Path]]:
    """(dotted name, file) of every module of both packages."""
    result = []
    for package in ("wm_planner", "sim_bridge"):
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            result.append((".".join(p for p in parts if p != "__init__"), path))
    return result


@pytest.mark.parametrize(("module", "path"), modules(), ids=[name for name, _ in modules()])
def test_imports_stay_in_bounds(module, path):
    assert violations(path.read_text(), module) == []


@pytest.mark.parametrize(
    ("module", "source", "expected"),
    [
        ("wm_planner.data.bags", "def f():\n    import torch.nn\n", ["torch.nn"]),
        ("wm_planner.models.x", "from wm_planner import data", ["wm_planner.data"]),
        ("wm_planner.models.x", "from ..data.frames import y", ["wm_planner.data.frames"]),
        ("wm_planner.planning.x", "from pathlib import Path", ["pathlib"]),
        ("wm_planner.runtime.x", "from std_msgs.msg import Header", ["std_msgs.msg"]),
        ("wm_planner.cli.x", "import sim_bridge.envs", ["sim_bridge.envs"]),
        ("wm_planner.nodes.x", "import wm_planner.training", ["wm_planner.training"]),
        ("sim_bridge.envs.wall", "import rclpy", ["rclpy"]),
        ("sim_bridge.bridge_node", "import rclpy, wm_planner.models", ["wm_planner.models"]),
        ("wm_planner.tasks.task", "from wm_planner.config import suggest", []),
        ("wm_planner.nodes.x", "import torch, rclpy", []),
        ("wm_planner.data.x", "f('wm_planner.models.bundle:load')", ["wm_planner.models.bundle"]),
        ("wm_planner.cli.x", "f('import sim_bridge.envs; x()')", ["sim_bridge.envs"]),
        ("wm_planner.data.x", "f('wm_planner.tasks', 'wm_planner.no_such_room')", []),
    ],
)
def test_checker_sees_a_planted_import(module, source, expected):
    assert violations(source, module) == [f"{module}: {name}" for name in expected]


@pytest.mark.parametrize("name", ["bringup", "simulation"])
def test_tables_read_cards_only(name):
    """`models` as a whole needs torch; launch files do not have it."""
    source = (ROOT / "wm_planner" / f"{name}.py").read_text()
    of_models = [n for n in imports(source, f"wm_planner.{name}") if ".models" in n]
    assert of_models == ["wm_planner.models.catalog"]


def light_modules() -> list[str]:
    rooms = ("", "types", "errors", "extras", "config", "registry", "embodiment", "topic_names")
    rooms += ("robot", "tasks", "files", "yaml_text", "provenance", "torch_file", "bringup")
    rooms += ("simulation", "data", "runtime", "sim_bridge", "robot_state", "kinematics")
    return [name for name, _ in modules() if room_of(name) in rooms]


def test_light_modules_import_neither_torch_nor_ros():
    """Camera, controller, recorder and simulator start without torch; one process for all."""
    code = (
        "import importlib, sys\n"
        "for name in sys.argv[1:]:\n"
        "    importlib.import_module(name)\n"
        "    for heavy in ('torch', 'rclpy'):\n"
        "        if heavy in sys.modules: sys.exit(f'{name} imports {heavy}')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *light_modules()],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "node",
    [
        "camera_node",
        "command_guard",
        "controller_node",
        "explore_node",
        "finetune_node",
        "marker_node",
    ],
)
def test_node_starts_without_torch(node):
    pytest.importorskip("rclpy", reason="needs ROS 2 (or the 'ros' extra)")
    code = f"import wm_planner.nodes.{node}, sys; sys.exit('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, timeout=60, check=False)
    assert done.returncode == 0
