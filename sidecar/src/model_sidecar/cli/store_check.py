"""`model-sidecar store-check`: does this mount keep the promises that a store needs, and is what lies in it sound?"""

from __future__ import annotations

import sys
from pathlib import Path

import click

from model_sidecar.cli.exits import Exit, told
from model_sidecar.cli.options import Parsed, config_option, option
from model_sidecar.release.names import ModelName, parse_model

_MARKS = {True: "ok    ", False: "FAILED", None: "-     "}


@click.command("store-check")
@config_option
@option(
    "--store", required=True, type=click.Path(path_type=Path, file_okay=False, exists=True), help="The store."
)
@option(
    "--model",
    "models",
    multiple=True,
    type=Parsed("name", parse_model),
    help="Only these models; all by default.",
)
@option("--allow-external-data", is_flag=True, help="Accept weights in listed files of their own.")
def command(store: Path, models: tuple[ModelName, ...], *, allow_external_data: bool) -> None:
    """Try what the ledger relies on, then read every ledger and hash every version.

    Tried are exclusive link, rename, fsync and file events, in a directory of their own that is removed again.

    Exits 0 when all is well, 1 when the mount or a ledger is not or a model is not there, 4 when only versions are not.
    """
    with told():
        from model_sidecar.app.store_check import check_models, check_mount, models_to_check

        chosen = models_to_check(store, models)
        mount = list(check_mount(store))
        click.echo(f"mount      {store.absolute()}")
        for finding in mount:
            click.echo(
                f"  {_MARKS[finding.ok]}  {finding.what}{': ' if finding.detail else ''}{finding.detail}"
            )
        worst = Exit.DONE if all(finding.ok is not False for finding in mount) else Exit.REFUSED
        for finding in check_models(store, chosen, allow_external_data=allow_external_data):
            click.echo(
                f"  {_MARKS[finding.ok]}  {finding.what}{': ' if finding.detail else ''}{finding.detail}"
            )
            if finding.ok is False and worst is Exit.DONE:
                worst = Exit.NOT_VERIFIED if finding.of_version else Exit.REFUSED
            elif finding.ok is False and not finding.of_version:
                worst = Exit.REFUSED
        sys.exit(worst)
