"""Read a recorded episode with pandas: how far the robot was, what was sent, how long plans took.

Usage: python examples/read_bag.py BAG       (needs: pip install pandas)

A bag is a directory that `wm-planner sim`, `wm-planner robot record` or `ros2 bag record` wrote.
ROS is not needed to read it.
"""

import sys
from pathlib import Path

import pandas as pd

from wm_planner.data.bags import Bag


def read(path: Path) -> dict[str, pd.DataFrame]:
    """Tables by name; each row is a message, its index the seconds since the bag's first one."""
    rows: dict[str, dict[float, dict]] = {"joints": {}, "commands": {}, "plans": {}}
    begin_ns = None
    for message in Bag(path).messages():  # in the order of time
        begin_ns = message.stamp_ns if begin_ns is None else begin_ns
        seconds = (message.stamp_ns - begin_ns) * 1e-9
        if message.topic.endswith("joint_states") and "goal" not in message.topic:
            state = message.decode()
            rows["joints"][seconds] = dict(zip(state.name, state.position, strict=False))
        elif message.topic.endswith("command_sent"):
            command = message.decode()  # of positions, velocities or effort, one is filled
            point = command.points[0]
            values = next(v for v in (point.velocities, point.positions, point.effort) if len(v))
            rows["commands"][seconds] = dict(zip(command.joint_names, values, strict=True))
        elif message.topic.endswith("diagnostics"):
            for status in message.decode().status:
                if status.name == "planner_node: plan":
                    numbers = {pair.key: float(pair.value) for pair in status.values}
                    rows["plans"][seconds] = numbers
    return {name: pd.DataFrame.from_dict(of, orient="index") for name, of in rows.items()}


if __name__ == "__main__":
    for name, table in read(Path(sys.argv[1])).items():
        print(f"\n{name}: {len(table)} rows")
        if len(table):
            print(table.describe().round(4))
