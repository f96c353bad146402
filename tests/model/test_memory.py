"""Large weights on huge pages: real models, and what the kernel says of this process's memory."""

from __future__ import annotations

import mmap
import platform
from pathlib import Path

import numpy as np
import pytest
from support import models
from support.candidates import Candidates
from support.descriptors import open_descriptors
from support.memory import resident_bytes

from model_sidecar.model.memory import MappedFiles, onto_huge_pages

MIB = 1 << 20
needs_collapse = pytest.mark.skipif(
    tuple(map(int, platform.release().split(".")[:2])) < (6, 1)
    or not Path("/sys/kernel/mm/transparent_hugepage").is_dir(),
    reason="this kernel cannot put memory onto huge pages when asked",
)


def huge_bytes() -> int:
    """How much of this process's own memory lies on huge pages."""
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("AnonHugePages:"))


@needs_collapse
def test_large_weights_lie_on_huge_pages_once_the_model_has_settled(candidates: Candidates) -> None:
    """As much as the weights take, and every answer is what it was."""
    width = models.side_of_large(128)
    loaded = candidates.load(models.large(128))
    rows = {"x": np.random.default_rng(0).random((2, width), np.float32)}
    before, answer = huge_bytes(), loaded.run(rows)["y"]

    loaded.settle()

    assert huge_bytes() >= before + 96 * MIB
    assert np.array_equal(loaded.run(rows)["y"], answer)


def test_a_model_of_small_weights_is_left_as_it_is(candidates: Candidates) -> None:
    """Its memory is given back piece by piece, which huge pages would not hasten."""
    loaded = candidates.load(models.large(64, "many"))
    before = huge_bytes()

    loaded.settle()

    assert huge_bytes() == before


def test_memory_that_is_reserved_and_not_used_is_not_filled() -> None:
    """A huge page has no holes: what a mapping only reserves would become memory of this process."""
    with mmap.mmap(-1, 256 * MIB, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as reserved:
        # One byte of each huge page, so that there is something to put together.
        for at in range(0, 256 * MIB, 2 * MIB):
            reserved[at] = 1
        before = resident_bytes()

        onto_huge_pages()

        assert resident_bytes() < before + 64 * MIB


def resident_of(path: Path) -> int:
    """How much of a mapped file is in this process."""
    blocks = Path("/proc/self/smaps").read_text().split("\n")
    at = next(number for number, line in enumerate(blocks) if str(path) in line)
    return next(int(line.split()[1]) << 10 for line in blocks[at:] if line.startswith("Rss:"))


def test_mapped_weights_are_out_of_the_process_before_their_session_goes(tmp_path: Path) -> None:
    """So that its destructor finds nothing to take down; the file has lost its name, and whoever reads on reads the same."""
    path = tmp_path / "weights.bin"
    content = np.random.default_rng(0).bytes(16 * MIB)
    path.write_bytes(content)
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        held = MappedFiles([path])
        path.unlink()
        assert mapped[:] == content
        assert resident_of(path) == 16 * MIB
        with held:
            assert resident_of(path) == 0
        assert mapped[:] == content


def test_only_large_files_that_are_mapped_are_held(tmp_path: Path) -> None:
    """A file that the session has copied would keep its room for the model's life, and small ones only cost descriptors."""
    small, copied, gone = tmp_path / "small", tmp_path / "copied", tmp_path / "gone"
    small.write_bytes(bytes(MIB))
    copied.write_bytes(bytes(16 * MIB))
    with small.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ):
        before = open_descriptors()
        with MappedFiles([small, copied, gone]):
            assert open_descriptors() == before


def test_what_is_held_is_let_go_with_the_session(tmp_path: Path) -> None:
    """Once; a second time nothing is left to do."""
    path = tmp_path / "weights.bin"
    path.write_bytes(bytes(16 * MIB))
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ):
        before = open_descriptors()
        held = MappedFiles([path])
        assert open_descriptors() == before + 1
        for _ in range(2):
            with held:
                pass
            assert open_descriptors() == before
