"""Reads records' files, whoever wrote them, and says which of them can be believed."""

import contextlib
import os
from pathlib import Path

from peftbench.config.identity import described_identity
from peftbench.results import names, records
from peftbench.results.records import RecordError, RunRecord
from peftbench.system import files, fingerprint
from peftbench.system.fingerprint import Stamp

#: Bytes that a record's file may have: a thousand times what the longest of ours have.
LARGEST = 16 << 20


def home(file: Path) -> Path | None:
    """The file that records the completed run whose record should be `file`; None: the run isn't recorded.

    A record is believed if its own key, its file's name, and its configuration with the fingerprints of its inputs all
    say the same.
    """
    for name in names.completed(file):
        record = read(name)
        if isinstance(record, RunRecord) and record.status == "completed":
            if doubt(name, record, key_of(record)) is None:
                return name
        elif not os.path.lexists(name):
            return None
    return None


def doubt(file: Path | str, record: RunRecord, run: str) -> str | None:
    """The reason why a completed run's record isn't believed to be that of run `run`; None: it is believed.

    Args:
        run: the key that the record should have (`key_of`).
    """
    if record.key != names.key_in(file):
        return f"its file's name is another run's, its key is {record.key}"
    if record.key != run:
        return "its key isn't that of its configuration, data and model"
    return None


def json_files(folder: Path) -> list[Path]:
    """Every file in a folder, at any depth, that is named as a record, in a fixed order."""
    return [Path(path) for path, _ in of_records(listed(folder))]


#: The paths of files, and their stamps; None: it can't be asked for.
Listed = list[tuple[str, Stamp | None]]


def listed(folder: Path) -> Listed:
    """Every file in a folder, at any depth, in a fixed order."""
    folders, files = [os.fspath(folder)], []
    while folders:
        with contextlib.suppress(OSError), os.scandir(folders.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    folders.append(entry.path)
                else:
                    files.append((entry.path, _stamp(entry)))
    return sorted(files, key=lambda file: file[0].replace(os.sep, "\0"))  # By folder, then by name.


def _stamp(entry: "os.DirEntry[str]") -> Stamp | None:
    try:
        return fingerprint.stamp_of(entry.stat())
    except (OSError, ValueError):
        return None


def of_records(files: Listed) -> Listed:
    """The files that are named as records."""
    return [file for file in files if file[0].endswith(".json") and not os.path.basename(file[0]).startswith(".")]


def read(file: Path) -> RunRecord | RecordError:
    """The record in a file, or the reason why it can't be read."""
    try:
        return records.decode(files.read_plain(file, most=LARGEST))
    except RecordError as error:
        return error
    except OSError as error:
        return RecordError(f"can't be read ({error.strerror or type(error).__name__})")


def key_of(record: RunRecord) -> str:
    """The key that follows from a completed run's record: from its configuration, the fingerprints of data, model and
    inputs, and its own protocol. A record that was altered has another one in `key`."""
    environment = record.environment
    asked = environment.get("questions") or {
        name: answers["data_fingerprint"] for name, answers in (record.forgetting or {}).items()
    }
    inputs = {
        **(environment.get("inputs") or {}),
        **{f"forgetting.{name}": questions for name, questions in asked.items()},
    }
    decides = {
        "data": environment.get("data_fingerprint"),
        "model": environment.get("model_fingerprint"),
        "protocol": record.protocol,
        **({"inputs": inputs} if inputs else {}),
    }
    texts = {name: fingerprint.text(value) for name, value in decides.items()}
    config = described_identity(record.config)
    return fingerprint.of_text(fingerprint.object_text({"config": config, **texts}))[:20]
