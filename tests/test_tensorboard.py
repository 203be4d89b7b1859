"""What TensorBoard is given: the numbers of each step, under its phase, and nothing else."""

from __future__ import annotations

import struct
from pathlib import Path

from tensorboardX.proto.event_pb2 import Event as Record

from synthgen.tensorboard import tensorboard


def written(folder: Path) -> list[tuple[str, int, float]]:
    """Read the records of the one file: length, its checksum, the record, its checksum."""
    [file] = folder.iterdir()
    data, found = file.read_bytes(), []
    while data:
        (length,) = struct.unpack("<Q", data[:8])
        record = Record.FromString(data[12 : 12 + length])
        found += [(v.tag, record.step, v.simple_value) for v in record.summary.value]
        data = data[16 + length :]
    return found


def test_steps_become_scalars_and_go_on_to_who_listens(tmp_path: Path) -> None:
    seen: list[dict[str, object]] = []
    with tensorboard(tmp_path / "board", seen.append) as listener:
        listener({"stage": "train", "event": "start"})
        for step, loss in ((20, 2.5), (40, 2.25)):
            listener(
                {"event": "step", "phase": "skeleton", "step": step, "steps": 100, "loss": loss}
            )
        listener({"stage": "train", "event": "note", "text": "few rows"})
    assert written(tmp_path / "board") == [("skeleton/loss", 20, 2.5), ("skeleton/loss", 40, 2.25)]
    assert len(seen) == 4
    assert (tmp_path / "board").stat().st_mode & 0o777 == 0o700
