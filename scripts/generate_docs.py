"""Fill the generated tables of README.md, or with --check show that they are true.

The table of settings is made from the very options of `model-sidecar serve`, so it cannot tell of another command.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import click

from model_sidecar.cli.serve import command

README = Path(__file__).resolve().parent.parent / "README.md"
BEGIN, END = "<!-- settings: begin -->", "<!-- settings: end -->"


def settings() -> str:
    """One row per option: flag, variable, default, what it does."""
    rows = ["| option | variable | default | what it does |", "|---|---|---|---|"]
    for option in command.params:
        if not isinstance(option, click.Option):
            continue
        variable = option.envvar if isinstance(option.envvar, str) else ""
        flags = " / ".join([*option.opts, *option.secondary_opts])
        rows.append(f"| `{flags}` | `{variable}` | {_default(option)} | {option.help or ''} |")
    return "\n".join(rows)


def _default(option: click.Option) -> str:
    if option.required:
        return "required"
    default = option.to_info_dict()["default"]
    if option.is_flag:
        return "on" if default is True else "off"
    return f"`{default}`" if isinstance(default, str | int | float) and default != "" else ""


def main() -> None:
    """Write the file, or compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; fail where a table is stale")
    check = parser.parse_args().check
    text = README.read_text()
    before, rest = text.split(BEGIN)
    _, after = rest.split(END)
    made = f"{before}{BEGIN}\n{settings()}\n{END}{after}"
    if made == text:
        return
    if check:
        sys.exit("README.md: the table of settings is stale; run `make docs` and commit the result")
    README.write_text(made)


if __name__ == "__main__":
    main()
