"""`python -m faults`."""

from faults.command import main

raise SystemExit(main())
