"""`python -m benchmarks`: one table of ratios for this machine.

Rows are measured against a plain implementation of the released procedure (`released`), or what
else their first line names, in this process, by turns. Ratios hold where other work shares the
machine; milliseconds may not.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import date
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from benchmarks.cases import CPU, FULL, QUICK, Case, cases
from benchmarks.growth import growth_cases
from benchmarks.timing import Timing, compare

RESULTS = Path(__file__).parent / "results"
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}
ROW = "{:20} {:10} {:22} {:11} {:>10} {:>19} {:>7} {:>15}"
HEADS = ("what", "model", "sizes", "by", "median ms", "quartiles", "ratio", "quartiles")


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point."""
    args = _parser().parse_args(arguments)
    torch.set_num_threads(args.threads)
    device = torch.device(args.device)
    machine = describe(device, args.threads, args.clock)
    print("  ".join(f"{key}: {value}" for key, value in machine.items()))
    print(ROW.format(*HEADS))
    usual = FULL if device.type == "cuda" else CPU
    amount = QUICK if args.quick else usual
    rows = growth_cases(args.device) if args.growth else cases(amount, args.device, args.only)
    results = []
    for case in rows:
        results += _measure(case, device, CLOCKS[args.clock])
    if args.save:
        print(f"saved {save(results, machine, args.save, 'growth' if args.growth else '')}")
    return 0


def describe(device: torch.device, threads: int, clock: str) -> dict[str, str]:
    """The machine, in words."""
    names = {"cpu": _processor()}
    if device.type == "cuda":
        names["gpu"] = torch.cuda.get_device_name(device)
    return {
        **names,
        "threads": str(threads),
        "torch": torch.__version__,
        "clock": clock,
        "date": date.today().isoformat(),
    }


def save(results: list[dict], machine: dict[str, str], directory: Path, kind: str = "") -> Path:
    """Write DIRECTORY/<date>-<device>[-<kind>].json."""
    name = "-".join([*machine.get("gpu", machine["cpu"]).lower().split(), *kind.split()])
    path = directory / f"{machine['date']}-{name}.json"
    directory.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"machine": machine, "rows": results}, indent=1) + "\n")
    return path


def _measure(case: Case, device: torch.device, clock: Callable[[], float]) -> list[dict]:
    """The rows of a case; none where something that it needs is not installed."""
    with TemporaryDirectory() as directory:
        try:
            alternatives = case.prepare(Path(directory))
        except ImportError as error:
            print(
                ROW.format(case.name, case.subject, case.sizes, "left out:", "", "", "", ""), error
            )
            return []
        timings = compare(alternatives, case.rounds, device, clock)
        return [_row(case, name, timing) for name, timing in timings.items()]


def _row(case: Case, name: str, timing: Timing) -> dict:
    """Print a row as soon as it is known."""
    quartiles = f"{1e3 * timing.low_s:.1f} .. {1e3 * timing.high_s:.1f}"
    ratios = f"{timing.ratio_low:.2f} .. {timing.ratio_high:.2f}"
    cells = (case.name, case.subject, case.sizes, name, f"{1e3 * timing.median_s:.1f}")
    print(ROW.format(*cells, quartiles, f"{timing.ratio:.2f}", ratios), flush=True)
    about = {"what": case.name, "model": case.subject, "sizes": case.sizes, "by": name}
    return {**about, "note": case.note, "rounds": case.rounds, **asdict(timing)}


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="less of everything")
    parser.add_argument("--growth", action="store_true", help="how an iteration's cost grows")
    parser.add_argument("--only", default="", metavar="TEXT", help="rows or models that contain it")
    parser.add_argument("--device", default="cpu", help="torch device: cpu (default) or cuda")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (default 1)")
    parser.add_argument(
        "--clock",
        choices=CLOCKS,
        default="wall",
        help="cpu counts processor time, for a machine that is shared; for a CPU only",
    )
    parser.add_argument(
        "--save", type=Path, nargs="?", const=RESULTS, help="write JSON there (benchmarks/results)"
    )
    return parser
