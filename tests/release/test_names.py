"""The grammar of model, version and environment names."""

import datetime
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_sidecar.errors import InvalidNameError, Reason
from model_sidecar.release.names import parse_environment, parse_model, parse_version, version_order

MODEL_LETTERS = string.ascii_lowercase + string.digits + "._-"


@pytest.mark.parametrize("name", ["m", "recommendation-v1", "0", "a.b_c-d", "a" * 63, "environments2"])
def test_a_model_name_of_the_grammar_is_taken_as_it_stands(name: str) -> None:
    """A model name of the grammar comes back unchanged."""
    assert parse_model(name) == name


@pytest.mark.parametrize(
    "name",
    [
        *("", ".", "..", ".hidden", "-dash", "_under", "Upper", "a" * 64, "a/b", "a\\b", "../a", "/a", "a b"),
        *("a\n", "\na", "a\0", "a\r\n", "é", "a\u0301", "a\u0661", "\uff41", "a%2f", "a:b", "environments"),
    ],
)
def test_a_model_name_off_the_grammar_is_refused_with_the_name_quoted(name: str) -> None:
    """A model name off the grammar is refused, and the message quotes it on one line."""
    with pytest.raises(InvalidNameError) as refused:
        parse_model(name)
    assert refused.value.reason is Reason.INVALID_NAME
    assert repr(name)[:200] in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "name",
    ["2024.01.15.prod", "2024.02.29.staging", "2024.01.15.2.prod", "0001.01.01.a", "2024.12.31.999999.rc-1"],
)
def test_a_version_name_of_the_grammar_is_taken_as_it_stands(name: str) -> None:
    """A version name with a real date and a stage comes back unchanged."""
    assert parse_version(name) == name


@pytest.mark.parametrize(
    "name",
    [
        *(
            "",
            "2024.01.15",
            "2024.01.15.",
            "2024.01.15.prod\n",
            "\n2024.01.15.prod",
            "2024.01.15.prod/",
            "latest",
        ),
        *("2023.02.29.prod", "2024.13.01.prod", "2024.00.10.prod", "2024.01.32.prod", "0000.01.01.prod"),
        *(
            "2024.1.15.prod",
            "24.01.15.prod",
            "2024.01.15.0.prod",
            "2024.01.15.01.prod",
            "2024.01.15.1234567.prod",
        ),
        *(
            "2024.01.15.Prod",
            "2024.01.15.2",
            "2024.01.15.-x",
            "2024-01-15.prod",
            "2024.01.15.prod.extra",
            "v1",
        ),
        *(
            "٢٠٢٤.٠١.١٥.prod",
            "2024.01.1٥.prod",
            "２０２４.01.15.prod",
            "2024.01.15..prod",
            "../2024.01.15.prod",
        ),
        "2024.01.15." + "p" * 33,
    ],
)
def test_a_version_name_off_the_grammar_is_refused(name: str) -> None:
    """No date that the calendar lacks, no other script's digits, no newline after the end passes as a version."""
    with pytest.raises(InvalidNameError, match="version name"):
        parse_version(name)


@pytest.mark.parametrize(
    "name", ["", "Prod", "prod\n", "1prod", "-prod", "prod_1", "pröd", "a" * 33, "..", "p.d"]
)
def test_an_environment_off_the_grammar_is_refused(name: str) -> None:
    """An environment is a lower-case word of at most 32, and nothing around it."""
    with pytest.raises(InvalidNameError, match="environment name"):
        parse_environment(name)


def test_an_environment_of_the_grammar_is_taken_as_it_stands() -> None:
    """An environment name of the grammar comes back unchanged."""
    assert parse_environment("prod-eu-1") == "prod-eu-1"


@given(st.text(max_size=70))
def test_no_text_is_a_name_and_more_than_a_path_component(text: str) -> None:
    """Whatever passes as any name is one plain ASCII path component."""
    for parse in (parse_model, parse_version, parse_environment):
        try:
            name = parse(text)
        except InvalidNameError:
            continue
        assert set(name) <= set(MODEL_LETTERS)
        assert name[0] != "."


@given(
    st.dates(), st.integers(1, 999_999) | st.none(), st.from_regex(r"[a-z][a-z0-9-]{0,31}", fullmatch=True)
)
def test_every_calendar_day_makes_a_version(day: datetime.date, build: int | None, stage: str) -> None:
    """Every day of the calendar, with or without a build number, is a version's name."""
    name = f"{day.year:04}.{day.month:02}.{day.day:02}" + (f".{build}" if build else "") + f".{stage}"
    assert parse_version(name) == name


def test_versions_order_by_date_then_build_as_a_number() -> None:
    """Build 10 of a day comes after build 9, and a plain build before both."""
    names = ["2024.01.15.prod", "2024.01.15.9.prod", "2024.01.15.10.prod", "2024.01.16.prod"]
    versions = [parse_version(name) for name in names]
    assert sorted([versions[2], versions[0], versions[3], versions[1]], key=version_order) == versions
