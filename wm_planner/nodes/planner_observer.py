"""The planner node's inputs: checked where they enter, joined, and what is wrong with them."""

from __future__ import annotations

from typing import Any

import numpy as np
from sensor_msgs.msg import Image, JointState

from wm_planner.data.image_message import image_array
from wm_planner.data.joints import joint_problem
from wm_planner.data.messages import stamp_ns
from wm_planner.errors import WmPlannerError
from wm_planner.nodes.planner_config import (
    PlannerNodeConfig,
    check_size,
    frame_assembler,
    joint_collector,
)
from wm_planner.ros import diagnostics
from wm_planner.runtime.goal_planner import GoalPlanner
from wm_planner.runtime.picture_check import STOPPED, WARNING
from wm_planner.types import Observation

JOINTS = "joint_states"


class Observer:
    """Makes observations of messages, and says why there is none. Use it from one thread.

    Args:
        config: of the node.
        planner: that the observations are for.

    Attributes:
        frames: joins pictures, joints and past actions.
        eyes: the checks of the pictures.
        refusal: of the newest message; empty: it was taken, or is of another device.
    """

    def __init__(self, config: PlannerNodeConfig, planner: GoalPlanner) -> None:
        self._body = planner.embodiment
        self.frames = frame_assembler(self._body, planner.history)
        self.eyes = config.eyes(planner)
        self.refusal = ""
        self._joints = joint_collector(self._body)
        self._inputs = config.input_watch(planner)
        self._felt: np.ndarray | None = None

    def see(self, camera: int, topic: str, message: Image, now_ns: int, now_s: float) -> None:
        """Take a picture of a camera, by its number.

        Args:
            camera: its number.
            topic: that it came on.
            message: the picture.
            now_ns: of the clock of the stamps; it stands for a stamp that nobody has filled in.
            now_s: of a steady clock.
        """
        try:
            image = image_array(message)
            check_size(image, topic, self._body, num_cameras=1)
        except WmPlannerError as error:
            self._refuse(topic, str(error), now_s)
            return
        stamp = self._hear(topic, message, now_ns, now_s)
        if self.eyes.look_at(camera, image, self._felt, now_s):
            self.frames.push_image(stamp, image, camera)
        else:
            self._inputs.observed(now_s)  # the reason is known

    def feel(self, message: JointState, now_ns: int, now_s: float) -> None:
        """Take joint states; for the arguments see `see`."""
        problem = joint_problem(message, self._body.proprio)
        if not problem:
            stamp = stamp_ns(message) or now_ns
            values = self._joints.add(message, stamp)
            if values is not None:
                self._hear(JOINTS, message, now_ns, now_s)
                self._felt = values
                self.frames.push_proprio(stamp, values)
                return
            problem = self._joints.lacking(message, stamp)
        self.refusal = ""
        if problem:  # else another device, say a gripper, on the same topic
            self._refuse(JOINTS, problem, now_s)

    def take(self, now_s: float) -> Observation | None:
        """The newest observation, if there is one that a plan could be followed from."""
        observation = self.frames.take()
        if observation is None or self._inputs.clock_problem():
            return None
        self._inputs.observed(now_s)
        return observation

    def rest(self, now_s: float) -> None:
        """Nobody waits for an observation."""
        self._inputs.observed(now_s)

    def verdict(self, now_ns: int, now_s: float) -> tuple[bytes, str]:
        """Level and text of a diagnostic."""
        state, seen = self.eyes.state, self.eyes.reason
        if state == STOPPED:
            return diagnostics.ERROR, f"stopped: {seen}"
        reason = self._inputs.reason(now_ns, now_s)
        if reason:
            return diagnostics.ERROR, reason
        note = seen if state == WARNING else self._inputs.note()
        return (diagnostics.WARN, note) if note else (diagnostics.OK, "observed")

    @property
    def unheard(self) -> list[str]:
        """Topics of which nothing has ever come."""
        return self._inputs.unheard

    def values(self, now_s: float) -> dict[str, Any]:
        """The numbers of that diagnostic."""
        return {**self._inputs.values(now_s), **self.eyes.values()}

    def _hear(self, topic: str, message: Any, now_ns: int, now_s: float) -> int:
        stamp, self.refusal = stamp_ns(message), ""
        self._inputs.heard(topic, stamp, now_ns, now_s)
        return now_ns if stamp is None else stamp

    def _refuse(self, topic: str, problem: str, now_s: float) -> None:
        self.refusal = f"{topic}: {problem}"
        self._inputs.refused(topic, problem, now_s)
