"""Where an option's value comes from: command line, environment, configuration file, default, in this order."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
from click.testing import CliRunner, Result

from model_sidecar_client.cli import main
from model_sidecar_client.cli.documents import document, one_line
from model_sidecar_client.cli.options import duration, target
from model_sidecar_client.cli.text import printable, table
from model_sidecar_client.testing import StandInSidecar
from model_sidecar_client.wire import deployment as wire

MODEL, VERSION = "recommendation-v1", "2024.01.15.prod"


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith("MODEL_SIDECAR_") or name in {"CI_USER", "GIT_COMMIT"}:
            monkeypatch.delenv(name)


@pytest.fixture
def sidecar() -> Iterator[StandInSidecar]:
    with StandInSidecar() as running:
        running.answer(MODEL, {"y": [0.5]}, version=VERSION)
        yield running


def run(*arguments: str, **environment: str) -> Result:
    return CliRunner(env=environment).invoke(main, list(arguments), prog_name="sidecarctl")


def file_with(tmp_path: Path, text: str) -> str:
    path = tmp_path / "sidecarctl.toml"
    path.write_text(text)
    return str(path)


def reason_of(sidecar: StandInSidecar) -> str:
    """The reason in the last deploy that arrived."""
    request = sidecar.received("Deploy")[-1].request
    assert isinstance(request, wire.DeployRequest)
    return request.reason


def test_every_option_is_a_variable() -> None:
    """Each option that carries a value says in its help which variable it is."""
    silent = [
        f"{name} {option.opts}"
        for name, command in {"": main, **main.commands}.items()
        for option in command.params
        if isinstance(option, click.Option) and option.expose_value and not option.show_envvar
        # After the command's name the program's options stand a second time; their variables are the program's.
        if not (name and option.name in {"control", "data", "timeout", "output"})
    ]

    assert silent == []
    assert "MODEL_SIDECAR_EXPECTED_GENERATION" in run("deploy", "--help").output
    assert "MODEL_SIDECAR_CONTROL" in run("--help").output


def test_the_environment_stands_in_for_options(sidecar: StandInSidecar) -> None:
    """Sockets, environment, output and --yes can all come from variables."""
    done = run(
        "deploy",
        MODEL,
        VERSION,
        MODEL_SIDECAR_CONTROL=sidecar.target,
        MODEL_SIDECAR_ENVIRONMENT="prod",
        MODEL_SIDECAR_OUTPUT="json",
        MODEL_SIDECAR_YES="1",
        MODEL_SIDECAR_REASON="from the environment",
        MODEL_SIDECAR_ON_BEHALF_OF="ana",
        CI_USER="somebody else",
    )

    assert done.exit_code == 0, done.output
    record = json.loads(done.stdout)["record"]
    assert (record["reason"], record["actor"]["on_behalf_of"]) == ("from the environment", "ana")


def test_the_file_counts_least_and_the_command_line_most(sidecar: StandInSidecar, tmp_path: Path) -> None:
    """The file's table goes before its top, the environment before both, the command line before all."""
    deploy = ("--control", sidecar.target, "deploy", MODEL, VERSION, "--yes")
    top = file_with(tmp_path, 'environment = "prod"\nreason = "top"\n')
    assert run("--config", top, *deploy).exit_code == 0
    assert reason_of(sidecar) == "top"

    both = file_with(tmp_path, 'environment = "prod"\nreason = "top"\n[deploy]\nreason = "table"\n')
    for expected, arguments, environment in (
        ("table", (), {}),
        ("variable", (), {"MODEL_SIDECAR_REASON": "variable"}),
        ("line", ("--reason", "line"), {"MODEL_SIDECAR_REASON": "variable"}),
    ):
        assert run(*deploy, *arguments, MODEL_SIDECAR_CONFIG=both, **environment).exit_code == 0
        assert reason_of(sidecar) == expected


@pytest.mark.parametrize(
    ("file", "variables", "before", "after", "expected"),
    [
        ("", {}, (), (), "text"),
        ('output = "json"', {}, (), (), "json"),
        ('output = "text"\n[status]\noutput = "json"', {}, (), (), "json"),
        ('[status]\noutput = "json"', {}, ("-o", "text"), (), "text"),
        ('[status]\noutput = "json"', {"MODEL_SIDECAR_OUTPUT": "text"}, (), (), "text"),
        ("", {"MODEL_SIDECAR_OUTPUT": "text"}, ("-o", "json"), (), "json"),
        ("", {"MODEL_SIDECAR_OUTPUT": "text"}, (), ("-o", "json"), "json"),
        ("", {}, ("-o", "text"), ("-o", "json"), "json"),
    ],
)
def test_an_option_of_the_program_before_and_after_the_command(
    sidecar: StandInSidecar,
    tmp_path: Path,
    file: str,
    variables: dict[str, str],
    before: tuple[str, ...],
    after: tuple[str, ...],
    expected: str,
) -> None:
    """Where it came from decides first; of two places of equal strength the command's own wins."""
    done = run(
        "--config",
        file_with(tmp_path, file),
        "--control",
        sidecar.target,
        *before,
        "status",
        *after,
        **variables,
    )

    assert done.exit_code == 0, done.output
    assert ("json" if done.stdout.startswith("{") else "text") == expected


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('contrl = "unix:/x"', "contrl is not known"),
        ('[deploy]\nreson = "x"', "[deploy] reson is not known"),
        ("[deploi]\n", "[deploi] is not known"),
        ("[deploy]\nreason = [1]", "reason is [1], expected a string"),
        ('[status]\nreason = "x"', "[status] reason is not known"),
        ("control = ", "configuration file"),
        ('timeout = "soon"', "'soon'"),
        ('[deploy]\nexpected-generation = "many"', "'many'"),
    ],
)
def test_a_mistake_in_the_file_is_a_usage_error(tmp_path: Path, text: str, says: str) -> None:
    """A misspelt key would silently not count, so it is refused, with what there is."""
    done = run(
        "--config", file_with(tmp_path, text), "deploy", MODEL, VERSION, "--environment", "prod", "--dry-run"
    )

    assert done.exit_code == 2, done.output
    assert says in done.stderr


def test_the_file_may_be_named_after_the_command(sidecar: StandInSidecar, tmp_path: Path) -> None:
    """It counts as before the command: tables before the top, the command line before both."""
    file = file_with(
        tmp_path,
        f'control = "{sidecar.target}"\nenvironment = "prod"\nreason = "top"\n[deploy]\nreason = "table"\nyes = true\n',
    )

    assert run("deploy", MODEL, VERSION, "--config", file).exit_code == 0
    assert reason_of(sidecar) == "table"
    assert run("deploy", MODEL, VERSION, "--config", file, "--reason", "line").exit_code == 0
    assert reason_of(sidecar) == "line"


def test_of_two_files_the_one_after_the_command_counts_alone(sidecar: StandInSidecar, tmp_path: Path) -> None:
    """What only the other file says is not mixed in; a command line's own options stay."""
    (tmp_path / "other.toml").write_text('output = "json"\nreason = "other"\n')
    file = file_with(tmp_path, f'control = "{sidecar.target}"\n')
    deploy = ("deploy", MODEL, VERSION, "--environment", "prod", "--yes", "--config", file)

    done = run("--config", str(tmp_path / "other.toml"), *deploy)
    asked = run("-o", "json", *deploy, MODEL_SIDECAR_CONFIG=str(tmp_path / "other.toml"))

    assert done.exit_code == 0, done.output
    assert done.stdout.startswith("deployed ")
    assert reason_of(sidecar) == ""
    assert asked.stdout.startswith("{")


def test_a_mistake_in_a_file_named_after_the_command(tmp_path: Path) -> None:
    """It is refused there too."""
    done = run("status", "--config", file_with(tmp_path, "[status]\nreson = 1"))

    assert (done.exit_code, "[status] reson is not known" in done.stderr) == (2, True)


def test_help_says_how_the_file_is_written() -> None:
    """Keys, tables and what goes before what; and no brackets around what is no usage line's."""
    program = " ".join(run("--help").output.split())

    assert 'its keys are named like the options: environment = "prod"' in program
    assert "in a table named like a command, for this command, and before the top" in program
    for name, command in main.commands.items():
        assert "--config FILE" in run(name, "--help").output
        assert not [
            option.help
            for option in command.params
            if isinstance(option, click.Option) and "[" in (option.help or "")
        ]


def test_keys_with_either_dash(sidecar: StandInSidecar, tmp_path: Path) -> None:
    """request_id is as good as request-id."""
    both = file_with(tmp_path, '[deploy]\nrequest_id = "r1"\nsource-commit = "abc"\n')
    done = run(
        *("--config", both, "--control", sidecar.target),
        *("deploy", MODEL, VERSION, "--environment", "prod", "--yes", "-o", "json"),
    )

    assert done.exit_code == 0, done.output
    record = json.loads(done.stdout)["record"]
    assert (record["request_id"], record["source_commit"]) == ("r1", "abc")


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    """It is named."""
    done = run("--config", str(tmp_path / "none.toml"), "status")

    assert done.exit_code == 2
    assert "none.toml" in done.stderr


def test_the_servers_tables_may_stand_in_the_same_file(sidecar: StandInSidecar, tmp_path: Path) -> None:
    """One file can configure both programs."""
    both = file_with(tmp_path, f'control = "{sidecar.target}"\n[serve]\nstore = "ml-models"\n')

    assert run("--config", both, "status").exit_code == 0


@pytest.mark.parametrize(
    "arguments",
    [
        ("deploy", MODEL),
        ("rollback", MODEL, "--environment", "prod", "--to", VERSION, "--to-generation", "1", "--yes"),
        ("history", MODEL, "--environment", "prod", "-n", "0"),
        ("predict", MODEL),
        ("predict", MODEL, "--input", "-", "--npz", "x.npz"),
        ("predict", MODEL, "--input", "/nowhere.json"),
        ("feedback",),
        ("feedback", "--prediction-id", "x"),
        ("feedback", "--prediction-id", "x", "--truth", "1", "--from", "-"),
        ("feedback", "--from", "/nowhere.jsonl"),
        ("--timeout", "soon", "status"),
        ("--control", "/run/sidecar.sock", "status"),
        ("nonsense",),
    ],
    ids=" ".join,
)
def test_what_makes_no_sense_is_a_usage_error(sidecar: StandInSidecar, arguments: tuple[str, ...]) -> None:
    """It is said before the sidecar is called."""
    done = run("--control", sidecar.target, *arguments)

    assert (done.exit_code, done.stdout) == (2, "")
    assert "Error: " in done.stderr
    assert sidecar.received() == []


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("{", "Expecting property name"),
        ("[1]", "found a list"),
        ('"\\ud8', "Invalid"),
        ("[" * 100_000, "recursion"),
    ],
    ids=["cut off", "no object", "no JSON", "too deep"],
)
def test_a_file_that_is_no_input(tmp_path: Path, content: str, says: str) -> None:
    """What cannot be named inputs is a usage error too."""
    (tmp_path / "x.json").write_text(content)

    done = run("predict", MODEL, "--input", str(tmp_path / "x.json"))

    assert done.exit_code == 2
    assert says in done.stderr


def test_a_file_that_is_no_npz(tmp_path: Path) -> None:
    """Neither a single array, nor pickles, nor something else is taken for named arrays."""
    np.save(tmp_path / "x.npy", np.zeros(1))
    np.savez(tmp_path / "pickles.npz", x=np.array([{}], dtype=object), allow_pickle=True)
    (tmp_path / "text.npz").write_text("no archive")

    done = [
        run("predict", MODEL, "--npz", str(each))
        for each in (*sorted(tmp_path.iterdir()), tmp_path / "none.npz")
    ]

    assert [each.exit_code for each in done] == [2, 2, 2, 2]
    assert "expected an .npz with one per input" in done[2].stderr


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("5", 5.0), ("5s", 5.0), ("0.25s", 0.25), ("500ms", 0.5), ("2m", 120.0), ("1h", 3600.0)],
)
def test_durations(text: str, seconds: float) -> None:
    """Seconds, or a number with its unit."""
    assert duration(text) == seconds


@pytest.mark.parametrize("text", ["", "s", "-1", "5 s", "1e3", "0", "0ms", "٣"])
def test_what_is_no_duration(text: str) -> None:
    """Nothing else."""
    with pytest.raises(click.BadParameter, match="expected more than 0 seconds"):
        duration(text)


def test_of_several_targets_the_first_counts() -> None:
    """`serve` takes several addresses from the variable that the two programs share."""
    assert target("unix:/run/data.sock 127.0.0.1:8001") == "unix:/run/data.sock"
    assert target("127.0.0.1:8001,unix:/run/data.sock") == "127.0.0.1:8001"
    with pytest.raises(click.BadParameter):
        target("")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, None),
        (True, True),
        (float("nan"), "NaN"),
        ([float("inf"), -float("inf"), 1.5], ["Infinity", "-Infinity", 1.5]),
        (b"text", "text"),
        (b"\xff", {"base64": "/w=="}),
        (np.array([[1, 2]]), [[1, 2]]),
        (np.array([b"a"], dtype=object), ["a"]),
        (np.float32(0.5), 0.5),
        ((1, {"a": (2,)}), [1, {"a": [2]}]),
        (datetime(2024, 1, 15, 10, 20, 30, 5, tzinfo=UTC), "2024-01-15T10:20:30.000005Z"),
    ],
    ids=repr,
)
def test_documents(value: Any, expected: Any) -> None:
    """Whatever a record or a model holds has one form in JSON, and it is JSON that every parser takes."""
    assert document(value) == expected
    assert json.loads(one_line(value), parse_constant=pytest.fail) == expected


def test_json_cannot_act_on_a_terminal() -> None:
    """Control characters and everything beyond ASCII are escaped."""
    line = one_line({"reason": "".join(map(chr, range(0x20))) + "\x7f\x9b\u202eé"})

    assert line.isascii()
    assert line.isprintable()


def test_text_cannot_act_on_a_terminal() -> None:
    """What a terminal would obey is shown instead; letters of every script stay letters."""
    assert printable("\x1b[31mé漢\n\u202e\x9b") == "\\x1b[31mé漢\\n\\u202e\\x9b"


def test_tables_are_aligned() -> None:
    """Columns begin under their heads, and an empty cell is visible."""
    assert table([["A", "LONG"], ["wide", "x"], ["", "y"]]) == ["A     LONG", "wide  x", "-     y"]
