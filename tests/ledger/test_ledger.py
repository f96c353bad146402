"""The ledger: reading, committing, and what is kept when the storage fails."""

import dataclasses
import errno
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from support.descriptors import open_descriptors
from support.ledgers import (
    MODEL,
    PROD,
    A,
    B,
    C,
    FaultyDisk,
    KilledError,
    Registry,
    chain,
    commit,
    follow,
    intent,
)

from model_sidecar.errors import (
    CommitStateUnknownError,
    ConflictError,
    InvalidRequestError,
    Reason,
    RequestIdReusedError,
    StoreError,
    StoreFullError,
)
from model_sidecar.ledger.face import render
from model_sidecar.ledger.ledger import Commit, Look
from model_sidecar.ledger.reconcile import Adopt, Follow, Nothing
from model_sidecar.ledger.record import Action, Record, decode, encode
from model_sidecar.release.digests import digest_of
from model_sidecar.release.pointer import Pointer


@pytest.fixture(params=["link", "directories"])
def registry(request: pytest.FixtureRequest, tmp_path: Path) -> Registry:
    """A store on a mount with link(2), and one on a mount without."""
    return Registry(tmp_path / "store", links=request.param == "link")


def test_nothing_was_ever_deployed(registry: Registry) -> None:
    """A place without a ledger has no head, no records and nothing to go back to, and stays untouched by looking."""
    ledger = registry.open()
    assert ledger.refresh() is None
    assert (ledger.head, ledger.record(1), ledger.records(), ledger.previous_good()) == (None, None, (), None)
    assert ledger.recorded_manifest(A) is None
    assert [*registry.model_directory.iterdir()] == []


def test_a_commit_is_the_head_everywhere(registry: Registry) -> None:
    """A record holds what was wanted, stands on disk, shows in the pointer, and is what every other sidecar reads."""
    ledger, other = registry.open(), registry.open("sidecar-2")
    first = commit(ledger, A)
    second = commit(ledger, intent(B, request_id="q1", reason="Q1 retrain"))
    record = second.record

    assert (second.replayed, second.warning) == (False, "")
    assert (record.generation, record.version, record.previous_version) == (2, B, A)
    assert (record.model, record.environment, record.action) == (MODEL, PROD, Action.DEPLOY)
    assert (
        record.previous_record_sha256
        == first.record.sha256
        == digest_of(registry.record_file(1).read_bytes())
    )
    assert (record.reason, record.request_id, record.written_by.sidecar) == ("Q1 retrain", "q1", "sidecar-1")
    assert ledger.head == record
    assert other.head is None
    assert other.refresh() == record == other.head
    assert registry.face().read().pointer == Pointer(B, generation=2)
    assert registry.leftovers() == []


def test_records_are_paged_newest_first(registry: Registry) -> None:
    """`before` leaves out what was seen, `limit` bounds the page, and the pages join to the whole ledger."""
    ledger = registry.open()
    for number in range(7):
        commit(ledger, (A, B)[number % 2])

    def page(before: int | None = None, limit: int = 50) -> list[int]:
        return [record.generation for record in ledger.records(before, limit)]

    assert page() == [7, 6, 5, 4, 3, 2, 1]
    assert page(limit=3) == [7, 6, 5]
    assert page(5, 3) == [4, 3, 2]
    assert page(2, 3) == [1]
    assert page(1) == page(0) == page(-3) == page(limit=0) == []
    assert page(99, 2) == [7, 6]
    assert ledger.record(3) == ledger.records(4, 1)[0]
    assert (ledger.record(0), ledger.record(8), ledger.record(-1)) == (None, None, None)


def test_the_ledger_answers_about_versions(registry: Registry) -> None:
    """What to go back to, and under which manifest a version was last recorded, survive a restart."""
    ledger = registry.open()
    for wanted in (intent(A), intent(B), intent(C), intent(B, action=Action.ROLLBACK)):
        commit(ledger, wanted)
    again = registry.open()
    again.refresh()
    for each in (ledger, again):
        back = each.previous_good()
        assert back is not None
        assert (back.generation, back.version) == (1, A)
        assert each.recorded_manifest(C) == digest_of(C.encode())
        assert each.recorded_manifest(A) == digest_of(A.encode())


def test_a_stale_expectation_loses(registry: Registry) -> None:
    """The second of two operators who saw the same head is told who won, and nothing is recorded for them."""
    ledger, other = registry.open(), registry.open("sidecar-2")
    commit(ledger, A)
    other.refresh()
    ledger.commit(intent(B), expected_generation=1)

    with pytest.raises(ConflictError, match=r"generation 2 put 2024\.01\.12\.prod") as conflict:
        other.commit(intent(C), expected_generation=1)
    assert conflict.value.reason is Reason.GENERATION_MISMATCH
    assert conflict.value.facts == {"generation": "2", "version": B, "actor": "uid:1000"}
    assert [record.version for record in other.records()] == [B, A]
    with pytest.raises(ConflictError):
        other.commit(intent(C), expected_generation=3)
    with pytest.raises(ConflictError):
        other.commit(intent(C), expected_generation=0)


def test_an_empty_ledger_is_generation_0(registry: Registry) -> None:
    """Expecting a record where there is none is a conflict with nobody."""
    with pytest.raises(ConflictError) as conflict:
        registry.open().commit(intent(A), expected_generation=1)
    assert conflict.value.facts == {"generation": "0", "version": "", "actor": ""}


def test_the_race_for_a_generation_is_lost_cleanly(registry: Registry) -> None:
    """Losing between the look and the link is the same conflict, and names the winner."""
    disk = registry.disk()
    ledger, other = registry.open(disk=disk), registry.open("sidecar-2")
    commit(ledger, A)
    disk.fail(disk.filling_call, lambda: _also(commit(other, B)))

    with pytest.raises(ConflictError) as conflict:
        ledger.commit(intent(C), expected_generation=1)
    assert conflict.value.facts["version"] == B
    assert ledger.head == other.head
    assert registry.face().read().pointer == Pointer(B, generation=2)


def _also(_done: Commit) -> None:
    """What happened in between was the point."""


def test_a_retry_is_answered_with_the_same_record(registry: Registry) -> None:
    """The same request id finds its record: at once, later, in another sidecar, after a restart, on any expectation."""
    wanted = intent(B, request_id="again")
    ledger = registry.open()
    commit(ledger, A)
    first = ledger.commit(wanted, expected_generation=1)
    commit(ledger, C)
    for each in (ledger, registry.open("sidecar-2")):
        again = each.commit(wanted, expected_generation=1)
        assert (again.record, again.replayed) == (first.record, True)
    assert len(ledger.records()) == 3
    assert ledger.find_request("again") == first.record
    assert ledger.find_request("never") is None


def test_two_sidecars_with_one_request_write_one_record(registry: Registry) -> None:
    """Whoever loses the link to the very request it was about gives the winner's answer."""
    disk = registry.disk()
    ledger, other = registry.open(disk=disk), registry.open("sidecar-2")
    commit(ledger, B)
    wanted = intent(A, request_id="both")
    disk.fail(disk.filling_call, lambda: _also(other.commit(wanted, expected_generation=1)))

    late = ledger.commit(wanted, expected_generation=1)
    assert (late.replayed, late.record.written_by.sidecar) == (True, "sidecar-2")
    assert len(ledger.records()) == 2


def test_a_request_id_is_not_used_twice(registry: Registry) -> None:
    """Another request under a known id is REQUEST_ID_REUSED, and nothing is recorded."""
    ledger = registry.open()
    commit(ledger, intent(A, request_id="mine"))
    with pytest.raises(RequestIdReusedError, match="generation 1"):
        commit(ledger, intent(B, request_id="mine"))
    with pytest.raises(InvalidRequestError):
        commit(ledger, intent(B, request_id=""" "\n" """))
    with pytest.raises(InvalidRequestError):
        commit(ledger, intent(B, reason="x" * 4097))
    assert ledger.refresh() == ledger.record(1)


def test_a_record_in_doubt_is_answered_only_when_it_is_safe(registry: Registry) -> None:
    """EIO on the directory is COMMIT_STATE_UNKNOWN; so is a retry while it lasts; then the same record is the answer."""
    disk = registry.disk()
    ledger = registry.open(disk=disk)
    commit(ledger, A)
    wanted = intent(B, request_id="doubtful")
    disk.fail("fsync", errno.EIO, skip=disk.syncs_to_lay, times=2)

    for _ in range(2):
        with pytest.raises(CommitStateUnknownError):
            ledger.commit(wanted, expected_generation=1)
    settled = ledger.commit(wanted, expected_generation=1)
    assert (settled.replayed, settled.record.generation, settled.record.version) == (True, 2, B)
    assert ledger.refresh() == settled.record


def test_a_full_store_changes_nothing(registry: Registry) -> None:
    """ENOSPC refuses the record; the head, the pointer and the next commit are as if nothing had been asked."""
    disk = registry.disk()
    ledger = registry.open(disk=disk)
    commit(ledger, A)
    disk.fail("write", errno.ENOSPC)
    with pytest.raises(StoreFullError):
        commit(ledger, B)
    assert ledger.refresh() == ledger.record(1)
    assert registry.face().read().pointer == Pointer(A, generation=1)
    assert commit(ledger, C).record.generation == 2


@pytest.mark.parametrize("call", ["open", "write", "fsync", "rename"])
def test_a_pointer_that_cannot_be_written_is_a_warning(
    registry: Registry, call: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The commit stands, says so, and the next one shows in the pointer again."""
    disk = registry.disk()
    ledger = registry.open(face_disk=disk)
    commit(ledger, A)
    # Opening the pointer to read it, before the commit and before the rename, is one call each.
    disk.fail(call, errno.EIO, times=9)
    done = commit(ledger, B)
    assert done.record.generation == 2
    assert "lags behind" in done.warning
    assert done.warning in caplog.messages
    assert registry.face().read().pointer == Pointer(A, generation=1)

    disk.fail(call, errno.EIO, times=0)
    assert commit(ledger, C).warning == ""
    assert registry.face().read().pointer == Pointer(C, generation=3)


def test_an_externally_managed_pointer_is_not_written(registry: Registry) -> None:
    """A symbolic link is left as it is, without a warning."""
    registry.directory.mkdir(parents=True)
    target = registry.directory / "data.json"
    target.write_text('{"version": "2024.01.10.prod"}')
    registry.pointer.symlink_to(target)
    assert commit(registry.open(), B).warning == ""
    assert registry.pointer.is_symlink()
    assert target.read_text() == '{"version": "2024.01.10.prod"}'


def test_an_edit_made_during_a_commit_survives_it(registry: Registry) -> None:
    """Somebody who saves the pointer while a deployment is recorded finds their edit there, to be adopted."""
    disk = registry.disk()
    ledger = registry.open(disk=disk)
    commit(ledger, A)
    disk.fail(disk.filling_call, lambda: _also_write(registry.pointer), after=True)
    assert commit(ledger, B).warning == ""
    assert registry.pointer.read_text() == '{"version": "2024.01.15.prod"}'


def _also_write(pointer: Path) -> None:
    pointer.write_text('{"version": "2024.01.15.prod"}')


def store_chain(registry: Registry, *contents: bytes | None) -> None:
    """Lay record files as given; None leaves one out."""
    registry.ledger_directory.mkdir(parents=True, exist_ok=True)
    for generation, content in enumerate(contents, 1):
        if content is not None:
            registry.record_file(generation).write_bytes(content)


GOOD = [encode(record) for record in chain(A, B, C)]
OTHER_PLACE = encode(chain(A)[0]).replace(b'"environment":"prod"', b'"environment":"staging"')


@pytest.mark.parametrize(
    ("contents", "generation"),
    [
        ([None, GOOD[1], GOOD[2]], 1),
        ([GOOD[0], None, GOOD[2]], 2),
        ([GOOD[0], None, None, None, GOOD[2]], 2),
        ([None, None, None, GOOD[2]], 1),
        ([GOOD[0], GOOD[1][:-1], GOOD[2]], 2),
        ([GOOD[0], b"", GOOD[2]], 2),
        ([GOOD[0], GOOD[1].replace(b"retrain", b"retrein"), GOOD[2]], 3),
        ([GOOD[0].replace(b"retrain", b"retrein"), GOOD[1], GOOD[2]], 2),
        ([GOOD[0], GOOD[0], GOOD[2]], 2),
        ([GOOD[0], GOOD[2]], 2),
        ([OTHER_PLACE], 1),
    ],
)
def test_a_broken_chain_is_not_loaded(
    registry: Registry, contents: list[bytes | None], generation: int
) -> None:
    """A gap, a torn, changed, misplaced or foreign record is LEDGER_INVALID, named, and not one record is believed."""
    store_chain(registry, *contents)
    ledger = registry.open()
    with pytest.raises(StoreError, match=f"generation {generation}:") as refusal:
        ledger.refresh()
    assert refusal.value.reason is Reason.LEDGER_INVALID
    assert ledger.head is None
    with pytest.raises(StoreError):
        ledger.commit(intent(A), expected_generation=len(contents))


@pytest.mark.parametrize(
    ("contents", "generation"), [([None, GOOD[2]], 2), ([GOOD[1][:-1]], 2), ([GOOD[1], GOOD[1]], 3)]
)
def test_what_was_known_is_kept(registry: Registry, contents: list[bytes | None], generation: int) -> None:
    """When a later record is broken, the known head stays, nothing is added to it, and a repair is noticed."""
    store_chain(registry, GOOD[0])
    ledger = registry.open()
    known = ledger.refresh()
    store_chain(registry, GOOD[0], *contents)

    with pytest.raises(StoreError, match=f"generation {generation}:"):
        ledger.refresh()
    with pytest.raises(StoreError):
        ledger.commit(intent(A), expected_generation=1)
    assert ledger.head == known
    store_chain(registry, *GOOD)
    refreshed = ledger.refresh()
    assert refreshed is not None
    assert refreshed.generation == 3


def test_a_ledger_that_went_back_is_not_followed(registry: Registry, tmp_path: Path) -> None:
    """A restored snapshot is LEDGER_INVALID: the newer head stays known, nothing is recorded; other history likewise."""
    store_chain(registry, *GOOD[:2])
    shutil.copytree(registry.ledger_directory, tmp_path / "snapshot")
    store_chain(registry, *GOOD)
    ledger = registry.open()
    head = ledger.refresh()
    shutil.rmtree(registry.ledger_directory)
    shutil.copytree(tmp_path / "snapshot", registry.ledger_directory)

    with pytest.raises(StoreError, match="went back") as refusal:
        ledger.refresh()
    assert (refusal.value.reason, refusal.value.facts["generation"]) == (Reason.LEDGER_INVALID, "3")
    with pytest.raises(StoreError):
        ledger.commit(intent(A), expected_generation=2)
    assert ledger.head == head

    registry.record_file(3).write_bytes(encode(follow(chain(A, B)[1], A)))
    with pytest.raises(StoreError, match="its digest was"):
        ledger.refresh()
    registry.record_file(3).write_bytes(GOOD[2])
    assert ledger.refresh() == head


def test_a_store_that_has_gone_keeps_the_head(registry: Registry) -> None:
    """While the directory is away, memory answers, and its return is enough to go on."""
    ledger = registry.open()
    head = commit(ledger, A).record
    away = registry.directory.rename(registry.directory.with_name("away"))
    with pytest.raises(StoreError) as trouble:
        ledger.refresh()
    assert trouble.value.reason is Reason.STORE_UNAVAILABLE
    assert (ledger.head, ledger.records(), ledger.find_request(head.request_id)) == (head, (head,), head)
    away.rename(registry.directory)
    assert commit(ledger, B).record.generation == 2


def test_an_old_listing_hides_no_record(registry: Registry) -> None:
    """A mount that goes on showing the directory as it once was: records are found by their names all the same."""

    class OldListing(FaultyDisk):
        def names(self, directory: Path | int) -> list[str]:
            return registry.record_file(1).name.split()

    commit(registry.open(), A)
    known, new = registry.open(disk=OldListing()), registry.open(disk=OldListing())
    known.refresh()
    head = commit(registry.open(), B).record
    assert (known.refresh(), new.refresh()) == (head, head)


def test_memory_answers_while_the_storage_hangs(registry: Registry) -> None:
    """A refresh that blocks in the storage holds no lock: what is known can be asked for."""
    disk = registry.disk()
    ledger = registry.open(disk=disk)
    head = commit(ledger, A).record
    hanging, released = threading.Event(), threading.Event()

    def hang() -> None:
        hanging.set()
        assert released.wait(30)

    disk.fail("open", hang)
    with ThreadPoolExecutor(2) as pool:
        refresh = pool.submit(ledger.refresh)
        assert hanging.wait(30)
        try:
            assert pool.submit(lambda: (ledger.head, ledger.records(), ledger.previous_good())).result(
                10
            ) == (
                head,
                (head,),
                None,
            )
        finally:
            released.set()
        assert refresh.result(30) == head


def test_threads_of_one_sidecar_commit_and_refresh_together(registry: Registry) -> None:
    """Eight threads on one ledger: each request wins exactly once, and memory is the chain on disk."""
    ledger = registry.open()

    def deploy(number: int) -> int:
        wanted = intent((A, B, C)[number % 3], request_id=f"thread-{number}")
        while True:
            try:
                return commit(ledger, wanted).record.generation
            except ConflictError:
                continue

    with ThreadPoolExecutor(8) as pool:
        generations = [*pool.map(deploy, range(40))]
    fresh = registry.open()
    fresh.refresh()
    assert sorted(generations) == [*range(1, 41)]
    assert fresh.records() == ledger.records()
    assert registry.leftovers() == []


def test_looking_costs_no_descriptors(registry: Registry) -> None:
    """A thousand looks and fifty commits leave as many descriptors open as there were."""
    ledger = registry.open()
    commit(ledger, A)
    before = open_descriptors()
    for _ in range(1000):
        ledger.refresh()
    for _ in range(50):
        commit(ledger, B)
    assert open_descriptors() == before


def test_a_look_says_what_pointer_and_ledger_mean(registry: Registry) -> None:
    """One look gives the decision, the head beside which it was made, and what changes when the pointer does."""
    ledger = registry.open()
    assert ledger.look() == Look(decision=Nothing(), head=None, pointer_identity=None)
    head = commit(ledger, A).record
    look = ledger.look()
    assert (look.decision, look.head) == (Follow(record=head, rewrite_face=False), head)
    assert look.pointer_identity == ledger.read_face().identity is not None
    assert not ledger.externally_managed()


def test_a_deployment_amid_a_look_is_nobodys_edit(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another sidecar deploys just when the ledger was read: the look shows what was before, and the next one the rest."""
    ledger, other = registry.open(), registry.open("sidecar-2")
    head = commit(other, A).record
    refresh = ledger.refresh

    def refreshed_and_overtaken() -> Record | None:
        seen = refresh()
        commit(other, B)
        return seen

    monkeypatch.setattr(ledger, "refresh", refreshed_and_overtaken)
    assert ledger.look().decision == Follow(record=head, rewrite_face=False)
    monkeypatch.undo()
    assert ledger.look().decision == Follow(record=other.head, rewrite_face=False)  # type: ignore[arg-type]  # committed


def test_a_lagging_pointer_is_rewritten_and_an_edit_is_not(registry: Registry) -> None:
    """A missing or lagging face is healed; an edit that nobody adopted, also a broken one, is left for its author."""
    ledger = registry.open()
    ledger.rewrite_face()
    assert not registry.pointer.exists()
    first, second = commit(ledger, A).record, commit(ledger, B).record
    registry.pointer.unlink()
    ledger.rewrite_face()
    assert registry.face().read().pointer == Pointer(B, generation=2)
    registry.pointer.write_bytes(render(first))
    ledger.rewrite_face()
    assert registry.pointer.read_bytes() == render(second)

    for edit in (b'{"version": "2024.01.15.prod"}', b'{"version": "2024.', b""):
        registry.pointer.write_bytes(edit)
        ledger.rewrite_face()
        assert registry.pointer.read_bytes() == edit


def test_a_draft_is_what_a_commit_would_write(registry: Registry) -> None:
    """Drafting records nothing, and refuses what a commit would refuse."""
    ledger = registry.open()
    commit(ledger, A)
    wanted = intent(B)
    draft = ledger.draft(wanted)
    assert ledger.refresh() == ledger.record(1)
    record = commit(ledger, wanted).record
    assert (draft.generation, draft.previous_version, draft.version) == (2, A, B)
    assert dataclasses.replace(draft, timestamp=record.timestamp, sha256=record.sha256) == record
    with pytest.raises(InvalidRequestError):
        ledger.draft(intent(B, reason="x" * 4097))
    with pytest.raises(InvalidRequestError):
        ledger.draft(intent(B, request_id="x" * 65))


def test_a_deleted_and_remade_directory_gets_its_history_back(registry: Registry) -> None:
    """Where only a hand-written pointer stands in a new directory, the known records return, and the edit is an edit."""
    ledger, other = registry.open("sidecar-1"), registry.open("sidecar-2")
    for version in (A, B, C):
        commit(ledger, version)
    records, contents = ledger.records(), bytes_of(registry, 3)
    other.refresh()
    shutil.rmtree(registry.directory)
    registry.directory.mkdir()
    with pytest.raises(StoreError):
        ledger.look()
    assert [*registry.directory.iterdir()] == []

    registry.pointer.write_bytes(b'{"version": "2024.01.10.prod"}')
    looks = [each.look() for each in (ledger, other)]
    assert all(isinstance(look.decision, Adopt) for look in looks)
    assert bytes_of(registry, 3) == contents
    assert len([*registry.ledger_directory.iterdir()]) == 3
    assert registry.open().look().head == ledger.head == records[0]


def bytes_of(registry: Registry, count: int) -> list[bytes]:
    return [registry.record_file(generation).read_bytes() for generation in range(1, count + 1)]


def test_two_histories_are_never_mixed(registry: Registry) -> None:
    """Where a newcomer has begun a ledger in the remade directory, nothing is put back behind it."""
    disk = registry.disk()
    ledger = registry.open(disk=disk)
    for version in (A, B):
        commit(ledger, version)
    head = ledger.head
    shutil.rmtree(registry.directory)
    registry.directory.mkdir()
    registry.pointer.write_bytes(b'{"version": "2024.01.15.prod"}')
    disk.fail("rename", lambda: _also(commit(registry.open("newcomer"), C)))

    with pytest.raises(StoreError, match="another history") as refusal:
        ledger.look()
    assert refusal.value.reason is Reason.LEDGER_INVALID
    with pytest.raises(StoreError, match="generation 2: the ledger went back"):
        ledger.look()
    assert ledger.head == head
    assert [path.name for path in registry.ledger_directory.iterdir()] == [registry.slot(1).name]


def test_a_put_back_that_was_killed_is_done_by_whoever_remembers(tmp_path: Path) -> None:
    """However far one sidecar came, the other one goes on with all six records, and a restarted one reads six or none."""
    killed, calls = True, 0
    while killed:
        registry, disk = Registry(tmp_path / f"{calls}"), FaultyDisk()
        ledger, other = registry.open("sidecar-1", disk=disk), registry.open("sidecar-2")
        for version in (A, B, A, B, A, B):
            commit(ledger, version)
        other.refresh()
        head = other.head
        shutil.rmtree(registry.directory)
        registry.directory.mkdir()
        registry.pointer.write_bytes(b'{"version": "2024.01.15.prod"}')
        disk.kill(after_calls=calls)
        try:
            ledger.look()
            killed = False
        except KilledError:
            assert registry.open("restarted").refresh() in (None, head)
        assert other.look().head == head
        assert registry.open("restarted").look().head == head
        calls += 1
    assert calls > 20


def test_a_full_disk_only_delays_a_put_back(registry: Registry) -> None:
    """While there is no room nothing is put back, at each look anew; once there is, the whole history returns."""
    disk = registry.disk()
    ledger = registry.open(disk=disk)
    for version in (A, B, C):
        commit(ledger, version)
    shutil.rmtree(registry.directory)
    registry.directory.mkdir()
    registry.pointer.write_bytes(b'{"version": "2024.01.10.prod"}')
    for written in range(3):
        disk.fail("write", errno.ENOSPC, skip=written)
        with pytest.raises(StoreFullError):
            ledger.look()
        assert [*registry.directory.iterdir()] == [registry.pointer]
    look = ledger.look()
    assert isinstance(look.decision, Adopt)
    assert registry.open().refresh() == ledger.head == look.head


@pytest.mark.parametrize("generation", [1, 2])
def test_nothing_is_added_on_top_of_a_gap(registry: Registry, generation: int) -> None:
    """A record that was deleted in the middle while running is LEDGER_INVALID at the next commit; put back, all goes on."""
    ledger = registry.open()
    for version in (A, B, C):
        commit(ledger, version)
    content = registry.record_file(generation).read_bytes()
    registry.take_away(generation)
    with pytest.raises(StoreError, match=f"generation {generation}: it was seen before") as refusal:
        commit(ledger, A)
    assert refusal.value.reason is Reason.LEDGER_INVALID
    assert refusal.value.facts["generation"] == str(generation)
    assert not registry.slot(4).exists()
    assert registry.face().read().pointer == Pointer(C, generation=3)

    registry.record_file(generation).write_bytes(content)
    assert commit(ledger, A).record.generation == 4


def test_records_of_newer_software_are_put_back_as_they_were(registry: Registry) -> None:
    """What they say that this software does not know is kept: the digests of the chain hold."""
    second = follow(decode(GOOD[0]), B)
    newer = encode(second).replace(b'"action":', b'"a_newer_field":1,"action":')
    store_chain(registry, GOOD[0], newer)
    ledger = registry.open()
    assert ledger.refresh() == decode(newer)
    shutil.rmtree(registry.directory)
    registry.directory.mkdir()
    registry.pointer.write_bytes(b'{"version": "2024.01.15.prod"}')
    ledger.look()
    assert [registry.record_file(each).read_bytes() for each in (1, 2)] == [GOOD[0], newer]
    assert commit(ledger, C).record.previous_record_sha256 == digest_of(newer)
