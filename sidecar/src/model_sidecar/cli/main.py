"""`model-sidecar`: the commands of the one who serves, publishes and checks."""

from __future__ import annotations

import importlib
from typing import Any

import click

from model_sidecar.cli.exits import Exit
from model_sidecar.software import SOFTWARE_VERSION

_COMMANDS = {
    "serve": "model_sidecar.cli.serve",
    "publish": "model_sidecar.cli.publish",
    "verify": "model_sidecar.cli.verify",
    "store-check": "model_sidecar.cli.store_check",
    "demo": "model_sidecar.cli.demo",
    "probe": "model_sidecar.cli.probe",
}


class _Lazy(click.Group):
    """A group that imports a command when it is called, so that `probe` does not load onnxruntime."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Click's call; the order is that of use."""
        del ctx
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Click's call."""
        del ctx
        if cmd_name not in _COMMANDS:
            return None
        command = importlib.import_module(_COMMANDS[cmd_name]).command
        assert isinstance(command, click.Command)
        return command

    def invoke(self, ctx: click.Context) -> Any:
        """Click's call; an interruption has an exit code of its own."""
        try:
            return super().invoke(ctx)
        except (KeyboardInterrupt, click.Abort):
            click.echo("model-sidecar: interrupted", err=True)
            raise click.exceptions.Exit(Exit.INTERRUPTED) from None


@click.group(cls=_Lazy, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(SOFTWARE_VERSION, prog_name="model-sidecar")
def main() -> None:
    """Serve one verified version of a model, swap it without losing a request, and go back when it was wrong.

    Operators' commands (deploy, rollback, status, history …) are in `sidecarctl`.
    """
