"""Simulated robots: gymnasium environments, and the bridge that puts them on ROS.

Importing this package registers the environments; it pulls in neither torch nor ROS.
"""

import gymnasium

gymnasium.register("wm_planner/Wall-v0", "sim_bridge.envs.wall:WallEnv")
gymnasium.register("wm_planner/PointMaze-v0", "sim_bridge.envs.point_maze:PointMazeEnv")
gymnasium.register("wm_planner/PushT-v0", "sim_bridge.envs.pusht:PushTEnv")
for _name in ("Wall", "PointMaze", "PushT"):
    gymnasium.register(
        f"wm_planner/{_name}Published-v0", f"sim_bridge.envs.published:{_name}PublishedEnv"
    )
gymnasium.register("wm_planner/GymPointMaze-v0", "sim_bridge.envs.gym_point_maze:GymPointMazeEnv")
gymnasium.register("wm_planner/GymPushT-v0", "sim_bridge.envs.gym_pusht:GymPushTEnv")
gymnasium.register("wm_planner/ArmReach-v0", "sim_bridge.envs.arm:ArmReachEnv")
gymnasium.register("wm_planner/ArmPush-v0", "sim_bridge.envs.arm_push:ArmPushEnv")
gymnasium.register("wm_planner/Rope-v0", "sim_bridge.envs.rope:RopeEnv")
gymnasium.register("wm_planner/Granular-v0", "sim_bridge.envs.granular:GranularEnv")
