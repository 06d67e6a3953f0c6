"""What the planner node can be told, and the parts that are built from it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from wm_planner.data.frames import FrameAssembler
from wm_planner.errors import ConfigError
from wm_planner.ros.conversions import check_interface
from wm_planner.ros.parameters import param
from wm_planner.runtime.goal_planner import GoalPlanner, use_threads
from wm_planner.runtime.image_source import open_source
from wm_planner.tasks import TaskSpec, get_task


@dataclass(frozen=True)
class PlannerNodeConfig:
    """Parameters of the planner node."""

    task: str = param("wall", "task the checkpoint was trained for")
    checkpoint: str = param("base", "shipped variant, shipped name, or directory")
    planner: str = param("gbp", "solver: gbp, cem, mppi, gradient-cem or lbfgs")
    settings: tuple[str, ...] = param(("",), "planner settings, each 'key=value'; '' for none")
    device: str = param("cpu", "torch device: cpu or cuda")
    threads: int = param(
        1, "CPU threads of the planner; at these sizes more only contend", low=1, high=1024
    )
    seed: int = param(0, "of the planner's random generator", low=0)
    image_size: int = param(224, "side of the images the camera node sends, pixels", low=16)
    goal_image: str = param("", "picture of the goal; empty: wait for goal/image")
    proprio: tuple[str, ...] = param(("",), "'<joint>/<field>' entries; '' for the task's")
    action_names: tuple[str, ...] = param(("slide_x", "slide_y"), "names in the published plan")
    command_interface: str = param("velocity", "position, velocity or effort")
    imagine: bool = param(True, "publish plan/imagined when the checkpoint has a decoder")
    lockstep: bool = param(False, "the simulator waits for every plan: lose no sample")
    autostart: bool = param(True, "load and start planning at once")

    def __post_init__(self) -> None:
        check_interface(self.command_interface)
        if len(self.action_names) != self.spec.action_size:
            raise ValueError(
                f"action_names: task {self.task} takes {self.spec.action_size} actions, "
                f"got names {list(self.action_names)}"
            )
        if len(self.proprio_names) != len(self.spec.proprio_names):
            raise ValueError(
                f"proprio: task {self.task} needs as many entries as "
                f"{list(self.spec.proprio_names)}, got {list(self.proprio_names)}"
            )

    @property
    def spec(self) -> TaskSpec:
        """The task.

        Raises:
            TaskError: unknown name.
        """
        return get_task(self.task)

    @property
    def proprio_names(self) -> tuple[str, ...]:
        """Entries of the proprioception: '<joint>/<field>' of joint_states."""
        return tuple(filter(None, self.proprio)) or self.spec.proprio_names

    def goal_planner(self) -> GoalPlanner:
        """Load the checkpoint.

        Raises:
            WmPlannerError: the checkpoint, the device or a setting cannot be used.
        """
        use_threads(self.threads)
        return GoalPlanner(
            self.checkpoint,
            self.task,
            self.planner,
            filter(None, self.settings),
            self.seed,
            self.device,
            self.imagine,
            self.command_interface != "position",
        )

    def goal_picture(self) -> np.ndarray | None:
        """(image_size, image_size, 3) uint8 RGB of `goal_image`; None when none is named.

        Raises:
            WmPlannerError: no such file, not a picture, or of another size.
        """
        if not self.goal_image:
            return None
        with open_source(self.goal_image) as source:
            image = source.read()
        if image is None:
            raise ConfigError(f"goal_image {self.goal_image}: holds no picture")
        self.check_size(image, f"goal_image {self.goal_image}")
        return image

    def check_size(self, image: np.ndarray, name: str) -> None:
        """Goal and observation are compared pixel for pixel: same crop, same size.

        Raises:
            ConfigError: (H, W, 3) `image`, called `name`, is not of `image_size`.
        """
        size, (height, width) = self.image_size, image.shape[:2]
        if (height, width) != (size, size):
            raise ConfigError(
                f"{name} is {width} x {height} pixels, the camera node sends {size} x {size}: "
                "use the same crop and size for both"
            )

    def frame_assembler(self, history: int) -> FrameAssembler:
        """For a model that sees `history` frames."""
        task = self.spec
        return FrameAssembler(
            history,
            round(task.model_dt_s * 1e9),
            round(task.control_dt_s * 1e9),
            task.frame_skip if history > 1 else None,
        )
