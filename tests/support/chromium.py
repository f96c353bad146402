"""A real browser without a screen: what a page looks like, what it says, and what it wanted from elsewhere."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

CHROMIUM = shutil.which("chromium")
_QUIET = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
)


def browsed(url: str, profile: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """What the browser prints of this page; `profile` is a directory that is not there yet."""
    assert CHROMIUM is not None
    return subprocess.run(
        [CHROMIUM, *_QUIET, f"--user-data-dir={profile}", *options, url],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )


def photographed(
    url: str, picture: Path, profile: Path, *, size: str = "1280,1600", dark: bool = False
) -> None:
    """Take a picture of the page, in PNG."""
    look = ("--blink-settings=preferredColorScheme=0",) if dark else ()
    browsed(url, profile, f"--screenshot={picture}", f"--window-size={size}", *look)


def displayed(url: str, profile: Path) -> str:
    """The page's document as the browser has it after everything was loaded."""
    return browsed(url, profile, "--dump-dom").stdout
