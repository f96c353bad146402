"""`model-sidecar store-check`: does this mount keep the promises that a store needs, and is what lies in it sound?"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from itertools import chain
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
@option(
    "-o", "--output", type=click.Choice(["text", "json"]), default="text", help="For people, or for programs."
)
def command(store: Path, models: tuple[ModelName, ...], output: str, *, allow_external_data: bool) -> None:
    """Try what ledger and store rely on, then read every ledger and hash every version.

    Tried are exclusive link, rename, fsync, file events, times and free space, in a directory of their own that is
    removed again. Of each that is not as it should be, it is said what a sidecar does then.

    Each line begins with `ok`, `FAILED`, or `-`: good to know, and no fault. In JSON `ok` is true, false or null for these.

    Exits 0 when all is well, 1 when the mount or a ledger is not or a model is not there, 4 when only versions are not.
    """
    with told():
        from model_sidecar.app.mount_check import check_mount
        from model_sidecar.app.store_check import check_models, models_to_check

        chosen = models_to_check(store, models)
        if output == "text":
            click.echo(f"mount      {store.absolute()}")
        findings = []
        for finding in chain(
            check_mount(store), check_models(store, chosen, allow_external_data=allow_external_data)
        ):
            findings.append(finding)
            if output == "text":
                click.echo(
                    f"  {_MARKS[finding.ok]}  {finding.what}{': ' if finding.detail else ''}{finding.detail}"
                )
        if output == "json":
            click.echo(
                json.dumps({"store": str(store.absolute()), "findings": [asdict(each) for each in findings]})
            )
        failed = [each for each in findings if each.ok is False]
        if any(not each.of_version for each in failed):
            sys.exit(Exit.REFUSED)
        sys.exit(Exit.NOT_VERIFIED if failed else Exit.DONE)
