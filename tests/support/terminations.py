"""SIGTERM under load, counted by callers who know what they sent: bare HTTP/2, so that no library hides or repeats anything.

    python tests/support/terminations.py --times 200

A request is lost if it was sent and neither answered nor, by the protocol's own word, not looked at (a GOAWAY that names
an earlier stream as the last): then its caller cannot know whether to ask again.
"""

from __future__ import annotations

import argparse
import random
import selectors
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from types import TracebackType
from typing import Any, Self

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from support import http2
from support.ports import free_port
from support.rpc_models import counted_loop
from support.sidecars import RunningSidecar, serving
from support.yard import MODEL, Yard

from model_sidecar_client.wire.inference import ModelInferRequest

VERSION = "2024.01.10.prod"
_UNAVAILABLE = 14


class _Caller:
    """One connection with some requests always outstanding."""

    def __init__(
        self, target: str, request: http2.Request, outcomes: Counter[str], *, outstanding: int
    ) -> None:
        self.socket = http2.connect(target)
        self.socket.setblocking(False)
        self.ended = False
        self._wire = http2.Connection()
        self._request = request
        self._outcomes = outcomes
        self._outstanding = outstanding
        self._asked: set[int] = set()

    def turn(self, *, readable: bool) -> None:
        """Read what there is, and ask again for whatever was answered."""
        if readable and not self._read():
            self._closed()
            return
        while self._wire.going_away is None and len(self._asked) < self._outstanding:
            self._asked.add(self._wire.ask(self._request))
        try:
            del self._wire.out[: self.socket.send(self._wire.out)]
        except BlockingIOError:
            return
        except OSError:
            # Whatever the server wrote before it closed is still to be read.
            self._wire.out.clear()

    def _read(self) -> bool:
        try:
            received = self.socket.recv(1 << 18)
        except BlockingIOError:
            return True
        except OSError as error:
            self._outcomes[f"connection failed: {error.strerror}"] += 1
            return False
        for each in self._wire.take(received):
            if each.stream not in self._asked:
                continue
            if each.kind == http2.RST_STREAM:
                code = int.from_bytes(each.payload, "big")
                self._asked.discard(each.stream)
                self._outcomes[
                    "refused unseen" if code == http2.REFUSED_STREAM else f"lost: reset {code}"
                ] += 1
            elif each.kind == http2.HEADERS and each.flags & http2.END_STREAM:
                self._asked.discard(each.stream)
                self._outcomes[_outcome(each.payload)] += 1
        return bool(received)

    def _closed(self) -> None:
        self.ended = True
        last = self._wire.going_away
        for stream in self._asked:
            unseen = last is not None and stream > last
            self._outcomes["not looked at, by GOAWAY" if unseen else "lost: connection closed"] += 1
        self.socket.close()


class Callers:
    """Callers on every address of a sidecar, in a thread; a context manager that waits until the server has hung up.

    Attributes:
        outcomes: how requests ended.
        answered: set once somebody was.
    """

    def __init__(self, targets: list[str], request: http2.Request, *, outstanding: int) -> None:
        self.outcomes: Counter[str] = Counter()
        self.answered = threading.Event()
        self._callers = [
            _Caller(target, request, self.outcomes, outstanding=outstanding) for target in targets
        ]
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._go)

    def __enter__(self) -> Self:
        self._thread.start()
        assert self.answered.wait(20), "no caller was answered"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self._thread.join(20)
        self._stop.set()
        self._thread.join()

    def _go(self) -> None:
        with selectors.DefaultSelector() as selector:
            for caller in self._callers:
                selector.register(caller.socket, selectors.EVENT_READ, caller)
                caller.turn(readable=False)
            while selector.get_map() and not self._stop.is_set():
                for key, _ in selector.select(0.05):
                    caller = key.data
                    caller.turn(readable=True)
                    if caller.ended:
                        selector.unregister(key.fileobj)
                if self.outcomes["OK"]:
                    self.answered.set()


def _outcome(trailers: bytes) -> str:
    status = http2.status_of(trailers)
    if status == 0:
        return "OK"
    if status == _UNAVAILABLE and b"going down" in trailers:
        return "refused: DRAINING"
    return f"lost: status {status}, {trailers[-120:]!r}"


def counting(turns: int) -> bytes:
    """A request that takes about a microsecond for each turn."""
    made = ModelInferRequest(model_name=MODEL)
    made.inputs.add(name="x", datatype="FP32", shape=[1, 2])
    made.inputs.add(name="turns", datatype="INT64", shape=[])
    made.raw_input_contents.extend([b"\x00" * 8, turns.to_bytes(8, "little")])
    return made.SerializeToString()


def terminate(yard: Yard, chance: random.Random, *, turns: int) -> Counter[str]:
    """Start, load over both transports, SIGTERM at some moment; how the requests ended. The exit code must be 0."""
    port = free_port()
    with serving(yard, VERSION, "--data", f"127.0.0.1:{port}") as sidecar:
        targets = [sidecar.data, sidecar.data, f"127.0.0.1:{port}", f"127.0.0.1:{port}"]
        request = http2.Request(http2.request_fields(), counting(turns))
        with Callers(targets, request, outstanding=4) as callers:
            time.sleep(chance.uniform(0, 0.1))
            code = ended(sidecar)
        assert code == 0, f"exit code {code}: {sidecar.log.read_text()[-2000:]}"
        if lost(callers.outcomes):
            print(sidecar.log.read_text()[-2000:], flush=True)
        return callers.outcomes


def ended(sidecar: RunningSidecar) -> int:
    """SIGTERM, and the exit code."""
    sidecar.signal(signal.SIGTERM)
    assert sidecar.process is not None
    return sidecar.process.wait(timeout=60)


def lost(outcomes: Counter[str]) -> dict[str, Any]:
    """Whatever ended in a way that no request in flight may end in."""
    fine = {"OK", "refused: DRAINING", "not looked at, by GOAWAY", "refused unseen"}
    return {name: count for name, count in outcomes.items() if name not in fine}


def main() -> None:
    """Terminate many times, and print how every request ended."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--times", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    chance, total, bad = random.Random(options.seed), Counter[str](), 0
    with tempfile.TemporaryDirectory() as root:
        yard = Yard(Path(root))
        yard.publish(VERSION, model=counted_loop())
        for number in range(options.times):
            outcomes = terminate(yard, chance, turns=chance.choice([1, 1000, 20_000]))
            total += outcomes
            bad += bool(lost(outcomes))
            if lost(outcomes):
                print(f"termination {number}: {lost(outcomes)}", flush=True)
    print(f"{options.times} terminations under load (seed {options.seed}), {bad} of them lost a request:")
    for name, count in total.most_common():
        print(f"  {count:>8} {name}")
    sys.exit(bool(bad))


if __name__ == "__main__":
    main()
