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
        "A third of the time to the first answer goes into the record, which is on the disk for good by then (six fsyncs, 1.5 ms alone), a sixth into the call's way in, and a third passes until the caller who never stops "
        "asking has his next answer. Half of an order's processor time was file events that it caused itself; the kernel is no longer asked for them (from 13 ms and a p99 of 29 on the same evening). "
        "Tried with little or no gain: one look at the store for an order instead of two, leaner hand-overs between threads, another switch interval (ADR 12). "
        "Without any hand-over to the ledger's thread, and without the upper directories' syncs, both of which are there for a reason, 7.25 ms became 6.73 in turns; on a disk that waits for nothing 4.8 are left."
    ),
    "swap": (
        "2,000 small weights are released by as many destructors under the interpreter's lock: neither allocator settings nor huge pages move that, and while the allocator gives their memory back afterwards, somebody may wait for 20 to 30 ms. A caller's p99 beside the other process's varies between rounds by a half here: 1.04, 1.10, 1.19, 1.22 and 1.41 were the medians of five runs with few weights, 0.98 and 1.30 of two with thousands. "
        "Weights published apart are taken out of the process before their session goes, without that lock: 43 ms before, under one now."
    ),
    "looking": (
        "What held longest with eight models was not work in one piece: numpy lets the interpreter go for each larger array and takes it back before anybody has woken up, and whoever waits is never told to insist. Eight models' "
        "reports in a row kept it for 2 ms; a breath before each site's report is enough (1.8 ms of every scrape before, 0.5 after). The garbage collector took 1 to 2 ms for four thousand objects of the versions, which are not frozen as what the start made is, once in twenty scrapes and in two pages of five; baselines, streams and reports are unknown to it now, which leaves 2,500 objects with half the references, and a page causes none of its full looks (it was 34). "
        "Found on the way: streams and bins kept as objects (a scrape made 12,000 of them, and full collections by it), an answer of a megabyte serialized in one go, file events of our own looks, a switch interval of 0.1 ms instead of 0.5 for as many "
        "requests, a report of drift that asked numpy four times for each of 200 streams, numpy's masked arrays imported amid the work (9 ms once), the last feedback kept in memory. Rarer collections of the oldest generation could not be told from these."
    ),
    "growth": (
        "A start reads what it remembers of each record, 10 µs a record (it was 35: read piece by piece, each onto the ones before), and without memory all records. To be flat without, indices would have to be kept on disk and believed (ADR 4). "
        "A commit right behind another lists the ledger's folder, for nothing may be missing from it; once it is at rest that is known, and what is left is the file system's, in a folder of 50,000 files. "
        '1.25 as a bound for "flat" is ours.'
    ),
}
