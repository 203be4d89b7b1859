"""The one door to Great Expectations: imported late, in memory, without analytics or samples."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from great_expectations.core.batch_definition import BatchDefinition

#: Counts only: no offending values, no indices (they would be cells, or lead to them).
RESULT_FORMAT = {"result_format": "SUMMARY", "partial_unexpected_count": 0}


def great_expectations() -> Any:
    """Import the library with its analytics off; kept out of every module's import.

    It imports standard modules that are deprecated: nothing that a user of ours could act on.
    """
    os.environ["GX_ANALYTICS_ENABLED"] = "false"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        import great_expectations
        import great_expectations.expectations
    return great_expectations


def context() -> Any:
    """Return a context that lives in memory: no files or temporary folders, no progress bars."""
    gx = great_expectations()
    from great_expectations.data_context.types.base import (
        DataContextConfig,
        InMemoryStoreBackendDefaults,
        ProgressBarsConfig,
    )

    config = DataContextConfig(
        store_backend_defaults=InMemoryStoreBackendDefaults(init_temp_docs_sites=False),
        progress_bars=ProgressBarsConfig(globally=False),
    )
    return gx.get_context(mode="ephemeral", project_config=config)


def batch_definition() -> BatchDefinition[Any]:
    """Return where frames are put to be validated."""
    asset = context().data_sources.add_pandas("memory").add_dataframe_asset("rows")
    batch: BatchDefinition[Any] = asset.add_batch_definition_whole_dataframe("batch")
    return batch


def raised(info: Any) -> bool:
    """Whether an expectation raised; the information is nested by metric or it is not."""
    if not isinstance(info, Mapping):
        return False
    if info.get("raised_exception"):
        return True
    return any(raised(v) for v in info.values())
