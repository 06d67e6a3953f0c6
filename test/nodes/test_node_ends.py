"""A node ends when it is asked to, whatever it is at, and leaves no traceback behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

pytest.importorskip("rclpy", reason="needs ROS 2 (or the 'ros' extra)")

DEADLINE_S = 60  # of a busy machine
SPINS = """
from rclpy.node import Node
from wm_planner.ros.run import run_node
class Runs(Node):
    def __init__(self):
        super().__init__("runs")
        self.create_timer(0.01, lambda: print("at it", flush=True))
    def close(self):
        print("closed", flush=True)
run_node(Runs)
"""
SWALLOWS = """
import signal
from wm_planner.ros.run import run_node
def make():
    print("at it", flush=True)
    try:  # as libraries do that try one import after the other
        signal.pause()
    except BaseException:
        signal.pause()
run_node(make)
"""
STAYS_IN_C = """
import hashlib
from wm_planner.ros.run import run_node
def make():
    print("at it", flush=True)
    hashlib.pbkdf2_hmac("sha256", b"", b"", 2**31 - 1)  # a quarter of an hour without Python
run_node(make)
"""
HANGS_ON_LEAVING = """
from rclpy.node import Node
import wm_planner.ros.run as run
run.LEAVE_S = 0.2
class Hangs(Node):
    def close(self):
        print("closed", flush=True)
    def destroy_node(self):
        sum(range(10**12))  # an hour in C, and no other thread of Python runs
print("at it", flush=True)
run.run_node(lambda: Hangs("hangs"), body=lambda node, spin: 0)
"""
FAILS = """
from wm_planner.ros.run import run_node
def make():
    print("at it", flush=True)
    raise RuntimeError("what went wrong")
run_node(make)
"""
LEAVES_A_THREAD = """
import threading
from rclpy.node import Node
from wm_planner.ros.run import run_node
threading.Thread(target=threading.Event().wait).start()
print("at it", flush=True)
run_node(lambda: Node("leaves"), body=lambda node, spin: 3)
"""


def run(code: str) -> subprocess.Popen[str]:
    """A process that has begun."""
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST"},
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "at it\n"
    return process


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_one_that_runs_is_closed_first(number):
    process = run(SPINS)
    process.send_signal(number)
    told, errors = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 0
    assert told.endswith("closed\n")
    assert errors == ""


@pytest.mark.parametrize("code", [SWALLOWS, STAYS_IN_C], ids=["swallows", "stays in C"])
def test_one_that_still_starts_ends_at_once(code):
    process = run(code)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 0
    assert errors == ""


def test_one_that_cannot_leave_the_graph_ends_after_its_close_and_says_where_it_hung():
    process = run(HANGS_ON_LEAVING)
    told, errors = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 1
    assert told == "closed\n"
    assert "in destroy_node" in errors


def test_its_error_is_told_and_its_code_is_one():
    process = run(FAILS)
    _, errors = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 1
    assert "RuntimeError: what went wrong" in errors


def test_the_code_of_its_body_is_the_processes_and_no_thread_keeps_it():
    process = run(LEAVES_A_THREAD)
    process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 3
