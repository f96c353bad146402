"""What limits the figures that miss their goals, and what was tried: prose of the page, by subject.

Written after the figures were taken; whoever moves one mends its words here.
"""

from __future__ import annotations

from collections.abc import Mapping

LIMITS: Mapping[str, str] = {
    "serving": (
        "A tiny model's request takes 45 µs of Python in a hot loop, a third of it onnxruntime, and about 140 µs of the loop's thread here, where gRPC's own threads and the load push it "
        "off its caches four to five times a request; the echo's loop takes about 180 for everything. Found and mended on the way: a thread woken for each request (20 to 60 µs), a version taken off the loop for good by one hiccup, "
        "answers written field by field. Tried without gain: larger or no garbage collection, another switch interval, several tiny requests in one run (96 % of the loop's turns have only one). "
        "The convolution's requests are 48 KB, which gRPC and the lanes have to share two cores for. The monitor's share varies between 1.0 and 1.4 from round to round; `make noting`, with one caller, finds 1.04."
    ),
    "batching": (
        "Unbatched, two lanes already use both cores. Batched, a row costs the model 0.1 to 0.2 ms, and what is left is the way there and back: 64 callers get as many answers as with a tiny model and messages of 4 KB."
    ),
    "clients": (
        "What is left of ours over the stub's call is 15 µs in a hot loop (it was 24): looking at the array, the request's bytes, and the answer's array copied so that it is the caller's own. "
        "tritonclient makes as little of a small call on this machine; 1.3 times over ours is more than it takes over the stub."
    ),
    "streaming": (
        "A message costs asyncio and grpc.aio's stream object about as much as a call's; only the call's own beginning and end are saved. Under threads the client's half costs what it did "
        "(a call polls in its caller's own thread, while a message is handed from thread to thread: asker, gRPC's two, reader, asker), and what is gained is a third of the sidecar's time. "
        "Tried there, with less or no more: askers who read for each other in turn, handing answers out in gRPC's own thread, a loop in a thread that only reads and writes, `AsyncClient` behind such a loop."
    ),
    "shared_memory": (
        "A call through regions still takes 1 to 2 ms, and what the client lays down the sidecar copies once more, so that nobody can cut it off under the model (ADR 11). An echo is copied twice on the way back, by pwrite and "
        "into an array of the caller's own. Two threads copy from 8 MiB on: 1.7 times as fast; for writing that gained nothing."
    ),
    "peers": (
        "Rates vary by a quarter between rounds here. Nobody among these verifies, tags, notes, watches or bounds a request; what ours spends on a tiny one is told under serving. Triton's front end is C++. "
        "Its two instances use both cores, as our lanes do. Our rollback is bound by the record's way to the disk, a reload by the file's size."
    ),
    "rollback": (
        "Before the first answer a record is on the disk for good: six fsyncs, each half a millisecond alone and several beside other work, about half of the time; the rest are seven hand-overs between threads that share the "
        "interpreter with the caller's requests. Skipping syncs of directories that have not changed gained 5 % and was left out; looking at the store once for an order instead of twice, and one fsync fewer, gained nothing that could be told from noise (ADR 12). The same run varies between 8 and 15 ms with what else this machine's host does. On tmpfs the best was 4.3 ms."
    ),
    "swap": (
        "2,000 small weights are released by as many destructors under the interpreter's lock: neither allocator settings nor huge pages move that. Weights published apart are page cache, whose mappings are taken down page by page. "
        "What a caller's p99 shows beyond the other process's is that release."
    ),
    "looking": (
        "A look in pieces still waits its turn among whoever else wants the interpreter, and the garbage collector holds it whole: 1 to 5 ms for what eight models and their reports are made of, which is not frozen as what the start made is "
        "(that was 23 to 37 ms). Found on the way: a switch interval of 0.1 ms instead of 0.5 for as many requests, a report of drift that asked numpy four times for each of 200 streams, bins that nobody looked at. "
        "Rarer collections of the oldest generation could not be told from these."
    ),
    "growth": (
        "A start reads what it remembers of each record, 20 µs a record, and without memory all records. To be flat, indices would have to be kept on disk and believed (ADR 4). A commit right behind another lists the ledger's folder, "
        'for nothing may be missing from it; once it is at rest that is known. 1.25 as a bound for "flat" is ours.'
    ),
}
