"""Planner node: images, proprioception and a goal in; plans out, computed on worker threads."""

from __future__ import annotations

import threading
import time
from functools import partial
from typing import Any

import numpy as np
from sensor_msgs.msg import Image, JointState
from std_msgs.msg import Header
from trajectory_msgs.msg import JointTrajectory

from wm_planner.data.goal_file import load_goal
from wm_planner.errors import ConfigError, WmPlannerError
from wm_planner.nodes.planner_config import PlannerNodeConfig, check_size
from wm_planner.nodes.planner_observer import JOINTS, Observer
from wm_planner.nodes.planner_versions import PlannerVersions
from wm_planner.robot import INTERFACE, observation_topic
from wm_planner.ros import diagnostics
from wm_planner.ros.base import REPORT_S
from wm_planner.ros.conversions import (
    action_array,
    image_array,
    image_message,
    plan_message,
    proprio_array,
    to_ns,
    to_time,
)
from wm_planner.ros.lifecycle import ManagedNode
from wm_planner.ros.qos import COMMAND, LATCHED, RECORD, RELIABLE, sensor
from wm_planner.ros.run import run_node
from wm_planner.runtime.goal_planner import PlanResult
from wm_planner.runtime.goal_tracker import GoalTracker
from wm_planner.runtime.live_planner import Seen
from wm_planner.runtime.pace import Pace
from wm_planner.runtime.picture_check import STOPPED
from wm_planner.runtime.worker import LatestWorker
from wm_planner.types import Goal, Observation

CLOSE_S = 0.4
LATCHED_S = 5.0  # in which a node that begins to listen hears what was sent before
STATUS, INPUTS = "planner_node: plan", "planner_node: inputs"


class PlannerNode(ManagedNode):
    """Publishes ``plan``, ``plan/imagined``, ``goal/accepted`` and a diagnostic per replan.

    Inputs are checked where they enter. What cannot be planned from is refused, and a second
    diagnostic says why there is no plan. While the pictures cannot be trusted, the plan is
    withdrawn: an empty one is published, and the controller sends the safe command.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__("planner_node", PlannerNodeConfig, **options)
        self._active = False
        self._goals = GoalTracker()
        self._planned: tuple[Goal, JointTrajectory] | None = None
        self._workers: list[LatestWorker[Any, Any]] = []  # each hands its results to the next
        self._publishing = threading.Lock()  # of plans: none may follow its withdrawal
        self._withdrawn = self._afresh = False
        self._versions = PlannerVersions(self)

    def configure(self) -> None:
        """Load the checkpoint and plan once, so that the first real plan is not the slow one."""
        config = self.config
        planner = config.goal_planner()
        self._body = planner.embodiment
        given = load_goal(config.goal, self._body) if config.goal else None
        planner.warm_up(timed=not config.lockstep)
        # In lock-step the simulator waits for a plan from every picture.
        self._pace = Pace(0 if config.lockstep else planner.replan_ns, self._body.dt_ns // 2)
        self._observer = Observer(config, planner)
        live = self._versions.begin(planner)
        self._eyes = self._observer.eyes
        self._sent, self._reach_s = planner.sent, planner.reach_s
        self._plan = self.create_publisher(JointTrajectory, "plan", RECORD)
        self._imagined = self.create_publisher(Image, "plan/imagined", RELIABLE)
        self._accepted = self.create_publisher(Header, "goal/accepted", LATCHED)
        profile = sensor(config.lockstep)
        for number, camera in enumerate(self._body.cameras):
            topic = observation_topic(self._body, camera.name)
            self.create_subscription(Image, topic, partial(self._on_image, number, topic), profile)
        self.create_subscription(JointState, JOINTS, self._on_state, profile)
        self.create_subscription(JointTrajectory, "command_sent", self._on_sent, COMMAND)
        self.create_subscription(Image, "goal/image", self._on_goal, LATCHED)
        self.create_subscription(JointState, "goal/joint_states", self._on_goal_state, LATCHED)

        # In lock-step there is one sender of goals, whose clock begins anew with the simulator.
        self._latched_until_s = 0.0 if config.lockstep else time.monotonic() + LATCHED_S
        self.create_timer(REPORT_S, self._tell)

        def work(item: tuple[Goal, Observation | Seen], should_stop: Any) -> PlanResult | None:
            stamp_ns, age_s = item[1].stamp_ns, None
            if not self._pace.begin(stamp_ns, item[0]):
                return None  # one that came just before has been planned from
            if not self.config.lockstep:
                age_s = (self.get_clock().now().nanoseconds - stamp_ns) / 1e9
            return live(*item, should_stop, age_s)

        def encode(item: tuple[Goal, Observation], _should_stop: Any) -> tuple[Goal, Seen]:
            return item[0], live.encode(item[1])

        last = LatestWorker(work, self._on_plan, self._on_failure, "planner")
        self._workers = [last]
        if planner.encodes_concurrently:  # an image that comes during a plan is encoded by its end
            self._workers.insert(0, LatestWorker(encode, last.submit, self._on_failure, "encoder"))
        if given is not None:
            picture, proprio = given
            self._goals.put_image(picture, 0)
            if proprio is not None:
                self._goals.put_proprio(proprio, 0)
            self._accept_goal()

    @property
    def _interface(self) -> str:
        """Field of a trajectory's points that carries the action."""
        return INTERFACE[self._body.action.kind]

    def activate(self) -> None:
        """Begin to plan."""
        self._active = True

    def deactivate(self) -> None:
        """Plan no more; work that runs is dropped, and nothing planned may be followed."""
        if not self._active:
            return
        self._active, self._planned = False, None
        self._reset()
        self._plan.publish(JointTrajectory())

    def cleanup(self) -> None:
        """Let go of model and goal."""
        self._end(5.0)
        self._workers = []
        self._goals = GoalTracker()

    def close(self) -> None:
        """End the workers; one that goes on with something long ends with the process."""
        self._end(CLOSE_S)

    def _end(self, patience_s: float) -> None:
        self.deactivate()
        self._versions.close()
        for worker in self._workers:
            worker.stop(patience_s / len(self._workers))

    def _reset(self) -> None:
        """Make everything worthless that is asked for and not done.

        The first worker first: what it hands on after the second's reset would be planned from.
        """
        for worker in self._workers:
            worker.reset()
        self._pace.clear()

    def _on_image(self, camera: int, topic: str, message: Image) -> None:
        stamp_ns = to_ns(message.header.stamp)
        planned = self._planned
        if planned is not None and planned[0] is self._goals.goal:
            asked_again = to_ns(planned[1].header.stamp) == stamp_ns
            if asked_again and camera == self._observer.frames.reference:
                self._plan.publish(planned[1])  # the same answer
                return
        now_ns, now_s = self.get_clock().now().nanoseconds, time.monotonic()
        self._observer.see(camera, topic, message, now_ns, now_s)
        if self._follow_eyes():
            self._tell()
        self._after_input()

    def _on_state(self, message: JointState) -> None:
        now_ns, now_s = self.get_clock().now().nanoseconds, time.monotonic()
        self._observer.feel(message, now_ns, now_s)
        self._after_input()

    def _after_input(self) -> None:
        if self._observer.refusal:
            self.get_logger().warning(self._observer.refusal, throttle_duration_sec=5.0)
        else:
            self._try_plan()

    def _on_sent(self, message: JointTrajectory) -> None:
        action = action_array(message, self._interface, self._body.action.size)
        if action is None or not np.isfinite(action).all():
            return
        stamp_ns = to_ns(message.header.stamp)
        self._sent.add(stamp_ns, action)
        if self._observer.frames.frame_skip is not None:  # the model wants past actions
            self._observer.frames.push_action(stamp_ns, action)
            self._try_plan()

    def _on_goal(self, message: Image) -> None:
        stamp_ns = to_ns(message.header.stamp)
        if self._goals.is_older(stamp_ns) and time.monotonic() < self._latched_until_s:
            self.get_logger().info("an older goal came as well: the newest counts")
            return
        if message.height == 0:
            self._goals.clear(stamp_ns)
            self._begin_goal(message.header)
            self._accepted.publish(Header(stamp=message.header.stamp))
            return
        try:
            image = image_array(message)
            check_size(image, "goal/image", self._body)
        except WmPlannerError as error:
            self.get_logger().error(f"goal refused: {error}")
            return
        if self._goals.put_image(image, stamp_ns):
            self._begin_goal(message.header)
        self._accept_goal()

    def _on_goal_state(self, message: JointState) -> None:
        try:
            values = proprio_array(message, self._body.proprio)
        except ConfigError as error:
            self.get_logger().error(f"goal/joint_states refused: {error}")
            return
        if self._goals.put_proprio(values, to_ns(message.header.stamp)):
            self._begin_goal(message.header)
            self._accept_goal()

    def _begin_goal(self, header: Header) -> None:
        """Forget everything that belongs to the goal before; nothing of it may be followed."""
        self._reset()
        self._observer.frames.clear()
        self._planned = None
        if self._active:
            self._plan.publish(JointTrajectory(header=header))

    def _accept_goal(self) -> None:
        """Say that the goal is known; in lock-step only once it is whole."""
        goal = self._goals.goal
        if goal is not None and (goal.proprio is not None or not self.config.lockstep):
            self._accepted.publish(Header(stamp=to_time(goal.stamp_ns)))

    def _try_plan(self) -> None:
        goal = self._goals.goal
        if not self._active or goal is None or not self._workers:
            return
        if self._afresh:  # what was planned before a withdrawal was not executed
            self._afresh = False
            goal = self._goals.renew()
        observation = self._observer.take(time.monotonic())
        if observation is not None and self._pace.is_due(observation.stamp_ns, goal):
            self._workers[0].submit((goal, observation))

    def _on_plan(self, result: PlanResult | None) -> None:
        if result is None:
            return
        plan, now_ns = result.plan, self.get_clock().now().nanoseconds
        self._eyes.note_surprise(result.surprise, time.monotonic())
        self._follow_eyes()
        message = plan_message(plan, self._body.action.names, self._interface)
        level, text = diagnostics.OK, "planned"
        values = {**result.summary(), **result.checkpoint}
        if result.num_committed >= len(plan.actions):  # nothing was left to plan
            late_s = (now_ns - plan.stamp_ns) * 1e-9 - plan.seconds
            level = diagnostics.WARN
            text = (
                f"plans take longer than they reach ahead: {plan.seconds:.2f} s, begun {late_s:.2f}"
                f" s after the picture, and they reach {self._reach_s:g} s"
            )
        if self._withdrawn:
            level, text, values = diagnostics.ERROR, self._eyes.reason, {}
        # Before the plan: whoever sees the plan's effects has seen its cost.
        status = diagnostics.status(STATUS, level, text, values)
        self._status.publish(diagnostics.array(plan.stamp_ns, status))
        with self._publishing:
            if self._withdrawn:
                return
            self._planned = (result.goal, message)
            self._plan.publish(message)
        if result.draw is not None:  # takes as long as several iterations: the robot has its plan
            self._imagined.publish(image_message(result.draw(), plan.stamp_ns))

    def _follow_eyes(self) -> bool:
        """Withdraw the plan while the pictures cannot be trusted; say whether that is new."""
        stopped, reason = self._eyes.state == STOPPED, self._eyes.reason
        with self._publishing:
            if stopped == self._withdrawn:
                return False
            self._withdrawn, self._afresh, self._planned = stopped, True, None
            if stopped and self._active:
                self._plan.publish(JointTrajectory())
        if stopped:
            self.get_logger().error(f"stopped: {reason}")
        else:
            self.get_logger().info("the pictures are good again: planning goes on")
        return True

    def _tell(self) -> None:
        """What comes in, and why there is no plan."""
        now_ns, now_s = self.get_clock().now().nanoseconds, time.monotonic()
        idle = "inactive" if not self._active else "no goal" if self._goals.goal is None else ""
        if idle:
            self._observer.rest(now_s)
        level, text = self._observer.verdict(now_ns, now_s)
        if level == diagnostics.OK and idle:
            level, text = (diagnostics.WARN, deaf) if (deaf := self._deaf(now_s)) else (level, idle)
        status = diagnostics.status(INPUTS, level, text, self._observer.values(now_s))
        self._status.publish(diagnostics.array(now_ns, status, *self._versions.statuses()))

    def _deaf(self, now_s: float) -> str:
        """Why nothing comes though somebody sends it; empty: it does, or it is too early to say."""
        if self.config.lockstep or now_s < self._latched_until_s:
            return ""
        for topic in self._observer.unheard:
            if number := self.count_publishers(self.resolve_topic_name(topic)):
                return (
                    f"{topic}: {number} publishers are known, and nothing of theirs has come: they "
                    "send nothing, their QoS does not fit, or a process was killed and the "
                    "middleware's shared memory does not reach this one (docs/safety.md)"
                )
        return ""

    def _on_failure(self, error: Exception) -> None:
        self.get_logger().error(f"no plan: {error}")
        status = diagnostics.status(STATUS, diagnostics.ERROR, str(error), {})
        self._status.publish(diagnostics.array(self.get_clock().now().nanoseconds, status))


def main(args: list[str] | None = None) -> None:
    """Entry point."""
    run_node(PlannerNode, args)


if __name__ == "__main__":
    main()
