"""onnxruntime sessions: which options they get (these and no others), and what their refusals mean."""

from __future__ import annotations

import os
import re

import onnxruntime as ort
from onnxruntime.capi import onnxruntime_pybind11_state as native

from model_sidecar.errors import ConfigurationError, Reason, VerificationError

FLOOR = (1, 31, 0)
"""Before 1.31.0 a session that is built from a path holds the GIL for the whole load: predictions stop for seconds."""

RUNTIME = f"onnxruntime {ort.__version__}"
"""What runs the models here; what another has survived says nothing of this one."""

_WORDS = 300
_UNKNOWN_OPERATOR = (
    "is not a registered function/op",
    "No Op registered for",
    "No opset import for domain",
    "Could not find an implementation for",
    "is not compatible with any execution provider",
)
_NO_MEMORY = ("Failed to allocate memory", "bad_alloc", "bad allocation")
_UNKNOWN_TYPE = "is not currently registered or supported"
_NOISE = re.compile(
    r"\[ONNXRuntimeError\] : \d+ : [A-Z_]+ : "
    r"|Load model from \S+ failed:\s*"
    # where in its sources, as file, line and C++ signature
    r"|/\S+/onnxruntime/\S+:\d+ [^()]*\((?:[^()]|\([^()]*\))*\)(?: const)? "
)


def check_runtime(installed: str = ort.__version__) -> None:
    """Refuse an onnxruntime under which loading a candidate would stop the live model.

    Raises:
        ConfigurationError: it is older than FLOOR, or does not say how old it is.
    """
    floor = ".".join(map(str, FLOOR))
    match = re.match(r"(\d+)\.(\d+)\.(\d+)", installed, re.ASCII)
    if match is None or tuple(map(int, match.groups())) < FLOOR:
        raise ConfigurationError(
            f"onnxruntime {installed} is installed: {floor} or later is needed, for before it predictions stand still "
            f'while another version loads. Install "onnxruntime>={floor}"'
        )


def open_session(path: str, *, name: str, prepack: bool = True) -> ort.InferenceSession:
    """A session over the ONNX file at a path, on the CPU; `name` is the file's name for the error's words.

    Without `prepack`, weights are used as they stand, and external ones where they are mapped.

    Takes as long as the model is large, and does not hold the GIL meanwhile: give it a path, never bytes.

    Raises:
        VerificationError: MODEL_INVALID, OPERATOR_UNKNOWN, OUTPUT_UNSUPPORTED or MODEL_OUT_OF_MEMORY, with
            onnxruntime's own words.
        OSError: it cannot be opened, as where a process has run out of descriptors.
    """
    ort.disable_telemetry_events()
    # With it the file would choose its session's options; or, as that is refused below, no session would open at all.
    os.environ.pop("ORT_LOAD_CONFIG_FROM_MODEL", None)
    with open(path, "rb"):  # noqa: PTH123 - a descriptor's own path: onnxruntime would blame the model for what keeps us out
        pass
    try:
        return ort.InferenceSession(
            path,
            _options(prepack=prepack),
            providers=["CPUExecutionProvider"],
            # Its retry after a failure prints to stdout, and is over the same provider.
            enable_fallback=0,
            read_config_from_model=0,
        )
    except Exception as error:  # whatever a hostile file makes onnxruntime raise: it is a file we do not take
        raise _refusal(error, name) from error


def shortened(error: BaseException) -> str:
    """What onnxruntime says, in one line, without its source paths and what we know already."""
    words = " ".join(_NOISE.sub("", str(error)).split())
    words = "".join(each if each.isprintable() else ascii(each)[1:-1] for each in words).rstrip(" .")
    return words if len(words) <= _WORDS else f"{words[:_WORDS]}…"


def is_out_of_memory(error: BaseException | None) -> bool:
    """Whether this error, or what it was raised from, says that there was no more memory to be had."""
    while error is not None:
        if isinstance(error, MemoryError) or any(words in str(error) for words in _NO_MEMORY):
            return True
        error = error.__cause__
    return False


def _options(*, prepack: bool) -> ort.SessionOptions:
    options = ort.SessionOptions()
    # One request, one thread: requests run beside each other, and a pool that spins takes the other cores from them.
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    # Its cache of memory plans keeps one for every combination of input shapes that ever came, without a bound.
    options.enable_mem_pattern = False
    # Never guess the ORT format from the bytes or the name: what was dissected is what is read.
    options.add_session_config_entry("session.load_model_format", "ONNX")
    if not prepack:
        options.add_session_config_entry("session.disable_prepacking", "1")
    # Nothing to stderr, not even failures: they are raised, and logged once, with the version beside them.
    options.log_severity_level = 4
    return options


def _refusal(error: Exception, name: str) -> VerificationError:
    words = str(error)
    if isinstance(error, native.NotImplemented) or any(each in words for each in _UNKNOWN_OPERATOR):
        return VerificationError(
            f"{name} uses an operator that {RUNTIME} does not have: {shortened(error)}. "
            "Export with the operators of ai.onnx and ai.onnx.ml; custom-op libraries are never loaded",
            reason=Reason.OPERATOR_UNKNOWN,
            file=name,
        )
    if is_out_of_memory(error):
        return VerificationError(
            f"loading {name} takes more memory than there is: {shortened(error)}",
            reason=Reason.MODEL_OUT_OF_MEMORY,
            file=name,
        )
    if _UNKNOWN_TYPE in words:
        return VerificationError(
            f"{name} uses a tensor type that onnxruntime does not have: {shortened(error)}",
            reason=Reason.OUTPUT_UNSUPPORTED,
            file=name,
        )
    return VerificationError(
        f"{RUNTIME} cannot load {name}: {shortened(error)}",
        reason=Reason.MODEL_INVALID,
        file=name,
    )
