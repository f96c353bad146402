"""What the store refuses, each for its own reason."""

from pathlib import Path

import pytest
from support import hostile
from support.versions import NAME, VERSION, write_version

from model_sidecar.errors import IncompleteVersionError, NotFoundError, VerificationError
from model_sidecar.release.manifest import MODEL
from model_sidecar.store.versions import VersionStore


@pytest.mark.timeout(20)
@pytest.mark.parametrize("case", hostile.CASES, ids=lambda case: case.id)
def test_a_damaged_version_is_refused_for_its_own_reason(case: hostile.Case, tmp_path: Path) -> None:
    """A damaged version never verifies: it is refused at once, for its own reason, in a message of one line."""
    directory = write_version(tmp_path / "store")
    store = VersionStore(tmp_path / "store")
    store.verify(NAME, VERSION).close()
    before = set(Path("/proc/self/fd").iterdir())

    case.damage(directory)

    with pytest.raises(VerificationError) as refused:
        store.verify(NAME, VERSION)
    assert refused.value.reason is case.reason
    assert isinstance(refused.value, IncompleteVersionError) == (case.id in hostile.INCOMPLETE)
    assert str(refused.value).isprintable()
    assert all(fact.isprintable() for fact in refused.value.facts.values())
    assert set(Path("/proc/self/fd").iterdir()) == before


@pytest.mark.parametrize("case", hostile.CASES, ids=lambda case: case.id)
def test_every_damage_shows_in_the_fingerprint(case: hostile.Case, tmp_path: Path) -> None:
    """Whatever is done to a version's directory, its fingerprint is another one, so that it is looked at again."""
    directory = write_version(tmp_path / "store")
    store = VersionStore(tmp_path / "store")
    before = store.fingerprint(NAME, VERSION)
    assert store.fingerprint(NAME, VERSION) == before

    case.damage(directory)

    assert store.fingerprint(NAME, VERSION) != before


def test_a_hard_link_is_no_harm(tmp_path: Path) -> None:
    """A store that keeps equal files once, by hard links, verifies: the bytes are copied and hashed."""
    hostile.hard_linked(write_version(tmp_path))
    with VersionStore(tmp_path).verify(NAME, VERSION) as verified:
        assert verified.files[MODEL].size


def test_a_symlinked_store_is_configuration(tmp_path: Path) -> None:
    """The store's own path may lead through symlinks; only below it none is followed."""
    write_version(tmp_path / "real")
    (tmp_path / "store").symlink_to("real")
    VersionStore(tmp_path / "store").verify(NAME, VERSION).close()


def test_a_symlinked_model_directory_is_refused(tmp_path: Path) -> None:
    """A model's directory that leads elsewhere is refused, for verifying and for listing."""
    write_version(tmp_path / "elsewhere")
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / NAME).symlink_to(tmp_path / "elsewhere" / NAME)
    store = VersionStore(tmp_path / "store")
    for ask in (lambda: store.verify(NAME, VERSION), lambda: store.versions(NAME)):
        with pytest.raises(VerificationError, match="symlink") as refused:
            ask()
        assert refused.value.reason.name == "SYMLINK_REFUSED"


@pytest.mark.parametrize("there", ["nothing", "a file", "no model"])
def test_a_version_that_is_not_there_is_not_found(there: str, tmp_path: Path) -> None:
    """A version without a directory is not found, which is something else than not verified."""
    if there != "no model":
        (tmp_path / NAME).mkdir()
    if there == "a file":
        (tmp_path / NAME / VERSION).write_text("x")
    with pytest.raises(NotFoundError, match=r"no version 2024\.01\.15\.prod") as refused:
        VersionStore(tmp_path).verify(NAME, VERSION)
    assert refused.value.reason.name == "VERSION_NOT_FOUND"
