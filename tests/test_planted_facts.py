"""What was planted in the demo table is found again in its synthetic copy."""

import pandas as pd
import pytest

from synthgen import demo
from synthgen.config import RunConfig
from synthgen.synthesizer import Synthesizer

ROWS = 5_000
#: Fewer than by default: enough for these facts (300 are not).
STEPS = 700


@pytest.fixture(scope="module")
def synthetic() -> pd.DataFrame:
    """The demo table, half as long as by default, after a short training."""
    real = demo.demo_frame(ROWS, seed=0)
    config = RunConfig.build({"train": {"steps": STEPS, "critic_steps": 20}})
    fitted = Synthesizer.fit(real, config=config, seed=0, device="cpu")
    return fitted.sample(2 * ROWS, seed=0).data


@pytest.mark.slow
@pytest.mark.parametrize("fact", demo.FACTS)
def test_a_planted_fact_survives(fact: str, synthetic: pd.DataFrame) -> None:
    assert demo.FACTS[fact](synthetic)
