"""Lists the project's own files, without what tools, runs and virtual environments leave beside them."""

from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
LEFT_BEHIND = {"__pycache__", "studio_home"}
OWN_HIDDEN = {".github", ".ci", ".gitignore"}


def project_files(folder: Path = ROOT) -> Iterator[Path]:
    """Every file of the project in a stable order, folders first; absolute paths."""
    for path in sorted(folder.iterdir(), key=lambda path: (path.is_file(), path.name)):
        if path.name in LEFT_BEHIND or (path.name.startswith(".") and path.name not in OWN_HIDDEN):
            continue
        if path.is_file():
            yield path
        elif not (path / "pyvenv.cfg").exists():
            yield from project_files(path)


def python_files() -> list[Path]:
    """The project's Python files."""
    return [path for path in project_files() if path.suffix == ".py"]
