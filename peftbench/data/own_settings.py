"""Settings of the user's own files: in one spelling, and refused where they mean nothing."""

import codecs
from typing import Any

from peftbench.config.dataset_types import DatasetConfig
from peftbench.data import division, formats
from peftbench.errors import ConfigError


def without(config: DatasetConfig) -> DatasetConfig:
    """Raises ConfigError where keys that only own files take are set for data of another kind."""
    for key in ("separator", "encoding", "drop_unlabelled", "file", "holdout", "split_seed"):
        if getattr(config, key) is not None:
            raise ConfigError(f"dataset.{key}: goes with dataset=csv, jsonl or parquet")
    return config


def written(config: DatasetConfig) -> dict[str, Any]:
    """Separator, encoding and `drop_unlabelled` in one spelling, null where they are what is meant without them: else
    one run would have two keys."""
    separator, encoding = config.separator, config.encoding
    if separator is not None:
        separator = formats.SEPARATORS.get(separator, separator)
        if config.format != "csv" or len(separator) != 1 or not separator.isascii() or separator in '"\r\n\0':
            names = ", ".join(name for name in formats.SEPARATORS if name.isalpha())
            raise ConfigError(f"dataset.separator={separator!r}: allowed is a character, or {names}, with dataset=csv")
    if encoding is not None:
        try:
            encoding = codecs.lookup(encoding).name
            "a".encode(encoding)  # Some, such as base64, aren't of texts.
        except (LookupError, ValueError):
            raise ConfigError(f"dataset.encoding={encoding}: allowed is an encoding's name, such as latin-1") from None
        if config.format == "parquet":
            raise ConfigError("dataset.encoding: a Parquet file says by itself how texts are written")
    return {
        "separator": None if separator == "," else separator,
        "encoding": None if encoding in ("utf-8", "ascii") else encoding,
        "drop_unlabelled": config.drop_unlabelled or None,
        "holdout": None if config.holdout == division.HOLDOUT else config.holdout,
        "split_seed": config.split_seed or None,
    }


def division_of(config: DatasetConfig) -> tuple[float, int]:
    """The share that is held out, and the seed."""
    share, seed = config.holdout, config.split_seed
    return division.HOLDOUT if share is None else share, division.SEED if seed is None else seed
