"""What keys must hold together, each of them being right by itself."""

from pathlib import Path

from peftbench.config.types import RunConfig
from peftbench.errors import ConfigError


def check(config: RunConfig) -> None:
    """Raises ConfigError for the first key that doesn't go with another."""
    if config.recipe.shots is not None and config.recipe.shots_seed is None:
        raise ConfigError("recipe.shots_seed: is required with recipe.shots; recipe=fewshot has one")
    if config.tune_space and config.tune is None:
        raise ConfigError("tune_space: goes with tune=N, the number of trials")
    _check_halving(config)
    _check_devices(config)
    _check_dtype(config)
    for key in ("results_dir", "data_root", "model_root", "start_from"):
        _check_home(key, getattr(config, key))


def _check_home(key: str, place: str | None) -> None:
    """Raises ConfigError for the home of a user whom this machine doesn't know."""
    try:
        Path(place or "").expanduser()
    except RuntimeError:
        raise ConfigError(f"{key}={place}: there is no such user's home; allowed is a folder") from None


def _check_halving(config: RunConfig) -> None:
    """Raises ConfigError for a rule of ending trials early that can't be followed."""
    rule = config.tune_halving
    if rule is None:
        return
    if config.tune is None and not isinstance(rule.get("before"), list):
        raise ConfigError("tune_halving: goes with tune=N, the number of trials")
    keys = {"examples", "factor"} | ({"before"} if config.tune is None else set())
    least = {"examples": 1, "factor": 2}
    numbers = {key: value for key, value in rule.items() if type(value) is int and value >= least.get(key, 0)}
    if set(rule) != keys or not least.keys() <= numbers.keys():
        raise ConfigError(
            f"tune_halving={rule}: allowed is {{examples: E, factor: F}}, whole numbers, E at least 1, F at least 2"
        )


def _check_devices(config: RunConfig) -> None:
    """Raises ConfigError for devices that have nothing to do, or to share."""
    devices, batch = config.hardware.devices, config.recipe.batch_size
    if devices > batch:
        raise ConfigError(f"hardware.devices={devices}: allowed is nothing above recipe.batch_size={batch}")
    strategy = config.hardware.strategy
    if (devices > 1) != (strategy != "auto"):  # Otherwise one run would have two keys.
        allowed = "ddp | fsdp" if devices > 1 else "auto"
        raise ConfigError(f"hardware.strategy={strategy}: allowed is {allowed} with hardware.devices={devices}")
    if strategy == "fsdp" and config.hardware.compile:
        raise ConfigError("hardware.compile=true: allowed is false with hardware.strategy=fsdp")


def _check_dtype(config: RunConfig) -> None:
    """Raises ConfigError for weights in bfloat16 where they would be read unrounded, or be sharded among others."""
    if config.model.dtype is None:
        return
    for key, value in {"precision": "32-true", "strategy": "fsdp"}.items():
        if getattr(config.hardware, key) == value:
            raise ConfigError(f"model.dtype={config.model.dtype}: allowed is null with hardware.{key}={value}")
