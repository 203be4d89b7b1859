"""The synthesizer: fitted on a real table, it draws synthetic ones and needs the real one no more.

A bundle is a folder of TOML, JSON and safetensors: nothing in it can execute, it holds no row, no
critic and no optimizer state, and it loads on any device.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save_file

from synthgen.ahead import ahead
from synthgen.ask import conditions as cond
from synthgen.ask.completion import Completion, best_guess, impute
from synthgen.ask.conditions import Condition
from synthgen.ask.control import AS_LEARNT, Control
from synthgen.ask.critic import Critic
from synthgen.ask.impossible import together
from synthgen.ask.quotas import Quotas, mixed, parse_match, plan
from synthgen.ask.restriction import intervals, restriction, satisfying, style
from synthgen.ask.scoring import Scorer
from synthgen.ask.translation import translate
from synthgen.config import (
    DriftConfig,
    ExportConfig,
    ReportConfig,
    RunConfig,
    RunsConfig,
    ScaleConfig,
    TrainConfig,
)
from synthgen.conform import refuse_unmodelled
from synthgen.dp import release
from synthgen.dp.noise import Noise
from synthgen.dp.tree import Tree, TreeDrawer
from synthgen.encode.absent import count_absent, implied_absent
from synthgen.encode.adopt import adopt, check_compatible, correspondence
from synthgen.encode.suppressed import suppressed
from synthgen.encode.table import TableEncoder
from synthgen.errors import BundleError, ConfigError, DataError, SchemaError, is_out_of_memory
from synthgen.files import sha256
from synthgen.gan import dp
from synthgen.gan.given import Completer
from synthgen.gan.nets import Form, Generator
from synthgen.gan.sample import BLOCK, CHUNK, Drawer, Restriction
from synthgen.gan.train import Log, fit
from synthgen.gan.transplant import Start
from synthgen.gan.world import ALONE, World, joined
from synthgen.replace import MAX_NAMESPACE, namespaces, regenerate
from synthgen.rng import derive, stream
from synthgen.schema import TableSchema
from synthgen.table import PackedTable, RealTable, SyntheticTable, canonical_dtype

BUNDLE_FORMAT = 2
BUNDLE_FILES = ("schema.toml", "config.toml", "encoder.json", "generator.safetensors")
MAX_BUNDLE_BYTES = 2**30
#: Fewer rows cannot be learnt from: bins, levels and a validation share would be single rows.
MIN_ROWS = 20
#: Rows of a chunk: what is drawn at once, and what several processes share among them.
CHUNK_ROWS = CHUNK * BLOCK
#: Rows drawn for one that satisfies conditions on computed columns, before giving up.
MAX_REJECTION = 500
#: Rows drawn without a single one that satisfies them, before giving up.
MAX_MISSES = 100_000
#: Blocks by which the probability of conditions is estimated.
SHARE = 16
#: Blocks drawn without conditions to say which of those that cannot be met is to be relaxed.
PROBE = 32


def pick_device(name: str) -> torch.device:
    """Return the device called ``auto``, ``cpu`` or ``cuda``.

    Raises
    ------
    ConfigError
        If ``cuda`` is demanded and there is none, or the name is another.
    """
    if name not in ("auto", "cpu", "cuda"):
        raise ConfigError(f"device '{name}' is unknown; use 'auto', 'cpu' or 'cuda'")
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and not torch.cuda.is_available():
        raise ConfigError("device 'cuda' was demanded, but there is none; use 'auto' or 'cpu'")
    return torch.device(name)


@contextmanager
def world_of(device: str) -> Iterator[World]:
    """Join the processes that ``torchrun`` started with this one, until the block ends."""
    with joined(pick_device(device)) as world:
        yield world


@dataclass(repr=False)
class Synthesizer:
    """A schema, a fitted encoder and a trained generator.

    Attributes
    ----------
    schema : TableSchema
    encoder : TableEncoder
    generator : Generator or Tree
        A tree of noisy counts only from differentially private training.
    config : RunConfig
        What it was fitted with.
    facts : dict
        Rows, seed, device and version: numbers and short strings, for the manifest.
    namespaces : dict
        For each column that is written anew, the namespace of its form (see `replace`).
    """

    schema: TableSchema
    encoder: TableEncoder
    generator: Generator | Tree
    config: RunConfig
    facts: dict[str, Any] = field(default_factory=dict)
    namespaces: dict[str, int] = field(default_factory=dict)

    def __repr__(self) -> str:
        return f"Synthesizer({self.schema.name!r}, {len(self.schema.modelled)} modelled columns)"

    @classmethod
    def fit(
        cls,
        table: RealTable | PackedTable,
        *,
        config: RunConfig,
        seed: int,
        device: str = "auto",
        log: Log = lambda record: None,
        checkpoint: Path | None = None,
        warm_start: Synthesizer | None = None,
        apart_from: Sequence[RealTable | PackedTable] = (),
        world: World = ALONE,
        watch: Callable[[Synthesizer, int], None] | None = None,
    ) -> Synthesizer:
        """Fit encoder and generator on the N rows of `table`.

        Parameters
        ----------
        table : RealTable or PackedTable
            Training rows only; a share of them serves as validation.
        config : RunConfig
            Its sections `encode`, `train` and `sample`.
        seed : int
            Equal seeds on a CPU give equal bundles.
        device : {"auto", "cpu", "cuda"}
        log : callable
            Receives a record now and then: ``{"phase", "step", "steps", "loss", ...}``; one with a
            ``note`` is for people.
        checkpoint : Path, optional
            A file to keep the state of training in, and to go on from; see `gan.train.fit`. It is
            as sensitive as the bundle, and the caller's to remove.
        warm_start : Synthesizer, optional
            Fitted on a related table with the same modelled columns: training goes on from its
            weights, and keeps its levels where the new rows fit them. What is fitted then tells of
            both tables; `facts["warm_start"]` lists the fingerprints of those that came before.
        apart_from : sequence of RealTable or PackedTable
            Further real rows, such as the holdout: nothing is learnt from them, but no id or
            personal datum of theirs is written either.
        world : World, optional
            The processes that fit together (`gan.world`), all given the same rows and seed: the
            encoder is fitted on all of them, and each process trains on its share.
        watch : callable, optional
            Is shown a synthesizer as far as training has come, and the step, now and then; it may
            draw from it. The bundle is the same with and without.

        Raises
        ------
        SchemaError
            If a column is free text that nothing is declared to replace, or `warm_start` models
            other columns, or another kind of one; all are listed.
        DataError
            If there are fewer than `MIN_ROWS` rows or nothing to model.
        TrainingError
            If training does not converge to finite losses.
        """
        from synthgen import __version__

        if config.train.dp is not None:
            raise ConfigError("train.dp is set: fit_privately trains with differential privacy")
        refuse_unmodelled(table.schema)
        if len(table) < MIN_ROWS:
            raise DataError(f"{len(table)} training rows are too few; {MIN_ROWS} are the least")
        place = pick_device(device)
        encoder, start = fit_encoder(table, config, seed=seed, warm_start=warm_start)
        facts: dict[str, Any] = {}
        if warm_start is not None:
            facts["warm_start"] = warm_start.ancestors
        share = table
        if world.size > 1:
            share = table.filter(np.arange(len(table)) % world.size == world.rank)

        def show(generator: Generator, step: int) -> None:
            if watch is not None:
                watch(cls(encoder.schema, encoder, generator, config), step)

        encoded = encoder.transform(share)
        counts = world.total(count_absent(encoded.tokens[:, : encoded.layout.n_coarse]))
        encoder = replace(encoder, absent=implied_absent(counts, len(table)))
        generator = fit(
            encoded,
            config.train,
            seed=seed,
            device=place,
            log=log,
            checkpoint=checkpoint,
            start=start,
            world=world,
            watch=None if watch is None else show,
        )
        facts |= {"rows": len(table), "seed": seed, "device": place.type, "version": __version__}
        real = (frame for rows in (table, *apart_from) for frame in rows.batches())
        apart = namespaces(encoder.schema, real)
        facts["protection"] = suppressed(encoder, table, config.encode, seed)
        return cls(encoder.schema, encoder, generator, config, facts, apart)

    @classmethod
    def fit_privately(
        cls,
        table: RealTable | PackedTable,
        *,
        config: RunConfig,
        seed: int,
        charge: Callable[[release.Plan], None],
        log: Log = lambda record: None,
    ) -> Synthesizer:
        """Fit with the differential privacy that ``config.train.dp`` asks for, on the CPU.

        Parameters
        ----------
        table : RealTable or PackedTable
            All of its rows are used: nothing is tuned or stopped by held-out rows.
        seed : int
            Of initial weights and masks. The noise has none, so that equal seeds differ.
        charge : callable
            Is told what will be read before any row is; it writes the ledger, or raises.

        Raises
        ------
        SchemaError
            If a column is free text that nothing is declared to replace; all are listed.
        ConfigError
            If the schema leaves values undeclared (all listed), or `charge` refuses.
        """
        from synthgen import __version__

        asked = config.train.dp
        if asked is None:
            raise ConfigError("give train.dp.epsilon to train with differential privacy")
        refuse_unmodelled(table.schema)
        plan = release.plan(table.schema, asked)
        charge(plan)
        noise = Noise()
        released = release.measure(table, table.schema, plan, noise)
        generator: Generator | Tree = released.tree
        if plan.engine == "network":
            generator = _train_privately(released, plan, config.train, seed, noise, log)
        facts = {
            "rows": released.n_rows,
            "seed": seed,
            "device": "cpu",
            "version": __version__,
            "dp": plan.facts,
        }
        return cls(table.schema, released.encoder, generator, config, facts)

    @property
    def ancestors(self) -> list[str]:
        """Fingerprints of this synthesizer and of those that its training started from."""
        return [self.fingerprint, *self.facts.get("warm_start", [])]

    @property
    def device(self) -> torch.device:
        """Where the generator is."""
        if isinstance(self.generator, Tree):
            return torch.device("cpu")
        return next(self.generator.parameters()).device

    def _state(self) -> dict[str, torch.Tensor]:
        """Return all that the generator has learnt, on the CPU."""
        if isinstance(self.generator, Tree):
            return {k: torch.from_numpy(v) for k, v in self.generator.state().items()}
        return {k: v.detach().cpu().contiguous() for k, v in self.generator.state_dict().items()}

    def _drawer(
        self, seed: int, asked: Restriction, control: Control = AS_LEARNT
    ) -> Drawer | TreeDrawer:
        layout = self.encoder.layout
        if isinstance(self.generator, Tree):
            if control != AS_LEARNT:
                raise ConfigError(
                    "a tree of noisy counts has no temperature; train engine = 'network'"
                )
            return TreeDrawer(self.generator, layout, seed, asked.weights, BLOCK)
        return Drawer(
            self.generator,
            layout,
            seed=seed,
            restriction=asked,
            style=style(self.encoder, control),
            steps=self.config.sample.sampling_steps,
        )

    def sample(
        self,
        n: int,
        *,
        seed: int,
        where: Sequence[str] = (),
        match: Sequence[str] = (),
        fair: tuple[str, str] | None = None,
        control: Control = AS_LEARNT,
    ) -> SyntheticTable:
        """Draw `n` rows.

        Parameters
        ----------
        n : int
            At least 1. The first m rows of a draw of n are the draw of m, but for `match` and
            `fair`, whose counts are those of n.
        seed : int
            The same seed gives the same rows.
        where : sequence of str
            Conditions that every row satisfies, for instance ``["income='>50K'", "age >= 30"]``.
        match : sequence of str
            Shares that columns shall have, exact counts: ``["sex=F:0.5,M:0.5"]``; see `quotas`.
        fair : tuple of two str, optional
            A sensitive column and a target that shall be independent of it.
        control : Control
            Temperature and truncation.

        Raises
        ------
        ConfigError
            If a condition cannot be read, nothing the generator knows satisfies it, or targets
            exclude each other.
        """
        quotas = None
        if match or fair:
            quotas = self.quotas(n, seed=seed, where=where, match=match, fair=fair, control=control)
        frames = self.sample_batches(n, seed=seed, where=where, quotas=quotas, control=control)
        frame = pd.concat(list(frames), ignore_index=True)
        return SyntheticTable(self.schema, frame, synthesizer=self.fingerprint, seed=seed)

    def quotas(
        self,
        n: int,
        *,
        seed: int,
        where: Sequence[str] = (),
        match: Sequence[str] = (),
        fair: tuple[str, str] | None = None,
        control: Control = AS_LEARNT,
    ) -> Quotas:
        """Return the exact counts of `n` rows by which shares match, for `sample_batches`.

        Parameters are those of `sample`. Several columns are raked together from `PROBE` blocks
        that are drawn without targets; so is a fair pair.

        Raises
        ------
        ConfigError
            If a column is asked twice, or targets exclude each other.
        """
        conditions = self._conditions(where)
        axes = [parse_match(text, self.schema) for text in match]
        asked = {name for axis in axes for name in axis.columns} | set(fair or ())
        if both := sorted(asked & {c.column for c in conditions}):
            raise ConfigError(f"column '{both[0]}' has a condition and is to match or to be fair")
        free = None
        if fair is not None or len(axes) > 1:
            of_free = derive(seed, "free") % 2**31
            drawn = self._drawn(PROBE * BLOCK, of_free, conditions, control)
            free = pd.concat(list(drawn), ignore_index=True)
        return plan(n, axes, self.schema, fair=fair, free=free)

    def share(self, where: Sequence[str], *, seed: int) -> float | None:
        """Return how likely the generator holds the conditions on columns that are drawn, 0 to 1.

        Estimated from 16 blocks. Where that times the rows it learnt from is below 1, what is drawn
        under the conditions is extrapolated. None: a tree of noisy counts does not say.
        """
        conditions = self._conditions(where)
        drawer = self._drawer(seed, restriction(self.encoder, conditions))
        return drawer.share(SHARE) if isinstance(drawer, Drawer) else None

    def _conditions(self, where: Sequence[str]) -> list[Condition]:
        """Return the parsed conditions; ConfigError if those on one column exclude each other."""
        conditions = [cond.parse(text, self.schema) for text in where]
        for name in {c.column for c in conditions}:
            asked = [c for c in conditions if c.column == name]
            cond.common_bounds(asked, self.schema.column(name))
        return conditions

    def sample_batches(
        self,
        n: int,
        *,
        seed: int,
        where: Sequence[str] = (),
        quotas: Quotas | None = None,
        control: Control = AS_LEARNT,
    ) -> Iterator[pd.DataFrame]:
        """Yield the rows of `sample` in canonical frames of bounded size.

        `quotas` are those of the same `n` and `where`. The next rows are drawn while the caller
        does something with the last ones.
        """
        if n < 1:
            raise ConfigError("the number of rows must be at least 1")
        conditions = self._conditions(where)
        if quotas is None:
            frames = self._drawn(n, seed, conditions, control)
        else:
            parts = {
                i: self._drawn(
                    int(count), derive(seed, "cell", i) % 2**31, [*conditions, *cell], control
                )
                for i, (cell, count) in enumerate(zip(quotas.cells, quotas.counts, strict=True))
            }
            frames = mixed(quotas, parts, stream(seed, "quotas"), CHUNK_ROWS)
        done = 0
        for frame in ahead(frames):
            yield self._complete(frame, done, seed)
            done += len(frame)

    def _drawn(
        self, n: int, seed: int, conditions: Sequence[Condition], control: Control
    ) -> Iterator[pd.DataFrame]:
        """Yield `n` rows of the modelled columns that satisfy every condition."""
        drawer = self._drawer(seed, restriction(self.encoder, conditions), control)
        within = intervals(self.encoder, conditions)
        done = tried = 0
        while done < n:
            first = tried // BLOCK
            last = first + min(CHUNK - first % CHUNK, -(-(n - done) // BLOCK))
            if first % CHUNK == 0:
                habits = self._habits(seed, first // CHUNK)
            try:
                table = drawer.draw(range(first, last))
            except DataError as error:
                raise DataError(f"{error}: {self._relaxing(conditions, seed)}") from None
            frame = self.encoder.inverse_transform(table, habits, within)
            tried += len(frame)
            frame = satisfying(self.encoder, frame, conditions).iloc[: n - done]
            hits = done + len(frame)
            if tried >= (MAX_REJECTION * max(hits, BLOCK) if hits else MAX_MISSES):
                raise DataError(
                    f"only {hits:,} of {tried:,} drawn rows satisfy the conditions "
                    f"together; relax one of them: {self._relaxing(conditions, seed)}"
                )
            if len(frame):
                yield frame
            done += len(frame)

    def sample_chunk(self, number: int, n: int, *, seed: int) -> pd.DataFrame:
        """Return the rows of one chunk of a draw of `n`: those that `sample` has there.

        Parameters
        ----------
        number : int
            Chunks have `CHUNK_ROWS` rows, the last one what is left of `n`.
        """
        start, first = number * CHUNK_ROWS, number * CHUNK
        rows = min(CHUNK_ROWS, n - start)
        drawer = self._drawer(seed, restriction(self.encoder))
        table = drawer.draw(range(first, first + -(-rows // BLOCK)))
        frame = self.encoder.inverse_transform(table, self._habits(seed, number))
        return self._complete(frame.iloc[:rows], start, seed)

    def _relaxing(self, conditions: Sequence[Condition], seed: int) -> str:
        """Return which of the conditions to relax, by what rows look like without them."""
        drawer = self._drawer(seed, restriction(self.encoder))
        free = self.encoder.inverse_transform(drawer.draw(range(PROBE)), self._habits(seed, 0))
        return together(free, conditions, self.schema)

    def _habits(self, seed: int, chunk: int) -> list[np.random.Generator]:
        """Return a stream for each part, of the rounding habits in one chunk of rows."""
        return [stream(seed, "decode", i, chunk) for i in range(len(self.encoder.parts))]

    def complete(
        self,
        rows: pd.DataFrame,
        *,
        seed: int,
        copies: int = 1,
        vary: float = 0.0,
        control: Control = AS_LEARNT,
    ) -> Iterator[pd.DataFrame]:
        """Yield whole rows that hold the cells of `rows`, everything else drawn given these.

        Parameters
        ----------
        rows : DataFrame
            Some modelled columns, canonical dtypes; a missing cell is drawn like an absent column.
        seed : int
            Equal seeds give equal rows.
        copies : int
            Different completions of each row; a frame is yielded for each.
        vary : float in [0, 1]
            Each cell of `rows` is drawn anew with this probability: variations of a row. Those of
            a real row hold some of its cells; nothing about them is private.
        control : Control

        Raises
        ------
        ConfigError
            If `vary` is no probability.
        """
        if not 0 <= vary <= 1:
            raise ConfigError("vary is a probability, from 0 to 1")
        frame, completion = self._canonical(rows), self._completion(control)
        for copy in range(copies):
            of_copy = derive(seed, "copy", copy) % 2**31
            drawn = completion.complete(frame, frame.notna(), seed=of_copy, vary=vary)
            yield self._complete(drawn, copy * len(frame), seed)

    def interpolate(
        self,
        ends: pd.DataFrame,
        *,
        steps: int,
        seed: int,
        copies: int = 1,
        control: Control = AS_LEARNT,
    ) -> pd.DataFrame:
        """Return `copies` rows at each of `steps` from one row's condition to another's, in order.

        See `completion.Completion.between`.

        Parameters
        ----------
        ends : (2, columns) DataFrame
            Some modelled columns, canonical dtypes; what either row lacks is drawn.
        steps : int
            At least 2: both ends are among them.
        seed, copies : int
        control : Control

        Raises
        ------
        ConfigError
            If there are not two rows, not two steps, or no column that both rows fill.
        """
        if len(ends) != 2 or steps < 2:
            raise ConfigError("interpolating takes two rows, and two steps or more")
        frame = self._canonical(ends)
        if not frame.notna().all(axis=0).any():
            raise ConfigError("interpolating takes a column that both rows fill")
        drawn = self._completion(control).between(
            frame, frame.notna(), steps=steps, copies=copies, seed=seed
        )
        return self._complete(drawn, 0, seed)

    def _canonical(self, rows: pd.DataFrame) -> pd.DataFrame:
        """Return every modelled column of `rows`, absent ones missing."""
        kinds = {c.name: canonical_dtype(c) for c in self.schema.modelled}
        return rows.reindex(columns=list(kinds)).reset_index(drop=True).astype(kinds)

    def impute(
        self, frame: pd.DataFrame, *, seed: int, multiple: int | None = None
    ) -> list[pd.DataFrame]:
        """Return `frame` with its missing cells filled and nothing else changed.

        Parameters
        ----------
        frame : DataFrame
            Every modelled column, canonical dtypes.
        multiple : int, optional
            So many tables of independent draws, for `completion.pool`. None: one table of best
            guesses (conditional mean, or likeliest level).

        Raises
        ------
        ConfigError
            If a column with gaps was missing on every training row.
        """
        if multiple is None:
            return [best_guess(self._completion(), frame)]
        return impute(self._completion(), frame, seed=seed, m=multiple)

    def score(self, frame: pd.DataFrame, *, critic_of: pd.DataFrame | None = None) -> pd.DataFrame:
        """Return what each column and the row as a whole add to a row's score, its sum.

        See `scoring.Scorer.score`. What is usual is drawn once; keep the synthesizer to ask again.

        Parameters
        ----------
        frame : DataFrame
            N rows of every modelled column, canonical dtypes.
        critic_of : DataFrame, optional
            The real rows of training: a critic learns from them and adds its own score. They are
            kept nowhere.

        Raises
        ------
        ConfigError
            If `critic_of` has too few rows, or this was trained with differential privacy, which
            does not cover what a critic would tell of them.
        """
        if critic_of is None:
            return self._scorer.score(frame)
        if self.config.train.dp is not None:
            raise ConfigError(
                "trained with differential privacy, which does not cover a critic of the training "
                "rows; score with the bundle alone"
            )
        return self._scorer.score(frame, Critic.fit(critic_of, list(self.schema.modelled)))

    @cached_property
    def _scorer(self) -> Scorer:
        return Scorer(self._completion())

    def translate(
        self, frame: pd.DataFrame, to: Synthesizer, *, keep: Collection[str] = (), seed: int
    ) -> pd.DataFrame:
        """Return rows of this synthesizer's domain rewritten as if from the domain of `to`.

        Parameters
        ----------
        frame : DataFrame
            N rows of every modelled column, canonical dtypes.
        to : Synthesizer
            Fitted on rows of the other domain, with the same modelled columns.
        keep : collection of str
            Columns that stay as they are.
        seed : int
            Equal seeds give equal rows.

        Raises
        ------
        SchemaError
            If the two model other columns, or another kind of one; all are listed.
        ConfigError
            If a column in `keep` is not modelled.
        """
        said = "rows go from one bundle to another of the same columns, and these differ"
        check_compatible(self.schema, to.schema, said)
        if unknown := sorted(set(keep) - {c.name for c in self.schema.modelled}):
            raise ConfigError(f"keep: no modelled column is called {', '.join(unknown)}")
        return translate(self._completion(), to._completion(), frame, keep=keep, seed=seed)

    def _completion(self, control: Control = AS_LEARNT) -> Completion:
        if isinstance(self.generator, Tree):
            raise ConfigError("a tree of noisy counts completes no rows; train engine = 'network'")
        possible = restriction(self.encoder)
        drawn = style(self.encoder, control)
        completer = Completer(self.generator, self.encoder.layout, possible, drawn)
        return Completion(self.encoder, completer)

    def _complete(self, frame: pd.DataFrame, start: int, seed: int) -> pd.DataFrame:
        """Return `frame` with ids and PII written anew, in schema order."""
        new = {
            c.name: regenerate(
                c, start, len(frame), seed=seed, namespace=self.namespaces.get(c.name, 0)
            )
            for c in self.schema.columns
            if c.is_regenerated
        }
        return frame.assign(**new)[self.schema.names].reset_index(drop=True)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of everything that decides its rows: schema, encoder, weights, sampling."""
        digest = hashlib.sha256(self.schema.fingerprint.encode())
        digest.update(self.encoder.to_json().encode())
        digest.update(str(self.config.sample.sampling_steps).encode())
        digest.update(json.dumps(self.namespaces, sort_keys=True).encode())
        for name, tensor in sorted(self._state().items()):
            digest.update(name.encode())
            digest.update(tensor.numpy().tobytes())
        return digest.hexdigest()

    def save(self, folder: Path) -> None:
        """Write the bundle into `folder`, which must not hold one."""
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise ConfigError(f"bundle folder {folder} is not empty")
        (folder / "schema.toml").write_text(self.schema.to_toml(comments=False), encoding="utf-8")
        # Where the data came from and where it went is the run's business, not the bundle's.
        private = {
            "data": "",
            "to": "",
            "schema_path": None,
            "warm_start": None,
            "drift": DriftConfig(),
            "report": ReportConfig(),
            "runs": RunsConfig(),
            "export": ExportConfig(),
            "scale": ScaleConfig(),
        }
        public = self.config.model_copy(update=private)
        (folder / "config.toml").write_text(public.to_toml(), encoding="utf-8")
        self.encoder.save(folder / "encoder.json")
        save_file(self._state(), folder / "generator.safetensors")
        index = {
            "format": BUNDLE_FORMAT,
            "facts": self.facts,
            "network": _shape(self.generator),
            "namespaces": self.namespaces,
            "files": {name: sha256(folder / name) for name in BUNDLE_FILES},
        }
        (folder / "bundle.json").write_text(json.dumps(index, indent=1), encoding="utf-8")

    @classmethod
    def load(cls, folder: str | Path, *, device: str = "auto") -> Synthesizer:
        """Read a bundle, on any device. Executes nothing.

        Raises
        ------
        BundleError
            If a file is missing, linked, too large, changed, of another format version, or holds
            tensors of the wrong shape or that are not finite.
        """
        folder = Path(folder)
        index = _read_index(folder)
        try:
            schema = TableSchema.load(folder / "schema.toml")
            config = RunConfig.load(folder / "config.toml")
            encoder = TableEncoder.load(folder / "encoder.json", schema)
            state = load_tensors((folder / "generator.safetensors").read_bytes())
            if not all(bool(torch.isfinite(t).all()) for t in state.values()):
                raise BundleError(f"bundle {folder}: weights are not finite")
            generator = _restored(index["network"], state, encoder, config.train)
            facts = {**index["facts"], "rows": int(index["facts"]["rows"])}
            apart = {
                c.name: int(index["namespaces"].get(c.name, 0)) % MAX_NAMESPACE
                for c in schema.columns
                if c.is_regenerated
            }
        except (SchemaError, ConfigError) as error:
            raise BundleError(f"bundle {folder}: {error}") from None
        except (
            ArithmeticError,
            AttributeError,
            LookupError,
            RuntimeError,  # RecursionError is one
            SafetensorError,
            TypeError,
            ValueError,
        ) as error:
            if is_out_of_memory(error):
                raise
            raise BundleError(f"bundle {folder} is damaged ({type(error).__name__})") from None
        place = pick_device(device)
        if isinstance(generator, Generator):
            generator.to(place).eval()
        return cls(schema, encoder, generator, config, facts, apart)


def _shape(generator: Generator | Tree) -> dict[str, Any]:
    """Return what a bundle needs to know beside the weights."""
    if isinstance(generator, Tree):
        return {"tree": True}
    skeleton = generator.skeleton
    detail = generator.detail is not None
    return {"width": skeleton.width, "depth": skeleton.depth, "detail": detail}


def _restored(
    network: dict[str, Any],
    state: dict[str, torch.Tensor],
    encoder: TableEncoder,
    config: TrainConfig,
) -> Generator | Tree:
    if network.get("tree"):
        return Tree.from_state({k: v.numpy() for k, v in state.items()}, encoder.layout)
    # As configurations are bounded: the shapes of a stranger's network cost nothing on "meta".
    shape = TrainConfig(width=network["width"], depth=network["depth"])
    width, depth = shape.width, shape.depth
    if width is None or depth is None:
        raise ValueError("the network has no size")

    def built() -> Generator:
        return Generator(
            encoder.layout,
            width=width,
            depth=depth,
            latent=config.latent,
            detail=bool(network["detail"]),
            form=Form.of(config),
        )

    with torch.device("meta"):
        expected = {name: tensor.shape for name, tensor in built().state_dict().items()}
    if expected != {name: tensor.shape for name, tensor in state.items()}:
        raise ValueError("the weights are not those of the network")
    generator = built()
    generator.load_state_dict(state)
    return generator


#: Sizes and free steps of the network with differential privacy: noise grows with every weight.
DP_WIDTH, DP_DEPTH, DP_PRETRAINING = 64, 2, 600
#: Rows drawn, and times, to bring one-way counts of the network to the released ones.
DP_CALIBRATION = (32, 10)


def _train_privately(
    released: release.Released,
    plan: release.Plan,
    config: TrainConfig,
    seed: int,
    noise: Noise,
    log: Log,
) -> Generator:
    """Return the any-subset generator: fitted to the tree, then noised steps, then calibrated."""
    assert config.dp is not None
    layout, tree = released.encoder.layout, released.tree
    masks = torch.Generator().manual_seed(derive(seed, "dp", "masks"))
    rows = stream(seed, "dp", "tree")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive(seed, "torch"))
        generator = Generator(
            layout,
            width=config.width or DP_WIDTH,
            depth=config.depth or DP_DEPTH,
            latent=config.latent,
            detail=False,
            form=Form("mlp", config.harmonics),
        )
    skeleton = generator.skeleton
    dp.pretrain(skeleton, lambda n: torch.from_numpy(tree.sample(n, rows)), DP_PRETRAINING, masks)
    noised = plan.mechanisms["steps"]
    steps = dp.Steps(
        n_steps=noised.count,
        rate=noised.rate,
        noise_multiplier=noised.noise,
        max_grad_norm=config.dp.max_grad_norm,
        expected_batch=max(1.0, noised.rate * released.n_rows),
        learning_rate=config.learning_rate,
    )
    tokens = torch.from_numpy(released.encoded.tokens).long()
    generator.skeleton = dp.train_privately(skeleton, tokens, steps, noise, log)
    generator.eval()
    blocks, rounds = DP_CALIBRATION
    marginals = [np.asarray(p.encoder.prior) for p in released.encoder.parts]

    def sample() -> torch.Tensor:
        drawer = Drawer(
            generator, layout, seed=int(rows.integers(2**31)), restriction=Restriction()
        )
        return torch.from_numpy(drawer.draw(range(blocks)).tokens).long()

    dp.calibrate(generator.skeleton, sample, marginals, rounds)
    return generator


def fit_encoder(
    table: RealTable | PackedTable,
    config: RunConfig,
    *,
    seed: int,
    warm_start: Synthesizer | None = None,
) -> tuple[TableEncoder, Start | None]:
    """Return a training's encoder and what its weights start from: nothing, or `warm_start`.

    Raises
    ------
    ConfigError
        If `warm_start` holds no network.
    SchemaError
        If it models other columns, or another kind of one.
    """
    if warm_start is None:
        return TableEncoder.fit(table, table.schema, config.encode, seed=seed), None
    if isinstance(warm_start.generator, Tree):
        raise ConfigError("a warm start needs a network, and this bundle holds a tree")
    old = warm_start.encoder
    encoder = adopt(old, table, table.schema, config.encode, seed=seed)
    return encoder, Start(warm_start.generator, old.layout, correspondence(old, encoder))


def _read_index(folder: Path) -> dict[str, Any]:
    """Return bundle.json after checking that the listed files are there, plain and unchanged."""
    paths = [folder / name for name in ("bundle.json", *BUNDLE_FILES)]
    missing = [p.name for p in paths if p.is_symlink() or not p.is_file()]
    if missing:
        raise BundleError(f"bundle {folder} lacks {', '.join(missing)} (links do not count)")
    if sum(p.stat().st_size for p in paths) > MAX_BUNDLE_BYTES:
        raise BundleError(f"bundle {folder} is larger than {MAX_BUNDLE_BYTES:,} bytes")
    try:
        index = json.loads(paths[0].read_text(encoding="utf-8"))
        version, hashes = index["format"], index["files"]
        changed = [name for name in BUNDLE_FILES if hashes[name] != sha256(folder / name)]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise BundleError(f"bundle {folder}: bundle.json is damaged") from None
    if version != BUNDLE_FORMAT:
        raise BundleError(
            f"bundle {folder} has format {version!r:.20}; this synthgen reads {BUNDLE_FORMAT}"
        )
    if changed:
        raise BundleError(f"bundle {folder}: {', '.join(changed)} changed since it was written")
    return dict(index)
