"""Several who send what one alone may send, and whether the robot must be stopped for it."""

from __future__ import annotations

from collections.abc import Hashable, Mapping

LISTED_S = 30.0  # a process that was killed stays on the graph for a while: 20 s by default


class Rivals:
    """Judges who plans.

    Different nodes are rivals at once. Of one name there may be several because a planner was
    killed and started again: nothing is followed while more than one is listed, and if one outlasts
    its successor's coming by more than a dead one is listed, it is alive.

    Args:
        listed_s: how long a dead process stays listed, seconds.

    Attributes:
        text: who the rivals are, in words; '' where there are none.
    """

    def __init__(self, listed_s: float = LISTED_S) -> None:
        self._listed_s = listed_s
        self._seen_s: dict[Hashable, float] = {}  # when each publisher was seen first
        self.text = ""

    def judge(self, planners: Mapping[Hashable, str], now_s: float) -> bool:
        """Whether the robot must be stopped, until a person activates it again.

        Args:
            planners: full name of each publisher's node, by what tells publishers apart.
            now_s: steady time.
        """
        self._seen_s = {each: self._seen_s.get(each, now_s) for each in planners}
        if len(planners) < 2:
            self.text = ""
            return False
        names = list(planners.values())
        self.text = f"{len(names)} publishers of plans, and one alone may plan: {', '.join(names)}"
        if len(set(names)) > 1:
            return True
        self.text += f"; one that was killed is listed for up to {self._listed_s:g} s"
        second_s = sorted(self._seen_s.values())[1]  # when the oldest one had a successor
        return now_s - second_s > self._listed_s
