"""The dataclasses of a run's configuration. They hold types and rules, never values: those live in conf/."""

from dataclasses import dataclass, field
from typing import Any, Optional

from peftbench.config.dataset_types import DatasetConfig
from peftbench.config.evaluation import EvaluationConfig
from peftbench.config.expected import ExpectedConfig
from peftbench.config.fields import BUDGET, COUNT, NOT_EMPTY, PERCENT, descriptive, ruled, sink
from peftbench.config.forgetting import BenchmarkConfig
from peftbench.config.hosted import HOSTED, HostedConfig
from peftbench.config.rules import between, one_of


@dataclass(kw_only=True)
class ModelConfig:
    """A checkpoint, or (`config`) an architecture to start at random; the names of its parts.

    Attributes:
        family: encoder, decoder or encoder_decoder: what the model is built from; hosted: it is behind a server.
        head: modules of the task head, which are trained with every method.
        sites: names of layers by what they do (attention, feed-forward), which methods refer to.
        checkpoint: the checkpoint's name on the hub, or its folder, whose own name then stands here.
        folder: where the checkpoint is, if a folder was named: its contents identify a run, not its path.
        revision: commit, branch or tag on the hub; null: main, as it is when it is first asked for.
        package: the Python package that holds the weights.
        gguf: a GGUF file in a Python package, which `peftbench convert` makes a folder of.
        config: an architecture to start at random, instead of a checkpoint.
        shape: the checkpoint's architecture, as its config.json has it: what `estimate` builds it from.
        trust_remote_code: whether code that comes with the checkpoint may run.
        dtype: how frozen weights that only matrix products read are kept in mixed precision; null: in 32 bits.
    """

    name: str
    family: str = ruled(one_of("encoder", "decoder", "encoder_decoder", HOSTED))
    head: list[str] = ruled(NOT_EMPTY)
    sites: dict[str, Any] = field(metadata={"identity": False})
    checkpoint: Optional[str] = None
    folder: Optional[str] = sink(None)
    revision: Optional[str] = None
    package: Optional[str] = None
    gguf: Optional[str] = descriptive()
    config: Optional[dict[str, Any]] = None
    shape: Optional[dict[str, Any]] = field(default=None, metadata={"identity": False, "sink": True})
    trust_remote_code: bool = False
    dtype: Optional[str] = field(default=None, metadata={"rule": one_of("bf16")})


@dataclass(kw_only=True)
class MethodConfig:
    """A way of training: the `Method` class, the adapter it adds (a peft config and its arguments), its rate.

    `target` and `adapter._target_` are part of a run's key, as text: a class that they name can't move.

    Attributes:
        lr: the learning rate of what the method trains; null: it trains nothing.
        supports: model families that the method works on.
        head_lr: the learning rate of the task head; null: `method.lr`.
        site: the site, among `model.sites`, that the adapter is put at.
        adapter: the peft configuration by `_target_`, with its arguments.
        quantization: how the base's weights are quantised; null: not.
        args: the `Method` class's own arguments.
        inputs: paths of what the method reads beside model and data; their contents identify a run.
        formulations: formulations that the method works with, the first of which `auto` means; null: all.
        answer_place: whether it must know where the answer begins, so that a model can't be asked just any text.
        mergeable: whether the method can be folded into the base's weights, at no cost at inference.
        identity: whether the untrained method answers as the base does; null: nearly, having a small random start.
        checkpointing: whether gradient checkpointing works.
        sharding: whether weights may be sharded over devices (FSDP).
        reads_train: whether the training split is read; false where the evaluation splits are enough.
        footnote: what reports say below a table of the method's scores.
        search: by key, the values that tuning tries; of a learning rate, its two ends.
        size: the key that decides how many weights are trained (with `match=size`: left), and those that keep their
            proportion to it; null: nothing does.
        family: the kind of method that reports group by.
        summary: what the method does, in a few words.
        source: the paper or code that the method and its values are from.
    """

    name: str
    target: str
    lr: Optional[float] = field(metadata={"rule": between(0, 100, above=True)})
    supports: list[str] = field(metadata={"identity": False})
    head_lr: Optional[float] = field(default=None, metadata={"rule": between(0, 100, above=True)})
    site: Optional[str] = None
    adapter: Optional[dict[str, Any]] = None
    quantization: Optional[dict[str, Any]] = None
    args: dict[str, Any] = field(default_factory=dict)
    inputs: dict[str, Optional[str]] = field(default_factory=dict, metadata={"identity": False, "sink": True})
    formulations: Optional[list[str]] = descriptive()
    answer_place: Optional[bool] = descriptive()
    mergeable: Optional[bool] = descriptive()
    identity: Optional[bool] = descriptive()
    checkpointing: Optional[bool] = descriptive()
    sharding: Optional[bool] = descriptive()
    reads_train: Optional[bool] = descriptive()
    footnote: Optional[str] = descriptive()
    search: Optional[dict[str, Any]] = descriptive()
    size: Optional[list[str]] = field(default=None, metadata={"identity": False, "sink": True})
    family: Optional[str] = descriptive()
    summary: Optional[str] = descriptive()
    source: Optional[str] = descriptive()


@dataclass(kw_only=True)
class RecipeConfig:
    """The training, whatever the method and the machine."""

    optimizer: dict[str, Any]
    weight_decay: float = ruled(between(0, 10))
    schedule: str = ruled(one_of("linear", "cosine", "constant"))
    warmup_ratio: float = ruled(between(0, 1))
    gradient_clip: Optional[float] = ruled(between(0, 1e6, above=True))
    batch_size: int = ruled(COUNT)
    max_length: int = ruled(between(4, 1e6))
    epochs: int = ruled(COUNT)
    max_steps: Optional[int] = ruled(COUNT)
    train_samples: Optional[int] = ruled(COUNT)
    eval_samples: Optional[int] = ruled(COUNT)
    shots: Optional[int] = field(default=None, metadata={"rule": COUNT})
    shots_seed: Optional[int] = field(default=None, metadata={"rule": between(0, 2**31)})
    eval_steps: Optional[int] = ruled(COUNT)
    selection: str = ruled(one_of("best_on_selection", "best_on_validation", "last"))
    patience: Optional[int] = field(default=None, metadata={"rule": COUNT})
    class_weights: Optional[str] = field(default=None, metadata={"rule": one_of("balanced")})
    loss_on: Optional[str] = field(default=None, metadata={"rule": one_of("answer", "all")})


@dataclass(kw_only=True)
class HardwareConfig:
    """The machine. Nothing here changes the mathematics, except `precision` and `matmul_precision`."""

    name: str
    accelerator: str = ruled(one_of("cpu", "gpu", "auto"))
    devices: int = ruled(between(1, 1024))
    strategy: str = ruled(one_of("auto", "ddp", "fsdp"))
    precision: str = ruled(one_of("32-true", "bf16-mixed"))
    micro_batch_size: Optional[int] = ruled(COUNT)
    eval_batch_size: int = ruled(COUNT)
    threads: Optional[int] = ruled(between(1, 4096))
    workers: int = ruled(between(0, 256))
    compile: bool
    gradient_checkpointing: Optional[bool]
    matmul_precision: Optional[str] = field(default=None, metadata={"rule": one_of("highest", "high", "medium")})


@dataclass(kw_only=True)
class RunConfig:
    """One run, whole. `identity` is the part that decides its result."""

    model: ModelConfig
    method: MethodConfig
    dataset: DatasetConfig
    recipe: RecipeConfig
    hardware: HardwareConfig
    seed: int = ruled(between(0, 2**32 - 1))
    formulation: str = ruled(one_of("auto", "head", "verbaliser", "text"))
    #: Benchmarks that the model is asked before and after tuning, by name.
    forgetting: Optional[dict[str, BenchmarkConfig]] = None
    #: What is evaluated beyond the score.
    evaluation: Optional[EvaluationConfig] = None
    #: The server of a hosted model; null for a model that is here.
    hosted: Optional[HostedConfig] = None
    experiment: Optional[str] = field(default=None, metadata={"identity": False})
    #: What the experiment's paper printed of this data set.
    expected: Optional[ExpectedConfig] = field(default=None, metadata={"identity": False})
    #: The run of an experiment whose weights this one starts from: `experiment` and `dataset`.
    start: Optional[dict[str, str]] = descriptive()
    #: Keys that the experiment set for this data set.
    by_dataset: list[str] = field(default_factory=list, metadata={"identity": False})
    logger: dict[str, Any] = sink()
    results_dir: str = sink()
    data_root: Optional[str] = sink()
    model_root: Optional[str] = sink()
    start_from: Optional[str] = sink(None)
    #: What BERTScore compares texts with; its contents are part of the key, not where it lies.
    bertscore_model: Optional[str] = sink(None)
    bertscore_layer: Optional[int] = field(default=None, metadata={"rule": between(1, 1000)})
    overwrite: bool = sink()
    save_adapters: bool = sink()
    checkpoint_every_s: Optional[float] = sink(rule=between(0, 1e9))
    measure: bool = sink()
    measure_examples: int = sink(rule=COUNT)
    measure_s: float = sink(rule=between(0, 1e6, above=True))
    grace_s: float = sink(rule=between(0, 1e6))
    timeout_s: Optional[float] = sink(rule=between(0, 1e9, above=True))
    retry: int = sink(rule=between(0, 1000))
    fail_fast: bool = sink()
    sweep: Optional[str] = sink(None)
    changed: list[str] = sink(default_factory=list)
    zip: list[Any] = sink(default_factory=list)
    exclude: list[str] = sink(default_factory=list)
    dry_run: bool = sink(False)
    #: A budget that runs are held against before they start, with its unit: 8GB.
    memory: Optional[str] = sink(None)
    fit: bool = sink(False)
    #: What methods are made equal in, by their `size`: the weights they train, or those of the model they leave.
    match: Optional[str] = sink(None, rule=one_of("parameters", "size"))
    #: What they are to have: a share of the model's weights (0.2%) or a number of weights.
    budget: Optional[str] = sink(None, rule=BUDGET)
    #: How far from the budget a method may be.
    tolerance: str = sink("25%", rule=PERCENT)
    #: Trials a method had for its hyper-parameters. They identify the run: a row of tuned runs is one row.
    tune: Optional[int] = field(default=None, metadata={"rule": between(1, 10_000)})
    #: By key, the values that trials choose among beside the method's own `search`; of a learning rate its two ends.
    tune_space: Optional[dict[str, Any]] = None
    #: Trials that are behind are ended early: `examples` of the first rung and `factor` between rungs; of a trial also
    #: `before`, the keys of the trials that it is compared with.
    tune_halving: Optional[dict[str, Any]] = None
