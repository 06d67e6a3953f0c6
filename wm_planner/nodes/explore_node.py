"""Explore node: moves a robot by random motion, to record what a model can be learned from.

It drives as a planner does, by plans through the controller's gate. The first refusal of the gate
ends it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.duration import Duration
from sensor_msgs.msg import JointState
from std_msgs.msg import String
from std_srvs.srv import Trigger
from trajectory_msgs.msg import JointTrajectory

from wm_planner.data.messages import joint_values
from wm_planner.nodes.explore_config import ExploreConfig
from wm_planner.robot import INTERFACE
from wm_planner.ros.base import NodeBase
from wm_planner.ros.conversions import action_array, plan_message, to_ns
from wm_planner.ros.diagnostics import ERROR, OK, array, status, values_below, values_of
from wm_planner.ros.qos import COMMAND, LATCHED, RECORD, sensor
from wm_planner.ros.ready import ready_names
from wm_planner.ros.run import Spin, run_node
from wm_planner.runtime.exploration import GoHome, Motion, Stay, Wander
from wm_planner.runtime.following import FollowWatch
from wm_planner.runtime.motion import motion_track
from wm_planner.runtime.plan_stream import PlanStream

STATUS = "explore_node: motion"
AGE = "age "  # of what the controller listens to, in its diagnostics
CONTROLLER, RECORDED = "controller_node: command", ": bag"
REFRESH_S = 0.25  # between plans; or the model step, if that is shorter
ACCEPT_S = 15.0  # from the controller's first command to the first that follows a plan
SILENCE_S = 2.0  # without a command: the controller has gone
PAUSE_S = 0.1  # of a longer one, in which this process could not listen, so much counts as silence
ENOUGH_OF_BOX = 0.25  # a joint that is led through so much of its box is judged
ANSWER_S, CLOSE_S = 60.0, 60.0  # of the recorder, on a machine that is busy
HOME_S = 10.0  # beside twice the time that the way home should take
LAST_WORD_S = 0.3
# Of the gate's reasons, those that still follow the plan.
ACCEPTED = ("ok", "limited")
# What each of the others means to a person.
MEANING = {
    "stale": "pictures, joint states or the plan were too old",
    "no_plan": "no plan was there in time; is this machine too busy?",
    "non_finite": "a plan held a value that is no number",
    "bad_shape": "a plan did not fit the robot",
    "tracking_error": "a joint stays behind what it is sent; is it blocked?",
    "stopped": "somebody has stopped it",
    "disabled": "somebody has deactivated it",
    "no_guard": "the command guard does not hear the commands; does it run?",
    "robot_state": "the robot says that it executes no commands",
}


class Halted(Exception):
    """Exploring must not go on; the message says why."""


class ExploreNode(NodeBase):
    """Waits until the controller is activated; `explore` then runs the episodes."""

    def __init__(self, **options: Any) -> None:
        super().__init__("explore_node", ExploreConfig, **options)
        config = self.config
        self._body = config.body
        action = self._body.action
        self._interface = INTERFACE[action.kind]
        self._joints = frozenset() if action.is_twist else frozenset(action.names)
        self._stream: PlanStream | None = None
        self._motion: Motion = Stay()
        self._follows: FollowWatch | None = None
        self._position: np.ndarray | None = None
        self._speed: np.ndarray | None = None
        self._seen_ns: int | None = None
        self._description: str | None = None
        self._has_ticked = False  # since it was asked for: the controller has sent a command
        self._silent_s, self._checked_s = 0.0, time.monotonic()
        self._accepted = self._planning = False
        self._refused = self._reason = ""
        self._counts = {"commands": "0", "limited": "0"}
        self._recorder_ready = not config.recorder
        self._closed = 0
        self._phase, self._why, self._waits_for = "waiting", "", "joint_states"
        self._episode, self._episode_began_s = 0, -1.0
        self._running = False
        self._connect()

    def _connect(self) -> None:
        self._plan = self.create_publisher(JointTrajectory, "plan", COMMAND)
        self.create_subscription(JointState, "joint_states", self._on_state, sensor(False))
        self.create_subscription(JointTrajectory, "command_sent", self._on_sent, RECORD)
        self.hear_diagnostics(self._on_diagnostics)
        if self.config.use_description:
            self.create_subscription(String, "robot_description", self._on_description, LATCHED)
        self._recorder = {
            name: self.create_client(Trigger, f"{self.config.recorder}/{name}")
            for name in ("start_episode", "end_episode")
            if self.config.recorder
        }
        self._refresh_s = min(self._body.model_dt_s, REFRESH_S)
        self.create_timer(self._refresh_s, self._on_refresh)
        self.create_timer(0.5, self._report)

    def close(self) -> None:
        """Nothing that was planned is followed any more."""
        self._drop_plan()
        for publisher in (self._plan, self._status):
            publisher.wait_for_all_acked(Duration(seconds=LAST_WORD_S))

    # Messages ------------------------------------------------------------------------------

    def _on_state(self, message: JointState) -> None:
        if not self._joints <= set(message.name):
            return  # another device
        if self._joints:
            names = self._body.action.names
            position = joint_values(message, [f"{name}/position" for name in names])
            if not np.isfinite(position).all():
                return
            speed = joint_values(message, [f"{name}/velocity" for name in names])
            self._measure(to_ns(message.header.stamp), position, speed)
        self._seen_ns = to_ns(message.header.stamp)

    def _measure(self, stamp_ns: int, position: np.ndarray, speed: np.ndarray) -> None:
        """Note positions, and speeds, which a driver may leave out."""
        if not np.isfinite(speed).all():
            passed_s = 0.0 if self._seen_ns is None else (stamp_ns - self._seen_ns) * 1e-9
            speed = np.zeros_like(position) if self._speed is None else self._speed
            if self._position is not None and passed_s > 0:
                speed = speed + 0.5 * ((position - self._position) / passed_s - speed)
        self._position, self._speed = position, speed

    def _on_description(self, message: String) -> None:
        self._description = message.data

    def _on_sent(self, message: JointTrajectory) -> None:
        self._has_ticked, self._silent_s = True, 0.0
        action = action_array(message, self._interface, self._body.action.size)
        if self._stream is None or action is None:
            return
        self._stream.ticked(to_ns(message.header.stamp), action)
        if self._follows is not None and self._position is not None and self._accepted:
            stuck = self._follows.add(action, self._position)
            if stuck:
                self._refuse(stuck)

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        self._recorder_ready |= self.config.recorder in ready_names(message)
        for told in message.status:
            if told.name == CONTROLLER:
                values = values_of(told)
                self._on_gate(values["reason"], values)
            elif told.name == self.config.recorder + RECORDED:
                self._closed += 1

    def _on_gate(self, reason: str, values: dict[str, str]) -> None:
        """What the controller says of its newest command."""
        self._reason = reason
        self._counts.update({key: values[key] for key in self._counts if key in values})
        if reason in ACCEPTED and self._planning:
            self._accepted = True
        elif reason not in ACCEPTED and self._accepted:
            self._refuse(f"the controller refused: {_explained(reason, values)}")

    def _refuse(self, why: str) -> None:
        """End the motion at once; `explore` does the rest."""
        if not self._refused:
            self._refused = why
            self._drop_plan()

    # Plans ---------------------------------------------------------------------------------

    def _on_refresh(self) -> None:
        if not self._planning or self._stream is None or self._seen_ns is None:
            return
        speed = self._speed if self._body.action.kind == "effort" else None
        plan = self._stream.next(self._motion, self._now_ns(), self._seen_ns, self._position, speed)
        if plan is not None:
            self._plan.publish(plan_message(plan, self._body.action.names, self._interface))

    def _drop_plan(self) -> None:
        self._planning = False
        if self._stream is not None:
            self._stream.halt()
        self._plan.publish(JointTrajectory())

    # The episodes --------------------------------------------------------------------------

    def explore(self, spin: Spin) -> int:
        """Run all episodes.

        Args:
            spin: ``spin(timeout_s)`` serves callbacks.

        Returns:
            0; 1 when the gate refused, home was not reached, or the recorder failed.

        Raises:
            ConfigError: the robot's limits cannot be used.
        """
        self._prepare(spin)
        try:
            self._accept(spin)
            for number in range(self.config.episodes):
                self._run_episode(number, spin)
            self._tell("done")
            return 0
        except Halted as error:
            return self._halt(str(error), spin)
        finally:
            self.close()

    def _prepare(self, spin: Spin) -> None:
        """Wait for the robot and for the person who activates the controller."""
        waits: dict[str, Callable[[], bool]] = {"joint_states": lambda: self._seen_ns is not None}
        if self.config.use_description:
            waits["robot_description"] = lambda: self._description is not None
        if self.config.recorder:
            waits["recorder"] = lambda: (
                self._recorder_ready
                and all(client.service_is_ready() for client in self._recorder.values())
            )
        for what, condition in waits.items():
            self._waits_for = what
            while not condition():
                spin(0.02)
        box = self.config.box(self._description)
        track = motion_track(self._body.action, self._body.control_dt_s, box)
        self._stream = PlanStream(track, self._body.dt_ns, self._refresh_s)
        if self._joints and self._body.action.kind != "effort":
            enough = ENOUGH_OF_BOX * 2 * box.half
            self._follows = FollowWatch(self._body.action, self._body.control_dt_s, enough)
        self._waits_for, self._has_ticked = "activation", False
        self._report()
        while not self._has_ticked:
            spin(0.02)

    def _accept(self, spin: Spin) -> None:
        """Plan rest until the controller, too, has heard of everything that it needs."""
        others = self.count_publishers(self.resolve_topic_name("plan")) - 1
        if others > 0:
            raise Halted("another node publishes on the topic plan: end it first")
        self._tell("waiting", waits_for="the controller's gate")
        self._planning = True
        self._until(spin, lambda: self._accepted, self._why_not_accepted, ACCEPT_S)

    def _why_not_accepted(self) -> str:
        said = f"it says '{self._reason}'" if self._reason else "it says nothing"
        return f"the controller followed no plan for {ACCEPT_S:g} s: {said}"

    def _run_episode(self, number: int, spin: Spin) -> None:
        self._episode = number
        self._go_home(spin)
        self._wait(spin, self.config.start_delay_s)
        if self._recorder:
            self._call("start_episode", spin)
            self._running = True
        self._episode_began_s = time.monotonic()
        self._tell("exploring")
        self._motion = Wander(self.config.seed, number)
        self._wait(spin, self.config.seconds)
        self._motion, self._episode_began_s = Stay(), -1.0
        self._episode = number + 1
        self._tell("ending")
        self._end_recording(spin)
        self._until(spin, self._is_still, "the robot did not come to rest", ANSWER_S)

    def _go_home(self, spin: Spin) -> None:
        """A twist has no home: it goes on where it is."""
        home = self.config.home_position
        assert self._stream is not None
        if home is None or self._position is None:
            return
        self._motion = motion = GoHome(home, self.config.homing_speed)
        seconds = motion.seconds(self._position, self._stream.track)
        self._tell("homing")

        def away() -> np.ndarray:
            assert self._position is not None and home is not None
            return np.abs(self._position - home)

        def missed() -> str:
            joint = int(np.argmax(away()))
            return (
                f"home was not reached: joint '{self._body.action.names[joint]}' is "
                f"{away()[joint]:.3f} from it, the tolerance is {self.config.home_tolerance:g}"
            )

        self._until(
            spin,
            lambda: bool((away() <= self.config.home_tolerance).all()) and self._is_slow(),
            missed,
            HOME_S + 2 * seconds,
        )
        self._motion = Stay()
        self._until(spin, self._is_still, "the robot did not come to rest", ANSWER_S)

    def _is_slow(self) -> bool:
        """Nearly at rest, by what it is sent."""
        assert self._stream is not None
        track = self._stream.track
        if self._body.action.kind == "effort":
            return bool(self._speed is not None and np.abs(self._speed).max() < 0.05)
        return bool((np.abs(track.speed) <= 0.1 * np.maximum(track.high, -track.low)).all())

    def _is_still(self) -> bool:
        assert self._stream is not None
        return self._stream.is_still(self._now_ns())

    def _end_recording(self, spin: Spin) -> None:
        if self._running:
            closed, self._running = self._closed, False
            self._call("end_episode", spin)
            self._until(
                spin, lambda: self._closed > closed, "the recorder did not close a bag", CLOSE_S
            )

    def _call(self, service: str, spin: Spin) -> None:
        future = self._recorder[service].call_async(Trigger.Request())
        self._until(spin, future.done, f"the recorder did not answer {service}", ANSWER_S)
        answer = future.result()
        if not answer.success:
            raise Halted(f"the recorder: {answer.message}")

    def _halt(self, why: str, spin: Spin) -> int:
        """Leave the robot at rest and what was recorded in its bag."""
        self._refused = ""
        self._drop_plan()
        self.get_logger().error(why)
        self._tell("stopped", why=why)
        self._accepted = False  # what the gate says from here on is what it shall say
        try:
            self._end_recording(spin)
        except Halted as error:
            self.get_logger().error(str(error))
        self._wait(spin, 1.0)  # whoever watches has read why, before this process ends
        return 1

    def _until(
        self,
        spin: Spin,
        condition: Callable[[], bool],
        what: str | Callable[[], str],
        timeout_s: float,
    ) -> None:
        """Serve callbacks until the condition holds.

        Raises:
            Halted: it did not in time, the gate refused, or the controller has gone.
        """
        deadline_s = time.monotonic() + timeout_s
        while not condition():
            self._check()
            if time.monotonic() > deadline_s:
                raise Halted(what if isinstance(what, str) else what())
            spin(0.02)
        self._check()

    def _wait(self, spin: Spin, seconds: float) -> None:
        end_s = time.monotonic() + seconds
        self._until(spin, lambda: time.monotonic() >= end_s, "", seconds + ANSWER_S)

    def _check(self) -> None:
        if self._refused:
            raise Halted(self._refused)
        now_s = time.monotonic()
        self._silent_s += min(now_s - self._checked_s, PAUSE_S)
        self._checked_s = now_s
        if self._accepted and self._silent_s > SILENCE_S:
            raise Halted(f"the controller has sent no command for {SILENCE_S:g} s")

    # What it tells -------------------------------------------------------------------------

    def _tell(self, phase: str, why: str = "", waits_for: str = "") -> None:
        self._phase, self._why, self._waits_for = phase, why, waits_for
        self._report()

    def _report(self) -> None:
        values: dict[str, Any] = {
            "episode": self._episode,
            "episodes": self.config.episodes,
            "seconds": 0.0,  # into the running episode
            **self._counts,
        }
        if self._episode_began_s >= 0:
            values["seconds"] = round(time.monotonic() - self._episode_began_s, 3)
        if self._why:
            values["why"] = self._why
        if self._waits_for:
            values["waits_for"] = self._waits_for
        if self._stream is not None:
            box = self._stream.track.box
            for name, low, high in zip(self._body.action.names, box.low, box.high, strict=True):
                values[f"box {name}"] = f"{low:.4g} {high:.4g}"
        level = ERROR if self._phase == "stopped" else OK
        told = status(STATUS, level, self._phase, values)
        self._status.publish(array(self._now_ns(), told))

    def _now_ns(self) -> int:
        return self.get_clock().now().nanoseconds


def _explained(reason: str, values: Mapping[str, str]) -> str:
    """A reason of the gate, for people."""
    text = f"{reason}: {MEANING[reason]}" if reason in MEANING else reason
    if reason in values:  # what the robot said
        text += f" ({values[reason]})"
    ages = [f"{float(age):.2f} s of {what}" for what, age in values_below(values, AGE).items()]
    return f"{text} (ages: {', '.join(ages)})" if ages and reason == "stale" else text


def main(args: list[str] | None = None) -> None:
    """Entry point."""
    run_node(ExploreNode, args, ExploreNode.explore)


if __name__ == "__main__":
    main()
