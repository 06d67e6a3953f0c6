"""What goes from a driver to the nodes, with a place on the way where it can be altered."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

Alter = Callable[[Any], Iterable[Any]]


def unaltered(message: Any) -> Iterable[Any]:
    """As it is."""
    return (message,)


def nothing(message: Any) -> Iterable[Any]:
    """Silence."""
    return ()


class Wire:
    """Publishes what `alter` makes of each message. `alter` may be set from any thread."""

    def __init__(self, publisher: Any) -> None:
        self.publisher = publisher
        self.alter: Alter = unaltered
        self.last: Any = None  # the newest message that came in

    def send(self, message: Any) -> None:
        """One message of the driver."""
        self.last = message
        for altered in self.alter(message):
            self.publisher.publish(altered)
