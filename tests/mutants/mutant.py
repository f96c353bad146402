"""A bug that somebody could make here, as the change that makes it and the tests that must notice."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutant:
    """One bug.

    Attributes:
        name: what was done wrong, in a few words with dashes.
        why: what a user would lose.
        file: the source it is in, below the package `model_sidecar`.
        find: text that stands in that file exactly once.
        replace: what stands in its place once the bug is made.
        tests: node ids of the tests that must fail, below `tests/`.
    """

    name: str
    why: str
    file: str
    find: str
    replace: str
    tests: tuple[str, ...]

    def apply(self, root: Path) -> None:
        """Make the bug in the tree at `root`.

        Raises:
            ValueError: the text does not stand in the file exactly once, or the file would be no Python any more.
        """
        path = self.source(root)
        path.write_text(self.applied(path.read_text()))

    def applied(self, source: str) -> str:
        """The source with the bug in it; raises as `apply` does."""
        found = source.count(self.find)
        if found != 1:
            raise ValueError(f"{self.name}: its text stands {found} times in {self.file}: expected once")
        changed = source.replace(self.find, self.replace)
        compile(changed, self.file, "exec")
        return changed

    def source(self, root: Path) -> Path:
        """The file that it changes, in the tree at `root`."""
        return root / "sidecar/src/model_sidecar" / self.file
