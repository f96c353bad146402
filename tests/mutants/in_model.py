"""Bugs in how a candidate is loaded and tried before it may answer."""

from __future__ import annotations

from mutants.mutant import Mutant

MUTANTS = (
    Mutant(
        name="external-data-outside-the-manifest",
        why="A model that names `/etc/passwd` as its weights has it opened.",
        file="model/loader.py",
        find="        if location not in verified.files or location in (MODEL, PREPROCESSING):",
        replace="        if False:",
        tests=("model/test_loader.py::test_external_data_outside_the_manifest_is_refused_even_if_allowed",),
    ),
    Mutant(
        name="external-data-not-asked-about",
        why="Weights beside the model are loaded although the configuration forbids it.",
        file="model/loader.py",
        find="    if not allowed:\n",
        replace="    if False:\n",
        tests=("model/test_loader.py::test_external_data_is_refused_unless_allowed",),
    ),
    Mutant(
        name="subgraphs-not-walked",
        why="A model that hides its external data in the branch of an If has any file of the machine opened.",
        file="model/anatomy.py",
        find="        tag(6, BYTES): _Kind.GRAPH,\n",
        replace="",
        tests=("model/test_anatomy.py::test_external_data_is_found_wherever_a_tensor_can_stand",),
    ),
    Mutant(
        name="promise-not-compared",
        why="A model takes other inputs than its manifest says, and its callers find out one by one.",
        file="model/loader.py",
        find="        check_promise(verified.manifest.signature, signature)\n",
        replace="",
        tests=("model/test_loader.py::test_a_model_that_is_not_what_the_manifest_promises_is_refused",),
    ),
    Mutant(
        name="tolerance-ignored",
        why="A good export is refused for the last bit of a float, or a bad one taken whatever it answers.",
        file="model/rehearsal.py",
        find="golden.atol + golden.rtol * np.abs(np.where(comparable, want, 0.0))",
        replace="1e-4",
        tests=("model/test_rehearsal.py::test_an_answer_may_differ_by_atol_and_rtol_together",),
    ),
    Mutant(
        name="nan-answers-accepted",
        why="A model of which every weight is NaN goes into service.",
        file="model/rehearsal.py",
        find="    if strange.any():",
        replace="    if False:",
        tests=(
            "model/test_rehearsal.py::test_nan_and_infinity_are_refused_unless_they_are_expected",
            "model/test_rehearsal.py::test_nan_in_an_output_that_no_example_names_is_refused",
        ),
    ),
    Mutant(
        name="only-the-first-example-compared",
        why="A model that is wrong everywhere but at its first example goes into service.",
        file="model/rehearsal.py",
        find="    for number, example in enumerate(examples, start=1):\n        where",
        replace="    for number, example in enumerate(examples[:1], start=1):\n        where",
        tests=("model/test_rehearsal.py::test_a_wrong_answer_is_told_with_place_and_size",),
    ),
    Mutant(
        name="objects-unpickled-from-examples",
        why="A golden file runs whatever code its author wants.",
        file="model/golden.py",
        find="        if dtype.hasobject or dtype.names is not None or dtype.subdtype is not None:",
        replace="        if dtype.hasobject:\n            return np.load(io.BytesIO(content), allow_pickle=True)\n        if False:",
        tests=("model/test_golden.py::test_what_holds_no_examples_is_refused",),
    ),
    Mutant(
        name="examples-unpacked-without-a-bound",
        why="A golden file of a few kilobytes unpacks to all the memory that there is.",
        file="model/golden.py",
        find="    if unpacked > MAX_BYTES:",
        replace="    if False:",
        tests=("model/test_golden.py::test_what_holds_no_examples_is_refused",),
    ),
    Mutant(
        name="shapes-left-to-onnxruntime",
        why="A tensor of another type or rank is read as what it is not, and answered with wrong numbers.",
        file="model/loaded.py",
        find="if array.dtype != dtype or array.ndim != rank:",
        replace="if False:",
        tests=("model/test_loaded.py::test_an_input_that_does_not_fit_is_the_callers_fault",),
    ),
    Mutant(
        name="rows-that-mix-not-noticed",
        why="A model that normalises over its rows answers each caller by who else asks at that moment.",
        file="model/batching.py",
        find="            if _content(own) != _content(self._answers[at]):",
        replace="            if False:",
        tests=("model/test_batching.py::test_a_model_that_mixes_its_rows_is_never_batched",),
    ),
    Mutant(
        name="environment-chooses-the-session",
        why="One environment variable, and no version can be loaded any more, or a model decides how many threads it has.",
        file="model/session.py",
        find='    os.environ.pop("ORT_LOAD_CONFIG_FROM_MODEL", None)\n',
        replace="",
        tests=("model/test_session.py::test_a_model_cannot_choose_its_options",),
    ),
)
