"""Every error that the package raises for something a user can mend."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class WmPlannerError(Exception):
    """Base class. The message names the file, the key, the value and the way out."""


class ConfigError(WmPlannerError):
    """A configuration file, ROS parameter or command-line value cannot be used."""


class TaskError(WmPlannerError):
    """A task or environment cannot be built, or was given a state it cannot take."""


class RenderError(WmPlannerError):
    """No offscreen renderer could be opened."""


class WriteError(WmPlannerError):
    """A file cannot be written: the disk is full, or nothing may be written there."""


class CheckpointError(WmPlannerError):
    """A checkpoint is missing, truncated, of another schema, or does not fit its use."""


class DatasetError(WmPlannerError):
    """A data set or bag is missing, truncated or inconsistent."""


class TrainingError(WmPlannerError):
    """Training cannot go on."""


class PlanningError(WmPlannerError):
    """A planner found no finite plan."""


class NonFiniteActionError(WmPlannerError):
    """An action holds NaN or infinity and must not reach a robot."""


class ImageSourceError(WmPlannerError):
    """A camera, video file or image topic gives no usable image."""


@contextmanager
def raised_as(
    error: type[WmPlannerError], *causes: type[Exception], before: str = "", after: str = ""
) -> Iterator[None]:
    """Exceptions of these kinds in the block become an `error` of their text, with more around."""
    try:
        yield
    except causes as cause:
        raise error(f"{before}{cause}{after}") from cause
