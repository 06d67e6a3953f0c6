"""Mazes of square cells, one metre wide."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np

MARGIN = 0.2  # metres that a drawn ball's centre keeps from walls

Cell = tuple[int, int]  # column and row, from the south-west


@dataclass(frozen=True)
class Maze:
    """A maze, and where balls may lie in it.

    Attributes:
        rows: northernmost first; '#' is a wall, '.' is free.
        low, high: bounds of x and of y of a ball's centre, metres.
    """

    rows: tuple[str, ...]
    low: float
    high: float

    def cells(self, kind: str) -> dict[Cell, np.ndarray]:
        """Centre (x, y) of every cell of one kind, metres."""
        first = self.low - MARGIN + 0.5
        return {
            (column, row): np.array([first + column, first + row])
            for row, line in enumerate(reversed(self.rows))
            for column, found in enumerate(line)
            if found == kind
        }

    def sample(self, rng: np.random.Generator) -> np.ndarray:
        """(2,) x, y, uniform over the free part."""
        walls = self.cells("#").values()
        while True:
            point = rng.uniform(self.low, self.high, 2)
            if all(np.abs(point - wall).max() >= 0.5 + MARGIN for wall in walls):
                return point

    def has(self, point: np.ndarray) -> bool:
        """Whether a ball's centre can be at (x, y): in the maze, and in none of its walls."""
        inside = self.low - MARGIN < point.min() and point.max() < self.high + MARGIN
        return bool(inside) and all(
            np.abs(point - at).max() > 0.5 for at in self.cells("#").values()
        )

    def next_waypoint(self, here: np.ndarray, target: np.ndarray) -> np.ndarray:
        """The target, when it is in the same cell; else the next cell's centre on the way to it.

        A straight line to a neighbour's centre crosses no wall.
        """
        centres = self.cells(".")

        def nearest(point: np.ndarray) -> Cell:
            return min(centres, key=lambda cell: float(np.abs(centres[cell] - point).max()))

        start, end = nearest(here), nearest(target)
        if start == end:
            return target
        # Breadth first from the target: the cell that `start` is found from is the next one.
        found, queue = {end}, deque([end])
        while True:
            cell = queue.popleft()
            for east, north in ((1, 0), (-1, 0), (0, 1), (0, -1)):
                beside = cell[0] + east, cell[1] + north
                if beside == start:
                    return centres[cell]
                if beside in centres and beside not in found:
                    found.add(beside)
                    queue.append(beside)


def _of_nine(*rows: str) -> Maze:
    return Maze(rows, 0.5, 3.1)


# The U is D4RL's. The others are the open field of Gymnasium-Robotics' PointMaze, and the corners
# of its medium maze, as far as they fit into the same picture.
MAZES = {
    "u": _of_nine("...", ".#.", ".#."),
    "open": _of_nine("...", "...", "..."),
    "medium_northwest": _of_nine("..#", "..#", "#.."),
    "medium_northeast": _of_nine("#..", "...", ".##"),
    "medium_southwest": _of_nine("..#", ".#.", "..."),
    "medium_southeast": _of_nine("...", ".#.", "#.."),
}
