"""The story from its beginning to its end: the acts in their order, around one sidecar process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from model_sidecar.demo import acts, ending, opening
from model_sidecar.demo.digits import load
from model_sidecar.demo.paper import Paper
from model_sidecar.demo.place import Place
from model_sidecar.demo.process import Sidecar
from model_sidecar.demo.scene import Pace, Scene
from model_sidecar.demo.traffic import StoryError, Traffic
from model_sidecar.demo.versions import DIGITS, FIRST, PROD
from model_sidecar.store.versions import VersionStore
from model_sidecar_client import Client, Operator
from model_sidecar_client import SidecarError as CallError


def tell(paper: Paper, place: Place, pace: Pace, *, keep_serving: bool) -> list[str]:
    """Run all acts and sum up.

    Returns:
        The promises that did not hold; empty when all did.

    Raises:
        StoryError: something that the story waits for did not happen.
        VerificationError, StoreError: as the store says.
    """
    pool, stream = load()
    scene = Scene(paper, place, pace, VersionStore(place.store), stream)
    opening.train(scene, pool)
    opening.publish(scene)
    with _calls_told(), Sidecar(store=place.store, state=place.state, log=place.log) as sidecar:
        with Operator(sidecar.control) as operator, Client(sidecar.data) as client:
            opening.serve(scene, sidecar, operator)
            acts.deploy_first(scene, operator, client)
            traffic = Traffic(sidecar.data, stream, threads=pace.threads, pause_s=pace.pause_s)
            with traffic:
                acts.watch(scene, traffic, FIRST.version)
                acts.deploy_second(scene, operator, traffic)
                acts.refuse_damaged(scene, operator, traffic)
                acts.deploy_worse(scene, operator, traffic)
                acts.roll_back(scene, operator, traffic)
            broken = ending.sum_up(
                scene,
                traffic=traffic,
                records=operator.history(DIGITS, environment=PROD),
                sidecar=sidecar,
            )
        if keep_serving:
            sidecar.keep()
            place.note_kept(sidecar.control)
        ending.say_how_to_go_on(paper, place, sidecar, truth=place.write_example(stream), kept=keep_serving)
    return broken


@contextmanager
def _calls_told() -> Iterator[None]:
    try:
        yield
    except CallError as error:
        raise StoryError(f"a call failed that should not have: {type(error).__name__}: {error}") from error
