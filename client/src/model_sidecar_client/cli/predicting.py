"""`predict`: one prediction from a shell, to try a model and to see which version answers."""

from __future__ import annotations

import json
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from model_sidecar_client.cli.documents import indented, readable
from model_sidecar_client.cli.failures import Attempt, reported
from model_sidecar_client.cli.options import (
    config_option,
    data_option,
    option,
    output_option,
    settings,
    timeout_option,
)
from model_sidecar_client.cli.text import table

_DEFAULT_TIMEOUT_S = 5.0


@click.command(short_help="One prediction, and what computed it.")
@click.argument("model")
@option("--input", "input_", metavar="FILE", help='JSON: {"input name": nested lists}; - is stdin.')
@option("--npz", metavar="FILE", help="A numpy .npz file with an array per input (needs numpy).")
@option("--version", default="", help="An exact version, or @previous; the live one if not given.")
@config_option()
@data_option()
@timeout_option()
@output_option()
def predict(model: str, input_: str | None, npz: str | None, version: str, **_of_the_program: Any) -> None:
    """Ask MODEL for one prediction; prints the outputs, the version that computed them and the prediction's id."""
    if (input_ is None) == (npz is None):
        raise click.UsageError("name the inputs: --input FILE, --input - or --npz FILE, one of them")
    inputs = _from_json(input_) if input_ is not None else _from_npz(str(npz))
    from model_sidecar_client.client import Client

    chosen = settings()
    attempt = Attempt(what=f"prediction of {model}", target_option="--data")
    with Client(chosen.data, timeout_s=chosen.timeout_s or _DEFAULT_TIMEOUT_S) as client, reported(attempt):
        answer = client.predict(model, inputs, version=version)
    if chosen.is_json:
        click.echo(indented(answer))
        return
    rows = [[f"output {name}", readable(values)] for name, values in answer.outputs.items()]
    rows += [["version", answer.version], ["prediction id", answer.prediction_id]]
    for line in table(rows):
        click.echo(line)


def _from_json(path: str) -> Mapping[str, Any]:
    try:
        text = sys.stdin.read() if path == "-" else Path(path).read_text(encoding="utf-8")
        inputs = json.loads(text)
    except (OSError, ValueError, RecursionError) as error:
        raise click.UsageError(f"--input {path}: {error}") from error
    if not isinstance(inputs, dict):
        raise click.UsageError(
            f'--input {path}: found a {type(inputs).__name__}, expected {{"input name": nested lists}}'
        )
    return inputs


def _from_npz(path: str) -> Mapping[str, Any]:
    try:
        import numpy as np
    except ImportError as error:
        raise click.UsageError(
            "--npz needs numpy: install model-sidecar-client[numpy], or use --input"
        ) from error
    try:
        # Without pickles: a file of arrays must not be able to run code.
        arrays = np.load(path, allow_pickle=False)
        if not isinstance(arrays, np.lib.npyio.NpzFile):
            raise click.UsageError(f"--npz {path}: found a single array, expected an .npz with one per input")
        with arrays:
            return dict(arrays)
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise click.UsageError(f"--npz {path}: {error}") from error
