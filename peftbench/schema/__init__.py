"""The typed mirror of the configuration, and the only user of OmegaConf.

`load` turns what Hydra composed into plain dataclasses, or says in one line which key is wrong and what is allowed.
"""

from peftbench.schema.benchmarks import BenchmarkConfig
from peftbench.schema.identify import (
    described_identity,
    description,
    halved,
    identity,
    is_open,
    micro_batch_size,
    settable,
    sinks,
    words,
)
from peftbench.schema.loading import (
    from_description,
    interpolates,
    load,
    load_composed,
    plain,
    read_yaml,
    search_path,
    unresolved,
    yaml_problem,
)
from peftbench.schema.types import (
    AS_METRIC,
    CarveConfig,
    DatasetConfig,
    ExpectedConfig,
    HardwareConfig,
    MethodConfig,
    ModelConfig,
    RecipeConfig,
    RunConfig,
    SpanConfig,
    WritingConfig,
)

__all__ = [
    "AS_METRIC",
    "BenchmarkConfig",
    "CarveConfig",
    "DatasetConfig",
    "ExpectedConfig",
    "HardwareConfig",
    "MethodConfig",
    "ModelConfig",
    "RecipeConfig",
    "RunConfig",
    "SpanConfig",
    "WritingConfig",
    "described_identity",
    "description",
    "from_description",
    "halved",
    "identity",
    "interpolates",
    "is_open",
    "load",
    "load_composed",
    "micro_batch_size",
    "plain",
    "read_yaml",
    "search_path",
    "settable",
    "sinks",
    "unresolved",
    "words",
    "yaml_problem",
]
