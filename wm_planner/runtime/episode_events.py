"""Begin and end of an episode, as the topic ``episode`` tells of them, and the clock they share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from wm_planner.data.recording_message import outcome_of
from wm_planner.errors import DatasetError

START, END = "start", "end"
# The stamp of a message lies this close to its receipt when both are of one clock.
SAME_CLOCK_NS = 5 * 10**9
LAST_NS = 2**63 - 1  # bags and ROS count no further
# Simulated time of a run begins near zero: it is decades away from the time of day.
TIME_OF_DAY_NS = 3600 * 10**9


@dataclass(frozen=True)
class EpisodeEvent:
    """One event.

    Attributes:
        kind: 'start' or 'end'.
        episode: what start and end of one episode have in common.
        name: of the episode's bag.
        stamp_ns: of the episode's clock.
        outcome: 'success', 'failure', or '' when nobody said.
    """

    kind: str
    episode: str
    name: str
    stamp_ns: int
    outcome: str = ""


def parse_event(kind: str, values: Mapping[str, str]) -> EpisodeEvent:
    """Read the values of an event.

    Args:
        kind: 'start' or 'end'.
        values: 'episode' and 'stamp_ns'; also 'name', 'outcome', and a simulator's 'success'.

    Raises:
        DatasetError: the kind is another one, or a value is missing or of another form.
    """
    if kind not in (START, END):
        raise DatasetError(f"episode event '{kind}': expected '{START}' or '{END}'")
    for key in ("episode", "stamp_ns"):
        if key not in values:
            raise DatasetError(f"episode event '{kind}': key '{key}' is missing")
    stamp = values["stamp_ns"]
    if not stamp.strip().isdecimal() or len(stamp) > 19 or int(stamp) > LAST_NS:
        raise DatasetError(
            f"episode event '{kind}': stamp_ns: expected nanoseconds as a whole number, got "
            f"'{stamp[:40]}'"
        )
    episode = values["episode"]
    name = values.get("name", "")
    if not name:
        if not episode.isdecimal() or len(episode) > 9:
            raise DatasetError(
                f"episode event '{kind}': episode: expected a number, or any text beside a key "
                f"'name', got '{episode[:40]}'"
            )
        name = f"episode_{int(episode):04d}"
    return EpisodeEvent(kind, episode, name, int(stamp), outcome_of(values))


class EpisodeClock:
    """Gives messages times of one clock: that of the robot's own samples.

    A bag whose messages are logged by two clocks lasts decades when one of them is simulated.

    Args:
        simulated: the samples carry simulated time.
    """

    def __init__(self, simulated: bool) -> None:
        self._simulated = simulated
        self._newest_ns: int | None = None

    def now_ns(self, received_ns: int) -> int:
        """Time of the episode's clock when this machine's clock shows `received_ns`."""
        if self._simulated and self._newest_ns is not None:
            return self._newest_ns
        return received_ns

    def log_ns(self, stamp_ns: int | None, received_ns: int, sample: bool) -> int | None:
        """When a message happened, by the episode's clock.

        Args:
            stamp_ns: its stamp; None when it has none, 0 when nobody filled it in.
            received_ns: when it was received, by this machine's clock.
            sample: it is a sample of the robot or a camera.

        Returns:
            Nanoseconds; None when the episode's clock is not known yet.
        """
        if self._simulated:
            if sample:
                self._newest_ns = stamp_ns or 0
                return self._newest_ns
            if stamp_ns and abs(stamp_ns - received_ns) > TIME_OF_DAY_NS:
                return stamp_ns
            return self._newest_ns
        if stamp_ns and abs(stamp_ns - received_ns) <= SAME_CLOCK_NS:
            return stamp_ns
        return received_ns
