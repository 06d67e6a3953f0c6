"""`wm-planner sim`: the whole ROS graph around a simulated robot, from start to result."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from wm_planner.bringup import NodeSpec, SimOptions, simulation
from wm_planner.cli.processes import Child, Supervisor
from wm_planner.errors import ConfigError, RenderError, WmPlannerError

if TYPE_CHECKING:
    from wm_planner.cli.run_record import RunRecord

RENDER_CHECK = "import sim_bridge.rendering as rendering; rendering.check_rendering()"
RENDER_TIMEOUT_S = 60.0
DRAIN_S = 3.0  # the last messages may still be on their way when the bridge has ended
MAX_DOMAIN_ID = 101  # above, the ports collide with those that Linux hands out


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add the command's arguments."""
    parser = subparsers.add_parser("sim", help="run the whole ROS graph in simulation")
    parser.add_argument("--task", required=True, help="wall, point_maze or pusht")
    parser.add_argument(
        "--planner", default="gbp", help="gbp (default), cem, mppi, gradient-cem or lbfgs"
    )
    parser.add_argument(
        "--checkpoint", default="base", help="variant (default base), shipped name, or directory"
    )
    parser.add_argument("--episodes", type=int, default=1, help="default 1")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--clock",
        choices=("lockstep", "realtime"),
        default="lockstep",
        help="lockstep (default): simulated time waits for the planner",
    )
    parser.add_argument("--json", type=Path, help="file for the result as one JSON object")
    parser.add_argument(
        "--output", type=Path, help="directory to write, numbered if taken (default runs/TASK)"
    )
    parser.add_argument("--no-record", action="store_true", help="write no bags")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        dest="settings",
        help="planner setting, for example horizon=6; may be repeated",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run the episodes.

    Returns:
        0; 1 when a single episode missed its goal; 130 after Ctrl-C.

    Raises:
        WmPlannerError: something cannot work (before any process starts), or a node died.
    """
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
    )
    check_options(options)
    if args.json is not None and not args.json.resolve().parent.is_dir():
        raise ConfigError(f"--json {args.json}: no directory {args.json.resolve().parent}")
    check_ros()
    check_rendering(environment)
    output = claim_output(args.output or Path("runs") / options.task)
    options = replace(options, output=str(output))
    commands = {"command": "wm-planner " + " ".join(sys.argv[1:]), "commit": _commit()}
    (output / "config.yaml").write_text(yaml.safe_dump(commands | _plain(options)))
    record, ended = _run_graph(simulation(options), output, environment, options.episodes)
    if not ended:
        print(f"interrupted after {len(record.finished)} episodes; logs in {output / 'logs'}")
        return 130
    if len(record.finished) < options.episodes:
        raise WmPlannerError(
            f"the bridge ended, but only {len(record.finished)} of {options.episodes} episode "
            f"results arrived; look at {output / 'logs'}"
        )
    pictures = _write_pictures(output, record)
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
        args.json.write_text(json.dumps(result, indent=2) + "\n")
    bags = [output / "bags"] if options.record else []
    print(table(result, record, [*pictures, *bags, output / "logs"]))
    return 1 if options.episodes == 1 and result["successes"] == 0 else 0


def _plain(options: SimOptions) -> dict[str, Any]:
    """What YAML can hold: lists for tuples."""
    values = asdict(options)
    return {k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}


def child_environment(environment: os._Environ[str] | dict[str, str]) -> dict[str, str]:
    """Environment of the nodes; what the user has set stays.

    Raises:
        ConfigError: ROS_DOMAIN_ID is not a number that works.
    """
    children = {
        "ROS_DOMAIN_ID": str(1 + os.getpid() % 100),  # two runs on a machine do not meet
        "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST",
        "OMP_NUM_THREADS": "1",
        "MUJOCO_GL": "egl",
        **{key: value for key, value in environment.items() if value or key != "ROS_DOMAIN_ID"},
        "PYTHONUNBUFFERED": "1",
    }
    domain = children["ROS_DOMAIN_ID"]
    if not domain.isdecimal() or int(domain) > MAX_DOMAIN_ID:
        raise ConfigError(f"ROS_DOMAIN_ID={domain}: expected a number from 0 to {MAX_DOMAIN_ID}")
    return children


def check_options(options: SimOptions) -> None:
    """Task, checkpoint, planner and its settings, without starting anything.

    Raises:
        WmPlannerError: one of them cannot be used.
    """
    from wm_planner.config import suggest
    from wm_planner.models.catalog import CARD, WEIGHTS, check_whole, read_card, resolve_checkpoint
    from wm_planner.planning.config import SOLVERS, planner_config
    from wm_planner.tasks import get_task

    task = get_task(options.task)
    if options.episodes < 1:
        raise ConfigError(f"--episodes must be at least 1, got {options.episodes}")
    if options.seed < 0:
        raise ConfigError(f"--seed must not be negative, got {options.seed}")
    if options.planner not in SOLVERS:
        raise ConfigError(
            f"unknown planner '{options.planner}'.{suggest(options.planner, SOLVERS)}"
        )
    directory = resolve_checkpoint(options.checkpoint, task.name)
    card = read_card(directory / CARD)
    if card["task"] != task.name:
        raise ConfigError(
            f"--checkpoint {directory}: was trained for task '{card['task']}', "
            f"not for '{task.name}'"
        )
    check_whole(directory / WEIGHTS, card["sha256"])
    planner_config({**card["planner"], "solver": options.planner}, options.settings, "--set")


def check_ros() -> None:
    """Import rclpy.

    Raises:
        ConfigError: there is none; the message says where to get it.
    """
    try:
        import rclpy  # noqa: F401
    except ImportError as error:
        raise ConfigError(
            f"rclpy cannot be imported ({error}): source an installed ROS 2 "
            "(source /opt/ros/<distribution>/setup.bash), or install it from PyPI with "
            "`pip install -e .[ros]`"
        ) from error


def check_rendering(environment: dict[str, str]) -> None:
    """Draw something in another process.

    Raises:
        RenderError: it failed; the message is that of the simulator.
    """
    try:
        done = subprocess.run(
            [sys.executable, "-c", RENDER_CHECK],
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=RENDER_TIMEOUT_S,
        )
    except subprocess.TimeoutExpired as error:
        raise RenderError(
            f"the renderer (MUJOCO_GL={environment['MUJOCO_GL']}) did not answer within "
            f"{RENDER_TIMEOUT_S:g} s; try MUJOCO_GL=osmesa"
        ) from error
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise RenderError(lines[-1].removeprefix("wm_planner.errors.RenderError: "))


def claim_output(wanted: Path) -> Path:
    """Make the directory `wanted`, or `wanted`-2, -3 ... when that is taken by an earlier run.

    Raises:
        ConfigError: it cannot be made.
    """
    number = 1
    while True:
        path = wanted if number == 1 else wanted.with_name(f"{wanted.name}-{number}")
        try:
            path.mkdir(parents=True)
            return path
        except FileExistsError:
            number += 1
        except OSError as error:
            raise ConfigError(f"--output {path}: cannot be made: {error.strerror}") from error


def child_of(spec: NodeSpec, parameters: Path) -> Child:
    """The process of one node; its parameters are written into the directory `parameters`."""
    parameters.mkdir(parents=True, exist_ok=True)
    file = parameters / f"{spec.name}.yaml"
    file.write_text(yaml.safe_dump({spec.name: {"ros__parameters": dict(spec.parameters)}}))
    ros = ["--ros-args", "-r", f"__node:={spec.name}", "--params-file", str(file)]
    command = [sys.executable, "-m", spec.module, *ros]
    return Child(spec.name, command, spec.required, spec.ends_run)


def table(result: dict[str, Any], record: RunRecord, paths: list[Path]) -> str:
    """The result for people."""
    steps = [episode.num_steps for episode in record.finished]
    rate_hz = record.replan_rate_hz() if result["clock"] == "realtime" else None
    share = f"{result['successes']}/{result['episodes']}"
    interval = f"95 % interval {result['interval_low']:.2f} to {result['interval_high']:.2f}"
    rows = [
        ("success", f"{share}  ({interval})"),
        ("steps", f"{min(steps)} to {max(steps)}" if len(set(steps)) > 1 else str(steps[0])),
        ("plan p50, p99", _milliseconds(result, "plan_seconds")),
        ("camera to command", _milliseconds(result, "latency_seconds")),
    ]
    if rate_hz is not None:
        rows.append(("replan rate", f"{rate_hz:.1f} Hz"))
    rows += [(path.suffix[1:] or path.name, str(path)) for path in paths]
    title = " ".join(str(result[key]) for key in ("task", "checkpoint", "planner", "clock"))
    return "\n".join([title, *(f"  {name:<18}{value}" for name, value in rows)])


def _run_graph(
    specs: list[NodeSpec], output: Path, environment: dict[str, str], episodes: int
) -> tuple[RunRecord, bool]:
    """Start everything, watch, end everything; False when interrupted."""
    # The monitor is a participant of its own in this process.
    os.environ.setdefault(
        "ROS_AUTOMATIC_DISCOVERY_RANGE", environment["ROS_AUTOMATIC_DISCOVERY_RANGE"]
    )
    from wm_planner.cli.monitor import Monitor

    children = [child_of(spec, output / "parameters") for spec in specs]
    domain_id = int(environment["ROS_DOMAIN_ID"])
    with (
        Monitor(lambda line: print(line, flush=True), domain_id) as monitor,
        Supervisor(children, output / "logs", environment) as supervisor,
    ):
        ended = supervisor.wait(monitor.spin)
        if ended:
            monitor.spin_until(lambda: len(monitor.record.finished) >= episodes, DRAIN_S)
        return monitor.record, ended


def _write_pictures(output: Path, record: RunRecord) -> list[Path]:
    from wm_planner.cli.film import write_film, write_key_frames

    film = write_film(output / "film.mp4", record.finished)
    picture = write_key_frames(output / "last_episode.png", record.finished[-1])
    return [path for path in (film, picture) if path is not None]


def _milliseconds(result: dict[str, Any], name: str) -> str:
    values = [result[f"{name}_{percentile}"] for percentile in ("p50", "p99")]
    return ", ".join("not measured" if v is None else f"{1000 * v:.0f} ms" for v in values)


def _commit() -> str | None:
    """Commit of the source tree, None outside one."""
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
