"""What runs together when the robot is simulated: its robot file is made from the task."""

from __future__ import annotations

from dataclasses import dataclass

from wm_planner.bringup import NodeSpec, RunOptions, bring_up
from wm_planner.models.catalog import CARD, embodiment_of_card, read_card, resolve_checkpoint
from wm_planner.robot import INTERFACE, CameraSource, CommandSink, Driver, RobotFile
from wm_planner.tasks import Task, get_task, resized


@dataclass(frozen=True)
class SimOptions:
    """What a simulated run can be told; `output` receives the bags, `listeners` are further nodes
    that it waits for (see `ros.ready`), and `markers` draws the plan for RViz.
    """

    task: str
    planner: str = "gbp"
    checkpoint: str = "base"
    lockstep: bool = True
    episodes: int = 1
    seed: int = 0
    record: bool = True
    output: str = "runs/sim"
    settings: tuple[str, ...] = ()
    listeners: tuple[str, ...] = ()
    markers: bool = False
    shifts: tuple[str, ...] = ()
    versions: str = ""


def simulated_robot(task: Task, options: SimOptions) -> RobotFile:
    """The robot file of a simulated task: its driver is the bridge."""
    directory = resolve_checkpoint(options.checkpoint, task.name)
    card = read_card(directory / CARD, task.name)
    body = resized(task.embodiment, embodiment_of_card(card, directory).image_size)
    return RobotFile(
        name=body.name,
        control_dt_s=body.control_dt_s,
        frame_skip=body.frame_skip,
        action=body.action,
        proprio=body.proprio,
        proprio_units=body.proprio_units,
        angles=body.angles,
        cameras={
            camera.name: CameraSource(topic="camera/image_raw", size=camera.size)
            for camera in body.cameras
        },
        command=CommandSink("command", "simulator"),
        stale_after_s=3 * body.model_dt_s,
        driver=Driver("sim_bridge.bridge_node", "bridge_node"),
        checkpoint=options.checkpoint,
        planner=options.planner,
        settings=options.settings,
    )


def simulation(options: SimOptions) -> list[NodeSpec]:
    """Simulated robot, camera, planner, controller and, on request, the recorder.

    Raises:
        WmPlannerError: unknown task or checkpoint.
    """
    task = get_task(options.task)
    robot = simulated_robot(task, options)
    run = RunOptions(
        output=options.output,
        checkpoint=options.checkpoint,
        record=options.record,
        activate=True,
        lockstep=options.lockstep,
        seed=options.seed,
        markers=options.markers,
        versions=options.versions,
    )
    nodes = bring_up(robot, run)
    driver = nodes.pop(0)
    for node in nodes:
        if node.name == "marker_node":
            node.parameters.update(metres=task.metres, step=task.action_step)
    recorder = "finetune_node" if options.record else ""
    driver.parameters.update(
        {
            "task": task.name,
            "episodes": options.episodes,
            "seed": options.seed,
            "shifts": list(options.shifts) or [""],
            "image_size": robot.embodiment.image_size,
            "lockstep": options.lockstep,
            "command_interface": INTERFACE[robot.action.kind],
            "wait_for_nodes": [node.name for node in nodes],
            "wait_for_listeners": [*options.listeners, recorder],
            "recorder": recorder,
        }
    )
    return [*nodes, NodeSpec(**{**vars(driver), "ends_run": True})]
