"""`model-sidecar verify`: would this version be allowed to answer?"""

from __future__ import annotations

import json
from pathlib import Path

import click

from model_sidecar.app.counting import agreeing
from model_sidecar.cli.exits import told
from model_sidecar.cli.options import config_option, option
from model_sidecar.errors import NotFoundError
from model_sidecar.release.names import parse_model, parse_version


@click.command("verify")
@click.argument("directory", type=click.Path(path_type=Path, file_okay=False))
@config_option
@option("--allow-external-data", is_flag=True, help="Accept weights in listed files of their own.")
@option(
    "-o", "--output", type=click.Choice(["text", "json"]), default="text", help="For people, or for programs."
)
def command(directory: Path, output: str, *, allow_external_data: bool) -> None:
    """Check a version as `serve` does: hash every file, load the model, rerun its golden examples.

    DIRECTORY is STORE/MODEL/VERSION. Exits 0 when it may answer, 4 when not.
    """
    with told():
        from model_sidecar.app.contact import first_contact
        from model_sidecar.app.preparing import preparer
        from model_sidecar.store.versions import VersionStore

        absolute = directory.absolute()
        if not absolute.is_dir():
            raise NotFoundError(f"{directory} is not a directory: expected STORE/MODEL/VERSION")
        model, version = parse_model(absolute.parent.name), parse_version(absolute.name)
        store = VersionStore(absolute.parent.parent, allow_external_data=allow_external_data)
        contact = first_contact(allow_external_data=allow_external_data)
        prepare = preparer(store, model, allow_external_data=allow_external_data, contact=contact)
        ready = prepare(version, None)
        manifest, signature = ready.model.manifest, ready.model.signature
        if output == "json":
            click.echo(
                json.dumps(
                    {
                        "model": model,
                        "version": version,
                        "manifest_sha256": manifest.digest,
                        "files": {name: entry.digest for name, entry in manifest.files.items()},
                        "inputs": [str(spec) for spec in signature.inputs],
                        "outputs": [str(spec) for spec in signature.outputs],
                        "golden_examples": ready.golden_examples,
                        "seconds": dict(ready.phases_s),
                    }
                )
            )
            return
        click.echo(f"verified   {model} {version}  {manifest.digest}")
        for name, entry in manifest.files.items():
            click.echo(f"  file     {name}  {entry.digest}")
        for spec in signature.inputs:
            click.echo(f"  input    {spec}")
        for spec in signature.outputs:
            click.echo(f"  output   {spec}")
        agreed = (
            agreeing(ready.golden_examples)
            if ready.golden_examples
            else "none: it was warmed, but not checked"
        )
        click.echo(f"  golden   {agreed}")
