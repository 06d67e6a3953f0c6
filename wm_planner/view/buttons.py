"""What the page's buttons do: start, stop, goals. Runs on the web server's loop."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import Future
from contextlib import suppress
from typing import Any

import numpy as np
from lifecycle_msgs.srv import ChangeState, GetState
from std_srvs.srv import Trigger

from wm_planner.data.goal_file import picture_of, proprio_of
from wm_planner.errors import ConfigError, WmPlannerError
from wm_planner.files import parse_json
from wm_planner.view.board import Goal
from wm_planner.view.node import CONTROLLER, NO_IMAGE, ViewNode

ANSWER_S, STOP_S = 10.0, 2.0  # that a service may take
ARM_S, AGAIN_S = 5.0, 0.5  # until the controller must have heard where the joints are
ACCEPT_S = 5.0
LATE_S = 30.0  # for which an activation without an answer is watched
TRANSITIONS = {"configure": 1, "activate": 3, "deactivate": 4}
EMERGENCY = "use the robot's emergency stop"


class RefusedError(WmPlannerError):
    """What a button asks for is not done; the message says why."""


class Buttons:
    """Start, stop and goals.

    A stop always wins: one that is pressed while Start is under way ends the start, and is called
    again where the controller became active after all.

    Args:
        node: that calls and publishes.
    """

    def __init__(self, node: ViewNode) -> None:
        self._node, self._board = node, node.board
        self._stops = 0  # pressed so far
        self._starting = asyncio.Lock()

    async def start(self) -> str:
        """Activate the controller: from here on the robot may move.

        Raises:
            RefusedError: the controller refuses, or was stopped meanwhile.
        """
        if self._starting.locked():
            raise RefusedError("Start is under way already")
        async with self._starting:
            self._board.starting = True
            try:
                return await self._start(self._stops)
            finally:
                self._board.starting = False

    async def _start(self, stops: int) -> str:
        service = f"{CONTROLLER}/get_state"
        if not self._node.is_there(service):
            raise RefusedError(f"{CONTROLLER} is not running in {self._board.where}")
        state = (await self._ask(service, GetState.Request())).current_state.label
        if state == "active" and self._board.controller() == "active":
            return "the controller is active already"
        if state == "active":  # and stopped: a stop is latched until it is deactivated
            await self._change("deactivate", stops)
        elif state == "unconfigured":
            await self._change("configure", stops)
        elif state != "inactive":
            raise RefusedError(f"the controller is {state}; wait, or start its process again")
        deadline_s = time.monotonic() + ARM_S
        while True:
            try:
                await self._change("activate", stops)
                return "started: the robot follows the plan"
            except RefusedError:
                # It may not have heard yet where the joints are.
                if time.monotonic() > deadline_s or self._stops != stops:
                    raise
                await asyncio.sleep(AGAIN_S)

    async def _change(self, name: str, stops: int) -> None:
        if self._stops != stops:
            raise RefusedError("stopped while Start was under way")
        request, since_s = ChangeState.Request(), time.time()
        request.transition.id = TRANSITIONS[name]
        answer = self._node.ask(f"{CONTROLLER}/change_state", request)
        try:
            done = await self._within(answer, ANSWER_S, f"{CONTROLLER}/change_state")
        except RefusedError as error:
            if name != "activate":
                raise
            raise RefusedError(f"{error}; {await self._take_back(answer)}") from error
        if self._stops != stops:
            await self._send_stop()  # the first one may have come before the activation
            raise RefusedError("stopped while Start was under way")
        if not done.success:
            await asyncio.sleep(0.1)  # its reason comes on another topic
            why = self._board.last_error(CONTROLLER, since_s) or "its log says why"
            raise RefusedError(f"the controller refuses to {name}: {why}")

    async def _take_back(self, activation: Future) -> str:
        """See to it that an activation that is not answered in time moves nothing; say the outcome.

        A stop that comes before the activation stops nothing: it is called again after it.
        """
        deadline_s = time.monotonic() + LATE_S
        while not activation.done() and time.monotonic() < deadline_s:
            with suppress(RefusedError):
                await self._send_stop()
            await asyncio.sleep(AGAIN_S)
        if not activation.done():
            return f"it may still happen: {EMERGENCY} before anybody comes near the robot"
        if activation.result().success:
            await self._send_stop()
        return "it came too late, and was taken back"

    async def stop(self) -> str:
        """Call the controller's latched stop.

        Raises:
            RefusedError: nobody has answered.
        """
        self._stops += 1
        return await self._send_stop()

    async def _send_stop(self) -> str:
        service = f"{CONTROLLER}/stop"
        if not self._node.is_there(service):
            text = "the controller's stop is not there: it is not running, or not configured"
            raise RefusedError(f"{text}. If the robot moves, {EMERGENCY}")
        try:
            answer = await self._ask(service, Trigger.Request(), STOP_S)
        except RefusedError as error:
            raise RefusedError(f"{error}: {EMERGENCY}") from error
        if not answer.success:
            raise RefusedError(f"the controller did not stop ({answer.message}): {EMERGENCY}")
        return str(answer.message)

    async def take_here(self) -> str:
        """Picture and joints of now become the goal.

        Raises:
            RefusedError: there are none, or the planner does not take them.
        """
        self._check_goals()
        view = self._node.view
        assert view is not None
        if not view.complete():
            raise RefusedError(f"no goal was taken: {view.missing()}")
        name = time.strftime("here, %H:%M:%S")
        return await self._set(self._board.keep_goal(name, view.picture(), view.proprio))

    async def take_files(self, files: dict[str, bytes]) -> str:
        """A picture becomes the goal, with the joints of a goal.json where that is given, too.

        Args:
            files: content by name.

        Raises:
            RefusedError: they are no goal of this robot.
        """
        self._check_goals()
        body = self._node.body
        assert body is not None
        facts = {name: data for name, data in files.items() if name.endswith(".json")}
        pictures = {name: data for name, data in files.items() if name not in facts}
        if len(pictures) != 1 or len(facts) > 1:
            raise RefusedError(
                "give one picture, and the goal.json of 'wm-planner robot goal' beside it if there "
                f"is one; got {', '.join(files) or 'nothing'}"
            )
        ((title, data),) = pictures.items()
        name = title
        try:
            picture, proprio = picture_of(data, name, body), None
            for name, text in facts.items():
                proprio = proprio_of(parse_json(text.decode(), name), name, body)
        except ConfigError as error:
            raise RefusedError(str(error)) from error
        except UnicodeDecodeError as error:
            raise RefusedError(f"{name}: is no text: {error}") from error
        return await self._set(self._board.keep_goal(title, picture, proprio))

    async def set_goal(self, number: int) -> str:
        """A goal of the shelf is set again.

        Raises:
            RefusedError: there is no such goal, or the planner does not take it.
        """
        self._check_goals()
        goal = self._board.goal(number)
        if goal is None:
            raise RefusedError(f"there is no goal {number} any more")
        return await self._set(goal)

    async def clear_goal(self) -> str:
        """There is no goal any more: the robot rests.

        Raises:
            RefusedError: the planner does not answer.
        """
        self._check_goals()
        await self._accepted(self._node.set_goal(NO_IMAGE, None))
        return "the goal is cleared: the robot rests"

    async def reset(self) -> str:
        """Another start and goal of a simulated robot.

        Raises:
            RefusedError: there is no simulated robot, or the controller is active.
        """
        driver = self._node.driver
        if self._board.controller() == "active":
            raise RefusedError("stop first: the simulated robot is put elsewhere")
        asked = None if driver is None else driver.reset()
        if asked is None:
            raise RefusedError("there is no simulated robot that can be put elsewhere")
        await self._within(asked, ANSWER_S, "the simulator")
        return "the simulated robot is at another start, and has another goal"

    def _check_goals(self) -> None:
        why = self._board.why_no_goal()
        if why:
            raise RefusedError(f"no goal can be set: {why}")

    async def _set(self, goal: Goal) -> str:
        proprio = None if goal.proprio is None else np.asarray(goal.proprio)
        await self._accepted(self._node.set_goal(goal.picture, proprio))
        return f"goal: {goal.name}"

    async def _accepted(self, accepted: Future) -> None:
        try:
            await asyncio.wait_for(asyncio.wrap_future(accepted), ACCEPT_S)
        except asyncio.TimeoutError as error:
            raise RefusedError(
                f"the planner has not taken the goal within {ACCEPT_S:g} s: is it running? Its "
                "diagnostics and log say more"
            ) from error

    async def _ask(self, service: str, request: Any, timeout_s: float = ANSWER_S) -> Any:
        return await self._within(self._node.ask(service, request), timeout_s, service)

    async def _within(self, asked: Future, timeout_s: float, who: str) -> Any:
        try:
            # Shielded: what is not answered in time may be answered later, and somebody may care.
            return await asyncio.wait_for(asyncio.shield(asyncio.wrap_future(asked)), timeout_s)
        except asyncio.TimeoutError as error:
            raise RefusedError(f"{who} has not answered within {timeout_s:g} s") from error
