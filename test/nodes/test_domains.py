"""No two test processes share a domain."""

from __future__ import annotations

from .domains import claim_domain


def test_a_claimed_domain_is_taken() -> None:
    # A lock belongs to the open file, not to the process: the second claim is as another process's.
    assert len({claim_domain() for _ in range(3)}) == 3
