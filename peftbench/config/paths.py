"""Where conf/ and sweeps/ are: inside the package in a wheel, beside it in a checkout."""

from collections.abc import Sequence
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent.parent


def _folder(name: str) -> Path:
    for candidate in (PACKAGE / name, PACKAGE.parent / name):
        if candidate.is_dir():
            return candidate
    raise FileNotFoundError(f"{name}/ is neither in {PACKAGE} nor beside it: the installation is broken")


CONF = _folder("conf")


def published() -> Path | None:
    """The folder of the results that come with the project; None where it isn't there."""
    folders = (PACKAGE / "published", PACKAGE.parent / "results" / "published")
    return next((folder for folder in folders if folder.is_dir()), None)


#: The folder of what models share, which nobody chooses from.
SHARED = "architecture"
#: The folder of published figures (a CSV file a paper), which experiments are made from.
CLAIMS = "claims"


def choice_files(group: str, config_dirs: Sequence[Path] = ()) -> dict[str, Path]:
    """The choices that `<group>=` accepts: name -> file, for the files of conf/<group> (sub-folders included) and of
    the same folder in each of `config_dirs`."""
    folders = [root / group for root in (CONF, *config_dirs)]
    return {
        str(file.relative_to(folder).with_suffix("")): file
        for folder in folders
        for file in sorted(folder.rglob("*.yaml"))
    }


def shown(path: Path) -> str:
    """A path in a message: from the folder of the shell, if it lies below."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


def choices(group: str, config_dirs: Sequence[Path] = ()) -> list[str]:
    """The names that `<group>=` accepts, sorted."""
    return sorted(choice_files(group, config_dirs))


def groups() -> list[str]:
    """The config groups a user chooses from."""
    return sorted(folder.name for folder in CONF.iterdir() if folder.is_dir() and folder.name not in (SHARED, CLAIMS))


#: Groups whose names have no plural.
_NOT_COUNTED = ("forgetting", "hardware", "hosted")


def plural(group: str) -> str:
    """A group as `peftbench list` names it."""
    return group if group in _NOT_COUNTED else f"{group}s"


#: Beside the groups, what `peftbench list` takes.
KEYS = "keys"


def listable() -> list[str]:
    """The words that `peftbench list` takes: the groups in the plural, and `keys`."""
    return [*map(plural, groups()), KEYS]
