"""What versions there are, what they hold, and when to look again."""

import itertools
import os
import shutil
import threading
import time
from pathlib import Path

import pytest
from support.hostile import added, fields
from support.versions import FILES, NAME, VERSION, write_manifest, write_version

from model_sidecar.disk.calls import Disk
from model_sidecar.errors import IncompleteVersionError, Reason, StoreError, VerificationError
from model_sidecar.release.digests import digest_of
from model_sidecar.release.manifest import MANIFEST, MODEL
from model_sidecar.release.names import Environment, ModelName, Version
from model_sidecar.store.layout import Layout
from model_sidecar.store.versions import VersionStore


def test_a_verified_version_holds_every_listed_file(tmp_path: Path) -> None:
    """Verifying gives the manifest and the bytes of all listed files, until it is closed."""
    directory = write_version(tmp_path)
    with VersionStore(tmp_path).verify(NAME, VERSION) as verified:
        assert (verified.model, verified.version) == (NAME, VERSION)
        assert verified.manifest.digest == digest_of((directory / MANIFEST).read_bytes())
        assert {name: file.read() for name, file in verified.files.items()} == FILES
        assert {name: Path(file.path).read_bytes() for name, file in verified.files.items()} == FILES
    with pytest.raises(ValueError, match="closed"):
        verified.files[MODEL].read()
    verified.close()


def test_the_nine_field_form_verifies_by_model_hash(tmp_path: Path) -> None:
    """A hand-written manifest with the model's hash, beside the model alone, is a version; a second file is not."""
    directory = write_version(tmp_path, files={MODEL: FILES[MODEL]})
    write_manifest(directory, {"version": VERSION, "model_hash": digest_of(FILES[MODEL])})
    store = VersionStore(tmp_path)
    with store.verify(NAME, VERSION) as verified:
        assert verified.files[MODEL].size == len(FILES[MODEL])
    (directory / "notes.txt").write_text("x")
    with pytest.raises(VerificationError) as refused:
        store.verify(NAME, VERSION)
    assert refused.value.reason is Reason.FILE_UNLISTED


def test_a_manifest_signature_may_stand_beside_the_manifest(tmp_path: Path) -> None:
    """manifest.sig is the one file that no manifest lists."""
    (write_version(tmp_path) / "manifest.sig").write_text("x")
    VersionStore(tmp_path).verify(NAME, VERSION).close()


def test_a_version_that_changed_since_its_deployment_is_refused(tmp_path: Path) -> None:
    """The identity that a record names is that of the manifest's bytes; any other is refused, with both named."""
    directory = write_version(tmp_path)
    store = VersionStore(tmp_path)
    deployed = store.manifest(NAME, VERSION).digest
    store.verify(NAME, VERSION, expected_manifest=deployed).close()

    fields(deployed_by="somebody else")(directory)

    with pytest.raises(VerificationError) as refused:
        store.verify(NAME, VERSION, expected_manifest=deployed)
    assert refused.value.reason is Reason.MANIFEST_CHANGED
    assert refused.value.facts == {"expected": deployed, "found": store.manifest(NAME, VERSION).digest}


def test_external_data_is_a_matter_of_configuration(tmp_path: Path) -> None:
    """A listed file of external data is verified like any other, once it is allowed."""
    added("w.bin", b"w", role="external-data")(write_version(tmp_path))
    with pytest.raises(VerificationError, match="allow-external-data") as refused:
        VersionStore(tmp_path).verify(NAME, VERSION)
    assert refused.value.reason is Reason.EXTERNAL_DATA_REFUSED
    with VersionStore(tmp_path, allow_external_data=True).verify(NAME, VERSION) as verified:
        assert verified.files["w.bin"].read() == b"w"


@pytest.mark.parametrize("order", list(itertools.permutations([MANIFEST, *FILES])), ids="-".join)
def test_a_copy_by_hand_is_incomplete_until_its_last_byte(order: tuple[str, ...], tmp_path: Path) -> None:
    """In whatever order somebody copies the files, halves included: incomplete, then a version, and it shows each time."""
    source = write_version(tmp_path / "source")
    target = tmp_path / "store" / NAME / VERSION
    store = VersionStore(tmp_path / "store")
    fingerprints = [store.fingerprint(NAME, VERSION)]
    target.mkdir(parents=True)
    for name in order:
        content = (source / name).read_bytes()
        for part in (content[: len(content) // 2], content):
            fingerprints.append(store.fingerprint(NAME, VERSION))
            with pytest.raises(VerificationError) as refused:
                store.verify(NAME, VERSION)
            # Half a manifest tells nothing, not even that it is half of one.
            half_a_manifest = refused.value.reason is Reason.MANIFEST_INVALID
            assert isinstance(refused.value, IncompleteVersionError) or half_a_manifest
            (target / name).write_bytes(part)
    store.verify(NAME, VERSION).close()
    fingerprints.append(store.fingerprint(NAME, VERSION))
    assert len(set(fingerprints)) == len(fingerprints)


def test_versions_are_listed_newest_first_and_nothing_else_is(tmp_path: Path) -> None:
    """A listing has what a version is called, and no temporary directory, no environments, no file, no odd name."""
    names = [
        "2024.01.15.prod",
        "2023.12.31.prod",
        "2024.01.15.10.prod",
        "2024.01.15.9.prod",
        "2024.01.15.staging",
    ]
    others = ["environments", ".publishing-0011", "2024.02.30.prod", "latest", "2024.01.15", "lost+found"]
    for name in (*names, *others):
        (tmp_path / NAME / name).mkdir(parents=True)
    (tmp_path / NAME / "2025.01.01.prod").write_text("a file")
    (tmp_path / NAME / "2022.01.01.prod").symlink_to("2024.01.15.prod")
    assert VersionStore(tmp_path).versions(NAME) == [
        "2024.01.15.10.prod",
        "2024.01.15.9.prod",
        "2024.01.15.staging",
        "2024.01.15.prod",
        "2023.12.31.prod",
        "2022.01.01.prod",
    ]


def test_a_model_without_a_directory_has_no_versions(tmp_path: Path) -> None:
    """No directory of that model is a normal start; no store at all is a fault of the store."""
    assert VersionStore(tmp_path).versions(NAME) == []
    with pytest.raises(StoreError, match="nowhere") as refused:
        VersionStore(tmp_path / "nowhere").versions(NAME)
    assert refused.value.reason is Reason.STORE_UNAVAILABLE


@pytest.mark.parametrize("root", ["nowhere", "a-file"])
def test_a_store_that_is_not_there_says_nothing_of_its_versions(root: str, tmp_path: Path) -> None:
    """Without the store, a version is neither absent nor refused: the store cannot be read, and a path is named."""
    (tmp_path / "a-file").write_text("x")
    store = VersionStore(tmp_path / root)
    for ask in (lambda: store.verify(NAME, VERSION), lambda: store.manifest(NAME, VERSION)):
        with pytest.raises(StoreError, match=root):
            ask()
    assert store.fingerprint(NAME, VERSION) is None


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_is_a_fault_of_the_store(tmp_path: Path) -> None:
    """Missing permission is nothing that the version did, and mending it shows in the fingerprint."""
    directory = write_version(tmp_path)
    store = VersionStore(tmp_path)
    (directory / MODEL).chmod(0)
    before = store.fingerprint(NAME, VERSION)
    with pytest.raises(StoreError, match=MODEL):
        store.verify(NAME, VERSION)
    (directory / MODEL).chmod(0o644)
    assert store.fingerprint(NAME, VERSION) != before


def test_a_manifest_is_read_without_its_files(tmp_path: Path) -> None:
    """What a manifest says can be asked of a version whose files are gone."""
    (write_version(tmp_path, rollback_target="2024.01.10.prod") / MODEL).unlink()
    assert VersionStore(tmp_path).manifest(NAME, VERSION).rollback_target == "2024.01.10.prod"


def test_the_fingerprint_follows_every_change(tmp_path: Path) -> None:
    """Appearing, a new file, other bytes of the same size, another time, another mode, disappearing: each shows."""
    store = VersionStore(tmp_path)
    seen = [store.fingerprint(NAME, VERSION)]
    assert seen == [None]
    directory = write_version(tmp_path)
    model = directory / MODEL

    def add() -> None:
        (directory / "new").write_text("")

    def replace_by_a_twin() -> None:
        (tmp_path / "twin").write_bytes(model.read_bytes())
        shutil.copystat(model, tmp_path / "twin")
        times = directory.stat()
        (tmp_path / "twin").replace(model)
        os.utime(directory, ns=(times.st_atime_ns, times.st_mtime_ns))

    changes = (
        add,
        replace_by_a_twin,
        lambda: os.utime(model, ns=(1, 1)),
        lambda: model.chmod(0o600),
        lambda: model.rename(directory / "renamed"),
        lambda: shutil.rmtree(directory),
    )
    seen.append(store.fingerprint(NAME, VERSION))
    for change in changes:
        change()
        seen.append(store.fingerprint(NAME, VERSION))
        assert store.fingerprint(NAME, VERSION) == seen[-1]
    assert seen[-1] is None
    assert len({hash(each) for each in seen[:-1]}) == len(seen) - 1


def test_what_verified_is_what_was_listed_while_somebody_rewrites_the_file(tmp_path: Path) -> None:
    """Under a concurrent swap of the file's bytes, each verification has the right bytes or is refused."""
    directory = write_version(tmp_path)
    store = VersionStore(tmp_path)
    good = FILES[MODEL]
    stop = threading.Event()

    def rewrite() -> None:
        for turn in itertools.count():
            (directory / MODEL).write_bytes(good if turn % 2 else bytes(len(good)))
            if stop.is_set():
                return

    writer = threading.Thread(target=rewrite, name="rewriter")
    writer.start()
    outcomes: set[str] = set()
    turns, enough = 0, time.monotonic() + 60
    try:
        while turns < 300 or (len(outcomes) < 2 and time.monotonic() < enough):
            turns += 1
            try:
                with store.verify(NAME, VERSION) as verified:
                    assert verified.files[MODEL].read() == good
                outcomes.add("verified")
            except VerificationError as error:
                outcomes.add(error.reason)
    finally:
        stop.set()
        writer.join()
    assert len(outcomes) > 1, "the race did not happen"


@pytest.mark.parametrize(("first", "later"), [("good", "bad"), ("bad", "good")])
def test_what_was_hashed_is_what_was_read(tmp_path: Path, first: str, later: str) -> None:
    """Somebody exchanges the file's bytes right behind the last read: what counts are those that were read."""
    contents = {"good": FILES[MODEL], "bad": bytes(len(FILES[MODEL]))}
    path = write_version(tmp_path) / MODEL
    path.write_bytes(contents[first])

    class Exchanging(Disk):
        def read_into(self, fd: int, buffer: memoryview) -> int:
            got = super().read_into(fd, buffer)
            if got == 0 and os.fstat(fd).st_ino == path.stat().st_ino:
                path.write_bytes(contents[later])
            return got

    store = VersionStore(tmp_path, disk=Exchanging())
    if first == "bad":
        with pytest.raises(VerificationError) as refused:
            store.verify(NAME, VERSION)
        assert refused.value.reason is Reason.DIGEST_MISMATCH
    else:
        with store.verify(NAME, VERSION) as verified:
            assert verified.files[MODEL].read() == contents["good"]
    assert path.read_bytes() == contents[later], "nobody exchanged it"


def test_the_layout_is_the_contracts() -> None:
    """The paths of section 3."""
    layout = Layout(Path("/s"))
    model, version, prod = ModelName("m"), Version("2024.01.15.prod"), Environment("prod")
    assert layout.version(model, version) == Path("/s/m/2024.01.15.prod")
    assert layout.pointer(model, prod) == Path("/s/m/environments/prod/active.json")
    assert layout.ledger(model, prod) == Path("/s/m/environments/prod/ledger")
