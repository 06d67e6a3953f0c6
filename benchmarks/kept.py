"""How many model steps of recordings are kept, by how they were recorded.

``python -m benchmarks.kept`` writes five bags of 20 s for every row, as recorders write them,
builds a store of each five, and prints a table.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from wm_planner.data.bags import typestore
from wm_planner.data.build import build_store
from wm_planner.data.recorded import BagDataset
from wm_planner.embodiment import ActionSpace
from wm_planner.files import write_json
from wm_planner.robot import CameraSource, CommandSink, Record, RobotFile
from wm_planner.runtime.bag_writer import BagWriter

SECONDS, BAGS = 20.0, 5
JITTER_S = 0.005
Span = tuple[float, float]
ROBOT = RobotFile(
    name="arm",
    control_dt_s=0.1,
    frame_skip=5,
    action=ActionSpace(names=("a", "b"), low=(-1, -1), high=(1, 1)),
    proprio=("a/position", "b/position"),
    cameras={"front": CameraSource("/cam/image_raw", size=16)},
    command=CommandSink("/commands"),
    stale_after_s=1.0,
)
STEP_S = ROBOT.embodiment.model_dt_s


@dataclass(frozen=True)
class Case:
    """One way to record.

    Attributes:
        name: in the table.
        camera_hz, command_hz: rates.
        camera_holes: seconds (from, to) without pictures, in every bag.
        joint_hole, command_pause: the same, in the third bag alone.
        command_hold_s: of the robot file.
    """

    name: str
    camera_hz: float = 30.0
    command_hz: float = 10.0
    camera_holes: tuple[Span, ...] = ()
    joint_hole: Span | None = None
    command_pause: Span | None = None
    command_hold_s: float | None = None


# Every 5 s, but not at the same place of the model's clock: no phase avoids them all.
EVERY_5_S = tuple((t, t + 0.15) for t in (4.31, 9.05, 13.62, 18.87))
CASES = (
    *(Case(f"camera {hz} Hz", hz) for hz in (30, 15, 12, 10, 8, 5, 2)),
    *(Case(f"camera {hz} Hz, 150 ms without pictures every 5 s", hz, camera_holes=EVERY_5_S)
      for hz in (30, 15, 12, 10, 8)),
    Case("250 ms without joint states, once in five bags", joint_hole=(7.13, 7.38)),
    Case("0.5 s without commands, once; held until the next", command_pause=(7.13, 7.63)),
    Case("0.5 s without commands, once; held for 0.3 s", command_pause=(7.13, 7.63),
         command_hold_s=0.3),
    Case("commands at 5 Hz", command_hz=5),
    Case("camera 10 Hz, commands at 5 Hz", 10, 5),
)  # fmt: skip


@dataclass(frozen=True)
class Kept:
    """Model steps of five bags.

    Attributes:
        possible: while all streams were there.
        touched: of these by a hole.
        kept: read by the reader.
        used: in a store of trajectories of five model steps.
        off_s: by how much a kept step is longer or shorter than a model step, on average.
    """

    possible: int
    touched: int
    kept: int
    used: int
    off_s: float

    @property
    def share(self) -> float:
        """Of the steps that no hole touches."""
        return min(1.0, self.kept / (self.possible - self.touched))


def measure(case: Case, directory: Path, seed: int = 0) -> Kept:
    """Record, read and build."""
    for number in range(BAGS):
        _record(case, directory / f"bags/{number}", number == 2, seed + number)
    robot = replace(ROBOT, record=Record(command_hold_s=case.command_hold_s))
    dataset = BagDataset(directory / "bags", robot)
    store = build_store(dataset, directory / "store", 5, ROBOT.frame_skip, {})
    accounts = [recording.account for recording in dataset.recordings]
    pieces = [piece for recording in dataset.recordings for piece in recording.pieces]
    lengths = [length for piece in pieces for length in np.diff(piece.stamps_ns).tolist()]
    holes = [*case.camera_holes] * BAGS + [h for h in (case.joint_hole,) if h]
    if case.command_pause is not None and case.command_hold_s is not None:
        start, end = case.command_pause
        holes.append((start + case.command_hold_s, end))
    return Kept(
        sum(account.possible for account in accounts),
        sum(_touched(hole) for hole in holes),
        sum(account.kept for account in accounts),
        store.meta["model_steps_used"],
        float(np.mean(np.abs(np.array(lengths) * 1e-9 - STEP_S))),
    )


def _touched(hole: Span) -> int:
    """Cells of the model's clock that a hole lies in."""
    return int(hole[1] // STEP_S) - int(hole[0] // STEP_S) + 1


def _record(case: Case, path: Path, holes_too: bool, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    joint_hole = (case.joint_hole,) if holes_too and case.joint_hole else ()
    pause = (case.command_pause,) if holes_too and case.command_pause else ()
    cameras = _ticks(rng, case.camera_hz, JITTER_S, case.camera_holes)
    streams = [("/cam/image_raw", "sensor_msgs/msg/Image", _image, cameras)]
    joints = _ticks(rng, 50, 0.001, joint_hole)
    streams.append(("/joint_states", "sensor_msgs/msg/JointState", _joints, joints))
    commands = _ticks(rng, case.command_hz, 0.002, pause)
    streams.append(("/commands", "std_msgs/msg/Float64MultiArray", _command, commands))
    messages = [(at, topic, kind, make) for topic, kind, make, ticks in streams for at in ticks]
    writer = BagWriter(path)
    for at, topic, kind, make in sorted(messages, key=lambda message: message[0]):
        stamp_ns = 10**12 + round(at * 1e9)
        writer.write(topic, kind, bytes(typestore().serialize_cdr(make(stamp_ns), kind)), stamp_ns)
    writer.close()


def _ticks(
    rng: np.random.Generator, rate_hz: float, jitter_s: float, holes: tuple[Span, ...]
) -> Iterator[float]:
    """Moments of samples, with a phase of their own."""
    period = 1 / rate_hz
    for at in np.arange(rng.uniform(0, period), SECONDS, period):
        at = float(at + rng.uniform(-jitter_s, jitter_s))
        if not any(start <= at < end for start, end in holes):
            yield at


def _header(stamp_ns: int) -> object:
    types = typestore().types
    time = types["builtin_interfaces/msg/Time"](sec=stamp_ns // 10**9, nanosec=stamp_ns % 10**9)
    return types["std_msgs/msg/Header"](stamp=time, frame_id="")


def _image(stamp_ns: int) -> object:
    return typestore().types["sensor_msgs/msg/Image"](
        header=_header(stamp_ns), height=16, width=16, encoding="rgb8", is_bigendian=0, step=48,
        data=np.full(768, stamp_ns // 10**8 % 256, np.uint8),
    )  # fmt: skip


def _joints(stamp_ns: int) -> object:
    place = np.array([1.0, 2.0]) * (stamp_ns * 1e-9 % 60)
    return typestore().types["sensor_msgs/msg/JointState"](
        header=_header(stamp_ns), name=["a", "b"], position=place, velocity=np.zeros(0),
        effort=np.zeros(0),
    )  # fmt: skip


def _command(_stamp_ns: int) -> object:
    types = typestore().types
    layout = types["std_msgs/msg/MultiArrayLayout"](dim=[], data_offset=0)
    return types["std_msgs/msg/Float64MultiArray"](layout=layout, data=np.array([0.1, 0.2]))


def main() -> int:
    """Print the table; with an argument, write it as JSON to that file too."""
    rows = {}
    print("| recording | possible | touched | kept | of the untouched | in the store | off, ms |")
    print("|---|---|---|---|---|---|---|")
    for case in CASES:
        with tempfile.TemporaryDirectory() as directory:
            kept = measure(case, Path(directory))
        rows[case.name] = vars(kept)
        print(
            f"| {case.name} | {kept.possible} | {kept.touched} | {kept.kept} | "
            f"{100 * kept.share:.0f} % | {kept.used} | "
            f"{1000 * kept.off_s:.0f} |",
            flush=True,
        )
    if len(sys.argv) > 1:
        write_json(Path(sys.argv[1]), rows)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
