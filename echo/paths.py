"""Where names lead that come out of files, which somebody else may have written."""

from functools import lru_cache
from pathlib import Path


def is_file_name(name: object) -> bool:
    """Whether this is a name that stays in its folder: no path, and nothing that a shell, a
    terminal or another file system takes for more than a name."""
    return (
        isinstance(name, str)
        and name.isprintable()
        and 0 < len(name.encode(errors="replace")) <= 255
        and not name.startswith((".", "~"))
        and not any(character in name for character in '/\\:*?"<>|')
    )


def lies_in(path: Path, roots: tuple[Path, ...]) -> bool:
    """Whether a path stays below one of several folders, once all links are followed.

    Args:
        roots: resolved; so a folder that is a link itself is as good as what it links to.
    """
    return leads_into(path.resolve().parent if path.is_symlink() else path.parent, roots)


@lru_cache(maxsize=4096)  # to resolve takes as long as all else about a line of a manifest
def leads_into(folder: Path, roots: tuple[Path, ...]) -> bool:
    real = folder.resolve()
    return any(real.is_relative_to(root) for root in roots)
