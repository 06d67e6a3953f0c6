"""Finding simulated tasks: each is an entry point, of this package or of somebody else's."""

from __future__ import annotations

from typing import Any

from wm_planner.embodiment import Camera, Embodiment
from wm_planner.errors import TaskError
from wm_planner.registry import Registry
from wm_planner.tasks.task import Task

GROUP = "wm_planner.tasks"


def _complaint(name: str, found: object) -> str:
    if isinstance(found, Task) and found.name == name:
        return ""
    got = f"a task named '{found.name}'" if isinstance(found, Task) else repr(found)
    return f"must be a wm_planner.tasks.Task of that name, got {got}"


TASKS: Registry[Task] = Registry(GROUP, "task", _complaint, TaskError, "sim")


def task_names() -> list[str]:
    """Names of the tasks that are installed, in alphabetical order."""
    return TASKS.names()


def get_task(name: str) -> Task:
    """The task of that name; importing it registers its environment with gymnasium.

    Raises:
        TaskError: see `Registry`.
    """
    return TASKS[name]


def embodiment_of(values: dict[str, Any], source: str, image_size: int) -> Embodiment:
    """The embodiment that a card or a store holds.

    Those written before there were embodiments name a simulated task instead. They are read with
    that task's embodiment, with the size of pictures and the `frame_skip` that they were made with.

    Args:
        values: of the card, or the store's meta.
        source: names it in errors.
        image_size: side of its pictures, pixels.

    Raises:
        ConfigError: the embodiment cannot be used.
        TaskError: there is none, and the task is not installed.
    """
    if "embodiment" in values:
        return Embodiment.from_json(values["embodiment"], f"{source}: embodiment")
    if "task" not in values:
        raise TaskError(f"{source}: has neither 'embodiment' nor 'task'; it cannot be used")
    embodiment = get_task(values["task"]).embodiment
    frame_skip = values.get("frame_skip", values.get("preprocess", {}).get("frame_skip"))
    return resized(embodiment, image_size, frame_skip)


def resized(
    embodiment: Embodiment, image_size: int | None, frame_skip: int | None = None
) -> Embodiment:
    """The same robot with pictures of another size, or another number of raw actions per step."""
    values = embodiment.to_json()
    if image_size is not None:
        values["cameras"] = [{**camera, "size": image_size} for camera in values["cameras"]]
    if frame_skip is not None:
        values["frame_skip"] = int(frame_skip)
    return Embodiment.from_json(values, embodiment.name)


def unknown_embodiment(
    name: str, action_size: int, proprio_size: int, image_size: int, frame_skip: int = 1
) -> Embodiment:
    """A stand-in for data whose robot nobody has described: published sets without a task.

    Its actions are numbered, and its bounds are so wide that they bound nothing.
    """
    from wm_planner.embodiment import ActionSpace

    return Embodiment(
        name=name,
        control_dt_s=1.0,
        frame_skip=frame_skip,
        action=ActionSpace(
            names=tuple(f"action_{i}" for i in range(action_size)),
            low=(-1e6,) * action_size,
            high=(1e6,) * action_size,
            unit="unknown",
        ),
        proprio=tuple(f"entry_{i}/position" for i in range(proprio_size)),
        cameras=(Camera("front", image_size),),
    )
