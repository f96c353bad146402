from __future__ import annotations

import io

import numpy as np

from model_sidecar.demo.drawing import draw
from model_sidecar.demo.paper import Ink, Paper, milliseconds, percent
from model_sidecar.demo.timeline import Move, Refusal, accuracy, count, late, seen
from model_sidecar.demo.traffic import Answer

OLD, NEW = "2024.01.10.prod", "2024.01.15.prod"
LABELS = np.array([0, 1, 2, 3], np.int64)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def answer(at: float, version: str, *, right: bool = True, asked_at: float | None = None) -> Answer:
    label = 1 if right else 7
    return Answer(
        at - 0.001 if asked_at is None else asked_at, at, 1, version, label, np.zeros(10, np.float32)
    )


def move(version: str, *, called_at: float, acknowledged_at: float, action: str = "DEPLOY") -> Move:
    return Move(
        action=action,
        version=version,
        previous="",
        generation=1,
        called_at=called_at,
        acknowledged_at=acknowledged_at,
        took_ms=1000 * (acknowledged_at - called_at),
    )


def drawn(*, blocks: bool) -> list[str]:
    out = io.StringIO()
    paper = Paper(out, colour=False, blocks=blocks)
    paper.began = 100.0
    early = [answer(102 + at / 100, OLD, right=at % 4 > 0) for at in range(400)]
    later = [answer(106 + at / 100, NEW) for at in range(400)]
    draw(
        paper,
        early + later,
        [move(OLD, called_at=101, acknowledged_at=101.5), move(NEW, called_at=105.9, acknowledged_at=106)],
        LABELS,
        refusal=Refusal(104.0, "DIGEST_MISMATCH"),
    )
    return out.getvalue().splitlines()


def test_the_picture_shows_who_answered_when_and_how_well() -> None:
    """A row per version, marks where something was done, and the share of right answers of each reign."""
    clock, marks, old, new, right, shares = drawn(blocks=True)

    assert clock == " " * 21 + "2.0 s" + "10.0 s".rjust(74)
    assert marks.split() == ["|refused", "|deploy"]
    assert marks.index("|deploy") - marks.index("|refused") in (19, 20)
    assert old.split() == [OLD, old.split()[1]]
    assert old.split()[1].startswith("█")
    assert len(old) in (60, 61)
    assert new.startswith(f"    {NEW}" + " " * 40)
    assert len(new) == 100
    assert right.endswith("█" * 39)
    assert shares.split() == ["75", "%", "100", "%"]
    assert shares.index("100 %") == marks.index("|deploy")


def test_where_utf8_is_not_spoken_the_picture_is_ascii() -> None:
    """The same picture without block characters."""
    assert all(line.isascii() for line in drawn(blocks=False))
    assert [len(line) for line in drawn(blocks=False)] == [len(line) for line in drawn(blocks=True)]


def test_where_utf8_is_not_spoken_no_line_fails() -> None:
    """What ASCII cannot say is written with something else."""
    out = io.TextIOWrapper(io.BytesIO(), encoding="ascii")

    Paper.on(out, {}).line("sha256:060c8e5a3889… of Müller")

    out.seek(0)
    assert out.read() == "sha256:060c8e5a3889... of M?ller\n"


def test_an_old_answer_to_a_question_asked_after_the_flip_is_late() -> None:
    """What was asked before the acknowledgement may be answered by either version; what was asked after, only by one."""
    moves = [move(NEW, called_at=1.0, acknowledged_at=2.0, action="ROLLBACK")]
    in_flight = answer(2.5, OLD, asked_at=1.9)
    too_late = answer(2.5, OLD, asked_at=2.1)

    assert late(moves, [in_flight, answer(2.6, NEW, asked_at=2.2)]) == []
    assert late(moves, [in_flight, too_late]) == [too_late]


def test_a_flip_is_measured_from_the_call_to_the_first_answer() -> None:
    """The longest silence is that of all answers around the flip, whoever gave them."""
    flip = move(NEW, called_at=10.0, acknowledged_at=10.030)
    answers = [answer(at, OLD) for at in (9.8, 9.99, 10.01, 10.02)]
    answers += [answer(at, NEW) for at in (10.045, 10.05, 10.06)]

    what = seen(flip, answers)

    assert what is not None
    assert round(what.first_answer_s, 6) == 0.045
    assert round(what.silence_s, 6) == 0.025
    assert seen(flip, answers[4:]) is None


def test_accuracy_is_counted_per_version() -> None:
    """The table has what each version promised beside what it did; one that promised nothing shows a gap."""
    out = io.StringIO()
    answers = [answer(1, OLD), answer(2, OLD, right=False), answer(3, NEW)]

    count(Paper(out, colour=False, blocks=True), answers, LABELS, {OLD: 0.933})

    _, old, new = out.getvalue().splitlines()
    assert old.split() == [OLD, "2", "50.0", "%", "93.3", "%"]
    assert new.split() == [NEW, "1", "100.0", "%"]
    assert accuracy(answers, LABELS) == 2 / 3


def test_colour_is_for_terminals_that_want_it() -> None:
    """A pipe, NO_COLOR and a dumb terminal get plain text."""
    wanted = Paper.on(Terminal(), {"TERM": "xterm"})
    for paper in (
        Paper.on(io.StringIO(), {"TERM": "xterm"}),
        Paper.on(Terminal(), {"TERM": "xterm", "NO_COLOR": "1"}),
        Paper.on(Terminal(), {"TERM": "dumb"}),
    ):
        assert paper.ink("text", Ink.GOOD) == "text"
    assert wanted.ink("text", Ink.GOOD) == "\x1b[32mtext\x1b[0m"


def test_lines_keep_to_a_hundred_columns() -> None:
    """Paragraphs, moments and long commands are broken; a command is broken before an option."""
    out = io.StringIO()
    paper = Paper(out, colour=False, blocks=True)
    paper.text("word " * 60)
    paper.moment("word " * 60)
    paper.command("model-sidecar serve " + " ".join(f"--option-{at} /some/long/path/{at}" for at in range(9)))
    paper.command("sidecarctl history digits", "who did what and why")

    lines = out.getvalue().splitlines()
    assert max(len(line) for line in lines) <= 100
    broken = [line for line in lines if line.endswith("\\")]
    assert broken
    assert all(line.strip().startswith(("model-sidecar", "--option-")) for line in broken)
    assert lines[-1] == "    sidecarctl history digits   # who did what and why"


def test_numbers_read_well() -> None:
    """Shares have one decimal, milliseconds as many as they deserve."""
    assert percent(0.95598) == "95.6 %"
    assert milliseconds(0.00512) == "5.1 ms"
    assert milliseconds(0.0312) == "31 ms"
