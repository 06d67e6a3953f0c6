"""`wm-planner robot ...` as a user types it, with the stand-in arm for a robot."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("rclpy")

from wm_planner.cli.robot_session import Session
from wm_planner.data.bags import Bag
from wm_planner.data.goal_file import load_goal
from wm_planner.errors import WmPlannerError
from wm_planner.robot import read_robot

from .domains import claim_domain
from .waiting import until

HERE = Path(__file__).parent
FILE = HERE / "stand_in.yaml"
PATH = os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")])
ENVIRONMENT = {**os.environ, "ROS_DOMAIN_ID": str(claim_domain()), "PYTHONPATH": PATH}


def robot(*arguments: object, **options) -> subprocess.CompletedProcess[str]:
    """Run the command to its end."""
    command = [sys.executable, "-m", "wm_planner.cli.main", "robot", *map(str, arguments)]
    return subprocess.run(
        command,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=100,
        **options,
        check=False,
    )


def changed(tmp_path: Path, **changes: str) -> Path:
    """The robot file with other lines."""
    text = FILE.read_text()
    for old, new in changes.values():
        assert old in text
        text = text.replace(old, new)
    file = tmp_path / "robot.yaml"
    file.write_text(text)
    return file


@pytest.fixture
def arm() -> Iterator[None]:
    """The arm as a robot that runs already."""
    process = subprocess.Popen(
        [sys.executable, str(HERE / "stand_in_arm.py")],
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stdout.readline()  # it is there
    yield
    process.terminate()
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors


@pytest.fixture
def hand() -> Iterator[None]:
    """Somebody who drives the arm."""
    process = subprocess.Popen([sys.executable, str(HERE / "hand.py")], env=ENVIRONMENT)
    yield
    process.kill()
    process.wait()


def test_check_starts_the_driver_and_misses_nothing():
    result = robot("check", FILE, "--seconds", "4")
    assert result.returncode == 0, result.stdout + result.stderr
    for text in (
        "/joint_states",
        "6 of 6",
        "passed over: gripper_left, gripper_right",
        "160 x 120 rgb8; crop 20, 0, 120, 120 becomes 64 x 64",
        "/stand_in_arm listens for std_msgs/msg/Float64MultiArray",
        "limits of 6 joints read from robot_description",
        "nothing is missing",
    ):
        assert text in result.stdout, text


def test_check_names_what_is_wrong_of_a_robot_that_runs(arm, tmp_path):
    file = changed(
        tmp_path,
        driver=("driver: {module: stand_in_arm, name: stand_in_arm}\n", ""),
        camera=("/arm_camera/image_raw", "/arm_camera/image"),
        joint=("proprio: [base/position", "proprio: [bass/position"),
        adapter=("adapter: forward", "adapter: joint_trajectory"),
    )
    result = robot("check", file, "--seconds", "5")
    assert result.returncode == 1, result.stdout + result.stderr
    for text in (
        "nobody publishes /arm_camera/image ",
        "topics of that type: /arm_camera/image_raw",
        "no joint 'bass'",
        "Did you mean 'base'",
        "write command.adapter: forward",
        "3 to mend",
    ):
        assert text in result.stdout, text


def test_a_bad_file_is_one_line_and_exit_code_2(tmp_path):
    file = changed(tmp_path, key=("stale_after_s:", "stale_aftr_s:"))
    for action in (["check"], ["goal", "--output", str(tmp_path / "goal")]):
        result = robot(*action[:1], file, *action[1:])
        assert result.returncode == 2
        assert "Did you mean 'stale_after_s'" in result.stderr
        assert len(result.stderr.strip().splitlines()) == 1


def test_goal_is_what_the_planner_sees(arm, tmp_path):
    file = changed(tmp_path, driver=("driver: {module: stand_in_arm, name: stand_in_arm}\n", ""))
    result = robot("goal", file, "--output", tmp_path / "goal")
    assert result.returncode == 0, result.stdout + result.stderr
    body = read_robot(file).embodiment
    picture, proprio = load_goal(tmp_path / "goal", body)
    np.testing.assert_allclose(proprio, read_robot(file).home, atol=1e-3)
    assert picture.shape == (64, 64, 3) and picture.std() > 10
    again = robot("goal", file, "--output", tmp_path / "goal")
    assert again.returncode == 2 and "holds a goal already" in again.stderr


def outcomes(directory: Path) -> dict[str, str]:
    """Outcome of each bag of a directory, by the event at its end."""
    found = {}
    for bag in sorted(path for path in directory.iterdir() if list(path.glob("*.mcap"))):
        events = [m.decode() for m in Bag(bag).messages() if m.topic == "/episode"]
        values = {pair.key: pair.value for pair in events[-1].values}
        found[bag.name] = values["outcome"] if events[-1].message == "end" else "no end"
    return found


def test_record_writes_episodes_without_a_checkpoint(hand, tmp_path):
    result = robot("record", FILE, "--output", tmp_path, "--episodes", 2, "--seconds", 1.5)
    assert result.returncode == 0, result.stdout + result.stderr
    assert outcomes(tmp_path) == {"episode_0000": "", "episode_0001": ""}
    assert "2 episodes" in result.stdout and "!!" not in result.stdout
    messages = list(Bag(tmp_path / "episode_0001").messages())
    assert messages[0].topic == "/recording"
    topics = [message.topic for message in messages]
    assert topics.count("/observation/image") >= 5  # the camera's hole may lie in it
    assert topics.count("/joint_states") >= 30
    assert topics.count("/arm/velocity") >= 8
    assert "/command_sent" not in topics
    stamps = [message.stamp_ns for message in messages]
    assert 1.0 < (max(stamps) - min(stamps)) * 1e-9 < 4.0


def test_record_says_what_an_episode_lacks(tmp_path):
    result = robot("record", FILE, "--output", tmp_path, "--episodes", 1, "--seconds", 0.5)
    assert result.returncode == 1
    assert "no commands on /arm/velocity: did anybody drive?" in result.stdout
    file = changed(tmp_path, record=("record: {commands: /arm/velocity}\n", ""))
    result = robot("record", file, "--output", tmp_path)
    assert result.returncode == 2 and "record: {commands: /arm/velocity}" in result.stderr
    result = robot("record", FILE, "--output", tmp_path, "--episodes", 1)
    assert result.returncode == 2 and "belong together" in result.stderr


def test_record_obeys_the_keys_of_a_terminal(hand, tmp_path):
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "wm_planner.cli.main", "robot", "record", str(FILE)]
    process = subprocess.Popen(
        [*command, "--output", str(tmp_path)],
        env=ENVIRONMENT, stdin=theirs, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None

    def line_with(text: str) -> str:
        for line in process.stdout:
            if text in line:
                return line
        raise AssertionError(f"{text!r} was not said")

    line_with("keys:")
    for key, name, said in (
        ("y", "episode_0000", "success"),
        ("n", "episode_0001", "failure"),
        ("d", "episode_0002", "dropped"),
    ):
        os.write(ours, b"s")
        assert name in line_with("recording")
        until(lambda name=name: list((tmp_path / name).glob("*.mcap")), f"the bag of {name}")
        os.write(ours, key.encode())
        assert name in line_with(said)
    os.write(ours, b"y")
    line_with("start_episode first")
    os.write(ours, b"q")
    assert "2 episodes" in line_with("episodes")
    assert process.wait(timeout=60) == 0
    assert outcomes(tmp_path) == {"episode_0000": "success", "episode_0001": "failure"}
    assert outcomes(tmp_path / "dropped") == {"episode_0002": ""}


def test_record_without_a_terminal_ends_with_ctrl_c(hand, tmp_path):
    command = [sys.executable, "-m", "wm_planner.cli.main", "robot", "record", str(FILE)]
    process = subprocess.Popen(
        [*command, "--output", str(tmp_path)],
        env=ENVIRONMENT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    while "start_episode" not in process.stdout.readline():
        pass
    call = [sys.executable, "-c", CALL, "/finetune_node/start_episode"]
    subprocess.run(call, env=ENVIRONMENT, check=True, timeout=60)
    bag = tmp_path / "episode_0000"
    until(lambda: list(bag.glob("*.mcap")), "the bag")
    process.send_signal(signal.SIGINT)
    assert "interrupted" in process.stdout.read()
    assert process.wait(timeout=60) == 130
    assert (bag / "metadata.yaml").exists()


CALL = """
import sys, rclpy
from std_srvs.srv import Trigger
rclpy.init()
node = rclpy.create_node('person')
client = node.create_client(Trigger, sys.argv[1])
assert client.wait_for_service(timeout_sec=10)
future = client.call_async(Trigger.Request())
rclpy.spin_until_future_complete(node, future, timeout_sec=10)
sys.exit(not future.result().success)
"""


# On the way to a goal -------------------------------------------------------------------------

HARDWARE = ("driver: {module: stand_in_arm, name: stand_in_arm}\n", "")
QUICK = ("driver:", 'settings: ["num_iterations=2", "warm_iterations=1"]\ndriver:')


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> str:
    """A random model of the stand-in arm: it plans, if not well."""
    torch = pytest.importorskip("torch")
    from wm_planner.models.bundle import Bundle, build_model
    from wm_planner.models.checkpoint import save_bundle
    from wm_planner.models.predictor import PredictorConfig
    from wm_planner.models.preprocess import Preprocess
    from wm_planner.models.world_model import ModelConfig

    torch.manual_seed(0)
    body = read_robot(FILE).embodiment
    predictor = PredictorConfig(depth=1, heads=2, dim_head=8, mlp_dim=32, dropout=0.0, width=16)
    model = build_model(ModelConfig(64, 1, 16, 8, 30, 6, predictor=predictor, decoder="small"))
    statistics = ((0.0,) * 6, (0.5,) * 6, (0.0,) * 6, (1.0,) * 6)
    bundle = Bundle(model, Preprocess(64, 5, *statistics), body, {"num_iterations": 3})
    bundle.info["arrived"] = {"picture": 1e6}
    return str(save_bundle(bundle, tmp_path_factory.mktemp("models") / "random"))


@pytest.fixture(scope="module")
def goal(tmp_path_factory) -> Path:
    """The arm at home, as a goal."""
    from wm_planner.data.goal_file import save_goal

    robot_file = read_robot(FILE)
    path = tmp_path_factory.mktemp("goals") / "home"
    grey = np.full((64, 64, 3), 120, np.uint8)
    save_goal(path, grey, np.array(robot_file.home), robot_file.embodiment)
    return path


def test_a_dry_run_plans_and_sends_nothing(checkpoint, goal, tmp_path):
    file = changed(tmp_path, quick=QUICK, rate=("max_rate: [4.0, 4.0", "max_rate: [0.01, 4.0"))
    result = robot(
        "run", file, "--checkpoint", checkpoint, "--goal", goal, "--dry-run", "--time-limit", 1.5
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert "cost" in result.stdout and "picture" in result.stdout and "replan" in result.stdout
    assert "proprio   0.000" in result.stdout  # it stands at the goal, and stays there
    assert "dry run, nothing was sent" in result.stdout
    # The planner obeys the robot: not even so small a rate has anything to cut.
    assert (
        "limits would have cut 0 (0.0 %): 0 beyond bounds, 0 faster than max_rate" in result.stdout
    )
    assert "0 beyond position limits" in result.stdout


def test_run_says_arrived_records_films_and_leaves_the_robot_at_rest(checkpoint, goal, tmp_path):
    file = changed(tmp_path, quick=QUICK, near=("proprio: 0.15", "proprio: 5.0"))
    result = robot(
        "run", file, "--checkpoint", checkpoint, "--goal", goal, "--yes",
        "--record", tmp_path / "way", "--film", tmp_path / "film.mp4",
    )  # fmt: skip
    assert result.returncode == 0, result.stdout + result.stderr
    assert "arrived means proprio within 5 and picture within 1e+06 for 0.5 s" in result.stdout
    assert "\narrived: " in result.stdout
    assert (tmp_path / "film.mp4").stat().st_size > 1000
    assert outcomes(tmp_path / "way") == {"episode_0000": "success"}
    messages = list(Bag(tmp_path / "way" / "episode_0000").messages())
    about = json.loads(messages[0].decode().data)
    assert about["checkpoint"]["name"] == checkpoint and len(about["checkpoint"]["sha256"]) == 64
    assert about["planner"]["settings"] == ["num_iterations=2", "warm_iterations=1"]
    topics = {message.topic for message in messages}
    assert {"/goal/image", "/goal/joint_states", "/plan", "/command_sent"} <= topics
    sent = [m.decode().points[0].velocities for m in messages if m.topic == "/command_sent"]
    assert any(np.any(velocities) for velocities in sent)  # it moved


def test_run_gives_up_when_the_time_is_over(arm, checkpoint, goal, tmp_path):
    file = changed(tmp_path, driver=HARDWARE, far=("proprio: 0.15", "proprio: 0.00001"))
    result = robot(
        "run", file, "--checkpoint", checkpoint, "--goal", goal, "--yes", "--time-limit", 1
    )
    assert result.returncode == 1, result.stdout + result.stderr
    assert "\ntime limit: " in result.stdout


def test_run_ends_with_ctrl_c_and_leaves_nobody_behind(checkpoint, goal, tmp_path):
    file = changed(tmp_path, quick=QUICK, far=("proprio: 0.15", "proprio: 0.00001"))
    command = [sys.executable, "-m", "wm_planner.cli.main", "robot", "run", str(file)]
    process = subprocess.Popen(
        [*command, "--checkpoint", checkpoint, "--goal", str(goal), "--yes"],
        env={**ENVIRONMENT, "TMPDIR": str(tmp_path)}, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    while "arrived means" not in process.stdout.readline():
        pass
    assert "replan" in process.stdout.readline()  # it is on its way
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=15) == 130
    left = subprocess.run(
        ["pgrep", "-f", str(tmp_path)], capture_output=True, text=True, check=False
    ).stdout
    assert left == ""
    assert not list(tmp_path.glob("wm-planner-robot-*"))


def test_run_asks_a_person(checkpoint, goal, tmp_path):
    arguments = ["run", FILE, "--checkpoint", checkpoint, "--goal", goal]
    refused = robot(*arguments, stdin=subprocess.DEVNULL)
    assert refused.returncode == 2 and "give --yes" in refused.stderr
    ours, theirs = pty.openpty()
    os.write(ours, b"no\n")
    result = robot(*arguments, stdin=theirs)
    assert result.returncode == 1 and "type yes: nothing was moved" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--checkpoint", "nowhere"], "unknown checkpoint 'nowhere'"),
        (["--time-limit", "-1"], "--time-limit must be positive"),
        (["--dry-run", "--record", "bags"], "nothing to record"),
        (["--checkpoint", "wall-base"], "which is not this robot"),
        ([], "names no checkpoint"),
    ],
)
def test_what_run_cannot_use_is_one_line_and_exit_code_2(arguments, text, goal):
    if "--checkpoint" not in arguments and arguments:
        arguments = [*arguments, "--checkpoint", "wall-base"]
    result = robot("run", FILE, "--goal", goal, "--yes", *arguments)
    assert result.returncode == 2
    assert text in result.stderr and len(result.stderr.strip().splitlines()) == 1


class Patient(Session):
    """A session whose waiting takes no time; the condition is asked at the end of each wait."""

    def __init__(self) -> None:
        self._logs, self.waited_s = Path("logs"), 0.0

    def within(self, condition, timeout_s):
        self.waited_s += timeout_s
        return condition()


def test_what_is_missing_is_said_while_there_is_time_to_mend_it(capsys):
    session = Patient()
    assert session.until(lambda: session.waited_s > 10, lambda: "no picture came", 60.0)
    assert session.waited_s == 60.0
    assert capsys.readouterr().out == "still waiting after 10 s: no picture came\n"
    with pytest.raises(WmPlannerError, match=r"no picture came \(waited 60 s; logs in logs\)"):
        session.until(lambda: False, lambda: "no picture came", 60.0)
    assert session.until(lambda: True, lambda: "nothing", 60.0)
    assert "nothing" not in capsys.readouterr().out
