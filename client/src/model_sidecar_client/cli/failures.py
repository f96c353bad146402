"""Failures as people and scripts see them: one line that says what failed, why and what to do, and an exit code."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from model_sidecar_client.cli.text import printable

if TYPE_CHECKING:
    from model_sidecar_client.errors import SidecarError

FAILED, USAGE, TIMED_OUT, VERIFICATION_FAILED, CONFLICT = 1, 2, 3, 4, 5
FOUND, NOT_REACHABLE, INTERRUPTED = 6, 7, 130

# The sidecar's own messages say what to do; this adds what only a shell knows.
_BY_REASON = {
    "VERSION_NOT_FOUND": "`sidecarctl versions` lists those that there are",
    "GENERATION_NOT_FOUND": "`sidecarctl history` lists those that there are",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """What is being tried, for the words that say that it failed.

    Attributes:
        what: such as "rollback of recommendation-v1 prod".
        target: where the call goes, and `target_option` the option that says so.
        request_id: of an action; "" for everything that changes nothing.
        look: the command that shows how an action went on.
    """

    what: str
    target_option: str
    request_id: str = ""
    look: str = ""


@contextmanager
def reported(attempt: Attempt) -> Iterator[None]:
    """Turn our errors into one line on stderr and an exit code."""
    from model_sidecar_client.errors import SidecarError

    try:
        yield
    except SidecarError as error:
        code, words = _explained(error, attempt)
        click.echo(f"sidecarctl: {printable(words)}", err=True)
        raise click.exceptions.Exit(code) from error
    except KeyboardInterrupt:
        if attempt.request_id:
            click.echo(
                f"sidecarctl: stopped waiting for the {attempt.what}; it may go on in the sidecar, as request "
                f"{printable(attempt.request_id)}; look with `{printable(attempt.look)}`",
                err=True,
            )
        raise


def _explained(error: SidecarError, attempt: Attempt) -> tuple[int, str]:
    from model_sidecar_client import errors

    advice = _BY_REASON.get(error.reason, "")
    match error:
        case errors.InvalidRequestError() if error.reason == "INVALID_NAME":
            # A typing mistake; `model-sidecar` finds the same one by itself, and ends with the same code.
            return USAGE, _line(attempt, "refused", error, advice)
        case errors.NotSupportedError():
            return FAILED, _line(attempt, "failed", error, f"is {attempt.target_option} right?")
        case errors.VerificationFailedError():
            return VERIFICATION_FAILED, _line(attempt, "refused", error, "what was live answers on")
        case errors.ConflictError():
            return CONFLICT, _line(
                attempt, "refused", error, f"look with `{attempt.look}`, then decide again"
            )
        case errors.NotReachableError():
            # With a reason, a sidecar was there.
            advice = "" if error.reason else f"is the sidecar running, and is {attempt.target_option} right?"
            return NOT_REACHABLE, _line(attempt, "failed", error, advice)
        case errors.DeadlineError() if attempt.request_id:
            advice = f"it goes on in the sidecar, as request {attempt.request_id}; look with `{attempt.look}`"
            return TIMED_OUT, _line(attempt, "not finished", error, advice)
        case errors.DeadlineError():
            return TIMED_OUT, _line(attempt, "failed", error, "wait longer with --timeout")
        case errors.CommitStateUnknownError():
            advice = f"the same command with --request-id {attempt.request_id} tells, and does nothing twice"
            return FAILED, _line(attempt, "not certain", error, advice)
        case errors.OverloadedError() if error.retry_after_s is not None:
            return FAILED, _line(attempt, "refused", error, f"try again in {error.retry_after_s:g} s")
        case errors.InternalError():
            return FAILED, _line(attempt, "failed", error, "the sidecar's log says more")
        case _:
            return FAILED, _line(attempt, "refused", error, advice)


def _line(attempt: Attempt, outcome: str, error: SidecarError, advice: str) -> str:
    reason = f"{error.reason}: " if error.reason else ""
    return f"{attempt.what} {outcome}: {reason}{error.message}" + f"; {advice}" * bool(advice)
