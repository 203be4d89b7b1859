"""The stage `train`: the synthesizer fitted on the train half, with or without privacy."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from synthgen.audit_log import AuditLog
from synthgen.config import RunConfig
from synthgen.files import reserve, staged, staged_folder
from synthgen.pipeline.reading import bundle_to_start_from
from synthgen.pipeline.stage import seed_of, stage
from synthgen.rng import derive
from synthgen.run_folder import Event, Receipt, RunFolder
from synthgen.table import PackedTable, read_packed
from synthgen.uri import absolute, local_path, scheme

if TYPE_CHECKING:
    from synthgen.synthesizer import Synthesizer

#: Rows behind a preview: real ones at most, and drawn ones.
PREVIEW_REAL_ROWS, PREVIEW_ROWS = 20_000, 2_000


def train(folder: RunFolder) -> Receipt:
    """Fit the synthesizer on the train half; keep its bundle.

    Called again after an interruption, training goes on from its last checkpoint.
    """
    with stage(folder, "train"):
        from synthgen.synthesizer import Synthesizer, pick_device

        config, schema = folder.config, folder.schema
        folder.log(stage="train", event="device", device=str(pick_device(config.device)))
        real = read_packed(folder.train_path, schema)
        if config.train.dp is not None:
            return _train_privately(folder, real)
        if not folder.checkpoint_path.exists():
            folder.training_path.unlink(missing_ok=True)

        def note(text: str) -> None:
            folder.log(stage="train", event="note", text=text)

        with _gpu_alone(config):
            fitted = Synthesizer.fit(
                real,
                config=config,
                seed=seed_of(config),
                device=config.device,
                log=lambda step: folder.log_step(step),
                checkpoint=folder.checkpoint_path,
                warm_start=bundle_to_start_from(config),
                watch=previews(config, real, folder.previews_path, seed_of(config), note),
                apart_from=[read_packed(folder.holdout_path, schema)],
            )
        save_bundle(fitted, folder.bundle_path)
        folder.write(folder.protection_path, json.dumps(fitted.facts["protection"], indent=1))
        receipt = _trained(folder, len(real))
        folder.checkpoint_path.unlink(missing_ok=True)
        return receipt


def uses_gpu(config: RunConfig) -> bool:
    """Whether training by `config` will be on a GPU of this machine."""
    from synthgen.synthesizer import pick_device

    return config.train.dp is None and pick_device(config.device).type == "cuda"


@contextmanager
def _gpu_alone(config: RunConfig) -> Iterator[None]:
    """Wait until no other run of this user trains on the GPU, and hold it meanwhile."""
    from synthgen.dp.ledger import default_folder

    if not uses_gpu(config):
        yield
        return
    default_folder().mkdir(mode=0o700, parents=True, exist_ok=True)
    with reserve(default_folder() / "gpu", wait=True):
        yield


def previews(
    config: RunConfig,
    real: PackedTable,
    folder: Path,
    seed: int,
    note: Callable[[str], None],
) -> Callable[[Synthesizer, int], None] | None:
    """Return what draws a picture of the columns every few minutes of training, if asked for.

    It sees training rows only: the holdout stays fresh for the gate.

    Parameters
    ----------
    config : RunConfig
    real : PackedTable
        What the synthesizer learns from.
    folder : Path
        Where pictures go (SVG), private as they tell of real rows; made with the first one.
    seed : int
        Of the run; what is drawn for a picture takes nothing from training's own streams.
    note : callable
        Is told in a sentence when a picture could not be drawn.
    """
    minutes = config.report.preview_minutes
    if minutes is None:
        return None
    import numpy as np

    from synthgen.report.preview import preview

    stride = -(-len(real) // PREVIEW_REAL_ROWS)
    shown = real.filter(np.arange(len(real)) % stride == 0).unpack().data
    due = time.monotonic() + 60 * minutes

    def watch(fitted: Synthesizer, step: int) -> None:
        nonlocal due
        if time.monotonic() < due:
            return
        try:
            drawn = next(fitted.sample_batches(PREVIEW_ROWS, seed=derive(seed, "preview", step)))
            title = f"{fitted.schema.name}, step {step:,}: {len(drawn):,} rows drawn"
            picture = preview(fitted.schema, shown, drawn, title)
            folder.mkdir(mode=0o700, exist_ok=True)
            with staged(folder / f"step-{step:06d}.svg", mode=0o600) as temporary:
                temporary.write_text(picture, encoding="utf-8")
        except Exception as error:  # a picture is not worth a training, and its text may quote data
            note(f"a preview could not be drawn ({type(error).__name__})")
        due = time.monotonic() + 60 * minutes

    return watch


def _trained(folder: RunFolder, rows: int) -> Receipt:
    receipt = folder.receipt("train", folder.bundle_path / "bundle.json", rows)
    return folder.finish(receipt, folder.bundle_path)


def _train_privately(folder: RunFolder, real: PackedTable) -> Receipt:
    """Train with differential privacy, once: a bundle that is there was paid for and is kept."""
    config = folder.config
    if not folder.bundle_path.exists():
        folder.training_path.unlink(missing_ok=True)
        run, attempt = folder.root.name, _attempt(folder)
        try:
            fitted = fit_privately(
                real, config, seed_of(config), run=run, attempt=attempt, log=folder.log_step
            )
        except Exception:
            # To try until it works would be to choose by what was drawn: the next try pays anew.
            folder.charge_path.unlink(missing_ok=True)
            raise
        save_bundle(fitted, folder.bundle_path)
    folder.charge_path.unlink(missing_ok=True)
    return _trained(folder, len(real))


def _attempt(folder: RunFolder) -> str:
    """Return the name under which the ledger knows this training, an interrupted one's or a new.

    One that was cut off from outside has released nothing, so to go on is the same reading of the
    rows, and it is paid for. A folder that was copied or moved is another: both could be gone on
    with.
    """
    here = {"root": str(folder.root), "inode": folder.private.stat().st_ino}
    if folder.charge_path.exists():
        kept = json.loads(folder.charge_path.read_text(encoding="utf-8"))
        if here == {k: kept[k] for k in here}:
            return str(kept["name"])
    name = secrets.token_hex(16)
    folder.write(folder.charge_path, json.dumps({**here, "name": name}))
    return name


def fit_privately(
    real: PackedTable,
    config: RunConfig,
    seed: int,
    *,
    run: str,
    log: Callable[[Event], None],
    attempt: str | None = None,
) -> Synthesizer:
    """Fit on `real`, after the ledger of its source has taken the charge."""
    from synthgen.dp.ledger import Ledger, default_folder
    from synthgen.dp.release import Plan
    from synthgen.sources import open_source
    from synthgen.synthesizer import Synthesizer

    asked = config.train.dp
    assert asked is not None
    ledger = Ledger(default_folder())
    is_file = scheme(config.data) == "file"
    place = str(local_path(config.data).resolve()) if is_file else absolute(config.data)
    with open_source(config.data) as data:
        source = ledger.source(place, data.digest())

    def charge(plan: Plan) -> None:
        total = ledger.spend(
            source,
            list(plan.mechanisms.values()),
            delta=plan.delta,
            cap=asked.cap,
            run=run,
            attempt=attempt,
        )
        AuditLog.default().append(
            "spend",
            run=run,
            source=list(source),
            epsilon={"run": plan.epsilon, "total": total, "cap": asked.cap, "delta": plan.delta},
        )
        note = f"epsilon {plan.epsilon:.3g} is spent; {total:.3g} of {asked.cap:g} on this source"
        log({"phase": "skeleton", "step": 0, "steps": 0, "note": note})

    return Synthesizer.fit_privately(real, config=config, seed=seed, charge=charge, log=log)


def save_bundle(fitted: Synthesizer, path: Path) -> None:
    """Write the bundle folder whole or not at all, readable by its owner only."""
    with staged_folder(path, mode=0o700) as temporary:
        fitted.save(temporary)
        for file in temporary.iterdir():
            file.chmod(0o600)
