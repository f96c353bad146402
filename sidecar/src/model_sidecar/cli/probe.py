"""`model-sidecar probe`: is the sidecar on this machine alive, or ready? For HEALTHCHECK and exec probes."""

from __future__ import annotations

import sys

import click

from model_sidecar.cli.exits import Exit, told
from model_sidecar.cli.options import Parsed, config_option, option
from model_sidecar.config import Address, parse_address, parse_duration

_DEFAULT = Address(path="/run/sidecar/control.sock")


@click.command("probe")
@click.argument("question", type=click.Choice(["readiness", "liveness"]), default="readiness")
@config_option
@option(
    "--control",
    multiple=True,
    type=Parsed("address", parse_address),
    default=[str(_DEFAULT)],
    help="Where the sidecar answers operators; the first one given is asked.",
)
@option(
    "--timeout", "timeout_s", type=Parsed("duration", parse_duration), default="2s", help="How long to wait."
)
def command(question: str, control: tuple[Address, ...], timeout_s: float) -> None:
    """Ask the sidecar's health service. Exits 0 for yes, 1 for no, 7 when nothing answers."""
    with told():
        from model_sidecar.rpc.asking import serves

        if serves(str(control[0]), service=question, timeout_s=timeout_s):
            click.echo(f"{question}: yes")
            return
        click.echo(f"{question}: no", err=True)
        sys.exit(Exit.REFUSED)
