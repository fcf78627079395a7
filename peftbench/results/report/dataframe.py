"""Records as a pandas DataFrame. pandas is imported where it is used: a report must start at once."""

import os
from typing import TYPE_CHECKING

from peftbench.results.report.load import load

if TYPE_CHECKING:
    import pandas as pd


def frame(results_dir: str | os.PathLike[str]) -> "pd.DataFrame":
    """Every record of a results folder as a row of a table, for analyses of one's own. Nested fields are columns such
    as `config.method.lr`."""
    import pandas as pd

    results = load(results_dir)
    return pd.json_normalize([record.to_dict() for record in results.completed + results.failed])
