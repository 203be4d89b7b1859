"""The numbers of a training for TensorBoard: losses and held-out scores by step, nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from synthgen.errors import ConfigError
from synthgen.run_folder import Event, Listener


@contextmanager
def tensorboard(folder: Path, also: Listener) -> Iterator[Listener]:
    """Yield a listener that writes each step's numbers into `folder` and tells `also`.

    Raises
    ------
    ConfigError
        If the extra ``synthgen[tensorboard]`` is not installed.
    """
    try:
        from tensorboardX import SummaryWriter
    except ImportError:
        raise ConfigError("--tensorboard needs: pip install 'synthgen[tensorboard]'") from None
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with SummaryWriter(str(folder)) as writer:

        def listener(event: Event) -> None:
            for name, value in scalars(event).items():
                writer.add_scalar(name, value, event["step"])
            also(event)

        yield listener


def scalars(event: Event) -> dict[str, float]:
    """Return the numbers of one step of training, by phase and name; of other events none.

    >>> scalars({"event": "step", "phase": "skeleton", "step": 20, "steps": 100, "loss": 2.5})
    {'skeleton/loss': 2.5}
    >>> scalars({"event": "start", "stage": "train"})
    {}
    """
    if event.get("event") != "step" or "step" not in event:
        return {}
    phase = event.get("phase", "train")
    return {
        f"{phase}/{name}": float(value)
        for name, value in event.items()
        if name not in ("step", "steps") and isinstance(value, int | float)
    }
