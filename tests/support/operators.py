"""Operators who do not know of one another, on sidecars that share a store, over connections that cannot be trusted.

Each operator deploys, rolls back, and now and then edits the pointer by hand; an order that is not answered is given
again under the same request id, to whichever sidecar. Meanwhile sidecars are stopped, go on, are killed and start again.
All that was sent, answered and read is written down, for `support.linear` to judge.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import signal
import uuid
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path

from support.chaos import CALM, ChaosProxy
from support.linear import Attempt, Entry, Read, violations
from support.sidecars import RunningSidecar
from support.yard import MODEL, PROD, Yard

from model_sidecar_client import AsyncClient, AsyncOperator, Deployed
from model_sidecar_client import errors as told

VERSIONS = tuple(f"2024.01.{day}.prod" for day in (10, 11, 12, 13, 14, 15))
TRIES = 8
ORDER_S = 3.0
READ_S = 3.0
CALM_S = 60.0

# Every attempt is to be seen: none that gRPC makes by itself.
_AS_SENT = (
    ("grpc.enable_retries", 0),
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.min_reconnect_backoff_ms", 50),
    ("grpc.max_reconnect_backoff_ms", 200),
)
_IN_DOUBT = frozenset({"COMMIT_STATE_UNKNOWN", "DEADLINE_OVER", "INTERNAL"})


@dataclass(kw_only=True)
class Place:
    """A sidecar behind its proxy, and clients for readers, who go straight to it."""

    name: str
    sidecar: RunningSidecar
    proxy: ChaosProxy
    client: AsyncClient
    reader: AsyncOperator


@dataclass
class Account:
    """What was seen, and how often what happened."""

    attempts: list[Attempt] = field(default_factory=list)
    reads: list[Read] = field(default_factory=list)
    histories: list[list[tuple[int, str]]] = field(default_factory=list)
    edits: int = 0
    met: Counter[str] = field(default_factory=Counter)


class Operators:
    """The whole scene. `run` plays it once and returns what cannot have been."""

    def __init__(
        self, yard: Yard, *, operators: int, sidecars: int, orders: int, seed: int, unrest: bool = True
    ) -> None:
        """`orders`: how many, all operators together. `unrest`: whether sidecars are stopped and killed meanwhile."""
        self.account = Account()
        self._yard = yard
        self._operators = operators
        self._sidecars = sidecars
        self._left = orders
        self._unrest = unrest
        self._chance = random.Random(seed)
        self._ticks = itertools.count(1)
        self._places: list[Place] = []

    async def run(self) -> list[str]:
        """Play, come to rest, and judge."""
        for version in VERSIONS:
            self._yard.publish(version)
        async with AsyncExitStack() as ending:
            for number in range(self._sidecars):
                self._places.append(await self._place(f"sidecar-{number + 1}", ending))
            async with asyncio.TaskGroup() as tasks:
                unrest = tasks.create_task(self._disturb()) if self._unrest else None
                async with asyncio.TaskGroup() as acting:
                    for number in range(self._operators):
                        acting.create_task(self._operate(f"operator-{number + 1}", ending))
                if unrest is not None:
                    unrest.cancel()
            return [*await self._come_to_rest(ending), *self._judge()]

    async def _place(self, name: str, ending: AsyncExitStack) -> Place:
        sidecar = ending.enter_context(RunningSidecar(self._yard, "--sidecar-id", name))
        proxy = ChaosProxy(
            sidecar.run_dir / "chaos.sock", Path(sidecar.control.removeprefix("unix:")), chance=self._chance
        )
        await proxy.start()
        ending.push_async_callback(proxy.stop)
        client = await ending.enter_async_context(AsyncClient(sidecar.data, options=_AS_SENT))
        reader = await ending.enter_async_context(AsyncOperator(sidecar.control, options=_AS_SENT))
        await asyncio.to_thread(sidecar.wait_answering)
        return Place(name=name, sidecar=sidecar, proxy=proxy, client=client, reader=reader)

    # Operators.

    async def _operate(self, name: str, ending: AsyncExitStack) -> None:
        lines = {
            place.name: await ending.enter_async_context(AsyncOperator(place.proxy.target, options=_AS_SENT))
            for place in self._places
        }
        while self._left > 0:
            self._left -= 1
            place = self._chance.choice(self._places)
            if self._chance.random() < 0.02:
                self._edit()
            await self._order(lines, await self._read(name, place))
            await self._read(name, place)

    async def _order(self, lines: dict[str, AsyncOperator], known: int) -> None:
        """Give one order until something definite is said, each time to any sidecar."""
        request_id, act = str(uuid.uuid4()), self._choose(known)
        for _ in range(TRIES):
            name = self._chance.choice([*lines])
            sent = next(self._ticks)
            try:
                done = await act(lines[name], request_id)
            except told.SidecarError as error:
                self.account.met[error.reason or type(error).__name__] += 1
                refused = bool(error.reason) and error.reason not in _IN_DOUBT
                self._note(request_id, name, sent, refused=refused, winner=_winner(error))
                if refused and not isinstance(error, told.OverloadedError | told.UnavailableError):
                    return
                await asyncio.sleep(self._chance.uniform(0, 0.1))
            else:
                self.account.met["replayed" if done.replayed else "done"] += 1
                self._note(request_id, name, sent, acknowledged=done.generation)
                return
        self.account.met["given up"] += 1

    def _choose(self, known: int) -> Callable[[AsyncOperator, str], Awaitable[Deployed]]:
        """What to order; `known` is the generation that the operator saw last."""
        kind, version = self._chance.random(), self._chance.choice(VERSIONS)
        expected = known if known and self._chance.random() < 0.3 else None
        if kind < 0.6 or not known:
            return lambda line, id: line.deploy(
                MODEL,
                version,
                environment=PROD,
                request_id=id,
                expected_generation=expected,
                timeout_s=ORDER_S,
            )
        generation = self._chance.randint(1, known) if kind > 0.85 else None
        return lambda line, id: line.rollback(
            MODEL,
            environment=PROD,
            version=version if kind < 0.7 else None,
            generation=generation,
            request_id=id,
            expected_generation=expected,
            timeout_s=ORDER_S,
        )

    def _edit(self) -> None:
        self.account.edits += 1
        self._yard.replace_pointer(self._chance.choice(VERSIONS))

    def _note(
        self,
        request_id: str,
        name: str,
        sent: int,
        *,
        acknowledged: int | None = None,
        refused: bool = False,
        winner: int = 0,
    ) -> None:
        self.account.attempts.append(
            Attempt(
                request_id=request_id,
                sidecar=name,
                sent=sent,
                ended=next(self._ticks),
                acknowledged=acknowledged,
                refused=refused,
                winner=winner,
            )
        )

    # Readers.

    async def _read(self, reader: str, place: Place) -> int:
        """Look once, in one of three ways; the generation that was seen, or 0."""
        look = self._chance.choice((self._predict, self._status, self._history))
        began = next(self._ticks)
        try:
            generation, version, right = await look(place)
        except told.SidecarError as error:
            self.account.met[f"read: {error.reason or type(error).__name__}"] += 1
            return 0
        if generation or look == self._history:  # nothing live is an answer, and no history would be one
            way = f"{reader} ({look.__name__.strip('_')})"
            self.account.reads.append(
                Read(
                    reader=way,
                    sidecar=place.name,
                    began=began,
                    generation=generation,
                    version=version,
                    right=right,
                )
            )
        return generation

    async def _predict(self, place: Place) -> tuple[int, str, bool]:
        x = float(self._chance.randint(0, 999))
        answer = await place.client.predict(MODEL, {"raw": [[x, 0.0]]}, timeout_s=READ_S)
        right = float(answer.outputs["y"][0][0]) == self._yard.expected(answer.version, x)
        return answer.generation or 0, answer.version, right

    async def _status(self, place: Place) -> tuple[int, str, bool]:
        (status,) = await place.reader.status(MODEL, environment=PROD, timeout_s=READ_S)
        seen = status.observed
        return (seen.generation, seen.version, True) if seen is not None else (0, "", True)

    async def _history(self, place: Place) -> tuple[int, str, bool]:
        records = await place.reader.history(MODEL, environment=PROD, limit=5, timeout_s=READ_S)
        self.account.histories.append([(each.generation, each.request_id) for each in records])
        return (records[0].generation, records[0].version, True) if records else (0, "", True)

    # Sidecars.

    async def _disturb(self) -> None:
        """Stop a sidecar for a while, or kill it and start it again."""
        while True:
            await asyncio.sleep(self._chance.uniform(0.1, 0.6))
            sidecar = self._chance.choice(self._places).sidecar
            if self._chance.random() < 0.9:
                self.account.met["stopped"] += 1
                sidecar.signal(signal.SIGSTOP)
                try:
                    await asyncio.sleep(self._chance.uniform(0.05, 1.0))
                finally:
                    sidecar.signal(signal.SIGCONT)
            else:
                self.account.met["killed"] += 1
                sidecar.kill()
                sidecar.start()
                await asyncio.to_thread(sidecar.wait_answering)

    # The end.

    async def _come_to_rest(self, ending: AsyncExitStack) -> list[str]:
        """Wait until all serve the head; then give every order again that was acknowledged: it must be the same record."""
        for place in self._places:
            place.proxy.odds = CALM
            await asyncio.to_thread(place.sidecar.wait_answering)
        wrong = await self._converge()
        for each in [each for each in self.account.attempts if each.acknowledged][-200:]:
            place = self._chance.choice(self._places)
            with suppress(told.SidecarError):
                # Another target than then: the id counts, and what it was first given for.
                await place.reader.rollback(
                    MODEL, environment=PROD, generation=2**40, request_id=each.request_id
                )
                wrong.append(f"{each.request_id} was done twice")
        return wrong

    async def _converge(self) -> list[str]:
        async with asyncio.timeout(CALM_S):
            while True:
                head = self._yard.ledger().head
                assert head is not None
                shown = [await self._shown(place) for place in self._places]
                if shown == [(head.generation, head.version)] * len(shown):
                    return []
                await asyncio.sleep(0.1)

    async def _shown(self, place: Place) -> tuple[int, str]:
        with suppress(told.SidecarError):
            answer = await place.client.predict(MODEL, {"raw": [[0.0, 0.0]]}, timeout_s=READ_S)
            return answer.generation or 0, answer.version
        return 0, ""

    def _judge(self) -> list[str]:
        records = [*reversed(self._yard.ledger().records(limit=10**6))]
        ledger = [Entry(each.generation, each.version, each.request_id) for each in records]
        by_generation = {each.generation: each.request_id for each in ledger}
        forged = [
            history
            for history in self.account.histories
            if any(by_generation.get(generation) != request_id for generation, request_id in history)
        ]
        return [
            *violations(ledger, self.account.attempts, self.account.reads, edits=self.account.edits),
            *(f"a history that is not the ledger's: {each}" for each in forged),
        ]

    def figures(self) -> str:
        """What happened, in a few lines."""
        account, head = self.account, self._yard.ledger().head
        troubles: Counter[str] = sum(
            (
                Counter({each.name.lower(): n for each, n in place.proxy.met.items()})
                for place in self._places
            ),
            Counter(),
        )
        orders = {each.request_id for each in account.attempts}
        acknowledged = {each.request_id for each in account.attempts if each.acknowledged}
        generations = head.generation if head else 0
        lines = [
            f"{len(orders)} orders in {len(account.attempts)} attempts: {len(acknowledged)} acknowledged",
            f"{generations} generations, {account.edits} hand edits, {len(account.reads)} reads",
            "answers: " + ", ".join(f"{name} {count}" for name, count in account.met.most_common()),
            "calls: " + ", ".join(f"{name} {count}" for name, count in troubles.most_common()),
        ]
        return "\n".join(lines)


def _winner(error: told.SidecarError) -> int:
    return error.generation if isinstance(error, told.ConflictError) else 0
