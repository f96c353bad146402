"""What the sidecar and its client take up: memory at rest, the time to the first answer, what is installed.

    python benchmarks/footprint.py [--fast]           (make benchmarks ARGS='--only footprint --peers mlserver')

Measured as deployed: an environment made of the hashed requirements and our wheels, compiled, as in the image.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

import grpc
from harness import models, servers
from harness.environments import FOLDER, NotInstalledError, deployed, packages
from harness.figures import Figure, Goal, Measured, Table, ratios, spread
from harness.peers import start
from harness.results import measured_alone
from harness.rounds import in_turns
from support.sidecars import serving
from support.yard import MODEL, PROD, Yard

TITLE = "Memory at rest, the time to the first answer, and what is installed."
PEERS = ("mlserver", "kserve", "triton")
CLIENT_MB = Goal(25, at_most=True)
_RESTS_S = 2.0
_LARGE = 6
Rows = list[tuple[str, ...]]


def measure(*, fast: bool = False, peers: Sequence[str] = PEERS) -> Measured:
    """All of it; two minutes, and the installations."""
    rounds = 1 if fast else 5
    peers = _there(peers)
    with ExitStack() as stack:
        home, client = deployed("sidecar", "client", "sidecar"), deployed("client", "client")
        yard = Yard(Path(stack.enter_context(tempfile.TemporaryDirectory())))
        yard.publish(servers.VERSION, model=models.tiny().content)
        with serving(yard, servers.VERSION):
            pass  # there is a pointer from now on
        starts, start_rows = first_answers(home, yard, peers, rounds=rounds)
        rests, memory_rows = at_rest(home, yard, peers)
        sizes, size_rows = installed(home, client, peers)
        imports, import_rows = imported(home, client, rounds=rounds)
    return Measured(
        title=TITLE,
        figures=(*sizes, *starts, *rests, *imports),
        tables=(
            Table("Start to first answer.", ("", "s"), tuple(start_rows)),
            Table(
                "Memory at rest, with all processes, MiB.",
                ("", "resident", "proportional"),
                tuple(memory_rows),
            ),
            Table("What is installed, MB.", ("", "packages", "of which"), tuple(size_rows)),
            Table("Processor time of a Python that imports, ms.", ("", "ms"), tuple(import_rows)),
        ),
        notes=(
            "The sidecar's image is what is installed, and the base image's Python.",
            (
                "Each start is of an untouched process on files that are in the page cache; the sidecar's includes the verification of the "
                "version and its trial in a child process."
            ),
        ),
    )


def first_answers(home: Path, yard: Yard, peers: Sequence[str], *, rounds: int) -> tuple[list[Figure], Rows]:
    """Seconds from a process's start to its first answer, of the tiny model."""
    subject = models.tiny()

    def ours(*options: str) -> float:
        with tempfile.TemporaryDirectory(prefix="bench-") as folder:
            begun = time.perf_counter()
            with servers.process(_serve(home, yard, folder, *options), env=_plain()):
                servers.first_answer(f"unix:{folder}/data.sock", subject.request(MODEL), expected=subject)
                return time.perf_counter() - begun

    def theirs(name: str) -> float:
        begun = time.perf_counter()
        with start(name, subject):
            return time.perf_counter() - begun

    with tempfile.TemporaryDirectory() as state:
        again = partial(ours, "--state-dir", f"{state}/state")
        again()
        ways: dict[str, Callable[[], float]] = {"sidecar": ours, "sidecar that was here before": again}
        ways |= {name: partial(theirs, name) for name in peers}
        found = in_turns(ways, rounds=rounds)
    rows: Rows = [(name, spread(found[name], "{:.2f}")) for name in found]
    figures = [
        Figure(f"start to first answer, of {name}'s", ratios(found["sidecar"], found[name])) for name in peers
    ]
    return figures, rows


def at_rest(home: Path, yard: Yard, peers: Sequence[str]) -> tuple[list[Figure], Rows]:
    """MiB of a process that nobody has asked anything for some seconds."""
    subject = models.tiny()
    found: dict[str, tuple[float, float]] = {}
    with tempfile.TemporaryDirectory() as root, tempfile.TemporaryDirectory(prefix="bench-") as folder:
        empty = Yard(Path(root))
        (empty.store / MODEL).mkdir(parents=True)
        with servers.process(_serve(home, empty, folder), env=_plain()) as pid:
            with grpc.insecure_channel(f"unix:{folder}/control.sock") as channel:
                grpc.channel_ready_future(channel).result(timeout=30)
            found["sidecar without a model"] = _rested(pid)
    with (
        tempfile.TemporaryDirectory(prefix="bench-") as folder,
        servers.process(_serve(home, yard, folder), env=_plain()) as pid,
    ):
        servers.first_answer(f"unix:{folder}/data.sock", subject.request(MODEL), expected=subject)
        found["sidecar"] = _rested(pid)
    for name in peers:
        with start(name, subject) as peer:
            found[name] = _rested(peer.server.pid)
    figures = [
        Figure(f"memory at rest with a tiny model, of {name}'s", (found["sidecar"][1] / found[name][1],))
        for name in peers
    ]
    return figures, [(name, f"{rss:.0f}", f"{pss:.0f}") for name, (rss, pss) in found.items()]


def installed(home: Path, client: Path, peers: Sequence[str]) -> tuple[list[Figure], Rows]:
    """MB of packages, bytecode and all, and the largest among them."""
    folders = {"client": client, "sidecar": home}
    folders |= {name: FOLDER / name for name in peers}
    rows: Rows = []
    totals = {}
    for name, folder in folders.items():
        sizes = _sizes(packages(folder))
        totals[name] = sum(sizes.values()) / 1e6
        largest = ", ".join(f"{each} {size / 1e6:.1f}" for each, size in sizes.most_common(_LARGE))
        rows.append((name, f"{totals[name]:.1f}", largest))
    figures = [Figure("the client's installation", (totals["client"],), CLIENT_MB, unit="MB")]
    figures += [
        Figure(f"the sidecar's installation, of {name}'s", (totals["sidecar"] / totals[name],))
        for name in peers
    ]
    return figures, rows


def imported(home: Path, client: Path, *, rounds: int) -> tuple[list[Figure], Rows]:
    """Milliseconds of processor time that imports take, beside a Python that imports nothing."""
    programs = {
        "nothing": (client, "pass"),
        "model_sidecar_client": (client, "import model_sidecar_client"),
        "model_sidecar_client, and a Client": (client, "from model_sidecar_client import Client"),
        "sidecarctl --help": (client, _help("model_sidecar_client.cli")),
        "grpc, numpy and onnxruntime": (home, "import grpc, numpy, onnxruntime"),
        "model-sidecar serve": (home, "import model_sidecar.app.sidecar"),
        "model-sidecar --help": (home, _help("model_sidecar.cli")),
    }
    ways = {name: partial(_cpu_ms, folder, program) for name, (folder, program) in programs.items()}
    found = in_turns(ways, rounds=2 * rounds)
    serve, floor = found["model-sidecar serve"], found["grpc, numpy and onnxruntime"]
    figures = [Figure("imports of serve, of grpc, numpy and onnxruntime alone", ratios(serve, floor))]
    return figures, [(name, spread(found[name])) for name in found]


def _help(module: str) -> str:
    return f"import sys; sys.argv = ['x', '--help']\nfrom {module} import main\ntry: main()\nexcept SystemExit: pass"


def _cpu_ms(folder: Path, program: str) -> float:
    before = os.times()
    command = [str(folder / "bin" / "python"), "-c", program]
    subprocess.run(command, check=True, env=_plain(), stdout=subprocess.DEVNULL)
    after = os.times()
    return 1e3 * (after.children_user + after.children_system - before.children_user - before.children_system)


def _rested(pid: int) -> tuple[float, float]:
    time.sleep(_RESTS_S)
    return servers.memory_mib(pid)


def _sizes(folder: Path) -> Counter[str]:
    """Bytes by what lies in the packages' folder; what belongs to a package beside it counts as that."""
    found: Counter[str] = Counter()
    for each in folder.rglob("*"):
        if each.is_file() and not each.is_symlink():
            first = each.relative_to(folder).parts[0]
            found[first.partition(".")[0].partition("-")[0]] += each.stat().st_size
    return found


def _there(peers: Sequence[str]) -> list[str]:
    """Those of the peers that can be started here."""
    found = []
    for name in peers:
        try:
            with start(name, models.tiny()):
                found.append(name)
        except (NotInstalledError, grpc.RpcError) as error:
            print(f"   without {name}: {error}", flush=True)
    return found


def _serve(home: Path, yard: Yard, folder: str, *options: str) -> list[str]:
    command = [str(home / "bin" / "model-sidecar"), "serve", "--store", str(yard.store), "--model", MODEL]
    command += ["--environment", PROD, "--data", f"unix:{folder}/data.sock"]
    return [*command, "--control", f"unix:{folder}/control.sock", *options]


def _plain() -> dict[str, str]:
    """The variables of a process that is not a developer's: no path to these sources, and bytecode that is used."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}


if __name__ == "__main__":
    measured_alone("footprint", measure)
