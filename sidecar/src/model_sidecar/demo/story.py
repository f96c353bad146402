"""The story from its beginning to its end: a day and a night, each around one sidecar process, on one store."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from model_sidecar.demo import acts, ending, going_on, morning, night, opening, promises
from model_sidecar.demo.digits import Digits, load
from model_sidecar.demo.labels import Labels
from model_sidecar.demo.paper import Paper
from model_sidecar.demo.place import Place
from model_sidecar.demo.process import Sidecar
from model_sidecar.demo.proof import recompute
from model_sidecar.demo.scene import Pace, Scene
from model_sidecar.demo.traffic import StoryError, Traffic
from model_sidecar.demo.versions import DAY, DIGITS, FIRST, NIGHT, PROD
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
    with _calls_told():
        by_day = _tell_day(scene)
        return _tell_night(scene, pool, by_day, keep_serving=keep_serving)


def _tell_day(scene: Scene) -> Traffic:
    with (
        _sidecar(scene) as sidecar,
        Operator(sidecar.control) as operator,
        Client(sidecar.data) as client,
    ):
        opening.serve(scene, sidecar, operator)
        acts.deploy_first(scene, operator, client)
        with _traffic(scene, sidecar) as traffic:
            acts.watch(scene, traffic, FIRST.version)
            acts.deploy_second(scene, operator, traffic)
            acts.refuse_damaged(scene, operator, traffic)
            acts.deploy_worse(scene, operator, traffic)
            acts.roll_back(scene, operator, traffic)
        ending.sum_up_day(scene, traffic=traffic, sidecar=sidecar)
    return traffic


def _tell_night(scene: Scene, pool: Digits, by_day: Traffic, *, keep_serving: bool) -> list[str]:
    with _sidecar(scene, *night.OPTIONS) as sidecar:
        with Operator(sidecar.control) as operator, Client(sidecar.data) as client:
            night.begin(scene, sidecar, operator, client)
            night.publish(scene, pool)
            with (
                _traffic(scene, sidecar) as traffic,
                Labels(sidecar.data, traffic, delay_s=night.LABELS_AFTER_S) as labels,
            ):
                acts.watch(scene, traffic, scene.live, more=scene.pace.night_answers)
                night.lose_scaler(scene, operator, traffic)
                night.fade(scene, operator, traffic)
            records = operator.history(DIGITS, environment=PROD)
            versions = [each.version for each in (*DAY, *NIGHT)]
            expected = recompute(scene.store, versions, scene.stream, lights=(1.0, *night.LIGHTS))
            morning.sum_up_night(scene, traffic=traffic, records=records, sidecar=sidecar, expected=expected)
            broken = promises.judge(
                scene, traffics=(by_day, traffic), labels=labels, records=records, expected=expected
            )
        if keep_serving:
            sidecar.keep()
            scene.place.note_kept(sidecar.control)
        truth = scene.place.write_example(scene.stream)
        going_on.say(scene.paper, scene.place, sidecar, truth=truth, kept=keep_serving)
    return broken


def _sidecar(scene: Scene, *options: str) -> Sidecar:
    place = scene.place
    return Sidecar(store=place.store, state=place.state, log=place.log, options=options)


def _traffic(scene: Scene, sidecar: Sidecar) -> Traffic:
    return Traffic(sidecar.data, scene.stream, threads=scene.pace.threads, pause_s=scene.pace.pause_s)


@contextmanager
def _calls_told() -> Iterator[None]:
    try:
        yield
    except CallError as error:
        raise StoryError(f"a call failed that should not have: {type(error).__name__}: {error}") from error
