"""Failures as callers are told of them; what they are not told goes to the log."""

from __future__ import annotations

import logging
import time

from model_sidecar.rpc.status import Failure, failure_of

log = logging.getLogger(__name__)

_LOG_EVERY_S = 1.0


class Telling:
    """One server's, or one method's. A model that fails on everything it is sent must not fill the disk with its tracebacks."""

    def __init__(self) -> None:
        self._logged = -_LOG_EVERY_S
        self._left_out = 0

    def failure(self, error: Exception, method: str) -> Failure:
        """The error as its caller may see it; where that says too little, it is logged, once a second at most."""
        failure = failure_of(error)
        if failure.for_the_log:
            if time.monotonic() - self._logged < _LOG_EVERY_S:
                self._left_out += 1
            else:
                log.error(
                    "%s failed (%d failures before it were left out)", method, self._left_out, exc_info=error
                )
                self._logged, self._left_out = time.monotonic(), 0
        return failure
