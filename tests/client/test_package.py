"""The package as a whole: what it offers, and how little it takes along."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import model_sidecar_client
import model_sidecar_client.cli
import model_sidecar_client.testing

PACKAGE = Path(model_sidecar_client.__file__).parent


def run(program: str) -> str:
    """The program's output, from a fresh interpreter that finds this package."""
    environment = {**os.environ, "PYTHONPATH": str(PACKAGE.parent)}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_the_public_names_are_those_that_are_announced() -> None:
    """`__all__` is sorted, every name of it can be had, and type checkers see the same ones from the same modules."""
    announced = model_sidecar_client.__all__
    seen_by_type_checkers = {
        alias.name: node.module
        for block in ast.parse((PACKAGE / "__init__.py").read_text()).body
        if isinstance(block, ast.If)
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }

    assert announced == sorted(announced)
    assert set(announced) == set(seen_by_type_checkers)
    for name, module in seen_by_type_checkers.items():
        assert getattr(model_sidecar_client, name).__module__ == module


def test_nothing_public_is_left_unannounced() -> None:
    """Errors and records that a caller may meet can be imported from the package's top."""
    for module in ("errors", "records", "answers"):
        source = ast.parse((PACKAGE / f"{module}.py").read_text())
        defined = {node.name for node in source.body if isinstance(node, ast.ClassDef)}
        assert defined <= set(model_sidecar_client.__all__), module


def test_public_modules_announce_their_names() -> None:
    """The other two modules that users import from keep sorted lists too."""
    for module in (model_sidecar_client.testing, model_sidecar_client.cli):
        assert module.__all__ == sorted(module.__all__)
        assert all(hasattr(module, name) for name in module.__all__)


def test_an_unknown_name_is_an_attribute_error() -> None:
    """The lazy package behaves as any other."""
    assert not hasattr(model_sidecar_client, "Klient")
    assert {"Client", "__doc__"} <= set(dir(model_sidecar_client))


def test_the_client_is_light() -> None:
    """All of the library together loads none of the heavy things; numpy not even where it is installed."""
    heavy = ["numpy", "onnxruntime", "watchdog", "prometheus_client", "click", "model_sidecar"]
    loaded = run(
        "import sys\n"
        "from model_sidecar_client import *\n"
        "import model_sidecar_client.testing\n"
        f"print([name for name in {heavy} if name in sys.modules], 'grpc' in sys.modules)"
    )

    assert loaded == "[] True"


def test_the_command_starts_without_grpc() -> None:
    """`sidecarctl --help` need not wait for what it does not use."""
    loaded = run(
        "import sys\n"
        "import model_sidecar_client.cli\n"
        "print([name for name in ('grpc', 'google.protobuf', 'numpy') if name in sys.modules])"
    )

    assert loaded == "[]"


def test_predictions_without_numpy() -> None:
    """Where numpy cannot be imported, lists and buffers go in and nested lists come out."""
    answered = run(
        "import array, sys\n"
        "sys.modules['numpy'] = None\n"
        "from model_sidecar_client import Client\n"
        "from model_sidecar_client.testing import StandInSidecar\n"
        "answers = []\n"
        "with StandInSidecar() as sidecar, Client(sidecar.target) as client:\n"
        "    for datatype, values in (\n"
        "        ('FP32', [[0.5, 2.0]]), ('FP32', array.array('f', [0.5])), ('FP16', [0.5]), ('BF16', [1.5]),\n"
        "        ('BYTES', [['a'], [b'b']]), ('INT64', 7), ('BOOL', [True]), ('FP64', [[], []]),\n"
        "    ):\n"
        "        sidecar.answer('m', lambda inputs: {'y': inputs['x']}, inputs={'x': datatype})\n"
        "        answers.append(client.predict('m', {'x': values}).outputs['y'])\n"
        "print(answers)"
    )

    assert answered == "[[[0.5, 2.0]], [0.5], [0.5], [1.5], [[b'a'], [b'b']], 7, [True], [[], []]]"
