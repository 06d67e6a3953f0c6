"""When has everything of an episode arrived that has ended?"""

from __future__ import annotations

from collections.abc import Mapping

# Ticks, not seconds: between two of them every topic is served, also in a process that was held
# up for long.
QUIET_TICKS = 3
PATIENCE_TICKS = 40  # longer than the 3 s after which DDS repairs what was lost


class EpisodeEnd:
    """Watches stamps; call `tick` ten times a second, from the thread that serves the topics.

    An episode is complete when the last sample of `last` has come, every sample of a topic in
    `answers` has its answer of the same stamp, and nothing new came for three ticks. What stays
    away for four seconds is not waited for.

    Args:
        last: topic whose sample at the end's stamp is the last of the episode.
        answers: topic -> the topic that answers it, stamp by stamp.
    """

    def __init__(self, last: str, answers: Mapping[str, str]) -> None:
        self._last = last
        self._answers = dict(answers)
        self._watched = {last, *self._answers, *self._answers.values()}
        self._newest_ns: dict[str, int] = {}
        self._stamps_ns: dict[str, set[int]] = {topic: set() for topic in self._watched}
        self._end_ns: int | None = None
        self._quiet_ticks = 0

    @property
    def newest_ns(self) -> int:
        """Newest stamp of `last`, -1 before the first."""
        return self._newest_ns.get(self._last, -1)

    def saw(self, topic: str, stamp_ns: int) -> None:
        """Note a message."""
        if topic in self._watched:
            self._stamps_ns[topic].add(stamp_ns)
        if stamp_ns > self._newest_ns.get(topic, -1):
            self._newest_ns[topic] = stamp_ns
            if self._end_ns is not None and stamp_ns <= self._end_ns:
                self._quiet_ticks = 0

    def tick(self) -> None:
        """Note that all topics have been served since the last call."""
        self._quiet_ticks += 1

    def is_complete(self, end_ns: int) -> bool:
        """Whether the episode that ended at `end_ns` has arrived; ask until it has."""
        if self._end_ns != end_ns:
            self._end_ns, self._quiet_ticks = end_ns, 0
        here = self.newest_ns >= end_ns and not self._unanswered(end_ns)
        if self._quiet_ticks < (QUIET_TICKS if here else PATIENCE_TICKS):
            return False
        self._end_ns = None
        for topic, stamps in self._stamps_ns.items():
            self._stamps_ns[topic] = {stamp for stamp in stamps if stamp > end_ns}
        return True

    def _unanswered(self, end_ns: int) -> bool:
        """Nothing answers the sample at the end itself."""
        return any(
            stamp < end_ns and stamp not in self._stamps_ns[answer]
            for topic, answer in self._answers.items()
            for stamp in self._stamps_ns[topic]
        )
