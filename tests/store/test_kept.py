"""Copies of what answers, on this machine: as good as the store, and believed no more than it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from support.versions import FILES, NAME, VERSION, write_version

from model_sidecar.errors import Reason, StoreError, VerificationError
from model_sidecar.release.digests import Digest
from model_sidecar.release.manifest import MODEL
from model_sidecar.store.kept import KeptVersions
from model_sidecar.store.versions import VersionStore


@pytest.fixture
def store(tmp_path: Path) -> VersionStore:
    write_version(tmp_path / "store")
    return VersionStore(tmp_path / "store")


@pytest.fixture
def deployed(store: VersionStore) -> Digest:
    """The identity that the ledger gave the version."""
    return store.manifest(NAME, VERSION).digest


@pytest.fixture
def kept(tmp_path: Path, store: VersionStore) -> KeptVersions:
    (tmp_path / "kept").mkdir()
    return KeptVersions(store, tmp_path / "kept")


def test_a_copy_answers_for_the_store(tmp_path: Path, kept: KeptVersions, deployed: Digest) -> None:
    """Once it is kept, a version is verified without the store, file by file."""
    assert not kept.has(NAME, VERSION, deployed)
    kept.keep(NAME, VERSION, deployed)
    assert kept.has(NAME, VERSION, deployed)
    shutil.rmtree(tmp_path / "store")
    with kept.verify(NAME, VERSION, expected_manifest=deployed) as verified:
        assert {name: file.read() for name, file in verified.files.items()} == FILES


def test_a_copy_of_another_identity_is_none(tmp_path: Path, kept: KeptVersions, deployed: Digest) -> None:
    """A whole version of the same name that is not the deployed one does not answer: the store is asked, or nobody."""
    write_version(tmp_path / "kept", deployed_by="somebody else")
    assert not kept.has(NAME, VERSION, deployed)
    with kept.verify(NAME, VERSION, expected_manifest=deployed) as verified:
        assert verified.manifest.digest == deployed
    shutil.rmtree(tmp_path / "store")
    with pytest.raises(StoreError):
        kept.verify(NAME, VERSION, expected_manifest=deployed)


def test_a_damaged_copy_is_not_in_the_way(tmp_path: Path, kept: KeptVersions, deployed: Digest) -> None:
    """Other bytes in the copy are refused, and the store has the right ones; with the store away, nothing answers."""
    kept.keep(NAME, VERSION, deployed)
    (tmp_path / "kept" / NAME / VERSION / MODEL).write_bytes(bytes(len(FILES[MODEL])))
    with kept.verify(NAME, VERSION, expected_manifest=deployed) as verified:
        assert verified.files[MODEL].read() == FILES[MODEL]
    shutil.rmtree(tmp_path / "store")
    with pytest.raises(StoreError):
        kept.verify(NAME, VERSION, expected_manifest=deployed)


def test_a_damaged_copy_is_told_once_and_made_anew(
    tmp_path: Path, kept: KeptVersions, deployed: Digest, caplog: pytest.LogCaptureFixture
) -> None:
    """However often it is looked at while the store is away; nobody is told to publish, and it no longer counts as kept."""
    kept.keep(NAME, VERSION, deployed)
    (tmp_path / "kept" / NAME / VERSION / MODEL).write_bytes(bytes(len(FILES[MODEL])))
    (tmp_path / "store").rename(tmp_path / "away")
    for _ in range(3):
        with pytest.raises(StoreError):
            kept.verify(NAME, VERSION, expected_manifest=deployed)
    (told,) = caplog.messages
    assert "made anew once the store can be read (DIGEST_MISMATCH)" in told
    assert "publish" not in told
    (tmp_path / "away").rename(tmp_path / "store")
    assert not kept.has(NAME, VERSION, deployed)
    kept.keep(NAME, VERSION, deployed)
    assert kept.has(NAME, VERSION, deployed)


def test_what_was_exchanged_since_is_not_kept(tmp_path: Path, kept: KeptVersions, deployed: Digest) -> None:
    """The store has other bytes than those that were verified and answer: no copy is made of them."""
    (tmp_path / "store" / NAME / VERSION / MODEL).write_bytes(bytes(len(FILES[MODEL])))
    with pytest.raises(VerificationError) as refused:
        kept.keep(NAME, VERSION, deployed)
    assert refused.value.reason is Reason.DIGEST_MISMATCH
    assert not kept.has(NAME, VERSION, deployed)


def test_only_what_is_named_stays(tmp_path: Path, kept: KeptVersions, deployed: Digest) -> None:
    """Copies of versions that no longer answer make room."""
    kept.keep(NAME, VERSION, deployed)
    kept.forget_all_but(NAME, {VERSION})
    assert kept.has(NAME, VERSION, deployed)
    kept.forget_all_but(NAME, set())
    assert not kept.has(NAME, VERSION, deployed)
