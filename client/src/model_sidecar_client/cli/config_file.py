"""The configuration file: TOML, its keys the options' names. What it says counts where nothing else does.

    control = "unix:/run/sidecar/control.sock"   # at the top: for the program, and for every command with this option
    environment = "prod"

    [deploy]                                     # a table per command goes before the top
    timeout = "2m"

Of two files, one named before and one after the command, the latter counts alone. `model-sidecar` may keep its own
tables ([serve], …) in the same file. Everything else that is unknown is an error, for a misspelt key would silently not
count.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

_OF_THE_SERVER = frozenset({"serve", "publish", "verify", "store-check", "demo", "probe"})
# Reading TOML takes time that grows with the square of a dotted key's length.
_MAX_BYTES = 64 << 10
_NOT_FOR_FILES = frozenset({"config", "help"})


def take_config_file(context: click.Context, _param: click.Parameter, path: str | None) -> None:
    """The callback of --config, before or after the command: make the file's values the defaults of all options."""
    if path is None:
        return
    try:
        document = tomllib.loads(_text_of(Path(path)))
    except (OSError, ValueError) as error:
        raise click.UsageError(f"configuration file {path}: {error}") from error
    except RecursionError:
        raise click.UsageError(f"configuration file {path}: it is nested too deeply") from None
    program = context.find_root()
    defaults = _defaults(document, program.command, path)
    if context is program:
        context.default_map = defaults
        return
    # The program's options have been read by now: what an earlier file gave them no longer counts.
    for name in program.params:
        if program.get_parameter_source(name) is ParameterSource.DEFAULT_MAP:
            program.set_parameter_source(name, ParameterSource.DEFAULT)
            program.params[name] = None
    inherited = {name: value for name, value in defaults.items() if not isinstance(value, dict)}
    context.default_map = inherited | defaults.get(str(context.command.name), {})


def _text_of(path: Path) -> str:
    with path.open("rb") as file:
        content = file.read(_MAX_BYTES + 1)
    if len(content) > _MAX_BYTES:
        raise ValueError(f"it has more than {_MAX_BYTES} bytes")
    return content.decode()


def _defaults(document: dict[str, Any], program: click.Command, path: str) -> dict[str, Any]:
    assert isinstance(program, click.Group)
    top = _hyphenated({key: value for key, value in document.items() if not isinstance(value, dict)})
    tables = {key: _hyphenated(value) for key, value in document.items() if isinstance(value, dict)}
    defaults: dict[str, Any] = {}
    known: set[str] = set()
    for name, command in program.commands.items():
        table = tables.pop(name, {})
        options = _options(command)
        for key, value in table.items():
            if key not in options:
                raise _unknown(path, f"[{name}] {key}", options)
            defaults.setdefault(name, {})[options[key]] = _scalar(path, key, value)
        for key, value in top.items():
            # What the program has too is inherited from there.
            if key in options and key not in _options(program):
                defaults.setdefault(name, {}).setdefault(options[key], _scalar(path, key, value))
        known.update(options)
    for key, value in top.items():
        if key in _options(program):
            defaults[_options(program)[key]] = _scalar(path, key, value)
        elif key not in known:
            raise _unknown(path, key, [*_options(program), *known])
    for name in tables:
        if name not in _OF_THE_SERVER:
            raise _unknown(path, f"[{name}]", program.commands)
    return defaults


def _options(command: click.Command) -> dict[str, str]:
    """Key in the file (the long option's name) to the name that click gives its value."""
    return {
        long.removeprefix("--"): str(param.name)
        for param in command.params
        if isinstance(param, click.Option) and param.expose_value
        for long in param.opts
        if long.startswith("--") and long.removeprefix("--") not in _NOT_FOR_FILES
    }


def _hyphenated(table: dict[str, Any]) -> dict[str, Any]:
    """Keys as the options spell them: request_id is as good as request-id."""
    return {key.replace("_", "-"): value for key, value in table.items()}


def _scalar(path: str, key: str, value: object) -> object:
    if not isinstance(value, str | int | float | bool):
        raise click.UsageError(
            f"configuration file {path}: {key} is {value!r}, expected a string, number or boolean"
        )
    return value


def _unknown(path: str, what: str, expected: Any) -> click.UsageError:
    return click.UsageError(
        f"configuration file {path}: {what} is not known, expected one of {', '.join(sorted(expected))}"
    )
