"""The check of a hosted run before anything is sent: what must be set, and what such a run can't do."""

import importlib.util
import os
from urllib.parse import urlsplit

from peftbench.config.hosted import HOSTED, HostedConfig
from peftbench.config.types import RunConfig
from peftbench.errors import ConfigError, NotApplicable
from peftbench.methods.build import build as build_method
from peftbench.methods.hosted import Prompted
from peftbench.run.training import sinks
from peftbench.tasks.table import build as build_task

_HERE = ("localhost", "127.0.0.1", "::1")


def check_family(config: RunConfig) -> None:
    """Raises NotApplicable for a method of a hosted model on one that is here, and the other way round."""
    hosted, wanted = config.model.family == HOSTED, HOSTED in config.method.supports
    if hosted != wanted:
        allowed = "model=hosted" if wanted else "method=hosted or method=prompted"
        raise NotApplicable(f"method={config.method.name} on model={config.model.name}: allowed is {allowed}")


def check(config: RunConfig) -> None:
    """Raises ConfigError for what would stop a hosted run."""
    build_task(config)
    method, hosted = method_of(config), settings(config)
    sinks.check(config)
    for name in ("model", "base_url"):
        if getattr(hosted, name) is None:
            raise ConfigError(f"hosted.{name}: is required with model={config.model.name}")
    for name in ("start_from", "forgetting", "bertscore_model", "tune"):
        if getattr(config, name):
            raise ConfigError(f"{name}: allowed is null with model={config.model.name}, whose weights aren't here")
    if config.hardware.devices > 1:
        raise ConfigError(f"hardware.devices={config.hardware.devices}: allowed is 1 with model={config.model.name}")
    if method.tunes and config.recipe.max_steps is not None:
        raise ConfigError("recipe.max_steps: allowed is null with method=hosted; its job is told recipe.epochs")
    if importlib.util.find_spec("openai") is None:
        raise ConfigError("model=hosted: needs the extra `hosted` (the package openai)")
    key(hosted)
    if not hosted.consent and not config.dry_run:
        raise ConfigError(
            "hosted.consent=false: allowed is true, which sends rows of the data set to hosted.base_url; "
            "dry_run=true says how many and what that may cost"
        )


def settings(config: RunConfig) -> HostedConfig:
    """A run's `hosted` section, which every run on a hosted model has."""
    assert config.hosted is not None
    return config.hosted


def method_of(config: RunConfig) -> Prompted:
    """A hosted run's method. Raises ConfigError for a class that is none for hosted models."""
    method = build_method(config.method)
    if not isinstance(method, Prompted):
        raise ConfigError(f"method._target_={config.method.target}: allowed is a subclass of {Prompted.__module__}")
    return method


def key(hosted: HostedConfig) -> str:
    """The server's key, from the environment; a word in its place for a server on this machine that needs none.

    Raises:
        ConfigError: it isn't set, and the server is elsewhere.
    """
    value = os.environ.get(hosted.key_variable)
    if not value and urlsplit(str(hosted.base_url)).hostname not in _HERE:
        raise ConfigError(f"hosted.key_variable={hosted.key_variable}: this environment variable isn't set")
    return value or "none"
