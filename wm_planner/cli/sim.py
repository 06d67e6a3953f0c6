"""`wm-planner sim`: the whole ROS graph around a simulated robot, from start to result."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from wm_planner.bringup import NodeSpec, enclave_arguments
from wm_planner.cli.filmed import EpisodeFilm, check_film
from wm_planner.cli.options import add_option, add_options, check_least, check_writable
from wm_planner.cli.parser import written
from wm_planner.cli.preflight import (
    check_planning,
    check_rendering,
    check_ros,
    child_environment,
    claim_output,
)
from wm_planner.cli.processes import Child, Supervisor
from wm_planner.config import to_dict
from wm_planner.errors import WmPlannerError
from wm_planner.evaluation.table import listing, reached
from wm_planner.files import write_json, write_text
from wm_planner.models.catalog import CARD, read_card, resolve_checkpoint
from wm_planner.parameter_file import write_parameters
from wm_planner.simulation import SimOptions, simulation
from wm_planner.tasks import get_task
from wm_planner.tasks.shifts import simulator_shifts

if TYPE_CHECKING:
    from wm_planner.cli.run_record import RunRecord

DRAIN_S = 3.0  # the last messages may still be on their way when the bridge has ended


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add the command's arguments."""
    parser = subparsers.add_parser("sim", help="run the whole ROS graph in simulation")
    add_options(parser, "--task", "--planner", "--checkpoint", "--set", "--seed", "--json")
    add_options(parser, "--shift", "--versions")
    add_option(parser, "--episodes", default=1)
    parser.add_argument(
        "--clock",
        choices=("lockstep", "realtime"),
        default="lockstep",
        help="lockstep (default): simulated time waits for the planner",
    )
    parser.add_argument(
        "--output", type=written, help="directory to write, numbered if taken (default runs/TASK)"
    )
    add_option(parser, "--film", help="of the first episodes (default OUTPUT/film.mp4)")
    parser.add_argument("--no-record", action="store_true", help="write no bags")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run the episodes.

    Returns:
        0; 1 when a single episode missed its goal; 130 after Ctrl-C.

    Raises:
        WmPlannerError: something cannot work (before any process starts), or a node died.
    """
    from wm_planner.cli.film import write_film, write_key_frames
    from wm_planner.cli.run_record import FILMED
    from wm_planner.provenance import provenance

    environment = child_environment(os.environ)
    options = SimOptions(
        task=args.task,
        planner=args.planner,
        checkpoint=args.checkpoint,
        lockstep=args.clock == "lockstep",
        episodes=args.episodes,
        seed=args.seed,
        record=not args.no_record,
        settings=tuple(args.settings),
        listeners=("monitor",),
        shifts=tuple(args.shifts),
        versions=str(args.versions or ""),
    )
    task = get_task(args.task)
    simulator_shifts(args.shifts, task)
    check_least(args, episodes=1)
    check_planning(args.checkpoint, task.name, args.planner, args.settings, "--set")
    read_card(resolve_checkpoint(args.checkpoint, task.name) / CARD, task.name)
    check_writable("--json", args.json)
    check_film(args.film)
    check_ros()
    check_rendering(environment)
    output = claim_output(args.output or Path("runs") / options.task)
    options = replace(options, output=str(output))
    commands = provenance()
    write_text(output / "config.yaml", yaml.safe_dump(commands | to_dict(options)))
    make_film = partial(
        EpisodeFilm,
        title=f"{task.name}, {options.planner}, {args.clock}",
        unit=task.distance_unit,
        step_s=task.embodiment.model_dt_s,
        waits=options.lockstep,
    )
    record, ended = _run_graph(
        simulation(options), output, environment, options.episodes, make_film
    )
    if not ended:
        print(f"interrupted after {len(record.finished)} episodes; logs in {output / 'logs'}")
        return 130
    if len(record.finished) < options.episodes:
        raise WmPlannerError(
            f"the bridge ended, but only {len(record.finished)} of {options.episodes} episode "
            f"results arrived; look at {output / 'logs'}"
        )
    result = {
        "task": options.task,
        "checkpoint": options.checkpoint,
        "planner": options.planner,
        "mode": "mpc",
        "seed": options.seed,
        **record.summary(),
        "clock": args.clock,
    }
    if args.json is not None:
        write_json(args.json, result)
    print(table(result, record), flush=True)
    # Last: a result is not lost with them.
    film = write_film(args.film or output / "film.mp4", [e.film for e in record.finished[:FILMED]])
    picture = write_key_frames(output / "last_episode.png", record.finished[-1].film)
    bags = output / "bags" if options.record else None
    paths = [path for path in (film, picture, bags, output / "logs") if path is not None]
    print(*listing([(path.suffix[1:] or path.name, str(path)) for path in paths]), sep="\n")
    return 1 if options.episodes == 1 and result["successes"] == 0 else 0


def child_of(spec: NodeSpec, parameters: Path) -> Child:
    """The process of one node; its parameters are written into the directory `parameters`."""
    file = write_parameters(spec.name, spec.parameters, parameters)
    ros = ["--ros-args", "-r", f"__node:={spec.name}", "--params-file", str(file)]
    for name, topic in spec.remappings.items():
        ros += ["-r", f"{name}:={topic}"]
    ros += enclave_arguments(spec.name, os.environ)
    command = [sys.executable, "-m", spec.module, *ros]
    return Child(spec.name, command, spec.required, spec.ends_run, spec.respawn)


def table(result: dict[str, Any], record: RunRecord) -> str:
    """The result for people."""
    steps = [episode.num_steps for episode in record.finished]
    rate_hz = record.replan_rate_hz() if result["clock"] == "realtime" else None
    rows = [
        ("success", reached(result["successes"], result["episodes"])),
        ("steps", f"{min(steps)} to {max(steps)}" if len(set(steps)) > 1 else str(steps[0])),
        ("plan p50, p99", _milliseconds(result, "plan_seconds")),
        ("camera to command", _milliseconds(result, "latency_seconds")),
    ]
    if rate_hz is not None:
        rows.append(("replan rate", f"{rate_hz:.1f} Hz"))
    title = " ".join(str(result[key]) for key in ("task", "checkpoint", "planner", "clock"))
    return "\n".join([title, *listing(rows)])


def _run_graph(
    specs: list[NodeSpec],
    output: Path,
    environment: dict[str, str],
    episodes: int,
    make_film: Callable[[], EpisodeFilm],
) -> tuple[RunRecord, bool]:
    """Start everything, watch, end everything; False when interrupted."""
    # The monitor is a participant of its own in this process.
    os.environ.setdefault(
        "ROS_AUTOMATIC_DISCOVERY_RANGE", environment["ROS_AUTOMATIC_DISCOVERY_RANGE"]
    )
    from wm_planner.cli.listener import Listener
    from wm_planner.cli.monitor import MonitorNode

    children = [child_of(spec, output / "parameters") for spec in specs]
    make_node = partial(MonitorNode, partial(print, flush=True), make_film)
    with (
        Listener(int(environment["ROS_DOMAIN_ID"]), make_node) as monitor,
        Supervisor(children, output / "logs", environment) as supervisor,
    ):
        record = monitor.node.record
        ended = supervisor.wait(monitor.spin)
        if ended:
            monitor.spin_until(lambda: len(record.finished) >= episodes, DRAIN_S)
        return record, ended


def _milliseconds(result: dict[str, Any], name: str) -> str:
    values = [result[f"{name}_{percentile}"] for percentile in ("p50", "p99")]
    return ", ".join("not measured" if v is None else f"{1000 * v:.0f} ms" for v in values)
