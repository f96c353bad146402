"""The program itself: its options, its commands, and what becomes of an interruption."""

from __future__ import annotations

import io
import os
import sys
from typing import Any

import click

from model_sidecar_client.cli import acting, looking, predicting, telling, watching
from model_sidecar_client.cli.failures import INTERRUPTED
from model_sidecar_client.cli.options import (
    config_option,
    control_option,
    data_option,
    output_option,
    timeout_option,
)


class Sidecarctl(click.Group):
    """click's group, with the contract's exit code for an interruption."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except (KeyboardInterrupt, click.Abort):
            click.echo("sidecarctl: interrupted", err=True)
            raise click.exceptions.Exit(INTERRUPTED) from None


def _print_version(context: click.Context, _param: click.Parameter, wanted: bool) -> None:  # noqa: FBT001 - click's
    if not wanted or context.resilient_parsing:
        return
    # A slow import that nothing else needs.
    from importlib import metadata

    try:
        version = metadata.version("model-sidecar-client")
    except metadata.PackageNotFoundError:
        version = "of unknown version: run from a source tree that is not installed"
    click.echo(f"sidecarctl {version}")
    context.exit()


@click.group(
    cls=Sidecarctl,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit codes: 0 done, 1 refused or failed, 2 usage, 3 wait timed out (the operation goes on), "
    "4 verification failed, 5 conflict, 6 --fail-on is met, 7 not reachable, 130 interrupted.",
)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_version,
    help="Show it and exit.",
)
@config_option(before_command=True)
@control_option(before_command=True)
@data_option(before_command=True)
@timeout_option(before_command=True)
@output_option(before_command=True)
def main(**_settings: object) -> None:
    """Deploy, roll back, look at and try the models of a model-sidecar.

    An option is taken from the command line, else from its environment variable, else from the file of --config. That
    file is TOML, and its keys are named like the options: environment = "prod". At its top, a key counts for every
    command that has the option; in a table named like a command, for this command, and before the top.
    """
    # gRPC's own log lines would stand among our words; whoever wants them sets the variable.
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A reason in a script that this terminal cannot show must not end in a traceback.
            stream.reconfigure(errors="backslashreplace")


for command in (
    acting.deploy,
    acting.rollback,
    looking.status,
    looking.history,
    looking.versions,
    watching.quality,
    watching.drift,
    predicting.predict,
    telling.feedback,
):
    main.add_command(command)
