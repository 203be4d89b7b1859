"""The stage `ingest`: the input by its schema, compared with earlier runs, split."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

from synthgen.config import EncodeConfig, RunConfig
from synthgen.drift import Difference, Reference, differences, schema_differences
from synthgen.errors import ConfigError, DataError, DriftError, Violation, boundary
from synthgen.pipeline.stage import seed_of, stage
from synthgen.run_folder import Receipt, RunFolder
from synthgen.schema import TableSchema
from synthgen.sinks import open_sink
from synthgen.table import PackedTable, Split, split, split_by_coins
from synthgen.uri import local_path

if TYPE_CHECKING:
    from synthgen.checks.expectations import OwnExpectation
    from synthgen.synthesizer import Synthesizer

#: Fewer rows cannot be split, learnt and judged.
MIN_ROWS = 50


#: From here on squares, and with them means and spreads, come near the end of float64.
MAX_MAGNITUDE = 1e100


def ingest(folder: RunFolder) -> Receipt:
    """Read the input by its schema (or an inferred one), refuse what breaks it, split the rest."""
    with stage(folder, "ingest"):
        from synthgen.checks.expectations import as_json, check_frames, check_own, refuse_broken

        config = folder.config
        table, inferred = read_input(config)
        expected = own_expectations(config, table.schema)
        sink = open_sink(config.to)
        sink.check_names(table.schema.names)
        sink.check_space(rows=config.rows, columns=len(table.schema.columns))
        for note in notes(table, config, inferred=inferred):
            folder.log(stage="ingest", event="note", text=note)
        _watch_drift(folder, table)
        measured = check_frames(table.batches(), table.schema, name="input")
        refuse_broken(check_own(expected, table))
        halves = split_rows(table, config, seed_of(config))
        folder.write(folder.schema_path, table.schema.to_toml())
        if expected:
            folder.write(folder.expectations_path, as_json(expected))
        folder.write(folder.input_path, json.dumps([asdict(m) for m in measured]))
        folder.write_table(folder.holdout_path, halves.holdout)
        folder.write_table(folder.train_path, halves.train)
        return folder.finish(
            folder.receipt("ingest", folder.train_path, len(halves.train)),
            folder.schema_path,
            folder.input_path,
            folder.holdout_path,
            folder.reference_path,
            *([folder.drift_path] if folder.drift_path.exists() else []),
        )


def _watch_drift(folder: RunFolder, table: PackedTable) -> None:
    """Compare `table` with the reference of an earlier run; keep one for the next.

    Raises
    ------
    DriftError
        Listing every difference, if there are any and they are not accepted.
    """
    config = folder.config
    found = drift(config, table)
    if found is not None:
        reference = Path(config.drift.reference or "").name
        told = {
            "reference": reference,
            "accepted": config.drift.accept,
            "differences": [str(d) for d in found],
        }
        folder.write(folder.drift_path, json.dumps(told))
        for difference in found:
            folder.log(stage="ingest", event="note", text=f"drift: {difference}")
        if found and not config.drift.accept:
            raise DriftError(drifted(found, reference))
    if config.train.dp is None:
        kept = Reference.of(table, k=config.encode.min_rows)
    else:  # all but names and kinds would tell of the rows
        kept = Reference.of_schema(table.schema)
    folder.write(folder.reference_path, kept.to_json())


def drift(config: RunConfig, table: PackedTable) -> list[Difference] | None:
    """Return how `table` differs from the run in ``drift.reference``; None if there is none.

    With differential privacy only the schema is compared: anything else would tell of the rows.
    """
    if config.drift.reference is None:
        return None
    path = RunFolder.open(config.drift.reference).reference_path
    if not path.exists():
        return None  # a run of an earlier version
    before = Reference.from_json(path.read_text(encoding="utf-8"))
    if config.train.dp is not None or before.rows == 0:
        return list(schema_differences(before, table.schema))
    return differences(before, table, config.drift)


def drifted(found: Sequence[Difference], reference: str) -> str:
    """Return the sentence and the list that say what is no longer as it was."""
    return "\n".join(
        [
            f"the input is not what it was in run {reference}; nothing was learnt. Look into it; "
            "then go on with --accept-drift (recorded), or correct the input",
            *(f"  - {difference}" for difference in found),
        ]
    )


def read_input(config: RunConfig) -> tuple[PackedTable, bool]:
    """Read the whole input by its schema; returns the table, and whether the schema was inferred.

    Raises
    ------
    DataError
        Listing all violations, or saying that the rows cannot be learnt from.
    """
    from synthgen.conform import conform_packed, refuse_unmodelled
    from synthgen.encode.adopt import check_compatible
    from synthgen.infer import infer
    from synthgen.sources import open_source

    if config.train.dp is not None:
        _refuse_unprivate(config)
    declared = None if config.schema_path is None else TableSchema.load(config.schema_path)
    start = bundle_to_start_from(config)
    if start is not None and declared is not None:  # said before data are read
        check_compatible(start.schema, declared)
    with open_source(config.data, declared) as source:  # both readings see the same rows
        schema = (declared or infer(source)).without_drafts()
        if config.target is not None:
            schema = schema.with_target(config.target)
        refuse_unmodelled(schema)
        if start is not None:
            check_compatible(start.schema, schema)
        table = conform_packed(source.batches(), schema)
    _refuse_unlearnable(table)
    return table, config.schema_path is None


def own_expectations(config: RunConfig, schema: TableSchema) -> tuple[OwnExpectation, ...]:
    """Return what stands in ``<schema>.expectations.json`` beside the schema file, if it is there.

    Raises
    ------
    ConfigError
        If that file cannot be used.
    """
    from synthgen.checks.expectations import beside, load_expectations

    if config.schema_path is None or not beside(local_path(config.schema_path)).exists():
        return ()
    return load_expectations(beside(local_path(config.schema_path)), schema)


def draft_schema(data: str) -> TableSchema:
    """Infer the schema of the table at `data`, with the rules between columns that all rows keep.

    Raises
    ------
    DataError
        If it cannot be read or has no rows.
    """
    from synthgen import constraints
    from synthgen.conform import conform_packed
    from synthgen.encode.search import proposed
    from synthgen.encode.table import sample_rows
    from synthgen.infer import infer
    from synthgen.sources import open_source

    with boundary("infer"), open_source(data) as source:
        schema = infer(source)
        try:
            table = conform_packed(source.batches(), schema)
        except DataError:
            return schema  # what a draft cannot read is for people to decide
        sample = sample_rows(table, EncodeConfig().fit_rows, seed=0)
        rules = proposed(sample, schema, min_rows=EncodeConfig().min_rows)
        found = constraints.Broken(replace(schema, constraints=rules))
        for frame in table.batches() if rules else ():
            found.add(frame)
        kept = tuple(rule for rule, count in found.counts().items() if not count)
        reason = f"All {len(table):,} rows keep it."
        kept = tuple(replace(rule, reason=rule.reason or reason) for rule in kept)
        return replace(schema, constraints=kept)


def split_rows(table: PackedTable, config: RunConfig, seed: int) -> Split[PackedTable]:
    """Return the rows to learn from and to judge by; with privacy each row by its own coin."""
    if config.train.dp is not None:
        return split_by_coins(table, holdout=config.split.holdout)
    return split(table, holdout=config.split.holdout, seed=seed)


def bundle_to_start_from(config: RunConfig) -> Synthesizer | None:
    """Return what training starts from, loaded; None for a start from nothing.

    Raises
    ------
    BundleError
        If the bundle is missing or damaged.
    """
    if config.warm_start is None:
        return None
    from synthgen.synthesizer import Synthesizer

    return Synthesizer.load(local_path(config.warm_start), device="cpu")


def _refuse_unprivate(config: RunConfig) -> None:
    """Raise ConfigError, before data are read, for what differential privacy cannot go with."""
    from synthgen.dp.domain import check_public

    if config.schema_path is None:
        raise ConfigError(
            "differential privacy needs a declared schema: one inferred from the data tells of "
            "them; draft it with 'synthgen schema infer', review it, and give it with --schema "
            "(with --charge-metadata it may leave out bounds and categories)"
        )
    if config.warm_start is not None:
        raise ConfigError("differential privacy starts from nothing: leave warm_start out")
    if config.report.preview_minutes is not None:
        raise ConfigError("a preview shows real columns, not covered by epsilon: leave it out")
    asked = config.train.dp
    charged = asked is not None and asked.charge_metadata
    check_public(TableSchema.load(config.schema_path), charge_metadata=charged)


def _refuse_unlearnable(table: PackedTable) -> None:
    if len(table) < MIN_ROWS:
        raise DataError(f"the input has {len(table)} rows; at least {MIN_ROWS} are needed")
    _refuse_huge(table)
    if not table.schema.modelled:
        raise DataError("no column is left to learn: all of them are ids, PII or free text")
    target = table.schema.target
    if target is not None and table.column(target.name).nunique() < 2:
        raise DataError(
            f"column '{target.name}': a target needs at least two different values; "
            "choose another target"
        )


def _refuse_huge(table: PackedTable) -> None:
    rule = f"rows are {MAX_MAGNITUDE:g} or more in size, too large to compute with"
    names = [c.name for c in table.schema.modelled if c.kind == "numeric"]
    counts = {name: int((table.column(name).abs() >= MAX_MAGNITUDE).sum()) for name in names}
    found = [
        Violation(name, rule, count, len(table), "correct them or take their logarithm")
        for name, count in counts.items()
        if count
    ]
    if found:
        raise DataError("numbers that cannot be learnt:", found)


def notes(table: PackedTable, config: RunConfig, *, inferred: bool) -> Iterator[str]:
    """Yield what people should know before the run is on its way, a sentence each."""
    from synthgen.checks.gate import too_few_to_prove
    from synthgen.infer import NOTE

    if inferred:
        yield "no schema was given: one was inferred and written to schema.toml; read its comments"
        for column in table.schema.modelled:
            if NOTE in column.reason:
                yield f"column '{column.name}' is {column.kind}: {column.reason.split(NOTE)[1]}"
    else:
        assert config.schema_path is not None
        if drafts := TableSchema.load(config.schema_path).drafts:
            yield (
                f"bounds or categories of {len(drafts)} columns ({', '.join(drafts)}) were read "
                'from the data and bind nothing; review them and drop source = "data"'
            )
    if config.warm_start is not None:
        yield (
            "training starts from another bundle: the result tells of that bundle's table too, and "
            "the gate compares with rows of this table only"
        )
    smallest = min(round(len(table) * config.split.holdout), config.rows)
    if smallest < config.gate.min_privacy_rows:
        yield (
            f"holdout or output will have about {smallest} rows and the gate asks for "
            f"{config.gate.min_privacy_rows}: expect a refusal"
        )
    if config.gate.prove_power and too_few_to_prove(len(table), config.split.holdout):
        yield (
            "rows are too few for the gate to find copies planted to test it: expect a refusal; "
            "use more rows or a larger split.holdout, or waive it (gate.prove_power = false)"
        )
