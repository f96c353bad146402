"""What to type to go on playing with what the demo leaves behind."""

from __future__ import annotations

import shlex
import shutil
import sys
from pathlib import Path

from model_sidecar.demo.paper import Paper
from model_sidecar.demo.place import Place
from model_sidecar.demo.process import Sidecar, arguments
from model_sidecar.demo.versions import DAMAGED, DIGITS, FIRST, PROD


def say(paper: Paper, place: Place, sidecar: Sidecar, *, truth: int, kept: bool) -> None:
    """Print the commands to play with what is left behind, as one would type them in the demo's directory."""
    serve: list[tuple[str, str]] = []
    stop: list[tuple[str, str]] = []
    if kept:
        data, control, http = sidecar.data, sidecar.control, sidecar.http
        stop = [(f"kill {sidecar.pid}", "the sidecar runs on; this stops it")]
    else:
        data, control, http = "unix:data.sock", "unix:control.sock", "127.0.0.1:8002"
        words = arguments(
            store="ml-models", state="state", data=data, control=control, http=http, options=sidecar.options
        )
        serve = [
            (f"model-sidecar {shlex.join(words)} 2>> {place.log.name} &", ""),
            (
                f"until model-sidecar probe liveness --control {control} 2> /dev/null; do sleep 0.2; done",
                "until it is up",
            ),
        ]
    pointer = f"ml-models/{DIGITS}/environments/{PROD}/active.json"
    first = [f"export PATH={shlex.quote(str(binaries))}:$PATH" for binaries in _not_on_path()]
    paper.section("Go on playing")
    for command, remark in (
        *((each, "") for each in first),
        (f"cd {shlex.quote(_as_typed(place.root))}", ""),
        *serve,
        (f"export MODEL_SIDECAR_CONTROL={control}", "so that sidecarctl need not be told"),
        (f"export MODEL_SIDECAR_DATA={data}", ""),
        (f"export MODEL_SIDECAR_ENVIRONMENT={PROD}", ""),
        (f"sidecarctl status {DIGITS}", ""),
        (f"sidecarctl predict {DIGITS} --input {place.example.name} | tee said", f"it is a {truth}"),
        (
            f"sidecarctl feedback --prediction-id $(awk '/^prediction id/ {{print $3}}' said) --truth {truth}",
            "say so",
        ),
        ("sleep 2", "a version is watched from its first prediction on, once a second"),
        (f"sidecarctl quality {DIGITS}", "with the labels of the night"),
        (f"sidecarctl drift {DIGITS} --html drift.html", "plots, for a browser"),
        (f"sidecarctl deploy {DIGITS} {FIRST.version} --reason 'just looking' --yes", ""),
        (f"sidecarctl rollback {DIGITS} --reason 'seen enough' --yes", ""),
        (f"sidecarctl history {DIGITS}", ""),
        (f'echo \'{{"version": "{FIRST.version}"}}\' > {pointer}', "a flip by hand"),
        (f"model-sidecar verify ml-models/{DIGITS}/{DAMAGED}", "the damaged one"),
        (f"curl http://{http}/statusz", ""),
        *stop,
    ):
        paper.command(command, remark)


def _not_on_path() -> list[Path]:
    """Where the commands are, if a shell would not find them: a virtual environment that was never activated."""
    binaries = Path(sys.executable).parent
    found = shutil.which("model-sidecar")
    there = (binaries / "model-sidecar").exists()
    return [binaries] if there and (not found or Path(found).parent != binaries) else []


def _as_typed(path: Path) -> str:
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)
