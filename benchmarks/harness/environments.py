"""Environments of their own for peers, made once from hashed requirements, by the `uv` of this one."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PEERS = ROOT / "benchmarks" / "peers"
FOLDER = ROOT / ".venv-peers"
_INSTALL_S = 600


class NotInstalledError(Exception):
    """An environment could not be made; the message says what its installation said."""


def environment(name: str) -> Path:
    """The folder of the environment with what benchmarks/peers/<name>.txt asks for.

    Raises:
        NotInstalledError: it could not be made, or not in ten minutes.
    """
    requirements, folder = PEERS / f"{name}.txt", FOLDER / name
    stamp, wanted = folder / ".installed", hashlib.sha256(requirements.read_bytes()).hexdigest()
    if stamp.exists() and stamp.read_text() == wanted:
        return folder
    print(f"   setting up an environment for {name}", flush=True)
    shutil.rmtree(folder, ignore_errors=True)
    uv("venv", "--quiet", "--python", sys.executable, str(folder))
    install(folder / "bin" / "python", "--require-hashes", "-r", str(requirements))
    stamp.write_text(wanted)
    return folder


def deployed(name: str, *distributions: str) -> Path:
    """The folder of an environment as a deployment has it: what requirements/<name>.txt pins, and our distributions as wheels.

    Raises:
        NotInstalledError: it could not be made.
    """
    folder = FOLDER / f"own-{name}"
    shutil.rmtree(folder, ignore_errors=True)
    uv("venv", "--quiet", "--python", sys.executable, str(folder))
    python = folder / "bin" / "python"
    install(python, "--require-hashes", "-r", str(ROOT / "requirements" / f"{name}.txt"))
    with tempfile.TemporaryDirectory() as wheels:
        for each in distributions:
            building = ("--wheel", "--no-build-isolation", "--python", sys.executable, "--out-dir", wheels)
            uv("build", "--quiet", *building, str(ROOT / each))
        install(python, "--no-deps", *map(str, Path(wheels).glob("*.whl")))
    return folder


def install(python: Path, *arguments: str) -> None:
    """Install into the environment of that Python, compiled, as pip does it; NotInstalledError."""
    uv("pip", "install", "--quiet", "--compile-bytecode", "--python", str(python), *arguments)


def uv(*arguments: str) -> None:
    """Run uv; NotInstalledError."""
    tool, nice = Path(sys.executable).with_name("uv"), shutil.which("nice") or "nice"
    try:
        subprocess.run(
            [nice, str(tool), *arguments], check=True, capture_output=True, text=True, timeout=_INSTALL_S
        )
    except subprocess.TimeoutExpired as error:
        raise NotInstalledError(f"uv {arguments[0]} took more than {_INSTALL_S} s") from error
    except subprocess.CalledProcessError as error:
        raise NotInstalledError(f"uv {arguments[0]} failed: {error.stderr.strip()[-500:]}") from error


def packages(folder: Path) -> Path:
    """Where an environment has its packages."""
    (found,) = folder.glob("lib/python3*/site-packages")
    return found
