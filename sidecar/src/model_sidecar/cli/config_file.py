"""The configuration file: TOML, one table per command, its keys the options' long names. It counts where nothing else does.

    [serve]
    model = ["recommendation-v1", "ranking"]     # a list, or one value, where the option may be given again
    poll-interval = "500ms"                      # poll_interval is as good
    allow-external-data = true

`sidecarctl` keeps its own keys and tables in the same file. In a command's own table everything that is unknown, and
every value that the option would refuse, is an error that names the file and the key: a misspelt key would silently not
count.
"""

from __future__ import annotations

import datetime
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

# Reading TOML takes time that grows with the square of a dotted key's length.
_MAX_BYTES = 64 << 10


def take_config_file(context: click.Context, _: click.Parameter, path: Path | None) -> None:
    """The callback of --config: make what the command's table holds the defaults of its options.

    Raises:
        click.UsageError: it is no TOML, or a key or a value in the command's table is none of its options'.
    """
    if path is None:
        return
    try:
        document = tomllib.loads(_text_of(path))
    except (OSError, ValueError) as error:
        raise click.UsageError(f"{path} cannot be read as TOML: {error}") from None
    except RecursionError:
        raise click.UsageError(f"{path} cannot be read as TOML: it is nested too deeply") from None
    command = context.info_name or ""
    table = document.get(command, {})
    if not isinstance(table, dict):
        raise click.UsageError(f"{path}: {command} is {table!r}: expected a table, [{command}]")
    context.default_map = _defaults(table, context, f"{path}: [{command}]")


def _text_of(path: Path) -> str:
    with path.open("rb") as file:
        content = file.read(_MAX_BYTES + 1)
    if len(content) > _MAX_BYTES:
        raise ValueError(f"it has more than {_MAX_BYTES} bytes")
    return content.decode()


def _defaults(table: Mapping[str, Any], context: click.Context, where: str) -> dict[str, Any]:
    options = _options(context.command)
    unknown = sorted(key for key in table if key.replace("_", "-") not in options)
    if unknown:
        raise click.UsageError(
            f"{where} has no option {', '.join(unknown)}: expected some of {', '.join(sorted(options))}"
        )
    defaults: dict[str, Any] = {}
    for key, value in table.items():
        option = options[key.replace("_", "-")]
        if option.name in defaults:
            raise click.UsageError(f"{where} holds {key} twice, once with '-' and once with '_'")
        given = _as_typed(option, value, f"{where} {key}")
        try:
            # Now, for later the command line would be blamed for it.
            option.process_value(context, given)
        except click.BadParameter as error:
            raise click.UsageError(f"{where} {key}: {error.message or error.format_message()}") from None
        defaults[str(option.name)] = given
    return defaults


def _options(command: click.Command) -> dict[str, click.Option]:
    """The options by their keys in the file."""
    return {
        long.removeprefix("--"): option
        for option in command.params
        if isinstance(option, click.Option) and option.expose_value
        for long in option.opts
        if long.startswith("--")
    }


def _as_typed(option: click.Option, value: object, where: str) -> bool | str | list[str]:
    """The value as somebody would type it, for the option's own parser to take or refuse."""
    if option.is_flag:
        if not isinstance(value, bool):
            raise click.UsageError(f"{where} is {value!r}: expected true or false")
        return value
    if option.multiple:
        return [_text(each, option, where) for each in (value if isinstance(value, list) else [value])]
    return _text(value, option, where)


def _text(value: object, option: click.Option, where: str) -> str:
    if isinstance(value, datetime.date):  # a datetime is one too
        return value.isoformat()
    # What looks like a number may be none: TOML reads 0o660 as 432, which is another file mode.
    numbers = getattr(option.type, "numbers", True)
    if isinstance(value, str) or (numbers and isinstance(value, int | float) and not isinstance(value, bool)):
        return str(value)
    expected = "text in quotes" + (" or a number" if numbers else "")
    several = ", or a list of such" if option.multiple else ""
    raise click.UsageError(f"{where} is {value!r}: expected {expected}{several}")
