"""The live page over HTTP: who may press its buttons, and what they do to live nodes."""

from __future__ import annotations

import asyncio
import json
import urllib.error
import urllib.request
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

pytest.importorskip("rclpy")
pytest.importorskip("aiohttp", reason="needs the 'view' extra")

import aiohttp
from rclpy import task
from sensor_msgs.msg import Image, JointState
from std_msgs.msg import Float64MultiArray, Header

from wm_planner.nodes.controller_node import ControllerNode
from wm_planner.robot import read_robot
from wm_planner.ros import diagnostics
from wm_planner.ros.base import NodeBase
from wm_planner.ros.conversions import image_array, image_message, joint_state_message, to_ns
from wm_planner.ros.qos import COMMAND, LATCHED, RELIABLE
from wm_planner.view.board import Board
from wm_planner.view.node import ViewNode
from wm_planner.view.server import Server

from .browser import find_browser
from .test_namespaces_live import CONTROLLER

ROBOT = read_robot(Path(__file__).parent / "stand_in.yaml")
BODY = ROBOT.embodiment
HEADER = {"X-WM-Planner": "page"}


class Page:
    """The page's server beside live nodes; requests run in other threads."""

    def __init__(self, graph, node: ViewNode, server: Server, threads: ThreadPoolExecutor) -> None:
        self.graph, self.node, self.server = graph, node, server
        self._threads = threads

    def send(self, path: str, data: bytes | None = b"", **headers: str) -> Future:
        """A request; the future holds (status, answer)."""
        base, _, query = self.server.url.partition("?")
        request = urllib.request.Request(f"{base}{path}?{query}", data, headers)

        def fetch() -> tuple[int, bytes]:
            try:
                with urllib.request.urlopen(request, timeout=60) as response:
                    return response.status, response.read()
            except urllib.error.HTTPError as error:
                return error.code, error.read()

        return self._threads.submit(fetch)

    def get(self, path: str, **headers: str) -> tuple[int, bytes]:
        return self.send(path, None, **headers).result(60)

    def press(self, path: str, data: bytes = b"", **headers: str) -> tuple[bool, str]:
        """A button, while all nodes are served: whether it worked, and what it says."""
        asked = self.send(path, data, **HEADER, **headers)
        self.graph.until(asked.done, path)
        answer = json.loads(asked.result()[1])
        return answer["ok"], answer["text"]

    def until_controller(self, state: str) -> None:
        self.graph.until(lambda: self.node.board.controller() == state, state)


@pytest.fixture
def page(graph):
    node = graph.serve(ViewNode(Board(where="here"), ROBOT, context=graph.context))
    with Server(node, "127.0.0.1", 0) as server, ThreadPoolExecutor() as threads:
        yield Page(graph, node, server, threads)


class Planner:
    """Stands for the planner: takes goals, and reports."""

    def __init__(self, graph, deaf: bool = False) -> None:
        node = graph.serve(NodeBase("planner_node", context=graph.context))
        self.goals: list[Image] = []
        self.joints: list[JointState] = []
        self._accepted = node.create_publisher(Header, "goal/accepted", LATCHED)
        self._deaf = deaf
        node.create_subscription(Image, "goal/image", self._on_goal, LATCHED)
        node.create_subscription(JointState, "goal/joint_states", self.joints.append, LATCHED)
        told = diagnostics.status("planner_node: inputs", diagnostics.OK, "no goal", {})
        node.create_timer(0.1, lambda: node._status.publish(diagnostics.array(0, told)))

    def _on_goal(self, message: Image) -> None:
        self.goals.append(message)
        if not self._deaf:
            self._accepted.publish(message.header)


def uploaded(*files: tuple[str, bytes]) -> tuple[bytes, dict[str, str]]:
    """Body and header of a form with files."""
    parts = [
        f'--x\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n\r\n'.encode()
        + data
        + b"\r\n"
        for name, data in files
    ]
    return b"".join(parts) + b"--x--\r\n", {"Content-Type": "multipart/form-data; boundary=x"}


def png(height: int, width: int) -> bytes:
    picture = np.random.default_rng(0).integers(0, 255, (height, width, 3), np.uint8)
    return cv2.imencode(".png", picture)[1].tobytes()


def status_of(url: str) -> int:
    try:
        with urllib.request.urlopen(url, timeout=60) as response:
            return response.status
    except urllib.error.HTTPError as error:
        return error.code


# Who may ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "text"),
    [
        ({}, "the header X-WM-Planner is missing"),
        ({**HEADER, "Origin": "http://evil.example"}, "a page of http://evil.example"),
        ({**HEADER, "Origin": "null"}, "a page of null"),
        ({**HEADER, "Host": "evil.example"}, "not for the host 'evil.example'"),
        ({**HEADER, "Host": "127.0.0.1.evil.example"}, "not for the host"),
    ],
)
def test_another_page_cannot_press_a_button(page, headers, text):
    status, answer = page.send("start", b"", **headers).result(60)
    assert status == 403 and text in json.loads(answer)["text"]


def test_another_page_can_neither_look_nor_listen(page):
    assert page.get("", Host="evil.example")[0] == 403
    assert page.get("picture/camera", Host="evil.example:8765")[0] == 403

    async def listen() -> None:
        url = page.server.url.replace("http", "ws") + "live"
        async with aiohttp.ClientSession() as session:
            with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                await session.ws_connect(url, origin="http://evil.example")
            assert refused.value.status == 403

    asyncio.run(listen())


def test_the_page_itself_comes_with_a_policy_that_forbids_frames(page):
    with urllib.request.urlopen(page.server.url) as response:
        assert "frame-ancestors 'none'" in response.headers["Content-Security-Policy"]
        assert b"<title>wm_planner</title>" in response.read()
    assert page.get("static/view.js")[0] == page.get("static/view.css")[0] == 200
    assert page.get("static/../server.py")[0] == page.get("picture/camera")[0] == 404


def test_beyond_this_machine_the_address_must_carry_the_token(graph):
    node = graph.serve(ViewNode(context=graph.context))
    with Server(node, "0.0.0.0", 0, "secret") as server:
        port = server.url.split(":")[2].partition("/")[0]
        for query, expected in (("", 403), ("?token=guess", 403), ("?token=secret", 200)):
            assert status_of(f"http://127.0.0.1:{port}/{query}") == expected


def test_a_port_that_is_taken_is_named(page):
    from wm_planner.errors import ConfigError

    port = int(page.server.url.rsplit(":", 1)[1].strip("/"))
    with pytest.raises(ConfigError, match=rf"--port {port}: .*choose another"):
        Server(page.node, "127.0.0.1", port)


# Start and stop -----------------------------------------------------------------------------


def test_start_configures_and_activates_and_stop_is_latched(graph, page):
    controller = graph.add(ControllerNode, **CONTROLLER)
    graph.until(lambda: page.node.is_there("controller_node/get_state"), "the controller")
    ok, text = page.press("stop")
    assert not ok and "emergency stop" in text  # nothing is configured: nobody stops
    assert page.press("start") == (True, "started: the robot follows the plan")
    page.until_controller("active")
    graph.until(lambda: page.node.is_there("controller_node/stop"), "its stop")
    assert page.press("start") == (True, "the controller is active already")
    ok, text = page.press("stop")
    assert ok and "deactivate and activate" in text
    page.until_controller("stopped")
    assert controller.state == "active"  # the lifecycle; the stop is latched
    assert page.press("start")[0]
    page.until_controller("active")


def test_what_the_controller_refuses_is_told_with_its_reason(graph, page, monkeypatch):
    monkeypatch.setattr("wm_planner.view.buttons.ARM_S", 0.0)
    graph.add(ControllerNode, **CONTROLLER)
    rival = graph.peer("rival")
    rival.create_publisher(Float64MultiArray, "command", COMMAND)
    graph.until(lambda: page.node.is_there("controller_node/get_state"), "the controller")
    graph.until(lambda: page.node.count_publishers("command"), "the rival")
    ok, text = page.press("start")
    assert not ok and "refuses to activate" in text and "/rival" in text, text


def test_a_stop_ends_a_start_that_is_under_way(graph, page):
    controller = graph.add(ControllerNode, **CONTROLLER)
    controller.trigger_configure()
    for name in ("get_state", "stop"):
        graph.until(lambda: page.node.is_there(f"controller_node/{name}"), name)  # noqa: B023
    starting = page.send("start", **HEADER)
    graph.until(lambda: page.node.board.starting, "Start")
    while controller.state == "inactive" and not starting.done():
        graph.spin(0.0)  # until the activation is done, but nobody knows yet
    stopping = page.send("stop", **HEADER)
    graph.until(lambda: starting.done() and stopping.done(), "both answers")
    assert json.loads(stopping.result()[1])["ok"]
    page.until_controller("stopped")
    assert not controller._active


def test_an_activation_that_is_answered_too_late_is_taken_back(graph, page, monkeypatch):
    controller = graph.add(ControllerNode, **CONTROLLER)
    controller.trigger_configure()
    for name in ("get_state", "stop"):
        graph.until(lambda: page.node.is_there(f"controller_node/{name}"), name)  # noqa: B023
    monkeypatch.setattr("wm_planner.view.buttons.ANSWER_S", 0.0)
    ok, text = page.press("start")
    assert not ok and "came too late, and was taken back" in text, text
    page.until_controller("stopped")
    assert not controller._active


def test_an_activation_that_is_never_answered_calls_for_the_emergency_stop(
    graph, page, monkeypatch
):
    controller = graph.add(ControllerNode, **CONTROLLER)
    controller.trigger_configure()
    graph.until(lambda: page.node.is_there("controller_node/stop"), "its stop")

    async def never(_request: Any, response: Any) -> Any:
        await task.Future()
        return response

    (service,) = (s for s in controller.services if s.srv_name.endswith("/change_state"))
    service.callback = never
    monkeypatch.setattr("wm_planner.view.buttons.ANSWER_S", 0.0)
    monkeypatch.setattr("wm_planner.view.buttons.LATE_S", 0.0)
    ok, text = page.press("start")
    assert not ok and "it may still happen: use the robot's emergency stop" in text, text


def test_stop_goes_over_the_live_channel_too(graph, page):
    controller = graph.add(ControllerNode, **CONTROLLER)
    controller.trigger_configure()
    controller.trigger_activate()
    graph.until(lambda: page.node.is_there("controller_node/stop"), "its stop")

    async def press() -> str:
        url = page.server.url.replace("http", "ws") + "live"
        async with aiohttp.ClientSession() as session, session.ws_connect(url) as channel:
            await channel.send_str("stop")
            async for message in channel:
                told = json.loads(message.data)
                if "answer" in told:
                    return told["answer"]["text"]
        return ""

    asked = page._threads.submit(lambda: asyncio.run(press()))
    graph.until(asked.done, "the stop")
    assert "deactivate and activate" in asked.result()
    assert not controller._active


def test_where_no_controller_runs_start_says_so(page):
    assert page.press("start") == (False, "controller_node is not running in here")


# Goals --------------------------------------------------------------------------------------


def test_here_becomes_the_goal_with_picture_and_joints_of_one_stamp(graph, page):
    planner, driver = Planner(graph), graph.peer("driver")
    images = driver.create_publisher(Image, "observation/image", RELIABLE)
    joints = driver.create_publisher(JointState, ROBOT.joint_states, RELIABLE)
    picture = np.full((64, 64, 3), 7, np.uint8)
    proprio = np.linspace(-1, 1, 6).astype(np.float32)
    graph.until(lambda: not page.node.board.why_no_goal(), "the planner")
    ok, text = page.press("here")
    assert not ok and "no picture of camera 'front' came" in text

    def feed() -> bool:
        now_ns = driver.get_clock().now().nanoseconds
        images.publish(image_message(picture, now_ns))
        joints.publish(joint_state_message(proprio, BODY.proprio, now_ns))
        return page.node.view.complete()

    graph.until(feed, "picture and joints")
    ok, text = page.press("here")
    assert ok and text.startswith("goal: here")
    graph.until(lambda: planner.goals and planner.joints, "the goal")
    np.testing.assert_array_equal(image_array(planner.goals[-1]), picture)
    np.testing.assert_allclose(planner.joints[-1].position, proprio, rtol=1e-6)
    assert to_ns(planner.goals[-1].header.stamp) == to_ns(planner.joints[-1].header.stamp)
    graph.until(lambda: page.node.board.picture("goal") is not None, "the goal on the board")
    assert page.get("picture/goal")[1][:4] == page.get("picture/goal-1")[1][:4] == b"\x89PNG"
    assert page.press("clear")[0]
    graph.until(lambda: planner.goals[-1].height == 0, "the clearing")
    assert page.press("goal/1")[0]
    assert page.press("goal/2") == (False, "there is no goal 2 any more")


def test_an_upload_is_a_picture_with_or_without_joints(graph, page):
    planner = Planner(graph)
    graph.until(lambda: not page.node.board.why_no_goal(), "the planner")
    facts = {"proprio": dict.fromkeys(BODY.proprio, 0.25)}
    body, headers = uploaded(("a.png", png(64, 64)), ("goal.json", json.dumps(facts).encode()))
    assert page.press("upload", body, **headers) == (True, "goal: a.png")
    graph.until(lambda: planner.goals and planner.joints, "the goal")
    assert set(planner.joints[-1].position) == {0.25}
    for files, text in (
        ([("a.png", png(32, 64))], "64 x 32 pixels, the planner sees 64 x 64"),
        ([("a.png", b"no picture")], "is not a picture"),
        ([], "got nothing"),
        ([("a.png", png(64, 64)), ("goal.json", b"{}")], "goal.json: is no goal"),
        ([("a.png", png(64, 64)), ("goal.json", b"\xff")], "goal.json: is no text"),
        ([("a.png", png(64, 64)), ("b.png", png(64, 64))], "a.png, b.png"),
    ):
        body, headers = uploaded(*files)
        ok, answer = page.press("upload", body, **headers)
        assert not ok and text in answer, answer


def test_a_goal_that_the_planner_does_not_take_is_told(graph, page, monkeypatch):
    monkeypatch.setattr("wm_planner.view.buttons.ACCEPT_S", 0.1)
    Planner(graph, deaf=True)
    graph.until(lambda: not page.node.board.why_no_goal(), "the planner")
    body, headers = uploaded(("a.png", png(64, 64)))
    ok, text = page.press("upload", body, **headers)
    assert not ok and "has not taken the goal" in text


def test_where_a_simulator_sets_the_goals_the_page_does_not(graph, page):
    Planner(graph)
    graph.serve(NodeBase("bridge_node", context=graph.context))
    graph.until(lambda: "bridge_node" in page.node.board.nodes, "the simulator")
    ok, text = page.press("clear")
    assert not ok and "the simulator sets the goals" in text


def test_without_a_robot_file_the_planner_tells_which_robot_it_plans_for(graph):
    body = json.dumps(BODY.to_json())
    node = graph.serve(ViewNode(context=graph.context))
    values = {"embodiment": body, "checkpoint": "no-such-checkpoint"}
    planner = graph.serve(NodeBase("planner_node", context=graph.context))
    for name, value in values.items():
        planner.declare_parameter(name, value)
    planner.create_subscription(JointState, "/arm/joints", lambda _: None, 1)
    planner.create_subscription(JointState, "goal/joint_states", lambda _: None, 1)
    graph.until(lambda: node.body is not None, "the robot")
    assert node.board.robot == BODY.name and node.body == BODY
    assert "give the robot file" in node.board.episodes.rule
    heard = [topic for topic, _ in node.get_subscriber_names_and_types_by_node("view_node", "/")]
    graph.until(lambda: node.count_subscribers("/arm/joints") == 2, "its joints")
    assert "/joint_states" not in heard


@pytest.mark.timeout(900)  # each step of it has a deadline of its own
@pytest.mark.skipif(find_browser() is None, reason="no Chromium is installed")
def test_a_browser_starts_sets_a_goal_and_sees_it_reached(tmp_path):
    pytest.importorskip("torch", reason="the planner needs the 'model' extra")
    pytest.importorskip("mujoco", reason="the simulated arm needs the 'sim' extra")
    from .view_in_browser import run

    row, complaints = run(tmp_path)
    assert row.split("\t")[:2] == ["1", "reached"]
    assert complaints == []
