"""The typed mirror of the configuration, and the only user of OmegaConf.

`load` turns what Hydra composed into plain dataclasses, or says in one line which key is wrong and what is allowed.
The classes hold types and rules, never values: those live in conf/.
"""

import dataclasses
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Optional, TypeVar

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from peftbench import guard, mixture, rules
from peftbench.errors import ConfigError
from peftbench.rules import Rule, between, one_of

# Cached in the configuration, so that all jobs of a sweep share it, whichever process they run in.
OmegaConf.register_new_resolver("peftbench.token", lambda: secrets.token_hex(3), replace=True, use_cache=True)

_NOT_EMPTY = Rule(lambda x: len(x) > 0 and len(set(x)) == len(x), "a list of one or more different names")


def _ruled(rule: Rule) -> Any:
    return field(metadata={"rule": rule})


def _words() -> Any:
    """A field that describes and changes nothing: it doesn't identify a run."""
    return field(default=None, metadata={"identity": False})


def _sink(default: Any = dataclasses.MISSING, *, rule: Rule | None = None, **more: Any) -> Any:
    """A field that says where things are or go, or how a run survives: it can't change a score, so it doesn't identify
    a run."""
    return field(default=default, metadata={"identity": False, "sink": True, "rule": rule}, **more)


T = TypeVar("T")

_COUNT = between(1, 1e12)


@dataclass(kw_only=True)
class ModelConfig:
    """A checkpoint, or (`config`) an architecture to start at random; the names of its parts."""

    name: str
    family: str = _ruled(one_of("encoder", "decoder", "encoder_decoder"))
    head: list[str] = _ruled(_NOT_EMPTY)
    sites: dict[str, Any] = field(metadata={"identity": False})
    checkpoint: Optional[str] = None
    revision: Optional[str] = None
    package: Optional[str] = None
    #: A GGUF file in a Python package, which `peftbench convert` makes a folder of.
    gguf: Optional[str] = _words()
    config: Optional[dict[str, Any]] = None
    trust_remote_code: bool = False


@dataclass(kw_only=True)
class MethodConfig:
    """A way of training: the `Method` class, the adapter it adds (a peft config and its arguments), its rate."""

    name: str
    target: str
    lr: Optional[float] = field(metadata={"rule": between(0, 100, above=True)})
    supports: list[str] = field(metadata={"identity": False})
    head_lr: Optional[float] = field(default=None, metadata={"rule": between(0, 100, above=True)})
    site: Optional[str] = None
    adapter: Optional[dict[str, Any]] = None
    quantization: Optional[dict[str, Any]] = None
    args: dict[str, Any] = field(default_factory=dict)
    #: Paths of what it reads beside model and data; their contents identify a run, not where they lie.
    inputs: dict[str, Optional[str]] = field(default_factory=dict, metadata={"identity": False, "sink": True})
    #: Where it can't in every way; the first is then what `formulation=auto` means.
    formulations: Optional[list[str]] = _words()
    #: Promises: it folds into the weights; untrained it answers as the base does (null: nearly so, having
    #: a small random start); gradient checkpointing works.
    mergeable: Optional[bool] = _words()
    identity: Optional[bool] = _words()
    checkpointing: Optional[bool] = _words()
    footnote: Optional[str] = _words()
    search: Optional[dict[str, Any]] = _words()
    family: Optional[str] = _words()
    summary: Optional[str] = _words()
    source: Optional[str] = _words()


@dataclass(kw_only=True)
class CarveConfig:
    """The slice that is cut out of train: `fraction` of its rows, `at_most` so many, drawn with `seed`."""

    fraction: float = _ruled(between(0, 0.9, above=True))
    at_most: int = _ruled(_COUNT)
    seed: int = _ruled(between(0, 2**31))


@dataclass(kw_only=True)
class SpanConfig:
    """A marked word: in which text column; the columns that hold its first and last + 1 character (`start`, `end`), or
    its number among the words and itself (`word`, `surface`); and what is put around it."""

    text: str
    mark: str
    start: Optional[str] = None
    end: Optional[str] = None
    word: Optional[str] = None
    surface: Optional[str] = None


@dataclass(kw_only=True)
class DatasetConfig:
    """Where the examples are (hub path, generator or files), what their columns mean, how they are split and scored.

    Attributes:
        text: columns that hold text; `label`: the one that holds the label; `labels`: its names by index.
        inputs: for a head: the one text or the pair that the model is given, as templates; null: the text columns.
        template, verbaliser: for label words: the text around `{answer}`, and the word of every label.
        cut: columns that may be cut where an example is too long; null: all, the longest first.
        phrases: by column what stands in the text for each of its values.
        columns: what the data calls a column, by the name here, where that differs.
        train_config: the hub config whose train split is used, where this one has none; `train_columns`: the same as
            `columns` for it.
        choices: columns that hold a choice each, or one that holds the list of them.
        spans: the marked words of a span pair.
        group: columns of equal values in rows that are scored together; `group_size`: so many rows, one after another,
            of the evaluation splits.
        candidates: the column that lists what can stand in the place of `placeholder`, and `answers` that of those
            which are right: every candidate is an example.
        format, train_file, validation_file: of the user's own files.
        parts: of a mixture, its parts' configurations (`DatasetConfig`; in the file their names); `mixing`: whether an
            example of a part is trained on as often as any other (examples), or by a `temperature` (`MixedBatches`).
        suite: the benchmark it is a part of; `title`: what reports call it.
    """

    name: str
    task: str
    text: list[str] = _ruled(Rule(lambda x: len(set(x)) == len(x), "a list of different names"))
    label: Optional[str] = None
    labels: Optional[list[str]] = field(
        default=None,
        metadata={"rule": Rule(lambda x: len(set(x)) == len(x) > 1, "a list of two or more different names")},
    )
    train: str
    evaluation: list[str] = _ruled(_NOT_EMPTY)
    carve: CarveConfig
    rows: dict[str, int] = field(metadata={"identity": False})
    metrics: dict[str, str] = field(
        default_factory=dict,
        metadata={
            "rule": Rule(
                lambda x: len(set(x.values())) <= 1 and set(x.values()) <= {"max", "min"},
                "one metric or more, each with max or each with min: their mean is the score",
            )
        },
    )
    path: Optional[str] = None
    config: Optional[str] = None
    revision: Optional[str] = None
    generator: Optional[str] = None
    template: Optional[str] = None
    verbaliser: Optional[list[str]] = None
    inputs: Optional[list[str]] = None
    cut: Optional[list[str]] = None
    phrases: Optional[dict[str, dict[str, str]]] = None
    choices: Optional[list[str]] = None
    spans: Optional[list[SpanConfig]] = None
    group: Optional[list[str]] = None
    group_size: Optional[int] = field(default=None, metadata={"rule": _COUNT})
    candidates: Optional[str] = None
    answers: Optional[str] = None
    placeholder: Optional[str] = None
    columns: Optional[dict[str, str]] = None
    train_config: Optional[str] = None
    train_columns: Optional[dict[str, str]] = None
    format: Optional[str] = field(default=None, metadata={"rule": one_of("csv", "jsonl", "parquet")})
    train_file: Optional[str] = _sink(None)
    validation_file: Optional[str] = _sink(None)
    parts: Optional[list[Any]] = None
    mixing: Optional[str] = field(default=None, metadata={"rule": one_of("examples", "temperature")})
    temperature: Optional[float] = field(default=None, metadata={"rule": between(0, 1e3, above=True)})
    suite: Optional[str] = _words()
    title: Optional[str] = _words()


@dataclass(kw_only=True)
class RecipeConfig:
    """How it is trained, whatever the method and the machine."""

    optimizer: dict[str, Any]
    weight_decay: float = _ruled(between(0, 10))
    schedule: str = _ruled(one_of("linear", "cosine", "constant"))
    warmup_ratio: float = _ruled(between(0, 1))
    gradient_clip: Optional[float] = _ruled(between(0, 1e6, above=True))
    batch_size: int = _ruled(_COUNT)
    max_length: int = _ruled(between(4, 1e6))
    epochs: int = _ruled(_COUNT)
    max_steps: Optional[int] = _ruled(_COUNT)
    train_samples: Optional[int] = _ruled(_COUNT)
    eval_samples: Optional[int] = _ruled(_COUNT)
    shots: Optional[int] = field(default=None, metadata={"rule": _COUNT})
    shots_seed: Optional[int] = field(default=None, metadata={"rule": between(0, 2**31)})
    eval_steps: Optional[int] = _ruled(_COUNT)
    selection: str = _ruled(one_of("best_on_selection", "best_on_validation", "last"))


@dataclass(kw_only=True)
class HardwareConfig:
    """The machine. Nothing here changes the mathematics, except `precision`."""

    name: str
    accelerator: str = _ruled(one_of("cpu", "gpu", "auto"))
    devices: int = _ruled(between(1, 1))
    strategy: str = _ruled(one_of("auto"))
    precision: str = _ruled(one_of("32-true", "bf16-mixed"))
    micro_batch_size: Optional[int] = _ruled(_COUNT)
    eval_batch_size: int = _ruled(_COUNT)
    threads: Optional[int] = _ruled(between(1, 4096))
    workers: int = _ruled(between(0, 256))
    compile: bool
    gradient_checkpointing: Optional[bool]


@dataclass(kw_only=True)
class ExpectedConfig:
    """What a paper printed for this run: a fraction, its spread, and how far off still counts as the same."""

    metric: str
    value: float
    std: Optional[float]
    tolerance: float = _ruled(between(0, 1))
    source: str


@dataclass(kw_only=True)
class RunConfig:
    """One run, whole. `identity` is the part that decides its result."""

    model: ModelConfig
    method: MethodConfig
    dataset: DatasetConfig
    recipe: RecipeConfig
    hardware: HardwareConfig
    seed: int = _ruled(between(0, 2**32 - 1))
    formulation: str = _ruled(one_of("auto", "head", "verbaliser", "text"))
    experiment: Optional[str] = field(default=None, metadata={"identity": False})
    expected: Optional[ExpectedConfig] = field(default=None, metadata={"identity": False})
    logger: dict[str, Any] = _sink()
    results_dir: str = _sink()
    data_root: Optional[str] = _sink()
    model_root: Optional[str] = _sink()
    overwrite: bool = _sink()
    save_adapters: bool = _sink()
    checkpoint_every_s: Optional[float] = _sink(rule=between(0, 1e9))
    grace_s: float = _sink(rule=between(0, 1e6))
    timeout_s: Optional[float] = _sink(rule=between(0, 1e9, above=True))
    retry: int = _sink(rule=between(0, 1000))
    fail_fast: bool = _sink()
    sweep: Optional[str] = _sink(None)
    changed: list[str] = _sink(default_factory=list)
    #: Of the whole command line: which runs it means, and whether they are only shown.
    zip: list[Any] = _sink(default_factory=list)
    exclude: list[str] = _sink(default_factory=list)
    dry_run: bool = _sink(False)
    #: Trials a method had to find its own hyper-parameters. They are its identity: a row of tuned runs is one row.
    tune: Optional[int] = field(default=None, metadata={"rule": between(1, 10_000)})


def identity(config: Any) -> dict[str, Any]:
    """The fields of a config that decide a run's result, nested; null ones left out."""
    kept = (f for f in dataclasses.fields(config) if f.metadata.get("identity", True))
    return _without_nulls({f.name: _plain(getattr(config, f.name), identity) for f in kept})


def description(config: RunConfig) -> dict[str, Any]:
    """What a record keeps of its configuration: all but the sinks and places, nulls included."""

    def whole(part: Any) -> dict[str, Any]:
        kept = (f for f in dataclasses.fields(part) if not f.metadata.get("sink", False))
        return {f.name: _plain(getattr(part, f.name), whole) for f in kept if f.name != "sites"}

    return whole(config)


def micro_batch_size(config: RunConfig, halvings: int = 0) -> int:
    """Examples of a forward pass in training, after memory ran out so many times."""
    asked = config.hardware.micro_batch_size or config.recipe.batch_size
    return max(1, min(asked, config.recipe.batch_size) >> halvings)


def halved(config: RunConfig, halvings: int) -> RunConfig:
    """The same run in smaller batches, of training and evaluation: the global batch stays."""
    if not halvings:
        return config
    evaluation = max(1, config.hardware.eval_batch_size >> halvings)
    micro = micro_batch_size(config, halvings)
    hardware = dataclasses.replace(config.hardware, micro_batch_size=micro, eval_batch_size=evaluation)
    return dataclasses.replace(config, hardware=hardware)


def is_open(key: str) -> bool:
    """Whether a key holds arguments of something else (an adapter), which may be added to."""
    part: Any = RunConfig
    for name in key.split("."):
        types = {f.name: f.type for f in dataclasses.fields(part)} if dataclasses.is_dataclass(part) else {}
        part = types.get(name)
    return part is not None and "dict[" in str(part)


def _plain(value: Any, convert: Callable[[Any], dict[str, Any]]) -> Any:
    if isinstance(value, list):
        return [_plain(part, convert) for part in value]
    return convert(value) if dataclasses.is_dataclass(value) else value


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _without_nulls(v) for k, v in value.items() if v is not None}
    return value


_NAMED = ("model", "method", "dataset", "hardware")


def load(
    composed: DictConfig, choices: Mapping[str, str | None], overrides: Any = (), folders: Sequence[Path] = ()
) -> RunConfig:
    """What Hydra composed, as a checked `RunConfig`.

    Args:
        composed: the configuration without its `hydra` node.
        choices: the chosen file of every group (`hydra.runtime.choices`), which names the parts.
        overrides: the command line's (`hydra.overrides.task`).
        folders: further folders laid out like conf/ (`hydra.searchpath`), for the parts of a mixture.

    Raises:
        ConfigError: a key is unknown, missing, of the wrong type or outside its range.
    """
    try:
        raw = OmegaConf.to_container(composed, resolve=True)
    except OmegaConfBaseException as error:
        raise ConfigError(_interpolation_message(error, composed)) from None
    assert isinstance(raw, dict)
    for group in _NAMED:
        if not isinstance(raw.get(group), dict) or choices.get(group) is None:
            raise ConfigError(f"{group}: is required; a run has one of each of {', '.join(_NAMED)}")
        guard.check_name(group, choices[group])
        raw[group]["name"] = choices[group]
    if raw["dataset"].get("metrics", {}) is None:
        del raw["dataset"]["metrics"]
    raw["method"]["target"] = raw["method"].pop("_target_", None)
    written: Any = OmegaConf.to_container(overrides) if OmegaConf.is_list(overrides) else overrides
    raw["changed"] = [o for o in written if _sets_up(o.lstrip("+~"))]
    raw["experiment"], raw["sweep"] = choices.get("experiment"), choices.get("sweep")
    if raw["dataset"].get("task") == mixture.TASK:
        raw["dataset"] = mixture.expand(raw["dataset"], folders=folders, read=read_yaml)
    config = _with_parts(_typed(RunConfig, raw, ""))
    rules.check(config, "")
    rules.check_finite(dataclasses.asdict(config), "")
    if config.recipe.shots is not None and config.recipe.shots_seed is None:
        raise ConfigError("recipe.shots_seed: is required with recipe.shots; recipe=fewshot has one")
    return config


def _typed(kind: type[T], raw: dict[Any, Any], prefix: str) -> T:
    """Raises ConfigError for a key that is unknown, missing or of the wrong type."""
    _check_switches(kind, raw, prefix)
    try:
        config = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(kind), raw))
    except OmegaConfBaseException as error:
        raise ConfigError(f"{prefix}{_type_message(error)}") from None
    except OverflowError as error:
        raise ConfigError(f"{prefix}a number is too large ({str(error).splitlines()[0]})") from None
    assert isinstance(config, kind)
    return config


def _with_parts(config: RunConfig) -> RunConfig:
    """With the parts of a mixture checked and typed as data sets are."""
    if config.dataset.parts:
        config.dataset.parts = [_part(part) for part in config.dataset.parts]
    return config


def _part(raw: dict[str, Any]) -> DatasetConfig:
    prefix = f"dataset.parts.{raw['name']}."
    part = _typed(DatasetConfig, raw, prefix)
    rules.check(part, prefix)
    return part


def _sets_up(override: str) -> bool:
    """Whether it changes method or model, and is no path."""
    return override.startswith(("method.", "model.")) and not override.startswith("method.inputs.")


def from_description(described: dict[str, Any]) -> RunConfig:
    """The configuration of a recorded run, from what `description` kept of it. Sinks are placeholders, and code that
    comes with a model isn't trusted because a record says so.

    Raises:
        ConfigError: the record is of a version whose configuration isn't today's.
    """
    places = {"results_dir": "", "data_root": None, "model_root": None}
    sinks = {"logger": {}, "overwrite": False, "save_adapters": False}
    survival = {"checkpoint_every_s": None, "grace_s": 0, "timeout_s": None, "retry": 0, "fail_fast": False}
    model = {**described["model"], "sites": {}, "trust_remote_code": False}
    raw = {**described, **places, **sinks, **survival, "model": model}
    return _with_parts(_typed(RunConfig, raw, "a record's configuration can't be read: "))


def _check_switches(kind: Any, raw: Mapping[Any, Any], prefix: str) -> None:
    """OmegaConf takes any number for true: `overwrite=17`."""
    for f in dataclasses.fields(kind):
        value = raw.get(f.name)
        if dataclasses.is_dataclass(f.type) and isinstance(value, Mapping):
            _check_switches(f.type, value, f"{prefix}{f.name}.")
        elif f.type in (bool, Optional[bool]) and isinstance(value, int) and not isinstance(value, bool):
            raise ConfigError(f"{prefix}{f.name}={value}: allowed is true | false")


def load_composed(composed: DictConfig) -> RunConfig:
    """`load` for what `hydra.compose(..., return_hydra_config=True)` gave."""
    choices, overrides = dict(composed.hydra.runtime.choices), composed.hydra.overrides.task
    folders = search_path(composed.hydra.searchpath)
    OmegaConf.set_struct(composed, False)
    composed.pop("hydra")
    return load(composed, choices, overrides, folders)


def search_path(given: Any) -> list[Path]:
    """The folders of Hydra's search path that are laid out like conf/."""
    return [Path(str(place).removeprefix("file://")) for place in given if str(place).startswith("file://")]


def interpolates(composed: DictConfig, key: str) -> bool:
    """Whether any value refers to a key, as `${key}` does."""
    text = OmegaConf.to_yaml(composed, resolve=False)
    return f"{key}}}" in text


def _type_message(error: OmegaConfBaseException) -> str:
    key = (error.full_key or "").replace("method.target", "method._target_")
    first = str(error.msg or error).splitlines()[0]
    if "not in" in first and error.parent_node is not None:
        allowed = sorted(str(k) for k in error.parent_node.keys())  # type: ignore[attr-defined]
        return f"{key}: no such key; allowed are {', '.join(allowed)}"
    if "missing" in first.lower() or "'None'" in first:
        return f"{key}: is required and not set"
    return f"{key}: {first}"


def _interpolation_message(error: OmegaConfBaseException, composed: DictConfig) -> str:
    """A method that asks for a site which the model doesn't name is the usual case: say it in those words."""
    site, sites = OmegaConf.select(composed, "method.site"), OmegaConf.select(composed, "model.sites") or {}
    if site is not None and site not in sites:
        return f"method.site={site}: this model names no such site; allowed are {', '.join(sorted(sites))}"
    return f"{error.full_key or 'configuration'}: {str(error.msg or error).splitlines()[0]}"


def plain(value: Any) -> Any:
    """A node of a composed configuration as plain values."""
    return OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value


def read_yaml(path: Path) -> dict[str, Any]:
    """A YAML file as Hydra would read it, uncomposed."""
    return OmegaConf.to_container(OmegaConf.load(path))  # type: ignore[return-value]
