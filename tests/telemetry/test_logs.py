"""Lines that machines and people read, and a reader who stalls."""

from __future__ import annotations

import json
import logging
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from support.served import SITE, A, Bench, StillModel

from model_sidecar.errors import Reason
from model_sidecar.events import Committed, Draining, Event, Refused, StoreRead, StoreUnreadable
from model_sidecar.telemetry.event_log import EventLog
from model_sidecar.telemetry.lines import JsonLines, TextLines
from model_sidecar.telemetry.logs import LogFormat, Logs, start_logs

HOSTILE = 'precision\n{"level":"info","message":"all is well"}\x1b[2J\x9b\u2028\u202egpj.exe\udc80 caf\u00e9'


@pytest.fixture
def log() -> Iterator[logging.Logger]:
    """A logger of this test's own."""
    made = logging.Logger("tests.telemetry")  # noqa: LOG001 - out of reach of pytest, which shows what it sees
    made.propagate = False
    yield made
    for handler in list(made.handlers):
        if isinstance(handler, Logs):
            made.removeHandler(handler)
            handler.stop()


def written(read_end: int, write_end: int, logs: Logs) -> list[str]:
    """Every line, once the writer is done."""
    logs.stop()
    os.close(write_end)
    with os.fdopen(read_end, encoding="utf-8", newline="") as pipe:
        return pipe.read().split("\n")[:-1]


def test_a_json_line_has_the_documented_keys(log: logging.Logger) -> None:
    """Time in UTC with microseconds, level, event, message, logger, and the facts given with it."""
    read_end, write_end = os.pipe()
    logs = Logs(write_end, JsonLines())
    log.addHandler(logs)
    log.warning(
        "generation %d", 17, extra={"event": "committed", "generation": 17, "version": A, "standby": None}
    )

    [line] = written(read_end, write_end, logs)
    document = json.loads(line)
    timestamp = document.pop("timestamp")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", timestamp)
    assert abs((datetime.fromisoformat(timestamp) - datetime.now(UTC)).total_seconds()) < 60
    assert document == {
        "level": "warning",
        "event": "committed",
        "message": "generation 17",
        "logger": "tests.telemetry",
        "generation": 17,
        "version": A,
    }


@pytest.mark.parametrize("formatter", [JsonLines(), TextLines(colour=False)], ids=["json", "text"])
def test_no_text_can_forge_a_line_or_steer_a_terminal(
    log: logging.Logger, formatter: logging.Formatter
) -> None:
    """Line ends, escape sequences and marks that turn text are written as escapes, and the rest as it is."""
    read_end, write_end = os.pipe()
    logs = Logs(write_end, formatter)
    log.addHandler(logs)
    log.info("rolled back: %s", HOSTILE, extra={"reason": HOSTILE, "actor": "x\ny"})

    [line] = written(read_end, write_end, logs)
    assert not re.search("[\x00-\x1f\x7f-\x9f\u2028\u202e]", line)
    assert "caf\u00e9" in line
    assert "\\u202e" in line
    if isinstance(formatter, JsonLines):
        assert json.loads(line)["reason"].startswith('precision\n{"level"')


def test_an_exception_is_one_json_line(log: logging.Logger) -> None:
    """A traceback stays in its record."""
    read_end, write_end = os.pipe()
    logs = Logs(write_end, JsonLines())
    log.addHandler(logs)
    try:
        raise ValueError("broken")
    except ValueError:
        log.exception("it failed")

    [line] = written(read_end, write_end, logs)
    assert "ValueError: broken" in json.loads(line)["exception"]


def test_facts_that_json_has_no_word_for_are_still_json(log: logging.Logger) -> None:
    """Infinities, paths and errors become text, never an invalid line."""
    read_end, write_end = os.pipe()
    logs = Logs(write_end, JsonLines())
    log.addHandler(logs)
    log.info("odd", extra={"a": float("inf"), "b": Path("/x"), "c": ValueError("no"), "d": Reason.INTERNAL})

    [line] = written(read_end, write_end, logs)
    document = json.loads(line, parse_constant=pytest.fail)
    assert [document[key] for key in "abcd"] == ["inf", "/x", "no", "INTERNAL"]


def test_a_record_that_cannot_be_formatted_fails_nobody(log: logging.Logger) -> None:
    """A wrong log call is named by its place, and the next line comes through."""
    read_end, write_end = os.pipe()
    logs = Logs(write_end, JsonLines())
    log.addHandler(logs)
    log.info("%d", "no number")
    log.info("next")

    first, second = written(read_end, write_end, logs)
    assert "could not be formatted" in json.loads(first)["message"]
    assert json.loads(second)["message"] == "next"


def test_a_reader_who_stalls_holds_up_nobody(log: logging.Logger) -> None:
    """Logging into a full pipe returns at once; what found no room is counted, and said when the reader is back."""
    read_end, write_end = os.pipe()
    logs = Logs(write_end, JsonLines(), room=10)
    log.addHandler(logs)
    over = threading.Event()

    def talk() -> None:
        for number in range(5000):
            log.info("line %d %s", number, "x" * 200)
        over.set()

    threading.Thread(target=talk, daemon=True).start()
    assert over.wait(30), "logging waited for the reader"

    lines: list[dict[str, Any]] = []
    with os.fdopen(read_end, encoding="utf-8") as pipe:
        reader = threading.Thread(target=lambda: lines.extend(json.loads(line) for line in pipe), daemon=True)
        reader.start()
        logs.stop(timeout_s=10)
        os.close(write_end)
        reader.join(10)
    reports = [line["dropped"] for line in lines if "dropped" in line]
    assert reports
    assert len(lines) - len(reports) + sum(reports) == 5000


def test_a_process_whose_log_nobody_reads_still_ends(tmp_path: Path) -> None:
    """A full pipe on standard error keeps neither the program nor its end."""
    program = (
        "import logging\n"
        "from model_sidecar.telemetry.logs import start_logs\n"
        "logs = start_logs()\n"
        "for number in range(3000): logging.getLogger('x').info('line %d %s', number, 'x' * 100)\n"
        "logs.stop(timeout_s=0.2)\n"
        "print('done', flush=True)\n"
    )
    read_end, write_end = os.pipe()
    try:
        done = subprocess.run(
            [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=write_end, timeout=60, check=True
        )
    finally:
        os.close(write_end)
        os.close(read_end)
    assert done.stdout == b"done\n"


def test_a_reader_who_is_gone_is_no_error(log: logging.Logger) -> None:
    """Writing into a closed pipe is given up in silence."""
    read_end, write_end = os.pipe()
    os.close(read_end)
    logs = Logs(write_end, JsonLines())
    log.addHandler(logs)
    log.info("nobody hears this")
    logs.stop()
    os.close(write_end)


def test_text_for_people_has_no_colour_in_a_file(tmp_path: Path) -> None:
    """Text that is asked for in a pipe or file comes without escapes; without being asked, JSON comes."""
    before = logging.getLogger().level
    try:
        for wanted, begins in (
            (LogFormat.TEXT, r"\d\d:\d\d:\d\d\.\d{3}Z WARNING hello a=1"),
            (LogFormat.AUTO, r"\{"),
        ):
            file = tmp_path / wanted
            with file.open("w") as stream:
                logs = start_logs(stream=stream, format=wanted)
                logging.getLogger("x").warning("hello", extra={"a": 1})
                logs.stop()
            assert re.match(begins, file.read_text("utf-8"))
    finally:
        logging.getLogger().setLevel(before)


def test_a_terminal_gets_text(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a terminal lines are words, in colour unless NO_COLOR is set."""
    before = logging.getLogger().level
    try:
        for no_colour, expected in (("", True), ("1", False)):
            monkeypatch.setenv("NO_COLOR", no_colour)
            near, far = os.openpty()
            with os.fdopen(far, "w") as stream:
                logs = start_logs(stream=stream)
                logging.getLogger("x").error("hello")
                logs.stop()
                seen = os.read(near, 4096).decode()
            os.close(near)
            assert ("\x1b[31m" in seen) is expected
            assert "ERROR   hello" in seen
    finally:
        logging.getLogger().setLevel(before)


Told = Callable[[Event], list[logging.LogRecord]]


@pytest.fixture
def told(caplog: pytest.LogCaptureFixture) -> Told:
    """What the event log writes of an event."""
    caplog.set_level(logging.INFO)
    event_log = EventLog()

    def tell(event: Event) -> list[logging.LogRecord]:
        caplog.clear()
        event_log.on_event(event)
        return list(caplog.records)

    return tell


def test_a_deployment_is_logged_with_who_and_why(told: Told, tmp_path: Path) -> None:
    """A committed record's line carries site, version, generation, action, actor and reason as facts of their own."""
    [record] = told(Committed(SITE, 17, A, "ROLLBACK", "operator", "uid:1000", "precision alert"))
    document = json.loads(JsonLines().format(record))
    expected = {
        "event": "committed",
        "level": "info",
        "model": SITE.model,
        "environment": SITE.environment,
        "version": A,
        "generation": 17,
        "action": "ROLLBACK",
        "trigger": "operator",
        "actor": "uid:1000",
        "reason": "precision alert",
    }
    assert expected.items() <= document.items()

    [record] = told(Bench(tmp_path).publish(StillModel(A), generation=17))
    document = json.loads(JsonLines().format(record))
    assert (document["event"], document["version"], document["generation"]) == ("published", A, 17)
    assert document["duration_ms"] == 4.0


def test_a_refusal_is_logged_with_its_reason(told: Told) -> None:
    """A version that failed verification is an error with its reason as a word."""
    [record] = told(Refused(SITE, A, Reason.DIGEST_MISMATCH, "model.onnx is other bytes", verification=True))

    document = json.loads(JsonLines().format(record))
    assert (document["level"], document["reason"], document["version"]) == ("error", "DIGEST_MISMATCH", A)
    assert "model.onnx is other bytes" in document["message"]


def test_an_unreadable_store_is_said_once(told: Told) -> None:
    """The log says when the store goes and when it comes back, not at every poll between."""
    assert told(StoreRead(SITE, datetime.now(UTC), 1)) == []
    [lost] = told(StoreUnreadable(SITE, "EIO"))
    assert lost.levelno == logging.ERROR
    assert told(StoreUnreadable(SITE, "EIO")) == []
    [back] = told(StoreRead(SITE, datetime.now(UTC), 1))
    assert "can be read again" in back.getMessage()
    assert told(StoreRead(SITE, datetime.now(UTC), 1)) == []
    assert len(told(StoreUnreadable(SITE, "EIO"))) == 1


def test_an_event_that_cannot_be_logged_raises_nothing(told: Told) -> None:
    """A listener runs on the thread that did the work, which must not suffer from it."""
    [record] = told(Draining(site=None))  # type: ignore[arg-type]  # exactly what must not matter
    assert "could not log Draining" in record.getMessage()
