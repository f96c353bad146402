"""The demo's directory: what lies where in it, and how it is told from a directory that is none of ours."""

from __future__ import annotations

import json
import shutil
import socket
from dataclasses import dataclass
from pathlib import Path

from model_sidecar.demo.digits import Digits
from model_sidecar.demo.versions import INPUT
from model_sidecar.errors import ConfigurationError, StoreError

_MARK = ".made-by-model-sidecar-demo"


@dataclass(frozen=True, slots=True)
class Place:
    """The paths below one demo's directory, which is absolute."""

    root: Path

    @property
    def store(self) -> Path:
        """The store that is left behind."""
        return self.root / "ml-models"

    @property
    def builds(self) -> Path:
        """The build directories, one per version, to publish from once more."""
        return self.root / "builds"

    @property
    def state(self) -> Path:
        """The sidecar's own."""
        return self.root / "state"

    @property
    def log(self) -> Path:
        """What the sidecar had to say."""
        return self.root / "serve.log"

    @property
    def example(self) -> Path:
        """One digit, for `sidecarctl predict`."""
        return self.root / "x.json"

    def note_kept(self, control: str) -> None:
        """Remember the control socket of a sidecar that runs on, so that the next demo does not pull its store away."""
        with (self.root / _MARK).open("a") as mark:
            mark.write(f"{control}\n")

    def write_example(self, digits: Digits) -> int:
        """Write the first of these digits as `example`; what it really is."""
        self.example.write_text(json.dumps({INPUT: digits.pixels[:1].tolist()}) + "\n")
        return int(digits.labels[0])


def prepare(directory: Path) -> Place:
    """The directory, new or emptied of what an earlier demo made.

    Raises:
        ConfigurationError: it holds something that no demo made; nothing was touched.
        StoreError: it cannot be written.
    """
    place = Place(directory.absolute())
    mark = place.root / _MARK
    try:
        if place.root.exists() and not mark.is_file() and any(place.root.iterdir()):
            raise ConfigurationError(
                f"{directory} holds files that no demo made, and they stay: name another directory with --directory"
            )
        if mark.is_file():
            _refuse_in_use(place, mark.read_text())
        for ours in (place.store, place.builds, place.state):
            if ours.exists():
                shutil.rmtree(ours)
        for ours in (place.log, place.example):
            ours.unlink(missing_ok=True)
        place.store.mkdir(parents=True)
        mark.write_text("The demo empties this directory when it runs again: keep nothing of yours here.\n")
    except OSError as error:
        raise StoreError(f"{directory} cannot be written: {error}") from error
    return place


def _refuse_in_use(place: Place, mark: str) -> None:
    kept = [line.removeprefix("unix:") for line in mark.splitlines() if line.startswith("unix:")]
    # Where the commands that the demo prints at its end make a sidecar listen.
    for path in (*kept, str(place.root / "control.sock")):
        with socket.socket(socket.AF_UNIX) as ours:
            try:
                ours.connect(path)
            except OSError:
                continue  # nobody is there, or the path is too long for anybody to be
        raise ConfigurationError(
            f"a sidecar still serves from {place.root} ({path} answers): stop it, or name another directory with "
            "--directory"
        )
