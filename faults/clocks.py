"""The wall clock of the nodes' processes, which the campaign steps: see clock_step.c."""

from __future__ import annotations

import mmap
import shutil
import struct
import subprocess
from pathlib import Path

SOURCE = Path(__file__).parent / "clock_step.c"


class SteppedClock:
    """An offset of the wall clock of every process that is started in `environment`.

    Args:
        directory: that receives the library and the file with the offset.

    Raises:
        OSError: there is no C compiler, or it failed.
    """

    def __init__(self, directory: Path) -> None:
        compiler = shutil.which("cc") or shutil.which("gcc")
        if compiler is None:
            raise OSError("there is no C compiler: steps of the wall clock are left out")
        directory.mkdir(parents=True, exist_ok=True)
        self._library, self._file = directory / "clock_step.so", directory / "offset"
        command = [
            compiler,
            "-O1",
            "-shared",
            "-fPIC",
            "-o",
            str(self._library),
            str(SOURCE),
            "-ldl",
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise OSError(f"{SOURCE.name} cannot be compiled: {done.stderr.strip()}")
        self._file.write_bytes(bytes(8))
        with self._file.open("r+b") as stream:
            self._map = mmap.mmap(stream.fileno(), 8)
        self.offset_ns = 0

    @property
    def environment(self) -> dict[str, str]:
        """What a process needs to be in it."""
        return {"LD_PRELOAD": str(self._library), "CLOCK_STEP_FILE": str(self._file)}

    def step(self, seconds: float) -> None:
        """Step the clock; negative: back."""
        self.set(self.offset_ns + round(seconds * 1e9))

    def set(self, offset_ns: int) -> None:
        """Set the distance from the true clock."""
        self.offset_ns = offset_ns
        self._map[:8] = struct.pack("<q", offset_ns)
