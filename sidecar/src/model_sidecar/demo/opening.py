"""The first acts: train, publish, serve. No traffic yet."""

from __future__ import annotations

import time

from model_sidecar.demo.digits import Digits
from model_sidecar.demo.paper import percent
from model_sidecar.demo.process import Sidecar
from model_sidecar.demo.scene import Scene
from model_sidecar.demo.versions import GOLDEN_ROWS, build_all, publish_as
from model_sidecar_client import Operator


def train(scene: Scene, pool: Digits) -> None:
    """Three versions, each on its own snapshot, and what each measured of itself."""
    paper = scene.paper
    paper.act("Train: one classifier, three snapshots of the data")
    began = time.monotonic()
    scene.built = build_all(scene.place.builds, pool)
    paper.table(
        ["version", "data snapshot", "rows", "preprocessing", "accuracy on its own validation rows"],
        [
            [
                each.release.version,
                each.release.snapshot.id,
                f"{each.release.snapshot.rows:,}",
                each.release.preprocessing,
                percent(each.trained.accuracy),
            ]
            for each in scene.built
        ],
        right=(2, 4),
    )
    paper.text(
        f"Handwritten digits, scanned; trained and exported to ONNX in {time.monotonic() - began:.1f} s. Each version "
        "has its own preprocessing, a scaler fitted on its snapshot, which is published, verified and swapped with "
        f"it. {len(scene.stream)} labelled digits that none of them has seen are kept for the traffic."
    )


def publish(scene: Scene) -> None:
    """The three build directories become versions in the store."""
    paper = scene.paper
    paper.act("Publish: immutable directories in a store")
    rows = []
    for each in scene.built:
        published = publish_as(each.release.version, each.build, scene.store, rows=each.rows)
        identity = f"{published.manifest[:19]}…"
        rows.append([published.version, identity, ", ".join(published.files)])
    paper.table(["version", "identity: sha256 of its manifest", "files, each listed with its sha256"], rows)
    paper.text(
        f"The golden examples are {GOLDEN_ROWS} digits with what scikit-learn says to them: a version that says "
        f"something else would not have been published. The store is {scene.place.store}"
    )


def serve(scene: Scene, sidecar: Sidecar, operator: Operator) -> None:
    """The sidecar is up, and says that nothing is live."""
    paper = scene.paper
    paper.act("Serve: a sidecar process of its own")
    paper.command(sidecar.command())
    took_s = sidecar.wait_up(operator)
    status, _ = sidecar.get("/readyz")
    paper.moment(
        f"Up after {took_s:.1f} s, as process {sidecar.pid}. There is no pointer yet, so nothing is live, and /readyz "
        f"answers {status}."
    )
