"""How options are given: as a flag, as an environment variable MODEL_SIDECAR_…, or as a key of a TOML file.

A flag counts more than a variable, a variable more than the file, the file more than the default. An option that may be
given again is a list in the file; in a variable its values are separated by spaces.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from model_sidecar.cli.config_file import take_config_file
from model_sidecar.errors import SidecarError

_Command = TypeVar("_Command", bound=Callable[..., Any])

PREFIX = "MODEL_SIDECAR_"


def option(*names: str, **settings: Any) -> Callable[[_Command], _Command]:
    """A click option that its environment variable sets too: `--poll-interval` is MODEL_SIDECAR_POLL_INTERVAL."""
    long = next(name for name in names if name.startswith("--"))
    variable = PREFIX + long.split("/")[0].removeprefix("--").upper().replace("-", "_")
    settings.setdefault("show_default", settings.get("default") not in (None, (), ""))
    return click.option(*names, envvar=variable, show_envvar=True, **settings)


def config_option(command: _Command) -> _Command:
    """`--config FILE`: a TOML file whose table of the command's name holds options by their long names."""
    return click.option(
        "--config",
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        envvar=PREFIX + "CONFIG",
        show_envvar=True,
        is_eager=True,
        expose_value=False,
        callback=take_config_file,
        help="A TOML file; its table [COMMAND] holds options by name.",
    )(command)


class Parsed(click.ParamType[Any]):
    """A click type from one of our parsers; what the parser refuses becomes a usage error in its own words.

    Attributes:
        numbers: whether the configuration file may give it as a number, without quotes.
    """

    def __init__(self, name: str, parse: Callable[[str], Any], *, numbers: bool = True) -> None:
        self.name = name
        self.numbers = numbers
        self._parse = parse

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Click's call."""
        if not isinstance(value, str):
            return value
        try:
            return self._parse(value)
        except SidecarError as error:
            self.fail(str(error), param, ctx)
