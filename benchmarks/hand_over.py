"""What the planner node does beside planning: from an image message to a plan message."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np

from benchmarks.subjects import Subject
from wm_planner.robot import INTERFACE
from wm_planner.runtime.goal_planner import GoalPlanner, PlanResult
from wm_planner.runtime.worker import LatestWorker
from wm_planner.types import Goal, Observation

_PATIENCE_S = 10.0


class HandOver:
    """The planner node's callbacks on one thread, its worker on another, and no network.

    Conversions, frame assembly, both hand-overs and the messages that come before a plan are those
    of the node, at the image size of the camera node; the planner answers at once with a plan that
    it made before.

    Args:
        subject: a shipped model.

    Raises:
        ImportError: there are no ROS messages here.
    """

    def __init__(self, subject: Subject) -> None:
        from wm_planner.nodes.planner_config import check_size, frame_assembler
        from wm_planner.ros import conversions, diagnostics

        self._messages, self._diagnostics = conversions, diagnostics
        self._check_size = check_size
        self._body = body = subject.bundle.embodiment
        self._planner = GoalPlanner(f"{body.name}-base", body, "gbp", device=str(subject.device))
        self._planner.warm_up()
        self._goal = subject.goal
        plan = self._planner(self._goal, subject.observation).plan
        self._planner._session.plan = lambda *_: plan  # type: ignore[method-assign]
        self._assembler = frame_assembler(body, self._planner.history)
        side = body.image_size
        rng = np.random.default_rng(0)
        self._picture = rng.integers(0, 256, (side, side, 3), dtype=np.uint8)
        self._proprio = subject.observation.proprio[-1]
        self._stamp_ns, self._period_ns = 0, body.model_dt_ns
        self._done = threading.Event()
        self.plan: Any = None
        self._worker: LatestWorker = LatestWorker(self._work, self._on_plan, name="planner")

    def replan(self) -> None:
        """An image and a joint state arrive; returns when their plan could be published."""
        self._done.clear()
        self._stamp_ns += self._period_ns
        names, messages = self._body.proprio, self._messages
        self._on_image(messages.image_message(self._picture, self._stamp_ns))
        self._on_state(messages.joint_state_message(self._proprio, names, self._stamp_ns))
        if not self._done.wait(_PATIENCE_S):
            raise RuntimeError(f"no plan came: {self._worker.last_error}")

    def _on_image(self, message: Any) -> None:
        image = self._messages.image_array(message)
        self._check_size(image, "observation/image", self._body)
        self._assembler.push_image(self._messages.to_ns(message.header.stamp), image)
        self._submit()

    def _on_state(self, message: Any) -> None:
        values = self._messages.proprio_array(message, self._body.proprio)
        self._assembler.push_proprio(self._messages.to_ns(message.header.stamp), values)
        self._submit()

    def _submit(self) -> None:
        observation = self._assembler.take()
        if observation is not None:
            self._worker.submit((self._goal, observation))

    def _work(self, item: tuple[Goal, Observation], should_stop: Any) -> PlanResult:
        return self._planner(*item, should_stop)

    def _on_plan(self, result: PlanResult) -> None:
        status = self._diagnostics.status("plan", self._diagnostics.OK, "", result.summary())
        self._diagnostics.array(result.plan.stamp_ns, status)
        action = self._body.action
        self.plan = self._messages.plan_message(result.plan, action.names, INTERFACE[action.kind])
        self._done.set()
