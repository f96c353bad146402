"""Which sessions are opened, with which options, and how onnxruntime's refusals are told."""

from __future__ import annotations

import os
import subprocess
import sys

import onnx
import onnxruntime as ort
import pytest
from onnx import helper
from support import models
from support.candidates import Candidates

from model_sidecar.errors import ConfigurationError, Reason, VerificationError
from model_sidecar.model.session import check_runtime, open_session
from model_sidecar.release.tensors import Datatype


def unknown_operator() -> bytes:
    return models.build([helper.make_node("Magic", ["x"], ["y"])], [models.value("x")], [models.value("y")])


def domain_not_imported() -> bytes:
    node = helper.make_node("Magic", ["x"], ["y"], domain="com.nobody.has.it")
    return models.build([node], [models.value("x")], [models.value("y")])


def not_implemented() -> bytes:
    inputs = [models.value("x", Datatype.BF16)]
    outputs = [models.value("y", Datatype.BF16)]
    return models.build([helper.make_node("Add", ["x", "x"], ["y"])], inputs, outputs)


def compiled_elsewhere() -> bytes:
    node = helper.make_node(
        "EPContext", ["x"], ["y"], domain="com.microsoft", embed_mode=0, ep_cache_context="../../etc/passwd"
    )
    return models.build(
        [node],
        [models.value("x", shape=(1,))],
        [models.value("y", shape=(1,))],
        domains=["com.microsoft"],
    )


@pytest.mark.parametrize(
    ("content", "reason", "words"),
    [
        (models.unknown_domain(), Reason.OPERATOR_UNKNOWN, "com.nobody.has.it:Magic"),
        (unknown_operator(), Reason.OPERATOR_UNKNOWN, "No Op registered for Magic"),
        (domain_not_imported(), Reason.OPERATOR_UNKNOWN, "com.nobody.has.it"),
        (not_implemented(), Reason.OPERATOR_UNKNOWN, "Could not find an implementation for Add"),
        (compiled_elsewhere(), Reason.OPERATOR_UNKNOWN, "EPContext"),
        (b"\x08\x0a\x3a\x00", Reason.MODEL_INVALID, "opset"),
        (
            models.build([], [], [], opset_imports=[helper.make_opsetid("", 99)]),
            Reason.MODEL_INVALID,
            "Opset 99",
        ),
        (models.build([], [], [], ir_version=99), Reason.MODEL_INVALID, "IR version"),
    ],
)
def test_what_onnxruntime_refuses_is_refused_in_its_words(
    candidates: Candidates,
    capfd: pytest.CaptureFixture[str],
    content: bytes,
    reason: Reason,
    words: str,
) -> None:
    """The error says in one line what onnxruntime found, without its source paths; nothing else is printed."""
    file = candidates.seal(content)

    with pytest.raises(VerificationError) as refused:
        open_session(file.path, name="model.onnx")

    message = str(refused.value)
    assert refused.value.reason is reason
    assert words.lower() in message.lower()
    assert "\n" not in message
    assert "/onnxruntime_src/" not in message
    assert "/proc/" not in message
    assert len(message) < 600
    assert refused.value.__cause__ is not None
    assert capfd.readouterr() == ("", "")


def test_a_session_has_one_thread_and_the_cpu(candidates: Candidates) -> None:
    """The options are ours, whatever the machine has."""
    session = open_session(candidates.seal(models.add_constant(1)).path, name="model.onnx")

    options = session.get_session_options()
    assert session.get_providers() == ["CPUExecutionProvider"]
    assert (options.intra_op_num_threads, options.inter_op_num_threads) == (1, 1)
    assert options.get_session_config_entry("session.intra_op.allow_spinning") == "0"


def test_a_model_cannot_choose_its_options(candidates: Candidates) -> None:
    """What stands in a file's own `ort_config` is ignored, even where the environment asks for it."""
    config = '{"session_options": {"intra_op_num_threads": 7, "enable_profiling": 1}}'
    model = onnx.load_model_from_string(models.add_constant(1))
    model.metadata_props.add(key="ort_config", value=config)
    file = candidates.seal(models.content(model))
    code = (
        "from model_sidecar.model.session import open_session\n"
        f"print(open_session({f'/proc/self/fd/{file.fd}'!r}, name='m').get_session_options().intra_op_num_threads)"
    )

    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "ORT_LOAD_CONFIG_FROM_MODEL": "1", "PYTHONPATH": os.pathsep.join(sys.path)},
        pass_fds=[file.fd],
        capture_output=True,
        text=True,
        check=False,
    )

    assert (done.stdout, done.stderr) == ("1\n", "")


@pytest.mark.parametrize("installed", ["1.31.0", "1.31.1", "1.32.0.dev20260101", "2.0.0", ort.__version__])
def test_an_onnxruntime_that_loads_beside_traffic_is_taken(installed: str) -> None:
    """From 1.31.0 on, loading releases the GIL."""
    check_runtime(installed)


@pytest.mark.parametrize("installed", ["1.30.9", "1.23.2", "0.99.99", "nightly"])
def test_an_older_onnxruntime_is_refused_with_the_reason(installed: str) -> None:
    """The error says which is installed, which is needed, why, and what to do."""
    with pytest.raises(ConfigurationError, match=r"stand still.*onnxruntime>=1\.31\.0") as refused:
        check_runtime(installed)

    assert installed in str(refused.value)
