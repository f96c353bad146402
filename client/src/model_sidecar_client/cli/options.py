"""Options: each is also an environment variable and a key of the configuration file, and some stand in two places.

Precedence: command line, environment, configuration file, default. The options of the whole program (`--control`,
`--config`, `--data`, `--timeout`, `--output`) are taken before and after the command's name; after it is nearer, and wins.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import click
from click.core import ParameterSource

from model_sidecar_client.cli.config_file import take_config_file

F = TypeVar("F", bound=Callable[..., Any])

ENVIRONMENT_PREFIX = "MODEL_SIDECAR_"
DEFAULT_CONTROL = "unix:/run/sidecar/control.sock"
DEFAULT_DATA = "unix:/run/sidecar/data.sock"

_DURATION = re.compile(r"(?P<count>[0-9]{1,9}(?:\.[0-9]{1,9})?)(?P<unit>ms|s|m|h)?", re.ASCII)
_SECONDS = {"ms": 0.001, "s": 1.0, None: 1.0, "m": 60.0, "h": 3600.0}

# The farther down, the stronger; of two places the command's own comes first.
_STRENGTH = (
    ParameterSource.DEFAULT,
    ParameterSource.DEFAULT_MAP,
    ParameterSource.ENVIRONMENT,
    ParameterSource.PROMPT,
    ParameterSource.COMMANDLINE,
)


def duration(value: Any) -> float:
    """Seconds from `5`, `5s`, `500ms`, `2m`; else a usage error."""
    match = _DURATION.fullmatch(str(value))
    seconds = float(match["count"]) * _SECONDS[match["unit"]] if match else 0.0
    if not seconds:
        raise click.BadParameter(f"{value!r}: expected more than 0 seconds, or a number with ms, s, m or h")
    return seconds


def target(value: Any) -> str:
    """Where a sidecar listens; else a usage error. Of several (as `serve` takes them from the same variable) the first."""
    from model_sidecar_client.channels import checked_target
    from model_sidecar_client.errors import InvalidRequestError

    first = [*str(value).replace(",", " ").split(), ""][0]
    try:
        return checked_target(first)
    except InvalidRequestError as error:
        raise click.BadParameter(error.message) from error


def option(*declarations: str, also_from: str | None = None, **attributes: Any) -> Callable[[F], F]:
    """A click option that is also the variable MODEL_SIDECAR_<NAME>, and `also_from` where that is not set."""
    name = next(each for each in declarations if each.startswith("--")).removeprefix("--")
    variable = ENVIRONMENT_PREFIX + name.replace("-", "_").upper()
    attributes.setdefault("envvar", [variable, also_from] if also_from else variable)
    attributes.setdefault("show_envvar", True)
    return click.option(*declarations, **attributes)


def _option_of_both(*declarations: str, before_command: bool, **attributes: Any) -> Callable[[F], F]:
    """An option of the program (with its variable), or the same once more after the command's name (without)."""
    if before_command:
        return option(*declarations, **attributes)
    return click.option(*declarations, **attributes)


def config_option(*, before_command: bool = False) -> Callable[[F], F]:
    """--config."""
    return _option_of_both(
        "--config",
        before_command=before_command,
        is_eager=True,
        expose_value=False,
        callback=take_config_file,
        metavar="FILE",
        help="TOML file of option values; `sidecarctl --help` says what stands in it.",
    )


def control_option(*, before_command: bool = False) -> Callable[[F], F]:
    """--control."""
    return _option_of_both(
        "--control",
        before_command=before_command,
        type=target,
        metavar="TARGET",
        help=f"Control socket; {DEFAULT_CONTROL} if not given.",
    )


def data_option(*, before_command: bool = False) -> Callable[[F], F]:
    """--data."""
    return _option_of_both(
        "--data",
        before_command=before_command,
        type=target,
        metavar="TARGET",
        help=f"Data socket; {DEFAULT_DATA} if not given.",
    )


def timeout_option(*, before_command: bool = False) -> Callable[[F], F]:
    """--timeout."""
    return _option_of_both(
        "--timeout",
        before_command=before_command,
        type=duration,
        metavar="DURATION",
        help="How long to wait, such as 5, 5s, 500ms or 2m; if not given, deploy and rollback wait 60s, the others 5s.",
    )


def output_option(*, before_command: bool = False) -> Callable[[F], F]:
    """-o, --output."""
    return _option_of_both(
        "-o",
        "--output",
        before_command=before_command,
        type=click.Choice(["text", "json"]),
        help="For people (text, if not given) or for programs.",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What the options of the program came to, for one command. `timeout_s` is None where nobody named one."""

    control: str
    data: str
    timeout_s: float | None
    is_json: bool


def settings() -> Settings:
    """The settings of the command that is running."""
    context = click.get_current_context()
    return Settings(
        control=_strongest(context, "control") or DEFAULT_CONTROL,
        data=_strongest(context, "data") or DEFAULT_DATA,
        timeout_s=_strongest(context, "timeout"),
        is_json=_strongest(context, "output") == "json",
    )


def _strongest(context: click.Context, name: str) -> Any:
    """The option's value from before or after the command's name, by where it came from."""
    strongest, value = -1, None
    level: click.Context | None = context
    while level:
        source = level.get_parameter_source(name)
        strength = _STRENGTH.index(source) if source else -1
        if strength > strongest:
            strongest, value = strength, level.params[name]
        level = level.parent
    return value
