"""The planner node's checkpoint: exchanged while the node plans, and told of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from diagnostic_msgs.msg import DiagnosticStatus
from rcl_interfaces.msg import SetParametersResult
from rclpy.parameter import Parameter

from wm_planner.ros import diagnostics
from wm_planner.runtime.goal_planner import GoalPlanner
from wm_planner.runtime.live_planner import LivePlanner
from wm_planner.runtime.version_watch import VersionWatch

STATUS = "planner_node: checkpoint"
PARAMETER = "versions"


class PlannerVersions:
    """Takes new versions from the directory that the parameter ``versions`` names.

    Args:
        node: whose parameter, log and diagnostics.
    """

    def __init__(self, node: Any) -> None:
        self._node = node
        self._live: LivePlanner | None = None
        self._watch: VersionWatch | None = None
        node.add_on_set_parameters_callback(self._on_parameters)

    def begin(self, planner: GoalPlanner) -> LivePlanner:
        """The planner whose checkpoint is exchanged from now on."""
        self._live = LivePlanner(planner, self._node.config.trial_steps, self._say)
        self._watch = VersionWatch(self._live)
        self._follow(self._node.get_parameter(PARAMETER).value)
        return self._live

    def close(self) -> None:
        """Exchange nothing any more."""
        if self._watch is not None:
            self._watch.close()
        self._watch = self._live = None

    def statuses(self) -> list[DiagnosticStatus]:
        """What is planned with, and what has happened to it last; nothing while unconfigured."""
        if self._live is None:
            return []
        bad, text, values = self._live.told()
        level = diagnostics.WARN if bad else diagnostics.OK
        values[PARAMETER] = self._node.get_parameter(PARAMETER).value
        return [diagnostics.status(STATUS, level, text, values)]

    def _say(self, bad: bool, text: str) -> None:
        logger = self._node.get_logger()
        # A logger of ROS takes no two levels from one line of code.
        if bad:
            logger.warning(text)
        else:
            logger.info(text)

    def _on_parameters(self, parameters: list[Parameter]) -> SetParametersResult:
        for parameter in parameters:
            if parameter.name != PARAMETER:
                continue
            value = parameter.value
            if not isinstance(value, str) or (value and not Path(value).is_dir()):
                reason = f"{PARAMETER}: '{value}' is no directory; '' for none"
                return SetParametersResult(successful=False, reason=reason)
            self._follow(value)
        return SetParametersResult(successful=True)

    def _follow(self, directory: str) -> None:
        if self._watch is not None:
            self._watch.watch(Path(directory) if directory else None)
