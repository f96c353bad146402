"""What a look at the pointer means."""

import shutil
from pathlib import Path

import pytest
from support.ledgers import ALICE, A, B, C, FaultyDisk, Registry, chain, commit, follow

from model_sidecar.errors import ConflictError, Reason, VerificationError
from model_sidecar.ledger.face import Identity, PointerFace, Reading, Standing, render
from model_sidecar.ledger.ledger import Commit, Intent, Ledger
from model_sidecar.ledger.reconcile import (
    Adopt,
    Decision,
    External,
    Follow,
    Nothing,
    Unreadable,
    adoption_id,
    interpret,
)
from model_sidecar.ledger.record import Action, Record
from model_sidecar.release.digests import digest_of
from model_sidecar.release.names import Version
from model_sidecar.release.pointer import Pointer, parse_pointer

D = Version("2024.02.01.prod")
RECORDS = chain(A, B, C)
HEAD = RECORDS[-1]
PROBLEM = VerificationError("active.json is not a pointer")


def look(
    content: bytes, *, standing: Standing = Standing.OURS, mtime_ns: int = 7, ctime_ns: int = 7
) -> Reading:
    return Reading(
        content=content,
        identity=Identity(digest_of(content), mtime_ns, ctime_ns, 1),
        pointer=parse_pointer(content),
        standing=standing,
    )


def bare(version: Version) -> bytes:
    return b'{"version": "%s"}' % version.encode()


def numbered(version: Version, generation: int) -> bytes:
    return b'{"version": "%s", "generation": %d}' % (version.encode(), generation)


def adopt(content: bytes, version: Version, *, allow: bool = False) -> Adopt:
    return Adopt(
        version=version,
        request_id=adoption_id(Identity(digest_of(content), 7, 7, 1)),
        request_sha256=digest_of(content),
        allow_schema_change=allow,
    )


MISSING, MISSING_EXTERNAL = Reading(), Reading(standing=Standing.LINKED)
BROKEN = Reading(content=b"", identity=Identity(digest_of(b""), 7, 7, 1), problem=PROBLEM)
BROKEN_EXTERNAL = Reading(content=b"", identity=BROKEN.identity, problem=PROBLEM, standing=Standing.LINKED)
CONSENTING = b'{"version": "2024.02.01.prod", "allow_schema_change": true}'
KEEP, REWRITE = Follow(record=HEAD, rewrite_face=False), Follow(record=HEAD, rewrite_face=True)


@pytest.mark.parametrize(
    ("reading", "records", "expected"),
    [
        pytest.param(MISSING, [], Nothing(), id="a normal first start"),
        pytest.param(MISSING, RECORDS, REWRITE, id="the pointer was lost"),
        pytest.param(BROKEN, [], Unreadable(problem=PROBLEM, head=None), id="garbage, nothing deployed"),
        pytest.param(
            BROKEN, RECORDS, Unreadable(problem=PROBLEM, head=HEAD), id="garbage, or an edit in the middle"
        ),
        pytest.param(look(bare(A)), [], adopt(bare(A), A), id="the first pointer, by hand"),
        pytest.param(look(numbered(A, 9)), [], adopt(numbered(A, 9), A), id="a face without its ledger"),
        pytest.param(look(render(HEAD)), RECORDS, KEEP, id="the face of the head"),
        pytest.param(look(numbered(C, 3)), RECORDS, KEEP, id="the head in few words"),
        pytest.param(look(render(RECORDS[1])), RECORDS, REWRITE, id="lags one behind"),
        pytest.param(look(render(RECORDS[0])), RECORDS, REWRITE, id="lags far behind"),
        pytest.param(look(bare(C)), RECORDS, REWRITE, id="by hand, what is there already"),
        pytest.param(
            look(numbered(C, 1)), RECORDS, REWRITE, id="another generation's number, the head's version"
        ),
        pytest.param(look(numbered(C, 99)), RECORDS, REWRITE, id="ahead of the ledger, the head's version"),
        pytest.param(look(bare(A)), RECORDS, adopt(bare(A), A), id="by hand, back to an old version"),
        pytest.param(look(bare(D)), RECORDS, adopt(bare(D), D), id="by hand, to a new version"),
        pytest.param(look(CONSENTING), RECORDS, adopt(CONSENTING, D, allow=True), id="by hand, consenting"),
        pytest.param(
            look(numbered(D, 3)), RECORDS, adopt(numbered(D, 3), D), id="version changed in our face"
        ),
        pytest.param(look(numbered(A, 3)), RECORDS, adopt(numbered(A, 3), A), id="old version in our face"),
        pytest.param(
            look(numbered(D, 1)), RECORDS, adopt(numbered(D, 1), D), id="version changed in a lagging face"
        ),
        pytest.param(look(numbered(A, 2)), RECORDS, adopt(numbered(A, 2), A), id="another record's number"),
        pytest.param(look(numbered(D, 4)), RECORDS, adopt(numbered(D, 4), D), id="ahead of the ledger"),
        pytest.param(look(numbered(A, 0)), RECORDS, adopt(numbered(A, 0), A), id="generation 0"),
        pytest.param(look(numbered(A, -2)), RECORDS, adopt(numbered(A, -2), A), id="generation -2"),
        pytest.param(MISSING_EXTERNAL, [], Nothing(), id="external, nothing there"),
        pytest.param(MISSING_EXTERNAL, RECORDS, KEEP, id="external, lost: nothing is written"),
        pytest.param(
            BROKEN_EXTERNAL, RECORDS, Unreadable(problem=PROBLEM, head=HEAD), id="external, garbage"
        ),
        pytest.param(
            look(bare(D), standing=Standing.LINKED),
            [],
            External(version=D, allow_schema_change=False),
            id="external, no ledger",
        ),
        pytest.param(
            look(CONSENTING, standing=Standing.LINKED),
            RECORDS,
            External(version=D, allow_schema_change=True),
            id="external, beside a ledger",
        ),
        pytest.param(
            look(render(HEAD), standing=Standing.LINKED),
            RECORDS,
            External(version=C, allow_schema_change=False),
            id="external, a copy of a face",
        ),
        pytest.param(
            look(bare(D), standing=Standing.READ_ONLY),
            [],
            External(version=D, allow_schema_change=False),
            id="read-only, no ledger",
        ),
        pytest.param(
            look(render(HEAD), standing=Standing.READ_ONLY), RECORDS, KEEP, id="read-only, the face"
        ),
        pytest.param(
            look(numbered(B, 2), standing=Standing.READ_ONLY), RECORDS, KEEP, id="read-only, it lags"
        ),
    ],
)
def test_what_a_look_means(reading: Reading, records: list[Record], expected: Decision) -> None:
    """Every combination of pointer and ledger has one meaning."""
    assert decide(reading, records) == expected


def test_an_edit_that_cannot_be_recorded_is_told_and_not_followed() -> None:
    """Where the store is read-only, the head stands until somebody else has recorded the edit."""
    decision = decide(look(bare(D), standing=Standing.READ_ONLY), RECORDS)
    assert isinstance(decision, Unreadable)
    assert decision.head == HEAD
    assert decision.problem.reason is Reason.STORE_UNAVAILABLE
    assert D in str(decision.problem)


def decide(reading: Reading, records: list[Record]) -> Decision:
    by_generation = {record.generation: record for record in records}
    by_request = {record.request_id: record for record in records}
    return interpret(reading, records[-1] if records else None, by_generation.get, by_request.get)


def test_an_edit_that_was_adopted_before_merely_lags() -> None:
    """Its request id is in the ledger, so later records stand, however long the face could not be rewritten."""
    reading = look(bare(D))
    wanted = decide(reading, RECORDS)
    assert isinstance(wanted, Adopt)
    adopted = follow(HEAD, D, action=Action.ADOPT, request_id=wanted.request_id)
    later = follow(adopted, A)
    assert decide(reading, [*RECORDS, adopted]) == Follow(record=adopted, rewrite_face=True)
    assert decide(reading, [*RECORDS, adopted, later]) == Follow(record=later, rewrite_face=True)


@pytest.mark.parametrize("mtime_ns", [7, 8])
def test_the_same_words_saved_again_are_a_new_edit(mtime_ns: int) -> None:
    """Whoever writes the same version once more, later, means it once more, even with the old modification time."""
    first = decide(look(bare(D)), RECORDS)
    assert isinstance(first, Adopt)
    records = [*RECORDS, follow(HEAD, D, action=Action.ADOPT, request_id=first.request_id)]
    records.append(follow(records[-1], A))
    second = decide(look(bare(D), mtime_ns=mtime_ns, ctime_ns=8), records)
    assert isinstance(second, Adopt)
    assert second.request_id != first.request_id


def test_every_sidecar_gives_an_edit_the_same_id() -> None:
    """Content, modification and change time make the id; the inode, which mounts may renumber, does not."""
    identity = Identity(digest_of(bare(D)), 7, 7, 1)
    assert adoption_id(identity) == adoption_id(Identity(identity.content, 7, 7, 2))
    assert adoption_id(identity) != adoption_id(Identity(identity.content, 8, 7, 1))
    assert adoption_id(identity) != adoption_id(Identity(identity.content, 7, 8, 1))
    assert adoption_id(identity) != adoption_id(Identity(digest_of(bare(A)), 7, 7, 1))
    assert adoption_id(identity).startswith("adopt-")
    assert len(adoption_id(identity)) == len("adopt-") + 32


# The same on real files, by real ledgers.


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    registry = Registry(tmp_path / "store")
    registry.directory.mkdir(parents=True)
    return registry


def decide_now(ledger: Ledger, face: PointerFace) -> Decision:
    """The three steps in their order."""
    reading = face.read()
    head = ledger.refresh()
    return interpret(reading, head, ledger.record, ledger.find_request)


def carry_out(ledger: Ledger, decision: Adopt, *, upon: int) -> Commit:
    return ledger.commit(
        Intent(
            action=Action.ADOPT,
            version=decision.version,
            manifest_sha256=digest_of(decision.version.encode()),
            actor=ALICE,
            request_id=decision.request_id,
            request_sha256=decision.request_sha256,
        ),
        expected_generation=upon,
    )


def test_of_two_sidecars_one_adopts_an_edit(registry: Registry) -> None:
    """Both see it, both try; there is one ADOPT, both get it, and then the pointer shows it."""
    one, two = registry.open("sidecar-1"), registry.open("sidecar-2")
    commit(one, A)
    registry.pointer.write_bytes(bare(B))
    wishes = [decide_now(each, registry.face()) for each in (one, two)]
    assert wishes[0] == wishes[1]
    assert isinstance(wishes[0], Adopt)

    first, second = (carry_out(each, wishes[0], upon=1) for each in (one, two))
    assert (first.replayed, second.replayed) == (False, True)
    assert first.record == second.record
    assert (first.record.generation, first.record.action, first.record.version) == (2, Action.ADOPT, B)
    for each in (one, two):
        assert decide_now(each, registry.face()) == Follow(record=first.record, rewrite_face=False)


def test_an_edit_is_adopted_once_though_the_face_cannot_be_written(registry: Registry) -> None:
    """With the edit still in the file, later deployments stand, in a restarted sidecar too, until the face is healed."""
    disk = FaultyDisk()
    ledger = registry.open(face_disk=disk)
    commit(ledger, A)
    registry.pointer.write_bytes(bare(B))
    disk.fail("rename", 5, times=99)
    wish = decide_now(ledger, registry.face())
    assert isinstance(wish, Adopt)
    assert carry_out(ledger, wish, upon=1).warning
    assert commit(ledger, C).warning
    assert registry.pointer.read_bytes() == bare(B)

    restarted = registry.open()
    decision = decide_now(restarted, registry.face())
    assert decision == Follow(record=ledger.head, rewrite_face=True)  # type: ignore[arg-type]  # there is a head
    assert restarted.head is not None
    registry.face().write(restarted.head)
    assert decide_now(restarted, registry.face()) == Follow(record=restarted.head, rewrite_face=False)
    assert [record.version for record in restarted.records()] == [C, B, A]


def test_prepared_pointers_copied_back_and_forth_are_all_adopted(registry: Registry) -> None:
    """`cp -p` brings the old modification time along: each flip between two prepared files is an edit all the same."""
    ledger, other = registry.open("sidecar-1"), registry.open("sidecar-2")
    commit(ledger, C)
    for version in (A, B):
        (registry.directory / version).write_bytes(bare(version))
    changed_ns = 0
    for generation, version in enumerate((B, A, B), 2):
        shutil.copy2(registry.directory / version, registry.pointer)
        while registry.pointer.stat().st_ctime_ns == changed_ns:  # the file system's clock moves in steps
            shutil.copy2(registry.directory / version, registry.pointer)
        changed_ns = registry.pointer.stat().st_ctime_ns
        wishes = [decide_now(each, registry.face()) for each in (ledger, other)]
        assert wishes[0] == wishes[1]
        assert isinstance(wishes[0], Adopt)
        assert carry_out(ledger, wishes[0], upon=generation - 1).record.generation == generation
        assert carry_out(other, wishes[0], upon=generation - 1).replayed
    assert [record.version for record in ledger.records()] == [B, A, B, C]


def test_a_deployment_that_overtakes_an_adoption_wins(registry: Registry) -> None:
    """The edit was seen, then a deployment replaced it: the adoption conflicts, and nothing is left to adopt."""
    one, two = registry.open("sidecar-1"), registry.open("sidecar-2")
    commit(one, A)
    registry.pointer.write_bytes(bare(B))
    wish = decide_now(two, registry.face())
    assert isinstance(wish, Adopt)
    commit(one, C)

    with pytest.raises(ConflictError):
        carry_out(two, wish, upon=1)
    assert decide_now(two, registry.face()) == Follow(record=one.head, rewrite_face=False)  # type: ignore[arg-type]  # as above


def test_an_edit_saved_during_a_deployment_comes_after_it(registry: Registry) -> None:
    """The deployment is recorded, the edit is still in the file, and is adopted upon it."""
    disk = FaultyDisk()
    ledger = registry.open(disk=disk)
    commit(ledger, A)
    disk.fail("link", lambda: _save(registry.pointer, bare(B)), after=True)
    commit(ledger, C)
    wish = decide_now(ledger, registry.face())
    assert isinstance(wish, Adopt)
    assert carry_out(ledger, wish, upon=2).record.version == B
    assert [record.version for record in ledger.records()] == [B, C, A]


def _save(pointer: Path, content: bytes) -> None:
    pointer.write_bytes(content)


def test_a_face_newer_than_our_view_of_the_ledger_moves_nothing(registry: Registry) -> None:
    """A sidecar whose mount shows the new pointer before the new record tries to adopt it, and only conflicts."""
    one, two = registry.open("sidecar-1"), registry.open("sidecar-2")
    commit(one, A)
    old_head = two.refresh()
    commit(one, B)

    wish = interpret(registry.face().read(), old_head, two.record, two.find_request)
    assert isinstance(wish, Adopt)
    with pytest.raises(ConflictError):
        carry_out(two, wish, upon=1)
    assert decide_now(two, registry.face()) == Follow(record=one.head, rewrite_face=False)  # type: ignore[arg-type]  # as above
    assert registry.face().read().pointer == Pointer(B, generation=2)


def test_the_first_pointer_by_hand_becomes_generation_1(registry: Registry) -> None:
    """A site that begins with a hand-written file gets its ledger from it."""
    registry.pointer.write_bytes(bare(A))
    ledger = registry.open()
    wish = decide_now(ledger, registry.face())
    assert isinstance(wish, Adopt)
    record = carry_out(ledger, wish, upon=0).record
    assert (record.generation, record.action, record.previous_version) == (1, Action.ADOPT, None)
    assert registry.face().read().pointer == Pointer(A, generation=1)


def test_an_edit_saved_during_an_adoption_is_adopted_after_it(registry: Registry) -> None:
    """While one edit was verified, its author saved another: the first is recorded, the second stays, and comes next."""
    ledger = registry.open()
    commit(ledger, A)
    registry.pointer.write_bytes(bare(B))
    wish = decide_now(ledger, registry.face())
    assert isinstance(wish, Adopt)
    registry.pointer.write_bytes(bare(C))
    carry_out(ledger, wish, upon=1)

    assert registry.pointer.read_bytes() == bare(C)
    wish = decide_now(ledger, registry.face())
    assert isinstance(wish, Adopt)
    carry_out(ledger, wish, upon=2)
    assert [record.version for record in ledger.records()] == [C, B, A]
    assert registry.face().read().pointer == Pointer(C, generation=3)
