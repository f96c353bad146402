"""An open-loop load: requests come when they come, however slow the answers are; a process of its own.

    python open_loop.py TARGET --rate 2000 --seconds 5 --deadline-ms 100 --connections 4 < request > report.json

The request is a serialized ModelInferRequest. A request counts from when it was due, not from when it could be sent:
what waits for a stream of its connection waits at the caller, as with any gRPC client, and is given up at its deadline.
"""

from __future__ import annotations

import argparse
import json
import selectors
import sys
import time
from collections import Counter, deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from support import http2

_TICK_S = 0.002
_OK, _DEADLINE_EXCEEDED = 0, 4
_NAMES = {
    0: "OK",
    1: "CANCELLED",
    4: "DEADLINE_EXCEEDED",
    8: "RESOURCE_EXHAUSTED",
    13: "INTERNAL",
    14: "UNAVAILABLE",
}


@dataclass
class _Caller:
    """One connection, and what it has asked for."""

    request: http2.Request
    deadline_s: float
    codes: Counter[str] = field(default_factory=Counter)
    answers: list[tuple[float, float]] = field(default_factory=list)  # when each came, and how long it took
    waiting: deque[float] = field(default_factory=deque)
    asked: dict[int, float] = field(default_factory=dict)
    refused: set[float] = field(default_factory=set)
    given_up: set[int] = field(default_factory=set)
    wire: http2.Connection = field(default_factory=http2.Connection)

    def arrive(self, due: float) -> None:
        """A request is due."""
        self.waiting.append(due)

    def advance(self, now: float) -> None:
        """Send what can be sent, and give up what is over."""
        late = now - self.deadline_s
        while self.waiting and self.waiting[0] <= late:
            self.waiting.popleft()
            self._end("DEADLINE_EXCEEDED (before it was sent)")
        for stream, due in self.asked.items():
            if due > late:
                break  # in the order in which they were due
            self.given_up.add(stream)
        for stream in self.given_up:
            if self.asked.pop(stream, None) is not None:
                self.wire.cancel(stream)
                self._end("DEADLINE_EXCEEDED")
        self.given_up.clear()
        size = self.request.size
        while self.waiting and len(self.asked) < self.wire.limit and self.wire.window >= size:
            due = self.waiting.popleft()
            self.asked[self.wire.ask(self.request)] = due

    def take(self, received: bytes, now: float) -> None:
        """Note what the server said."""
        for each in self.wire.take(received):
            if each.kind == http2.RST_STREAM:
                self._reset(self.asked.pop(each.stream, None), int.from_bytes(each.payload, "big"))
            elif each.kind == http2.HEADERS and each.flags & http2.END_STREAM:
                due = self.asked.pop(each.stream, None)
                if due is None:
                    continue
                status = http2.status_of(each.payload)
                name = _NAMES.get(status, str(status)) if status is not None else "no status"
                if status == _OK:
                    self.answers.append((now, now - due))
                self._end(name)

    def _reset(self, due: float | None, why: int) -> None:
        # As gRPC's clients do (gRFC A6): what was refused before it was looked at is sent once more, unseen by anybody.
        if due is None:
            return
        if why == http2.REFUSED_STREAM and due not in self.refused:
            self.refused.add(due)
            self.waiting.appendleft(due)
        else:
            self._end("UNAVAILABLE" if why == http2.REFUSED_STREAM else f"RST_STREAM {why}")

    def _end(self, name: str) -> None:
        self.codes[name] += 1


def load(
    target: str, body: bytes, *, rate: float, seconds: float, deadline_s: float, connections: int, path: str
) -> dict[str, Any]:
    """Ask `rate` times a second for so many seconds, then wait for the last answers; the report.

    Its goodput is the answers in time that came in the second half of those seconds: what comes afterwards was work for
    more than these seconds, and would make a short load look better than a long one.
    """
    fields = http2.request_fields(path, timeout_ms=max(1, round(deadline_s * 1000)))
    request = http2.Request(fields, body)
    selector = selectors.DefaultSelector()
    callers = []
    for _ in range(connections):
        connection = http2.connect(target)
        connection.setblocking(False)
        caller = _Caller(request, deadline_s)
        callers.append(caller)
        selector.register(connection, selectors.EVENT_READ, caller)
    begun = time.perf_counter()
    sent, total = 0, int(rate * seconds)
    end = begun + seconds + deadline_s + 1.0
    while (now := time.perf_counter()) < end:
        due = min(total, int((now - begun) * rate))
        for number in range(sent, due):
            callers[number % connections].arrive(begun + number / rate)
        sent = due
        busy = sent < total
        for key in list(selector.get_map().values()):
            caller = key.data
            caller.advance(now)
            busy = busy or bool(caller.asked or caller.waiting)
            if caller.wire.out:
                _send(key.fileobj, caller.wire.out)
        if not busy:
            break
        for key, _ in selector.select(_TICK_S):
            received = _receive(key.fileobj)
            if received is None:
                continue
            if not received:
                selector.unregister(key.fileobj)
                key.data.codes["connection closed"] += len(key.data.asked)
                key.data.asked.clear()
                continue
            key.data.take(received, time.perf_counter())
    codes: Counter[str] = Counter()
    for caller in callers:
        codes += caller.codes
        codes["never answered"] += len(caller.asked) + len(caller.waiting)
    answers = [each for caller in callers for each in caller.answers]
    latencies = sorted(took for _, took in answers)
    half = seconds / 2
    in_time = sum(took <= deadline_s and half <= at - begun < seconds for at, took in answers)
    return {
        "asked": sent,
        "seconds": seconds,
        "codes": {name: count for name, count in codes.items() if count},
        "goodput": in_time / half,
        "p50_ms": round(1e3 * _quantile(latencies, 0.5), 2),
        "p99_ms": round(1e3 * _quantile(latencies, 0.99), 2),
    }


def _send(connection: Any, out: bytearray) -> None:
    try:
        sent = connection.send(out)
    except BlockingIOError:
        return
    except OSError:
        out.clear()
        return
    del out[:sent]


def _receive(connection: Any) -> bytes | None:
    try:
        received: bytes = connection.recv(1 << 18)
    except BlockingIOError:
        return None
    except OSError:
        return b""
    return received


def _quantile(ordered: list[float], share: float) -> float:
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0


def main() -> None:
    """Read the request, load, write the report."""
    parser = argparse.ArgumentParser(description="An open-loop load on ModelInfer.")
    parser.add_argument("target")
    parser.add_argument("--rate", type=float, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--deadline-ms", type=float, required=True)
    parser.add_argument("--connections", type=int, default=4)
    parser.add_argument("--path", default=http2.INFER)
    options = parser.parse_args()
    report = load(
        options.target,
        sys.stdin.buffer.read(),
        rate=options.rate,
        seconds=options.seconds,
        deadline_s=options.deadline_ms / 1e3,
        connections=options.connections,
        path=options.path,
    )
    json.dump(report, sys.stdout)


if __name__ == "__main__":
    main()
