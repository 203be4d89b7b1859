"""Secrets kept in Prefect's `Secret` blocks: named anywhere, read only here and only while needed.

A flow's parameter says which variable of the environment stands for which block. The value gets
from the server, which keeps it encrypted, into the memory of this process, and out of it again.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Annotated, Literal

from prefect.blocks.system import Secret
from pydantic import Field

from synthgen.errors import ConfigError

#: What the clients of PostgreSQL and S3 read from the environment and nobody else may see.
Variable = Literal["PGPASSWORD", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"]
#: A block's name as Prefect allows it: whoever types a password instead is mostly refused by it.
BlockName = Annotated[str, Field(pattern=r"^[a-z0-9-]+$", max_length=100)]
Secrets = dict[Variable, BlockName]


@contextmanager
def credentials(secrets: Mapping[Variable, str] | None) -> Iterator[None]:
    """Let the environment hold the values of `Secret` blocks while the ``with`` lasts.

    Processes that are started meanwhile inherit them, so it is put around reading and writing only.

    Parameters
    ----------
    secrets : mapping, optional
        Name of the variable to name of the block.

    Raises
    ------
    ConfigError
        If the server has no such block, or it holds no text.
    """
    values: dict[str, str] = {
        variable: _value(block) for variable, block in (secrets or {}).items()
    }
    before = {variable: os.environ.get(variable) for variable in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for variable, value in before.items():
            if value is None:
                os.environ.pop(variable, None)
            else:
                os.environ[variable] = value


def _value(block: str) -> str:
    try:
        value = Secret.load(block).get()  # type: ignore[union-attr]
    except ValueError:
        raise ConfigError(
            f"the Prefect server has no Secret block '{block}'; make one: python -c "
            f'"from getpass import getpass; from prefect.blocks.system import Secret; '
            f"Secret(value=getpass()).save('{block}')\""
        ) from None
    if not isinstance(value, str) or not value:
        raise ConfigError(f"the Secret block '{block}' holds no text")
    return value
