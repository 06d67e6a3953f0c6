"""How the cost of an iteration grows with horizon, starting points, patches and history."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.cases import Case
from benchmarks.subjects import Subject, full_size

_ROUNDS = 3


def growth_cases(device: str) -> Iterator[Case]:
    """One row for each quantity; ratios are against its first, smallest value."""

    def sized(**size: int) -> Subject:
        return Subject.of("full", full_size(**size, device=device))

    full = sized()
    yield _case("horizon", "1 start", {f"H={h}": full.descent(h).step for h in (1, 2, 5, 10)})
    starts = {f"{n} starts": full.descent(5, restarts=n).step for n in (1, 2, 4)}
    yield _case("starting points", "H=5", starts)
    patches = {f"P={n}": sized(num_patches=n).descent(5).step for n in (16, 49, 100, 196)}
    yield _case("patches", "H=5", patches)
    history = {f"K={n}": sized(num_hist=n).descent(5, rollout="history").step for n in (1, 2, 3)}
    yield _case("history", "H=5, history rollout", history)


def _case(name: str, sizes: str, alternatives: dict) -> Case:
    return Case(f"growth, {name}", "full", sizes, lambda _: alternatives, _ROUNDS)
