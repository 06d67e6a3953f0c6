"""What the planner node can be told, and the parts that are built from it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from wm_planner.config import from_dict
from wm_planner.data.alignment import tolerances
from wm_planner.data.frames import FrameAssembler
from wm_planner.data.joints import JointCollector
from wm_planner.data.pictures import STILL
from wm_planner.embodiment import Embodiment
from wm_planner.errors import ConfigError
from wm_planner.files import parse_json
from wm_planner.registry import listed
from wm_planner.robot import CameraCheck, observation_topic
from wm_planner.ros.parameters import param
from wm_planner.runtime.goal_planner import GoalPlanner
from wm_planner.runtime.input_watch import InputWatch
from wm_planner.runtime.picture_check import Eyes, PictureCheck


@dataclass(frozen=True)
class PlannerNodeConfig:
    """Parameters of the planner node."""

    embodiment: str = param("", "of the robot, as JSON; empty: that of the checkpoint")
    checkpoint: str = param("wall-base", "shipped variant, shipped name, or directory")
    versions: str = param(
        "",
        "directory that receives new versions of the checkpoint; '' for none; may be changed",
        changeable=True,
    )
    trial_steps: int = param(
        8, "model steps in which a new version must be as good as the one before", low=1, high=1000
    )
    planner: str = param("gbp", f"solver: {listed('wm_planner.solvers')}")
    settings: tuple[str, ...] = param(("",), "planner settings, each 'key=value'; '' for none")
    device: str = param("cpu", "torch device: cpu or cuda")
    threads: int = param(
        1, "CPU threads of the planner; at these sizes more only contend", low=1, high=1024
    )
    seed: int = param(0, "of the planner's random generator", low=0)
    goal: str = param("", "goal's directory, or a picture; empty: wait for goal/image")
    imagine: bool = param(True, "publish plan/imagined when the checkpoint has a decoder")
    camera_check: str = param("", "of the robot file, as JSON; empty: its defaults")
    lockstep: bool = param(False, "the simulator waits for every plan: lose no sample")
    autostart: bool = param(True, "load and start planning at once")

    def __post_init__(self) -> None:
        _ = self.robot, self.checks  # their own checks

    @property
    def robot(self) -> Embodiment | None:
        """The robot in front of the planner; None: the one that the checkpoint was trained on.

        Raises:
            ConfigError: the parameter is no embodiment.
        """
        return embodiment_parameter(self.embodiment)

    @property
    def checks(self) -> CameraCheck:
        """What is checked of the pictures.

        Raises:
            ConfigError: the parameter is something else.
        """
        values = parse_json(self.camera_check, "camera_check") if self.camera_check else {}
        if not isinstance(values, dict):
            raise ConfigError(f"camera_check: expected a mapping, got {values!r}")
        return from_dict(CameraCheck, values, "camera_check")

    def eyes(self, planner: GoalPlanner) -> Eyes:
        """The checks of the robot's pictures."""
        known, rules = planner.familiar, self.checks
        looks = {} if known is None else known.cameras
        still = STILL if known is None else known.still
        checks = [
            PictureCheck(camera.name, rules, looks.get(camera.name), planner.proprio_scale, still)
            for camera in planner.embodiment.cameras
        ]
        return Eyes(rules, checks, stops=not self.lockstep)

    def input_watch(self, planner: GoalPlanner) -> InputWatch:
        """Of the topics that the robot is observed by."""
        body = planner.embodiment
        needed = [c.name for c in body.cameras if not c.optional]
        return InputWatch(
            [observation_topic(body, name) for name in needed],
            "joint_states",
            joined_s=tolerances(body).image_ns * 1e-9,
            reach_s=planner.reach_s,
            ahead_s=body.model_dt_ns * 1e-9,
            clocked=not self.lockstep,
        )

    def goal_planner(self) -> GoalPlanner:
        """Load the checkpoint.

        Raises:
            WmPlannerError: the checkpoint, the device or a setting cannot be used.
        """
        import torch

        torch.set_num_threads(self.threads)
        return GoalPlanner(
            self.checkpoint,
            self.robot,
            self.planner,
            filter(None, self.settings),
            self.seed,
            self.device,
            self.imagine,
        )


def embodiment_parameter(text: str) -> Embodiment | None:
    """What a node's parameter 'embodiment' holds; None when it is empty.

    Raises:
        ConfigError: it is no embodiment.
    """
    if not text:
        return None
    return Embodiment.from_json(parse_json(text, "embodiment"), "embodiment")


def check_size(
    image: np.ndarray, name: str, embodiment: Embodiment, num_cameras: int | None = None
) -> None:
    """Goal and observation are compared pixel for pixel: same crop, same size.

    Args:
        image: (H, W, 3).
        name: of the image, for the message.
        embodiment: of the robot.
        num_cameras: whose pictures it shows side by side; None: all.

    Raises:
        ConfigError: it is not what the planner sees.
    """
    size, count = embodiment.image_size, num_cameras or len(embodiment.cameras)
    height, width = image.shape[:2]
    if (height, width) != (size, count * size):
        raise ConfigError(
            f"{name} is {width} x {height} pixels, the planner sees {count * size} x {size}: use "
            "the same crop and size for both"
        )


def joint_collector(embodiment: Embodiment) -> JointCollector:
    """Of the robot's proprioception."""
    return JointCollector(embodiment.proprio, tolerances(embodiment).joint_gap_ns)


def frame_assembler(embodiment: Embodiment, history: int) -> FrameAssembler:
    """For a model that sees `history` frames; joins samples as the reader of recordings does."""
    limits = tolerances(embodiment)
    return FrameAssembler(
        history,
        embodiment.model_dt_ns,
        min(limits.image_ns, (embodiment.model_dt_ns - 1) // 2),
        embodiment.frame_skip if history > 1 else None,
        tuple(camera.optional for camera in embodiment.cameras),
        limits.joint_gap_ns,
        np.array([entry in embodiment.angles for entry in embodiment.proprio]),
    )
