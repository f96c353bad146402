"""What the next process finds, and logs, of one that crashed in native code."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

_PROCESS = """
import ctypes, logging, sys, threading
from pathlib import Path
from model_sidecar.app.crashes import last_words_kept

def idle():
    threading.Event().wait()

def deeper(levels):
    return deeper(levels - 1) if levels else ctypes.string_at(0)

logging.basicConfig()
with last_words_kept(Path(sys.argv[1])) as before:
    assert before.count("in idle") in (0, 5)
    if sys.argv[2:]:
        for _ in range(5):
            threading.Thread(target=idle, daemon=True).start()
        deeper(int(sys.argv[2]))
"""


def process(crash: Path, *levels: str) -> subprocess.CompletedProcess[str]:
    """One that looks for what the one before has left, and then, told how deep, crashes."""
    return subprocess.run(
        [sys.executable, "-c", _PROCESS, crash, *levels],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_the_log_shows_the_thread_that_crashed_and_a_file_keeps_the_others(tmp_path: Path) -> None:
    """However many threads merely waited, and whatever comes after; a start later nothing is told any more."""
    assert process(tmp_path / "crash.txt", "3").returncode == -signal.SIGSEGV
    told = process(tmp_path / "crash.txt").stderr
    kept = tmp_path / "crash-before.txt"

    assert "crashed: Fatal Python error: Segmentation fault" in told
    assert told.count("in deeper") == 4
    assert "in idle" not in told
    assert f"the stacks of all threads are in {kept}" in told
    assert process(tmp_path / "crash.txt").stderr == ""
    assert kept.read_text().count("in idle") == 5


def test_a_deep_stack_does_not_flood_the_log(tmp_path: Path) -> None:
    """Some two kilobytes tell where it was."""
    process(tmp_path / "crash.txt", "500")

    assert 2000 < len(process(tmp_path / "crash.txt").stderr) < 2500
