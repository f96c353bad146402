"""Bugs in how versions are published, verified and kept."""

from __future__ import annotations

from mutants.mutant import Mutant

_DAMAGED = "store/test_refusals.py::test_a_damaged_version_is_refused_for_its_own_reason"

MUTANTS = (
    Mutant(
        name="symlinks-followed",
        why="Whoever can write to the store has any file of the machine loaded as a model.",
        file="store/opening.py",
        find="os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK",
        replace="os.O_RDONLY | os.O_NONBLOCK",
        tests=(_DAMAGED, "store/test_refusals.py::test_a_symlinked_model_directory_is_refused"),
    ),
    Mutant(
        name="fifo-waits-for-its-writer",
        why="A FIFO in a version's directory stops the sidecar from loading anything ever again.",
        file="store/opening.py",
        find="os.O_NOFOLLOW | os.O_NONBLOCK",
        replace="os.O_NOFOLLOW",
        tests=(_DAMAGED,),
    ),
    Mutant(
        name="digest-not-compared",
        why="Any bytes under a published name are served.",
        file="store/sealing.py",
        find="if sealed.digest != listed.digest:",
        replace="if False:",
        tests=("store/test_sealing.py::test_other_bytes_are_refused_and_leave_nothing_open",),
    ),
    Mutant(
        name="hash-of-another-read",
        why="Bytes are loaded that nobody hashed, if the file is exchanged between the two reads.",
        file="store/sealing.py",
        find="    if sealed.digest != listed.digest:",
        replace=(
            "    from model_sidecar.release.digests import digest_of\n\n"
            "    if digest_of(shown.read_bytes()) != listed.digest:"
        ),
        tests=("store/test_versions.py::test_what_was_hashed_is_what_was_read",),
    ),
    Mutant(
        name="opened-again-by-its-path",
        why="What is loaded is what the path leads to later, and not what was verified.",
        file="store/verifying.py",
        find="            return seal(source, name=name, listed=listed, shown=self.shown / name, disk=self.disk)",
        replace=(
            "            seal(source, name=name, listed=listed, shown=self.shown / name, disk=self.disk).close()\n"
            "        path = self.shown / name\n"
            "        return SealedFile(name, listed.digest, path.stat().st_size, os.open(path, os.O_RDONLY))"
        ),
        tests=("store/test_versions.py::test_what_was_hashed_is_what_was_read",),
    ),
    Mutant(
        name="copy-not-sealed",
        why="Verified bytes can still be changed by whatever in the process has their descriptor.",
        file="store/private.py",
        find="        _seal(self._fd)\n",
        replace="",
        tests=("store/test_sealing.py::test_nobody_can_write_sealed_bytes",),
    ),
    Mutant(
        name="size-not-compared",
        why="A version that is still being copied is refused for good instead of being waited for.",
        file="store/sealing.py",
        find="    if found == listed:\n        return",
        replace="    return",
        tests=("store/test_sealing.py::test_another_size_is_refused",),
    ),
    Mutant(
        name="copied-without-a-bound",
        why="A file that grows while it is read, or lies about its size, fills the machine's memory.",
        file="store/sealing.py",
        find="    copied = 0\n",
        replace="    copied, limit = 0, 1 << 30\n",
        tests=("store/test_sealing.py::test_no_more_than_was_promised_is_ever_copied",),
    ),
    Mutant(
        name="unlisted-files-accepted",
        why="A version's directory can hold files that nobody verified, for whoever opens them one day.",
        file="store/verifying.py",
        find="        if unlisted:\n",
        replace="        if False:\n",
        tests=(_DAMAGED,),
    ),
    Mutant(
        name="replaced-version-accepted",
        why="A version that was deployed before can be exchanged for another one under the same name.",
        file="store/verifying.py",
        find="if expected is not None and manifest.digest != expected:",
        replace="if False:",
        tests=("store/test_versions.py::test_a_version_that_changed_since_its_deployment_is_refused",),
    ),
    Mutant(
        name="another-versions-manifest-accepted",
        why="A directory that was copied under a new name answers under a name that nobody published.",
        file="store/verifying.py",
        find="if manifest.version != self.version:",
        replace="if False:",
        tests=(_DAMAGED,),
    ),
    Mutant(
        name="external-data-always-allowed",
        why="A model may bring its weights in other files although the configuration forbids it.",
        file="store/verifying.py",
        find="if external and not allowed:",
        replace="if False:",
        tests=("store/test_versions.py::test_external_data_is_a_matter_of_configuration",),
    ),
    Mutant(
        name="published-files-not-synced",
        why="A power cut after `publish` leaves a version whose names are there and whose bytes are not.",
        file="store/publishing.py",
        find="            write_file(self.disk, name, counted(), dir_fd=self.descriptor)",
        replace=(
            "            fd = self.disk.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644, dir_fd=self.descriptor)\n"
            "            for part in counted():\n"
            "                self.disk.write(fd, part)\n"
            "            self.disk.close(fd)"
        ),
        tests=("store/test_publishing.py::test_everything_is_durable_before_it_is_visible",),
    ),
    Mutant(
        name="published-directory-not-synced",
        why="A power cut after `publish` leaves a version that lacks files.",
        file="store/publishing.py",
        find="            self.disk.fsync(self.descriptor)\n",
        replace="",
        tests=("store/test_publishing.py::test_everything_is_durable_before_it_is_visible",),
    ),
    Mutant(
        name="publication-not-synced",
        why="A power cut after `publish` takes the whole version away again, which may be deployed by then.",
        file="store/publishing.py",
        find="            self.disk.fsync(self.parent)\n",
        replace="            pass\n",
        tests=("store/test_publishing.py::test_everything_is_durable_before_it_is_visible",),
    ),
    Mutant(
        name="published-over-what-is-there",
        why="The second one who publishes a name destroys the version that is in service.",
        file="store/publishing.py",
        find="                    raise _exists(self.disk, self.parent, self.model, self.version, self.target) from error",
        replace=(
            "                    discard(self.disk, self.target)\n"
            "                    self.disk.rename(self.path.name, self.target.name, dir_fd=self.parent)\n"
            "                    return"
        ),
        tests=("store/test_publishing.py::test_whatever_appeared_meanwhile_is_not_overwritten",),
    ),
    Mutant(
        name="publishers-swept-while-they-write",
        why="A publisher who copies a large model loses what it has written to the next publisher's housekeeping.",
        file="disk/steps.py",
        find="    return max([found.st_mtime, *",
        replace="        return found.st_mtime\n    return max([found.st_mtime, *",
        tests=(
            "store/test_publishing.py::test_a_killed_publisher_leaves_no_version_and_is_swept_after_an_hour",
        ),
    ),
    Mutant(
        name="kept-copy-of-any-identity-believed",
        why="While the store is away, a version answers that is not the one that was deployed.",
        file="store/kept.py",
        find="return self._copies.verify(model, version, expected_manifest=expected_manifest, admit=admit)",
        replace="return self._copies.verify(model, version, admit=admit)",
        tests=("store/test_kept.py::test_a_copy_of_another_identity_is_none",),
    ),
    Mutant(
        name="damaged-copy-in-the-way",
        why="A damaged copy on the machine's own disk keeps a version from service that the store has whole.",
        file="store/kept.py",
        find="            except SidecarError as error:\n                self._set_aside",
        replace="            except ZeroDivisionError as error:\n                self._set_aside",
        tests=("store/test_kept.py::test_a_damaged_copy_is_not_in_the_way",),
    ),
    Mutant(
        name="copy-kept-unread",
        why="What was exchanged in the store after its verification is kept in place of what answers.",
        file="store/kept.py",
        find="if copied.digest != entry.digest:",
        replace="if False:",
        tests=("store/test_kept.py::test_what_was_exchanged_since_is_not_kept",),
    ),
    Mutant(
        name="fingerprint-without-the-files",
        why="A version that was refused while it was copied is never looked at again.",
        file="store/versions.py",
        find="return _marks(directory), frozenset((name, self._marks_at(fd, name)) for name in names)",
        replace="return _marks(directory), frozenset(names)",
        tests=("store/test_versions.py::test_the_fingerprint_follows_every_change",),
    ),
)
