"""The documents are true: what they list is what there is."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from model_sidecar.errors import Reason, SidecarError
from model_sidecar.rpc.status import code_of

ROOT = Path(__file__).parents[2]


def subclasses(kind: type[SidecarError]) -> list[type[SidecarError]]:
    return [kind, *(each for child in kind.__subclasses__() for each in subclasses(child))]


def test_the_contract_lists_every_reason_with_its_code() -> None:
    """docs/contract.md names exactly the reasons of `errors.Reason`, each with the code that a caller sees."""
    table = re.findall(
        r"^\| `([A-Z_]+)` \| ([A-Z_]+) \|", (ROOT / "docs/contract.md").read_text(), re.MULTILINE
    )

    assert {reason for reason, _ in table} == {reason.value for reason in Reason}
    codes = dict(table)
    for kind in subclasses(SidecarError):
        if kind.__name__ != "OverloadedError":
            assert codes[kind.default_reason] == code_of(kind("")).name, kind


def test_the_table_of_settings_is_fresh() -> None:
    """README.md shows every option of `serve`, made from the options themselves."""
    done = subprocess.run(
        [sys.executable, str(ROOT / "scripts/generate_docs.py"), "--check"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_every_link_between_documents_leads_somewhere() -> None:
    """Relative links in Markdown files name files that exist."""
    for document in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]:
        for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", document.read_text()):
            if "://" not in target:
                assert (document.parent / target).exists(), f"{document.name} links to {target}"
