"""`StandInSidecar`: what tests see of the stand-in."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from concurrent import futures
from pathlib import Path
from types import TracebackType
from typing import Self

import grpc

from model_sidecar_client.datatypes import DATATYPES
from model_sidecar_client.testing.control_plane import ControlPlane
from model_sidecar_client.testing.data_plane import DataPlane, inputs_of
from model_sidecar_client.testing.feedback_plane import FeedbackPlane
from model_sidecar_client.testing.names import checked_environment, checked_model, checked_version
from model_sidecar_client.testing.script import Failure, Hold, Received, Script, Scripted
from model_sidecar_client.testing.shelf import Answer, Model, Published, Shelf
from model_sidecar_client.wire import deployment as wire
from model_sidecar_client.wire import services

# Every watcher and every held call takes one.
_THREADS = 32
_GRACE_S = 1.0


class StandInSidecar:
    """A sidecar that answers without a model, for the tests of applications and operators' tools.

    It serves both planes on one socket of its own, from `start` (or the beginning of a `with` block) to `close`. Any
    thread may use it. What the real sidecar could not have (a name off its grammar, a method or datatype that there is
    not) is a ValueError, so that a typing mistake does not pass for a test.

    Attributes:
        environment: the one environment that it deploys to.
    """

    def __init__(self, *, environment: str = "prod", tcp: bool = False) -> None:
        """Nothing listens yet.

        Args:
            environment: the one environment that it deploys to.
            tcp: listen on a free port of 127.0.0.1 instead of on a Unix socket in a temporary directory.
        """
        self.environment = checked_environment(environment)
        self._shelf = Shelf(environment)
        self._script = Script()
        self._tcp = tcp
        self._server: grpc.Server | None = None
        self._directory: tempfile.TemporaryDirectory[str] | None = None
        self._target = ""

    @property
    def target(self) -> str:
        """Where `Client` and `Operator` find it."""
        if not self._target:
            raise RuntimeError("the stand-in has not been started: use `with StandInSidecar() as sidecar:`")
        return self._target

    def answer(
        self,
        model: str,
        outputs: Answer,
        *,
        version: str = "2024.01.01.prod",
        inputs: Mapping[str, str] | None = None,
    ) -> None:
        """From the next request on, this version of the model is live and answers this.

        It becomes live as if somebody had edited the pointer: with an ADOPT record in the ledger.

        Args:
            model: its name; models that were never named here or in `publish` are NOT_FOUND.
            outputs: values by output name, or a function from the decoded inputs to them. Lists of float are answered
                as FP32, of int as INT64, of str and bytes as BYTES; arrays as what they are.
            version: the tag of the answers.
            inputs: the datatypes that the model takes, by input name. Without them any input is taken.
        """
        self.publish(model, version, outputs, inputs=inputs)
        with self._shelf.changing() as models:
            if models[model].live != version:
                models[model].append(models[model].drafted(wire.ACTION_ADOPT, version, self.environment))

    def publish(
        self,
        model: str,
        version: str,
        outputs: Answer | None = None,
        *,
        inputs: Mapping[str, str] | None = None,
        problem: str = "",
    ) -> None:
        """Put a version into the store, to be deployed.

        Args:
            model: its name.
            version: its name.
            outputs: what it answers once it is live, as for `answer`; nothing by default.
            inputs: the datatypes that it takes.
            problem: the reason, such as "DIGEST_MISMATCH", for which it fails verification.
        """
        checked_model(model)
        checked_version(version)
        for name, datatype in (inputs or {}).items():
            if datatype not in DATATYPES:
                raise ValueError(
                    f"input {name!r}: found {datatype!r}, expected one of {', '.join(DATATYPES)}"
                )
        with self._shelf.changing() as models:
            shelved = models.setdefault(model, Model(model))
            shelved.versions[version] = Published(version, outputs or {}, dict(inputs or {}), problem)

    def set_ready(self, ready: bool) -> None:  # noqa: FBT001 - a setter of one truth value
        """What ServerReady and ModelReady say; predictions are answered all the same."""
        with self._shelf.changing():
            self._shelf.is_ready = ready

    def fail_next(
        self,
        method: str,
        code: grpc.StatusCode,
        *,
        reason: str = "",
        message: str = "",
        metadata: Mapping[str, str] | None = None,
        retry_after_s: float | None = None,
        times: int = 1,
    ) -> None:
        """Fail the next calls of this method.

        Args:
            method: the RPC's name: "ModelInfer", "Deploy", "ModelMetadata", …
            code: the status. The client tries UNAVAILABLE three times, so for it to show, `times` must be 3.
            reason: the ErrorInfo's reason; without one the answer is a bare status.
            message: for people.
            metadata: the ErrorInfo's; `{"kind": "verification"}` marks a failed verification.
            retry_after_s: sent as retry pushback.
            times: how many calls.
        """
        if times < 1 or code is grpc.StatusCode.OK:
            raise ValueError(
                f"found {times} calls to fail with {code.name}, expected at least 1 and an error"
            )
        self._script.fail(
            _checked_method(method),
            Failure(code, reason, message, dict(metadata or {}), retry_after_s),
            times,
        )

    def hold(self, method: str) -> Hold:
        """Hold every call of this method until the returned hold is released, or its `with` block ends."""
        return self._script.hold(_checked_method(method))

    def received(self, method: str | None = None) -> list[Received]:
        """The calls that arrived so far, oldest first: of this method, or all."""
        return self._script.received(None if method is None else _checked_method(method))

    def start(self) -> None:
        """Listen."""
        server = grpc.server(
            futures.ThreadPoolExecutor(_THREADS, thread_name_prefix="stand-in"),
            options=[
                ("grpc.so_reuseport", 0),
                ("grpc.max_receive_message_length", -1),
                ("grpc.max_send_message_length", -1),
            ],
        )
        for service, plane in (
            (services.INFERENCE, DataPlane(self._shelf)),
            (services.DEPLOYMENT, ControlPlane(self._shelf)),
            (services.FEEDBACK, FeedbackPlane(self._shelf)),
        ):
            server.add_generic_rpc_handlers(
                (services.handler(service, Scripted(plane, self._script, inputs_of)),)
            )
        if self._tcp:
            self._target = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
        else:
            self._directory = tempfile.TemporaryDirectory(prefix="stand-in-")
            self._target = f"unix:{Path(self._directory.name) / 'sidecar.sock'}"
            server.add_insecure_port(self._target)
        server.start()
        self._server = server

    def close(self) -> None:
        """Let held calls go, end the rest, and listen no more."""
        self._script.release_all()
        with self._shelf.changing():
            self._shelf.is_closed = True
        if self._server:
            # As the real one: watches end politely, and what is under way may finish.
            self._server.stop(_GRACE_S).wait()
        if self._directory:
            self._directory.cleanup()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def _checked_method(method: str) -> str:
    """The RPC's name, or ValueError for one that the stand-in never answers."""
    known = [
        name
        for plane in (DataPlane, ControlPlane, FeedbackPlane)
        for name in vars(plane)
        if not name.startswith("_")
    ]
    if method not in known:
        raise ValueError(
            f"method {method!r} is not one of the stand-in's: expected one of {', '.join(known)}"
        )
    return method
