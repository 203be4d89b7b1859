"""One encoded table with every kind of token, one with a known dependence, a quick generator."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

from synthgen.config import EncodeConfig, TrainConfig
from synthgen.encode.column import EncodedTable, Layout
from synthgen.encode.table import TableEncoder
from synthgen.gan.train import Generator, fit
from synthgen.schema import Column, TableSchema

N = 3_000
QUICK = TrainConfig(steps=40, critic_steps=10, width=32, depth=1, batch_size=64)


@pytest.fixture(scope="session")
def encoded() -> EncodedTable:
    """Coarse tokens of a level, a small number, a spiked number and a fine one; one fine token."""
    rng = np.random.default_rng(0)
    level = rng.choice(["a", "b", "c"], N, p=[0.6, 0.3, 0.1])
    spiked = np.where(rng.random(N) < 0.3, 0.0, rng.exponential(100, N).round(2))
    spiked[rng.random(N) < 0.05] = np.nan
    frame = pd.DataFrame(
        {
            "level": pd.Series(level, dtype="str"),
            "small": rng.integers(0, 4, N).astype(float),
            "spiked": spiked,
            "fine": rng.normal(0, 1, N) + 2 * (level == "c"),
        }
    )
    columns = (
        Column(name="level", kind="categorical"),
        Column(name="small", kind="numeric", decimals=0),
        Column(name="spiked", kind="numeric", decimals=2, nullable=True),
        Column(name="fine", kind="numeric"),
    )
    schema = TableSchema(name="gan", columns=columns)
    config = EncodeConfig(bins=8)
    return TableEncoder.fit(frame, schema, config, seed=0).transform(frame)


@pytest.fixture(scope="session")
def layout(encoded: EncodedTable) -> Layout:
    assert encoded.layout.n_coarse == 4
    assert len(encoded.layout.parents) == 1
    return encoded.layout


@pytest.fixture(scope="session")
def tokens(encoded: EncodedTable) -> torch.Tensor:
    return torch.from_numpy(encoded.tokens).long()


@pytest.fixture(scope="session")
def trained(encoded: EncodedTable) -> Generator:
    """A generator after 40 steps. Not to be changed."""
    return fit(encoded, QUICK, seed=0, device=torch.device("cpu"))


@pytest.fixture(scope="session")
def copies_frame() -> pd.DataFrame:
    """Three yes-or-no columns: b copies a on 90 % of rows, c copies b on 80 %."""
    rng = np.random.default_rng(0)
    a = rng.random(4_000) < 0.3
    b = a ^ (rng.random(4_000) < 0.1)
    c = b ^ (rng.random(4_000) < 0.2)
    return pd.DataFrame({"a": a, "b": b, "c": c}).astype("boolean")


@pytest.fixture(scope="session")
def copies_encoder(copies_frame: pd.DataFrame) -> TableEncoder:
    columns = tuple(Column(name=n, kind="boolean") for n in copies_frame)
    schema = TableSchema(name="copies", columns=columns)
    return TableEncoder.fit(copies_frame, schema, EncodeConfig(), seed=0)


@pytest.fixture(scope="session")
def copies(copies_frame: pd.DataFrame, copies_encoder: TableEncoder) -> EncodedTable:
    return copies_encoder.transform(copies_frame)
