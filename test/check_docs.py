"""Run README and documents in order, each line as it is typed: `make docs-check`.

Usage: python -m test.check_docs [PAGE ...]; without pages all of them. It returns 1 when a block
fails.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

from .doc_blocks import RUN, Desk, blocks, pages
from .nodes.domains import claim_domain

LIMIT_S = 3600


def main(names: list[str]) -> int:
    """Print a line for each block that could be run: its time, or why it was not."""
    chosen = [page for page in pages() if not names or any(str(page).endswith(n) for n in names)]
    failed = 0
    with tempfile.TemporaryDirectory() as place:
        desk = Desk(Path(place) / "desk", claim_domain())
        for block in (block for page in chosen for block in blocks(page)):
            if not block.runs:
                if block.language in RUN:
                    print(f"{block.name:32} {block.mark}", flush=True)
                continue
            start_s = time.monotonic()
            code, text = desk.run(block, LIMIT_S)
            took = f"{time.monotonic() - start_s:6.1f} s"
            print(f"{block.name:32} {'ran' if code == 0 else 'FAILED'} {took}", flush=True)
            if code:
                failed += 1
                print(f"{block.text}\n{text[-3000:]}\nexit code {code}", flush=True)
    print(f"{failed} failed" if failed else "every line ran")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
