"""Where the questions lie that show what tuning made a model forget, and what can be known of them before training."""

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from peftbench.config.forgetting import BenchmarkConfig
from peftbench.config.lm_eval_tasks import INSTALL
from peftbench.config.types import RunConfig
from peftbench.data import hub_files, sources
from peftbench.errors import ConfigError, NotApplicable, first_line, nearest
from peftbench.system import fingerprint
from peftbench.system.fetching import HubError

#: Of a benchmark whose parts are one set, what the files are kept under.
_WHOLE = ""


@dataclass(frozen=True)
class Questions:
    """A benchmark's Parquet files by part (`""`: all parts in one set) and split, a hash of them, and of each by
    itself."""

    files: dict[str, dict[str, list[str]]]
    fingerprint: str
    checksums: dict[str, str] = field(default_factory=dict)

    def rows(self, benchmark: BenchmarkConfig, part: str, split: str) -> pa.Table:
        """A part's rows of a split, in the order of its files."""
        files = self.files.get(_WHOLE, self.files.get(part, {}))[split]
        for file in files:
            sources.check_unchanged(file, self.checksums)
        table = pa.concat_tables(
            [pq.read_table(file, columns=_columns(benchmark), memory_map=False, partitioning=None) for file in files]
        )
        return table if benchmark.column is None else table.filter(pc.equal(table.column(benchmark.column), part))


def locate(config: RunConfig) -> dict[str, Questions]:
    """Find the questions of every benchmark that a run asks, and read them once.

    Raises:
        ConfigError: lm-eval isn't installed, or the data aren't there or aren't right.
    """
    if not config.forgetting:
        return {}
    if importlib.util.find_spec("lm_eval") is None:
        names = ", ".join(config.forgetting)
        raise ConfigError(f"forgetting ({names}): {INSTALL}")
    by_name = {}
    for name, benchmark in config.forgetting.items():
        if config.data_root:
            files = _local(name, benchmark, Path(config.data_root))
            every = {
                part: fingerprint.of_files(Path(file) for shards in splits.values() for file in shards)
                for part, splits in files
            }
            paths = [file for _, splits in files for shards in splits.values() for file in shards]
        else:
            (files, every), paths = _hub(name, benchmark), []  # What a commit names never changes.
        by_name[name] = Questions(dict(files), fingerprint.of_json(every), sources.checksums(paths))
        for part in benchmark.parts:
            _check(name, benchmark, part, by_name[name])
    return by_name


def check(config: RunConfig, formulation: str) -> None:
    """Refuses a run whose model can't be asked questions after tuning.

    Args:
        formulation: how the run solves its task.

    Raises:
        ConfigError: the model has no language model's head then.
        NotApplicable: it is no decoder, or the method works only where the answer's place is known.
    """
    if not config.forgetting:
        return
    asked = f"forgetting ({', '.join(config.forgetting)})"
    if config.model.family != "decoder":
        raise NotApplicable(f"{asked}: asks decoders; model={config.model.name} is an {config.model.family}")
    able = config.method.formulations
    if able is not None and "text" not in able:
        raise NotApplicable(f"{asked}: method={config.method.name} writes no text; it works as {', '.join(able)}")
    if config.method.answer_place:
        raise NotApplicable(
            f"{asked}: method={config.method.name} puts vectors before an answer whose place isn't known"
        )
    if formulation == "head":
        raise ConfigError(
            f"{asked}: formulation=head replaces the language model's head, and nothing can be asked; "
            "allowed is formulation=verbaliser | text"
        )


Files = list[tuple[str, dict[str, list[str]]]]


def _local(name: str, benchmark: BenchmarkConfig, root: Path) -> Files:
    folder = root / benchmark.path.rstrip("/").split("/")[-1]
    parts: Files = []
    for part in [_WHOLE] if benchmark.whole() else benchmark.parts:
        place = folder / (part or benchmark.config or "")
        if benchmark.whole() and not place.is_dir():
            place = folder  # A copy of the one config may lie in the folder itself.
        splits = {}
        for split in benchmark.splits:
            files = sorted([*place.glob(f"{split}-*.parquet"), *place.glob(f"{split}.parquet")])
            if not files:
                raise ConfigError(f"data_root={root}: there is no {place}/{split}-*.parquet for forgetting.{name}")
            splits[split] = [str(file.resolve()) for file in files]
        parts.append((part, splits))
    return parts


def _hub(name: str, benchmark: BenchmarkConfig) -> tuple[Files, dict[str, str]]:
    """The files, and by part what identifies them."""
    parts: Files = []
    identities = {}
    for part in [_WHOLE] if benchmark.whole() else benchmark.parts:
        config = part or benchmark.config
        try:
            files, commit = hub_files.get(
                benchmark.path,
                dict.fromkeys(benchmark.splits, config),
                revision=benchmark.revision,
                needed=benchmark.splits,
            )
        except HubError as error:
            raise ConfigError(
                f"forgetting.{name}: can't get {benchmark.path} {config or ''}: {error}; or point data_root= at a "
                f"folder that holds {benchmark.path.split('/')[-1]}/"
            ) from None
        parts.append((part, {split: [str(file) for file in shards] for split, shards in files.items()}))
        identities[part] = f"{benchmark.path}/{config}@{commit}"
    return parts, identities


def _columns(benchmark: BenchmarkConfig) -> list[str] | None:
    if benchmark.columns is None:
        return None
    return [*benchmark.columns, *([benchmark.column] if benchmark.column else [])]


#: Fingerprint, part and configuration of what was read through in this process.
_CHECKED: set[tuple[str, str, str]] = set()


def _check(name: str, benchmark: BenchmarkConfig, part: str, questions: Questions) -> None:
    if (questions.fingerprint, part, repr(benchmark)) in _CHECKED:
        return
    for split in benchmark.splits:
        try:
            count = questions.rows(benchmark, part, split).num_rows
        except (pa.ArrowException, OSError, KeyError) as error:
            raise ConfigError(f"forgetting.{name}: {part}/{split} can't be read ({first_line(error)})") from None
        if not count:
            raise ConfigError(
                f"forgetting.{name}.parts: {split} has no {part}; {_there(benchmark, questions, split, part)}"
            )
    _CHECKED.add((questions.fingerprint, part, repr(benchmark)))


def _there(benchmark: BenchmarkConfig, questions: Questions, split: str, part: str) -> str:
    if benchmark.column is None:
        return "its files are empty"
    tables = [pq.read_table(file, columns=[benchmark.column]) for file in questions.files[_WHOLE][split]]
    return nearest(part, sorted(pc.unique(pa.concat_tables(tables).column(benchmark.column)).to_pylist()))


def fingerprints(by_name: Mapping[str, Questions]) -> dict[str, str]:
    """Maps `forgetting.<benchmark>` to the fingerprint of its questions, as a run's key takes them."""
    return {f"forgetting.{name}": questions.fingerprint for name, questions in by_name.items()}
