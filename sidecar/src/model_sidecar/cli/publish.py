"""`model-sidecar publish`: from a build directory to a version in the store."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from model_sidecar.app.counting import agreeing, counted
from model_sidecar.app.training_date import parse_training_date
from model_sidecar.cli.exits import told
from model_sidecar.cli.options import Parsed, config_option, option
from model_sidecar.errors import ConfigurationError
from model_sidecar.release.baseline import Baseline, StreamKind
from model_sidecar.release.manifest import Role
from model_sidecar.release.names import ModelName, Version, parse_model, parse_version

if TYPE_CHECKING:
    from model_sidecar.app.publish import Published

_VERSION = Parsed("version", parse_version)


def parse_metric(text: str) -> tuple[str, float]:
    """A metric from 'name=number'; ConfigurationError otherwise."""
    name, _, number = text.partition("=")
    try:
        value = float(number)
    except ValueError:
        value = math.nan
    if not name or not math.isfinite(value):
        raise ConfigurationError(
            f"{text!r} is not a metric: expected name=number, a finite one, such as accuracy=0.98"
        )
    return name, value


def _each_once(
    context: click.Context, option: click.Parameter, metrics: tuple[tuple[str, float], ...]
) -> tuple[tuple[str, float], ...]:
    names = [name for name, _ in metrics]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise click.BadParameter(
            f"{', '.join(twice)} is given twice: expected each metric once", context, option
        )
    return metrics


@click.command("publish")
@click.argument("build_dir", type=click.Path(path_type=Path, file_okay=False, exists=True))
@config_option
@option(
    "--store",
    required=True,
    type=click.Path(path_type=Path),
    help="The directory of models; made if need be.",
)
@option("--model", required=True, type=Parsed("name", parse_model), help="Whose version it is.")
@option("--version", required=True, type=_VERSION, help="YYYY.MM.DD.stage, such as 2024.01.15.prod.")
@option(
    "--golden-inputs",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="Make golden examples of these inputs (.npz).",
)
@option(
    "--baseline-data",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="Make the baseline of these inputs (.npz), 20,000 rows or more; an array `truth` may stand beside them.",
)
@option("--allow-external-data", is_flag=True, help="Accept weights in files of their own.")
@option(
    "--external-weights",
    is_flag=True,
    help="Put large weights into a file of their own, to be mapped rather than copied, unless the model is faster with copies; serve needs --allow-external-data.",
)
@option("--data-snapshot-id", help="The data that it was trained on.")
@option(
    "--training-date",
    type=Parsed("date", parse_training_date),
    help="When it was trained: YYYY-MM-DD, or a date-time such as 2024-01-15T21:30:00Z.",
)
@option("--preprocessing-version", help="What the preprocessing is called.")
@option("--framework", help="What it was trained with.")
@option(
    "--metric",
    "metrics",
    multiple=True,
    type=Parsed("metric", parse_metric),
    callback=_each_once,
    help="name=number, such as accuracy=0.98; again for several.",
)
@option("--deployed-by", help="Who publishes it.")
@option("--rollback-target", type=_VERSION, help="The version to go back to where the ledger knows none.")
@option(
    "-o", "--output", type=click.Choice(["text", "json"]), default="text", help="For people, or for programs."
)
def command(
    *,
    build_dir: Path,
    store: Path,
    model: ModelName,
    version: Version,
    golden_inputs: Path | None,
    baseline_data: Path | None,
    metrics: tuple[tuple[str, float], ...],
    rollback_target: Version | None,
    output: str,
    allow_external_data: bool,
    external_weights: bool,
    **facts: Any,
) -> None:
    """Publish BUILD_DIR as a version: checked as `serve` checks it, complete or not at all.

    BUILD_DIR holds model.onnx and, where they exist, preprocessing.onnx, golden.npz, baseline.json, external data, and a
    manifest.json with the facts that only you know (or give them as options).
    """
    with told():
        from model_sidecar.app.contact import first_contact
        from model_sidecar.app.publish import PublishFacts, publish
        from model_sidecar.store.versions import VersionStore

        store.mkdir(parents=True, exist_ok=True)
        allow_external_data = allow_external_data or external_weights
        published = publish(
            build_dir,
            VersionStore(store, allow_external_data=allow_external_data),
            model=model,
            version=version,
            facts=PublishFacts(metrics=dict(metrics), rollback_target=rollback_target, **facts),
            golden_inputs=golden_inputs,
            baseline_data=baseline_data,
            allow_external_data=allow_external_data,
            external_weights=external_weights,
            contact=first_contact(allow_external_data=allow_external_data),
        )
        for warning in published.warnings:
            click.echo(f"warning: {warning}", err=True)
        if output == "json":
            click.echo(
                json.dumps(
                    {
                        "model": model,
                        "version": version,
                        "path": str(published.path),
                        "manifest_sha256": published.manifest,
                        "files": {name: entry.digest for name, entry in published.files.items()},
                        "inputs": [str(spec) for spec in published.signature.inputs],
                        "outputs": [str(spec) for spec in published.signature.outputs],
                        "golden_examples": published.golden_examples,
                        "call_ms": {name: each * 1e3 for name, each in published.call_s.items()},
                        "baseline_rows": published.baseline.rows if published.baseline is not None else 0,
                    }
                )
            )
            return
        size = sum(entry.size or 0 for entry in published.files.values())
        for spec in published.signature.inputs:
            click.echo(f"input      {spec}")
        for spec in published.signature.outputs:
            click.echo(f"output     {spec}")
        click.echo(f"golden     {_checked(published.golden_examples, published.golden_rows)}")
        click.echo(f"baseline   {_compared(published.baseline)}")
        if published.call_s:
            click.echo(f"weights    {_outside(published)}")
        files = counted(len(published.files), "file")
        click.echo(f"published  {model} {version}  {files}, {counted(size, 'byte')}  {published.manifest}")
        where = ", to sidecars with --allow-external-data" if published.call_s else ""
        click.echo(
            f"next: sidecarctl deploy {model} {version} --environment prod --reason '…'{where}", err=True
        )


def _outside(published: Published) -> str:
    files = published.files
    names = [name for name, entry in files.items() if entry.role is Role.EXTERNAL_DATA]
    size = sum(files[name].size or 0 for name in names)
    told = [f"{each * 1e3:.2f} ms {name}" for name, each in published.call_s.items()]
    if "mapped" not in published.call_s:
        told.append("and misses its golden outputs mapped")
    how = "prepacked" if published.prepacked else "mapped"
    return (
        f"{counted(size, 'byte')} in {', '.join(names)}, to be served {how}: a call takes {', '.join(told)}"
    )


def _checked(examples: int, rows: int | None) -> str:
    if not examples:
        return "none: it will be warmed, but not checked"
    if rows is None:
        return agreeing(examples)
    calls = f"{counted(examples, 'call')} with {counted(rows, 'row')}"
    return f"{calls} made into {counted(examples, 'example')}; asked again, the model answers the same"


def _compared(baseline: Baseline | None) -> str:
    if baseline is None:
        return "none: there will be nothing to compare its traffic with"
    features = sum(each.kind is StreamKind.FEATURE for each in baseline.streams)
    parts = [counted(baseline.rows, "row"), counted(features, "feature")]
    parts += [each.name for each in baseline.streams if each.kind is not StreamKind.FEATURE]
    if baseline.classes is not None:
        classes = len(baseline.classes.names)
        more = " and others" if baseline.classes.other else ""
        parts.append(f"{classes} class{'' if classes == 1 else 'es'}{more}")
    true = ", and how often it was right" if baseline.calibration is not None else ""
    return f"{', '.join(parts)}{true}"
