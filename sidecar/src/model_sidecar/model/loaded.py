"""A version in memory, ready to answer: its preprocessing and its model, run, swapped and released as one."""

from __future__ import annotations

import datetime
import threading
from collections.abc import Sequence
from functools import partial
from typing import Any

import onnxruntime as ort
from numpy.typing import NDArray

from model_sidecar.errors import DeadlineOverError, InferenceFailedError, InvalidInputError
from model_sidecar.model.anatomy import Operator
from model_sidecar.model.brake import Brake
from model_sidecar.model.execution import Batching
from model_sidecar.model.graph import Graph
from model_sidecar.model.memory import HUGE, MappedFiles, give_back, onto_huge_pages
from model_sidecar.release.baseline import Baseline
from model_sidecar.release.manifest import Manifest
from model_sidecar.release.names import ModelName, Version
from model_sidecar.release.tensors import Arrays, Signature, described

ASSUMED_COST_S = 0.01
"""What a call is taken to cost until one was measured: dear enough to be kept off an event loop."""


class LoadedModel:
    """A loaded version. Any thread may call `run`, several at once; only the last leaseholder's releaser calls `close`.

    Attributes:
        model: whose version it is.
        version: which one.
        manifest: what it was published with.
        signature: what it takes and gives, preprocessing included.
        loaded_at: when it was loaded, UTC.
        cost_s: seconds that one call takes; measured by rehearsal, ASSUMED_COST_S before.
        baseline: what it saw and said where it was published; None where nobody told, or it cannot be read.
        warm_bytes: how many bytes of input that call was given; 0 where none was measured.
        operators: all that it uses, those of its preprocessing too.
        batching: what runs of several rows cost, as its trial found; None: each prediction is run by itself.
    """

    def __init__(
        self,
        *,
        model: ModelName,
        version: Version,
        manifest: Manifest,
        signature: Signature,
        graph: Graph,
        preprocessing: Graph | None,
        baseline: Baseline | None = None,
        heaviest: int = 0,
        operators: frozenset[Operator] = frozenset(),
        mapped: MappedFiles | None = None,
    ) -> None:
        self.model = model
        self.version = version
        self.manifest = manifest
        self.signature = signature
        self.baseline = baseline
        self.loaded_at = datetime.datetime.now(datetime.UTC)
        self.cost_s = ASSUMED_COST_S
        self.warm_bytes = 0
        self.batching: Batching | None = None
        self.operators = operators
        self._heaviest = heaviest
        self._mapped = mapped or MappedFiles()
        self._graph = graph
        self._preprocessing = preprocessing
        self._outputs = tuple(spec.name for spec in signature.outputs)
        self._expected = tuple(
            (spec.name, spec.datatype.numpy, len(spec.shape), spec) for spec in signature.inputs
        )
        made = {spec.name for spec in preprocessing.signature.outputs} if preprocessing else set()
        self._made = tuple(made)
        self._first = tuple(spec.name for spec in preprocessing.signature.inputs) if preprocessing else ()
        self._through = tuple(spec.name for spec in graph.signature.inputs if spec.name not in made)

    def run(
        self,
        inputs: Arrays,
        outputs: Sequence[str] | None = None,
        *,
        brake: Brake | None = None,
        timeout_s: float | None = None,
    ) -> dict[str, NDArray[Any]]:
        """The outputs for these inputs, in the shapes they really have. The GIL is released while the model works.

        Arrays are as `release.tensors` says: BYTES are object arrays of `str`, BF16 are uint16 bit patterns.

        Args:
            inputs: every input of the signature, and nothing else.
            outputs: which outputs to give; None or empty for all. onnxruntime computes all of them either way.
            brake: ends the run when it is pulled, as soon as the operator then at work is done.
            timeout_s: pull the brake after so many seconds. Costs a thread; for a run now and then.

        Raises:
            InvalidInputError: a name, datatype or shape that the model does not take.
            InferenceFailedError: the model failed. The message is for callers and vague, `__cause__` is for the log.
            DeadlineOverError: the brake was pulled.
        """
        self._check(inputs)
        wanted = self._wanted(outputs)
        if timeout_s is None:
            return self._braked(inputs, wanted, brake)
        brake = brake or Brake()
        timer = threading.Timer(timeout_s, brake.pull)
        timer.name = f"timeout of {self.version}"
        timer.daemon = True
        timer.start()
        try:
            return self._braked(inputs, wanted, brake)
        finally:
            timer.cancel()
            timer.join()

    def settle(self) -> None:
        """See to it that `close` will be quick, where large weights would make it slow; for after the load.

        Takes about half as long as the load, without the GIL. The model runs meanwhile, if anybody asks it.
        """
        if self._heaviest >= HUGE:
            onto_huge_pages()

    def close(self) -> None:
        """Release the model and give its memory back. Nobody may run it any more.

        The GIL is held for the session's destructor: milliseconds, some 15 for thousands of weights, 45 for half a gigabyte of
        large ones that `settle` was not called for, or could do nothing for.
        """
        with self._mapped:
            self._graph.close()
            if self._preprocessing is not None:
                self._preprocessing.close()
        give_back()

    def _braked(self, inputs: Arrays, wanted: Sequence[str], brake: Brake | None) -> dict[str, NDArray[Any]]:
        if brake is None:
            return self._through_both(inputs, wanted, None)
        options = ort.RunOptions()
        brake.fit(partial(setattr, options, "terminate", True))  # noqa: FBT003 - setattr takes it so
        try:
            return self._through_both(inputs, wanted, options)
        except InferenceFailedError as error:
            if brake.pulled:
                raise DeadlineOverError("the model was stopped before it had answered") from error
            raise

    def _through_both(
        self, inputs: Arrays, wanted: Sequence[str], options: ort.RunOptions | None
    ) -> dict[str, NDArray[Any]]:
        if self._preprocessing is None:
            return self._graph.run(inputs, wanted, options)
        feed = self._preprocessing.run({name: inputs[name] for name in self._first}, self._made, options)
        for name in self._through:
            feed[name] = inputs[name]
        return self._graph.run(feed, wanted, options)

    def _wanted(self, outputs: Sequence[str] | None) -> Sequence[str]:
        if not outputs:
            return self._outputs
        for name in outputs:
            if name not in self._outputs:
                raise InvalidInputError(
                    f"there is no output {name!r}: expected {_list(self._outputs)}", output=name
                )
        return outputs

    def _check(self, inputs: Arrays) -> None:
        # Where onnxruntime would not: it reads big-endian numbers as little-endian ones, and takes any shape for a
        # scalar. What it does check, a fixed dimension, is left to it.
        for name, dtype, rank, spec in self._expected:
            array = inputs.get(name)
            if array is None:
                raise InvalidInputError(f"input {name!r} is missing: expected {spec}", input=name)
            if array.dtype != dtype or array.ndim != rank:
                raise InvalidInputError(f"input {name!r} is {described(array)}: expected {spec}", input=name)
        if len(inputs) > len(self._expected):
            names = [spec.name for spec in self.signature.inputs]
            unknown = next(name for name in inputs if name not in names)
            raise InvalidInputError(f"there is no input {unknown!r}: expected {_list(names)}", input=unknown)


def _list(names: Sequence[str]) -> str:
    return ", ".join(repr(name) for name in names)
