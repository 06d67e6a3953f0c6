"""What `wm-planner doctor` says of ROS, with real processes."""

from __future__ import annotations

import os

import pytest

pytest.importorskip("rclpy", reason="needs ROS 2 (or the 'ros' extra)")

import rclpy

from test.nodes.domains import claim_domain
from wm_planner.cli import doctor, doctor_ros


@pytest.fixture
def started(monkeypatch):
    """Rclpy, in a domain of its own."""
    monkeypatch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    domain = claim_domain()
    rclpy.init(domain_id=domain)
    yield str(domain)
    rclpy.try_shutdown()


def test_two_processes_find_each_other(started):
    found = doctor_ros.discovery(started, started, 60.0)
    assert found.level == "OK" and f"domain {started}" in found.text


def test_processes_in_different_domains_do_not(started):
    found = doctor_ros.discovery(started, str((int(started) + 1) % 100), 0.2)
    assert found.level == "FAIL" and "multicast" in found.text


def test_unknown_middleware_fails():
    environment = {**os.environ, "ROS_DOMAIN_ID": "33", "RMW_IMPLEMENTATION": "rmw_none_cpp"}
    ros, dds = doctor.probe(["ROS", "DDS"], ["ros"], environment)
    assert ros.level == dds.level == "FAIL" and "rmw_none_cpp" in ros.text
