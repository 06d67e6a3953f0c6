# A ROS distribution, with this package and its Python libraries beside it: Humble or newer.
ARG ROS_DISTRO=jazzy
FROM ros:${ROS_DISTRO}-ros-base

SHELL ["/bin/bash", "-o", "pipefail", "-c"]
# EGL draws the simulator's pictures, by Mesa or by the graphics card's own library.
RUN apt-get update \
    && apt-get install -y --no-install-recommends libegl1 libgl1-mesa-dri make python3-venv \
    && rm -rf /var/lib/apt/lists/*

WORKDIR /wm_planner
COPY . .
RUN source "/opt/ros/${ROS_DISTRO}/setup.bash" && make .venv && .venv/bin/python -m pip cache purge

ENV PATH=/wm_planner/.venv/bin:$PATH NVIDIA_DRIVER_CAPABILITIES=all
# The image's own entry point sources ROS 2.
CMD ["wm-planner", "--help"]
