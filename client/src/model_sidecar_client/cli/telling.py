"""`feedback`: what was true of predictions, one at a time or by the file."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import IO, TYPE_CHECKING, Any

import click

from model_sidecar_client.cli.documents import indented
from model_sidecar_client.cli.failures import FAILED, Attempt, reported
from model_sidecar_client.cli.options import (
    config_option,
    data_option,
    option,
    output_option,
    settings,
    timeout_option,
)
from model_sidecar_client.cli.text import printable, table

if TYPE_CHECKING:
    from model_sidecar_client.truths import Feedback, FeedbackReport

_DEFAULT_TIMEOUT_S = 5.0
_FIELDS = ("prediction_id", "truth", "source", "observed_at", "replace")
_LINE = f'{{"prediction_id": …, "truth": …}}, with {", ".join(_FIELDS[2:])} if you like'
_GOOD = ("joined", "duplicate")


@click.command(short_help="Say what was true of predictions.")
@option("--prediction-id", metavar="ID", help="The answer's; ID#ROW (from 0) for one row of several.")
@option("--truth", metavar="VALUE", help="What was true: a number, else a label.")
@option("--label", is_flag=True, help="Take --truth for a label, also where it looks like a number.")
@option(
    "--from",
    "from_",
    metavar="FILE",
    help="JSON lines, one for each prediction (see above); - is stdin.",
)
@option("--source", default="", help="Who says so; of each line that names none.")
@option(
    "--observed-at",
    metavar="TIME",
    help="When it became known, such as 2024-01-15T09:30:00Z; now if not given.",
)
@option("--replace", is_flag=True, help="Let it take the place of what the same source said before.")
@config_option()
@data_option()
@timeout_option()
@output_option()
def feedback(
    prediction_id: str | None,
    truth: str | None,
    from_: str | None,
    source: str,
    observed_at: str | None,
    *,
    label: bool,
    replace: bool,
    **_of_the_program: Any,
) -> None:
    """Say what was true of one prediction, or of those in a file; prints what became of it.

    \b
    A line of the file, whose last three fields may be left out:
      {"prediction_id": "ID or ID#ROW", "truth": NUMBER or "LABEL",
       "source": "WHO", "observed_at": "2024-01-15T09:30:00Z", "replace": false}
    Each stands on one line of its own. All are read before the first is sent:
    of a file with a line that is none, nothing is.

    Exit code 1 if nothing was joined or known before, or anything was invalid.
    """  # noqa: D301 - click looks for the character itself
    one = prediction_id is not None or truth is not None
    if one == (from_ is not None) or (one and (prediction_id is None or truth is None)):
        raise click.UsageError("name one prediction with --prediction-id and --truth, or a file with --from")
    from model_sidecar_client.client import Client

    chosen = settings()
    attempt = Attempt(what="feedback", target_option="--data")
    given: dict[str, Any] = {"source": source, "observed_at": observed_at, "replace": replace}
    with (
        _lines(from_) as lines,
        Client(chosen.data, timeout_s=chosen.timeout_s or _DEFAULT_TIMEOUT_S) as client,
        reported(attempt),
    ):
        if lines is None:
            value: Any = truth if label else _value(str(truth))
            pieces = {0: _feedback({**given, "prediction_id": prediction_id, "truth": value})}
        else:
            # All of them before one is sent: of a file that is wrong somewhere, nothing is to be half done.
            pieces = dict(_read(lines, given, name="stdin" if from_ == "-" else str(from_)))
        report = client.feedback_many(pieces.values())
    _print(report, None if lines is None else list(pieces), is_json=chosen.is_json)
    if report.counts["invalid"] or not any(report.counts[each] for each in _GOOD):  # type: ignore[index]
        raise click.exceptions.Exit(FAILED)


@contextmanager
def _lines(path: str | None) -> Iterator[IO[str] | None]:
    if path is None or path == "-":
        yield None if path is None else sys.stdin
        return
    try:
        file = click.open_file(path, encoding="utf-8")
    except OSError as error:
        raise click.UsageError(f"--from {path}: {error.strerror}") from error
    with file as lines:
        yield lines


def _read(lines: IO[str], given: dict[str, Any], *, name: str) -> Iterator[tuple[int, Feedback]]:
    """What each line says, by the line's number, from 1; else a usage error that says which is wrong."""
    number = 0
    try:
        for number, line in enumerate(lines, 1):
            if line.strip():
                yield number, _feedback({**given, **_fields(line)})
    except click.UsageError as error:
        raise click.UsageError(
            f"--from {name}, line {number} is {error.message}; nothing was sent"
        ) from error
    except UnicodeDecodeError as error:
        raise click.UsageError(
            f"--from {name}, after line {number}: found bytes that are no UTF-8; nothing was sent"
        ) from error
    except OSError as error:
        raise click.UsageError(f"--from {name}: {error.strerror}; nothing was sent") from error


def _fields(line: str) -> dict[str, Any]:
    try:
        fields = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise click.UsageError(f"no JSON: found {line.strip()[:80]!r}, expected {_LINE}") from error
    if not isinstance(fields, dict) or not {"prediction_id", "truth"} <= set(fields) <= set(_FIELDS):
        raise click.UsageError(f"no feedback: found {line.strip()[:80]!r}, expected {_LINE}")
    return fields


def _feedback(fields: dict[str, Any]) -> Feedback:
    from model_sidecar_client.truths import Feedback

    expected = {"prediction_id": str, "truth": str | int | float, "source": str, "replace": bool}
    for name, kind in expected.items():
        if not isinstance(fields[name], kind):
            raise click.UsageError(f"no feedback: {name}: found {json.dumps(fields[name])[:80]}")
    fields["observed_at"] = _time(fields["observed_at"])
    return Feedback(**fields)


def _time(text: Any) -> datetime | None:
    if text is None:
        return None
    try:
        return datetime.fromisoformat(text)
    except (TypeError, ValueError) as error:
        raise click.UsageError(
            f"no feedback: observed_at: found {json.dumps(text)[:80]}, expected a time such as 2024-01-15T09:30:00Z"
        ) from error


def _value(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


def _print(report: FeedbackReport, lines: list[int] | None, *, is_json: bool) -> None:
    counts = {outcome.value: count for outcome, count in report.counts.items()}
    if is_json:
        click.echo(indented({"counts": counts, "problems": report.problems}))
        return
    for line in table([[name, str(count)] for name, count in counts.items() if count] or [["joined", "0"]]):
        click.echo(line)
    for problem in report.problems:
        if problem.outcome != "duplicate":
            # The sidecar counts pieces, from 0; people count the lines of their file, empty ones too.
            where = "" if lines is None else f"line {lines[problem.index]}: "
            words = f"{where}{problem.prediction_id}: {problem.outcome.value}: {problem.message}"
            click.echo(f"sidecarctl: {printable(words)}", err=True)
