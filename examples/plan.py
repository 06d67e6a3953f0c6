"""Plan from Python: a simulated robot drives to its goal, and plans again after each model step."""

import gymnasium

from wm_planner.models.checkpoint import load_bundle
from wm_planner.planning import Planner, Session, planner_config
from wm_planner.tasks import get_task
from wm_planner.types import Goal, Observation

world = gymnasium.make(get_task("wall").env_id)
seen, info = world.reset(seed=0)
bundle = load_bundle("wall-base")
session = Session(Planner(bundle, planner_config(bundle.planner)))
session.set_goal(Goal(info["goal_image"], info["goal_proprio"]))
for now_ns in range(0, 2_000_000_000, 500_000_000):
    plan = session.plan(Observation(seen["image"][None], seen["proprio"][None], now_ns))
    for action in plan.actions[:5]:  # of 0.1 s each
        seen, _, reached, _, info = world.step(action)
    print(f"{info['distance']:.1f} pixels left, reached: {reached}")
