"""What the recorder has written: every bag that it said it closed can be read."""

from __future__ import annotations

import shutil
from typing import Any

from wm_planner.data.bags import Bag
from wm_planner.errors import WmPlannerError


def check_bags(stage: Any) -> dict[str, Any]:
    """Read the bags that were closed since the last time, and remove them.

    Returns:
        'complete': how many were told of; 'lost': what is wrong with those that cannot be read.
    """
    complete, lost = 0, []
    for path, told in list(stage.observer.closed.items()):
        del stage.observer.closed[path]
        complete += 1
        wanted = sum(int(v) for k, v in told.items() if k.startswith("count "))
        try:
            read = sum(1 for _ in Bag(path).messages())
            if read < wanted:
                lost.append(f"{path.name}: {read} messages of {wanted}")
        except (WmPlannerError, OSError) as error:
            lost.append(f"{path.name}: {error}")
        shutil.rmtree(path, ignore_errors=True)
    return {"complete": complete, "lost": lost}
