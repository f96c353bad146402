"""`model-sidecar demo`: the whole story on real data, in a terminal."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import click

from model_sidecar.cli.exits import Exit, told
from model_sidecar.cli.options import config_option, option


@click.command("demo")
@config_option
@option(
    "--directory",
    type=click.Path(path_type=Path, file_okay=False),
    default="model-sidecar-demo",
    help="Where the store is left behind: a new or empty directory, or that of an earlier demo, which is emptied.",
)
@option("--quick", is_flag=True, help="Less traffic: done in half the time.")
@option("--keep-serving", is_flag=True, help="Let the sidecar run on, to be played with.")
def command(directory: Path, *, quick: bool, keep_serving: bool) -> None:
    """Show the whole story on real data: train, publish, serve, deploy, damage, roll back; and a night that needs nobody.

    Three versions of a classifier of handwritten digits are deployed under traffic; a damaged one is refused; one that
    is whole but wrong is rolled back from. At night, with labels that come late, a version that lost its scaler is rolled
    back by the guard, and a lamp that fades is noticed, and named. Then come timelines, what was noticed after how long,
    and what to type to go on playing.

    Needs the extra: pip install 'model-sidecar[demo]'. Exits 1 if any promise of the sidecar's did not hold.
    """
    # As Ctrl-C does: leave through every `finally`, so that no sidecar is left running.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    with told():
        from model_sidecar.demo.digits import check_installed  # loads numpy

        check_installed()
        from model_sidecar.demo.paper import Ink, Paper

        paper = Paper.on(sys.stdout)
        paper.line(
            paper.ink("model-sidecar demo: real data, a real sidecar process, real traffic", Ink.TITLE)
        )
        from model_sidecar.demo.place import prepare
        from model_sidecar.demo.scene import QUICK, Pace
        from model_sidecar.demo.story import tell  # loads onnxruntime and grpc

        pace = QUICK if quick else Pace()
        broken = tell(paper, prepare(directory), pace, keep_serving=keep_serving)
        if broken:
            print(f"error: {'; '.join(broken)}", file=sys.stderr)  # noqa: T201 - the command line speaks
            sys.exit(Exit.REFUSED)
