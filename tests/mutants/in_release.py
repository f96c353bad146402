"""Bugs in how names and manifests are read."""

from __future__ import annotations

from mutants.mutant import Mutant

_NO_MANIFEST = "release/test_manifest.py::test_what_is_no_manifest_is_refused_with_its_own_reason"
_NO_VERSION = "release/test_names.py::test_a_version_name_off_the_grammar_is_refused"

MUTANTS = (
    Mutant(
        name="version-name-matched-at-its-beginning",
        why="`2024.01.15.prod/../..` is a version's name, and its directory is anywhere.",
        file="release/names.py",
        find="    match = _VERSION.fullmatch(text)\n",
        replace="    match = _VERSION.match(text)\n",
        tests=(_NO_VERSION,),
    ),
    Mutant(
        name="name-ends-at-a-dollar",
        why="A newline passes in a model's name, and forges lines of logs and metrics.",
        file="release/names.py",
        find="if not _MODEL.fullmatch(text)",
        replace='if not re.match(_MODEL.pattern + "$", text)',
        tests=("release/test_names.py::test_a_model_name_off_the_grammar_is_refused_with_the_name_quoted",),
    ),
    Mutant(
        name="digits-of-every-script",
        why="Two names that look alike are two versions: an operator deploys one and reads the other.",
        file="release/names.py",
        find="(?P<year>[0-9]{4})",
        replace=r"(?P<year>(?u:\d{4}))",
        tests=(_NO_VERSION,),
    ),
    Mutant(
        name="date-not-in-the-calendar",
        why="A mistyped date is a version, which sorts where nobody looks for it.",
        file="release/names.py",
        find='        datetime.date(int(match["year"]), int(match["month"]), int(match["day"]))',
        replace="        pass",
        tests=(_NO_VERSION,),
    ),
    Mutant(
        name="duplicate-keys-accepted",
        why="Two readers of one manifest see two different digests, and each of them verifies.",
        file="release/strict_json.py",
        find="        if key in made:",
        replace="        if False:",
        tests=("release/test_strict_json.py::test_a_key_that_stands_twice_is_refused",),
    ),
    Mutant(
        name="nan-is-a-number",
        why="A manifest that no other language can read passes here.",
        file="release/strict_json.py",
        find='    raise NotFiniteError(f"{text} is not a JSON number")',
        replace="    return float(text)",
        tests=("release/test_strict_json.py::test_a_number_that_readers_would_differ_over_is_refused",),
    ),
    Mutant(
        name="nesting-without-a-bound",
        why="A manifest of brackets exhausts the parser's stack.",
        file="release/strict_json.py",
        find="    _refuse_depth(text)\n    try:",
        replace="    try:",
        tests=("release/test_strict_json.py::test_nesting_is_bounded",),
    ),
    Mutant(
        name="manifest-without-a-bound",
        why="A manifest of any size is read into memory and parsed.",
        file="release/manifest_reading.py",
        find="    if len(content) > MAX_MANIFEST_BYTES:",
        replace="    if False:",
        tests=(_NO_MANIFEST,),
    ),
    Mutant(
        name="file-names-lead-anywhere",
        why="A manifest that lists `../../etc/shadow` has it read and copied.",
        file="release/manifest_reading.py",
        find="        check_file_name(name)\n        _check_role",
        replace="        _check_role",
        tests=("release/test_manifest.py::test_a_file_name_that_could_lead_elsewhere_is_refused",),
    ),
    Mutant(
        name="model-hash-not-compared",
        why="A manifest says one thing to readers of its nine fields and another to readers of its list of files.",
        file="release/manifest_reading.py",
        find="    if listed.digest != model_hash:",
        replace="    if False:",
        tests=("release/test_manifest.py::test_the_model_is_listed_with_its_hash",),
    ),
)
