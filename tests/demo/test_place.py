from __future__ import annotations

import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from model_sidecar.demo.place import prepare
from model_sidecar.errors import ConfigurationError


@pytest.fixture
def short() -> Iterator[Path]:
    """A directory in which a socket's path is short enough."""
    with tempfile.TemporaryDirectory(prefix="demo-") as directory:
        yield Path(directory)


def test_a_directory_with_somebodys_files_is_left_alone(tmp_path: Path) -> None:
    """Only a new or empty directory, or one that a demo made, is written to."""
    (tmp_path / "ml-models").mkdir()
    (tmp_path / "ml-models" / "precious").write_text("weeks of training")

    with pytest.raises(ConfigurationError, match="no demo made"):
        prepare(tmp_path)

    assert (tmp_path / "ml-models" / "precious").read_text() == "weeks of training"


def test_an_earlier_demos_store_is_replaced(tmp_path: Path) -> None:
    """What the demo made it makes anew; a file that somebody put beside it stays."""
    place = prepare(tmp_path / "new")
    (place.store / "digits").mkdir()
    (place.root / "notes.txt").write_text("mine")

    again = prepare(tmp_path / "new")

    assert list(again.store.iterdir()) == []
    assert (again.root / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize("kept", [True, False])
def test_a_store_that_a_sidecar_still_serves_from_is_not_pulled_away(short: Path, kept: bool) -> None:
    """Neither from a sidecar that the last demo kept, nor from one that was started with the commands it printed."""
    place = prepare(short / "demo")
    (place.store / "digits").mkdir()
    path = short / "kept.sock" if kept else place.root / "control.sock"
    if kept:
        place.note_kept(f"unix:{path}")

    with socket.socket(socket.AF_UNIX) as sidecar:
        sidecar.bind(str(path))
        sidecar.listen()
        with pytest.raises(ConfigurationError, match="still serves"):
            prepare(place.root)
        assert (place.store / "digits").is_dir()

    assert list(prepare(place.root).store.iterdir()) == []
