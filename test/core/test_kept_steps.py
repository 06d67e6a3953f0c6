"""Model steps kept of recordings, as the table in the documentation has them."""

import pytest

from benchmarks.kept import CASES, measure


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_what_no_hole_touches_is_kept(tmp_path, case):
    kept = measure(case, tmp_path, seed=100)
    assert kept.possible >= 190
    assert kept.share >= 0.95, kept
    assert kept.used >= 0.95 * (kept.possible - kept.touched), kept
