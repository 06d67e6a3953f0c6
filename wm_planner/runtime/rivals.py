"""Several who send what one alone may send, and whether the robot must be stopped for it."""

from __future__ import annotations

from collections.abc import Sequence

LISTED_S = 30.0  # a process that was killed stays on the graph for a while: 20 s by default


class Rivals:
    """Judges who plans.

    Different nodes are rivals at once. Of one name there may be two because a planner was killed
    and started again: nothing is followed while both are listed, and if that lasts longer than a
    dead one is listed, both are alive.

    Args:
        listed_s: how long a dead process stays listed, seconds.

    Attributes:
        text: who the rivals are, in words; '' where there are none.
    """

    def __init__(self, listed_s: float = LISTED_S) -> None:
        self._listed_s = listed_s
        self._since_s: float | None = None
        self.text = ""

    def judge(self, names: Sequence[str], now_s: float) -> bool:
        """Whether the robot must be stopped, until a person activates it again.

        Args:
            names: of all who plan, one for each publisher.
            now_s: steady time.
        """
        if len(names) < 2:
            self._since_s, self.text = None, ""
            return False
        self._since_s = now_s if self._since_s is None else self._since_s
        self.text = f"{len(names)} publishers of plans, and one alone may plan: {', '.join(names)}"
        if len(set(names)) > 1:
            return True
        self.text += f"; one that was killed is listed for up to {self._listed_s:g} s"
        return now_s - self._since_s > self._listed_s
