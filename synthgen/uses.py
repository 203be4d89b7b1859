"""What a generator does for rows of one's own: gaps filled, rows scored, scarce classes added to.

All outputs hold the real rows that were asked about, so they are as sensitive as those: files have
mode 0600, and nothing here passes a gate.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from synthgen.config import RunConfig
from synthgen.errors import ConfigError, GateRefused, boundary
from synthgen.files import staged
from synthgen.rng import seed_or_fresh
from synthgen.schema import Column, TableSchema
from synthgen.sinks.formats import column_text, csv_rows
from synthgen.sinks.local import LocalFile
from synthgen.table import RealTable, read_frame, to_arrow
from synthgen.uri import local_path

if TYPE_CHECKING:
    from synthgen.augment import Verdict
    from synthgen.synthesizer import Synthesizer

#: Column that tells the tables of a multiple imputation apart, 1 to m.
IMPUTATION = "imputation"
#: Column of a row's score, and of its number in the file, from 1.
SCORE, ROW = "score", "row"
#: Most rows that are translated back.
MAX_CYCLE = 10_000


def impute_file(
    bundle: Path,
    data: str,
    target: Path,
    *,
    seed: int,
    multiple: int | None = None,
    device: str = "auto",
    overwrite: bool = False,
) -> int:
    """Fill the missing cells of `data` by the bundle and write the table; return cells filled.

    With `multiple`, that many tables of independent draws stand below each other, told apart by
    the column ``imputation``. Other cells, ids and personal data stay as they are.

    Raises
    ------
    DataError
        If `data` lacks columns of the bundle's schema, or cells are not of their kind.
    ConfigError
        If a column with gaps was missing on every row that the generator learnt from.
    """
    place = LocalFile(target.absolute())
    place.check(overwrite=overwrite)
    with place.hold(), boundary("impute"):
        fitted, table = _read(bundle, data, device)
        if multiple is not None and IMPUTATION in table.schema.names:
            raise ConfigError(f"column '{IMPUTATION}' is there already; rename it")
        names = [c.name for c in table.schema.modelled]
        asked = table.data[names]
        filled = fitted.impute(asked, seed=seed, multiple=multiple)
        tables = [table.data.assign(**{n: f[n] for n in names}) for f in filled]
        columns = table.schema.columns
        if multiple is not None:
            columns = (Column(name=IMPUTATION, kind="numeric", decimals=0), *columns)
            tables = [t.assign(**{IMPUTATION: float(i)}) for i, t in enumerate(tables, start=1)]
        schema = replace(table.schema, columns=columns)
        write(place.path, pd.concat(tables, ignore_index=True)[schema.names], schema)
        return int(asked.isna().to_numpy().sum())


def score_file(
    bundle: Path,
    data: str,
    target: Path,
    *,
    critic_of: Path | None = None,
    device: str = "auto",
    overwrite: bool = False,
) -> int:
    """Write how unusual each row of `data` is to the bundle, and by what; return rows.

    Columns of the output: ``row`` (from 1, in file order), ``score`` (the sum of the others), then
    one a modelled column and ``isolation`` (`Scorer.score`); the most unusual row first.

    Parameters
    ----------
    critic_of : Path, optional
        The table that the bundle was trained on (`RunFolder.train_path`): a critic is fitted on it
        now, adds the column ``critic``, and is kept nowhere.

    Raises
    ------
    DataError
        If `data` lacks columns of the bundle's schema, or cells are not of their kind.
    ConfigError
        If there can be no critic (`Synthesizer.score`).
    """
    place = LocalFile(target.absolute())
    place.check(overwrite=overwrite)
    with place.hold(), boundary("score"):
        fitted, table = _read(bundle, data, device)
        names = [c.name for c in table.schema.modelled]
        real = None if critic_of is None else read_frame(critic_of, fitted.schema)[names]
        parts = fitted.score(table.data[names], critic_of=real)
        scores = pd.DataFrame({ROW: range(1, len(table) + 1), SCORE: parts.sum(axis=1)})
        wholes = list(parts.columns[len(names) :])
        parts.columns = [*(f"of {n}" for n in names), *(n.strip("()") for n in wholes)]
        scores = pd.concat([scores.astype(float), parts], axis=1)
        scores = scores.sort_values(SCORE, ascending=False, kind="stable")
        digits = {ROW: 0}
        columns = [
            Column(name=n, kind="numeric", decimals=digits.get(n, 4)) for n in scores.columns
        ]
        write(place.path, scores, TableSchema(name="scores", columns=tuple(columns)))
        return len(table)


@dataclass(frozen=True)
class Translated:
    """What a translation did.

    Attributes
    ----------
    rows : int
    back : dict of str to float
        Of each column that may change, the share of cells that come back (`came_back`).
    """

    rows: int
    back: dict[str, float]

    @property
    def share_back(self) -> float:
        """Of all cells that may change; 1 if there is none."""
        return sum(self.back.values()) / len(self.back) if self.back else 1.0

    def __str__(self) -> str:
        said = f"{self.rows:,} rows translated; there and back {self.share_back:.1%} of the cells "
        said += "that may change are as they were"
        if self.back:
            name = min(self.back, key=lambda n: self.back[n])
            said += f" (least: column '{name}', {self.back[name]:.1%})"
        return said


def translate_file(
    source: Path,
    to_domain: Path,
    data: str,
    target: Path,
    *,
    seed: int,
    keep: Sequence[str] = (),
    device: str = "auto",
    overwrite: bool = False,
) -> Translated:
    """Rewrite rows of the source bundle's domain as if from the other's.

    Columns in `keep`, ids and personal data stay as they are. The rows are also translated back, to
    say how many cells return; of more than `MAX_CYCLE` rows, as many spread over the file.

    Parameters
    ----------
    source, to_domain : Path
        Bundles of the same columns.
    keep : sequence of str
        Each names a column, or several with commas between.

    Raises
    ------
    DataError
        If `data` lacks columns of the source's schema, or cells are not of their kind.
    SchemaError, ConfigError
        If the bundles model other columns, or not one that is to stay.
    """
    from synthgen.ask.translation import came_back
    from synthgen.synthesizer import Synthesizer

    place = LocalFile(target.absolute())
    place.check(overwrite=overwrite)
    with place.hold(), boundary("translate"):
        other = Synthesizer.load(to_domain, device=device)
        fitted, table = _read(source, data, device)
        names = [c.name for c in table.schema.modelled]
        kept = listed(keep, names)
        moved = fitted.translate(table.data[names], other, keep=kept, seed=seed)
        columns = tuple(_written(c, other.schema) for c in table.schema.columns)
        frame = table.data.assign(**{n: moved[n] for n in names})
        asked = np.arange(0, len(frame), max(1, -(-len(frame) // MAX_CYCLE)))
        there = moved.iloc[asked].reset_index(drop=True)
        back = other.translate(there, fitted, keep=kept, seed=seed)
        shares = came_back(table.data.iloc[asked], back, [n for n in names if n not in kept])
        write(place.path, frame, replace(table.schema, columns=columns))
        return Translated(len(frame), shares)


def listed(texts: Sequence[str], names: Collection[str]) -> list[str]:
    """Return the columns that `texts` name: each is one of `names`, or has commas between several.

    >>> listed(["age, sex", "city, state"], ["age", "sex", "city, state"])
    ['age', 'sex', 'city, state']
    """
    parts = ([text] if text in names else text.split(",") for text in texts)
    return [name.strip() for listing in parts for name in listing if name.strip()]


def _written(column: Column, schema: TableSchema) -> Column:
    """Return the column as the other domain writes it: its digits, its words for yes and no."""
    return relaxed(schema).column(column.name) if column.name in schema.names else column


def given_rows(data: str, schema: TableSchema) -> pd.DataFrame:
    """Return the rows of `data`, some modelled columns of `schema`: an empty cell is a question.

    Raises
    ------
    DataError
        If cells are not of their kind.
    ConfigError
        If a column is not modelled.
    """
    from synthgen.conform import conform
    from synthgen.sources import open_source

    with open_source(data, schema) as source:
        unknown = [n for n in source.names if n not in {c.name for c in schema.modelled}]
        if unknown:
            raise ConfigError(
                f"{data}: column '{unknown[0]}' is not one that the generator learnt "
                f"({', '.join(c.name for c in schema.modelled)})"
            )
        readable = relaxed(schema)
        asked = tuple(c for c in readable.columns if c.name in source.names)
        return conform(source.batches(), replace(readable, columns=asked)).data


def relaxed(schema: TableSchema) -> TableSchema:
    """Return `schema` without bounds: every cell may be missing, any number or level is read."""
    columns = (
        replace(
            c,
            nullable=True,
            minimum=None,
            maximum=None,
            categories=c.categories if c.kind == "boolean" else None,
        )
        for c in schema.columns
    )
    return replace(schema, columns=tuple(columns), constraints=())


def _read(bundle: Path, data: str, device: str) -> tuple[Synthesizer, RealTable]:
    from synthgen.conform import conform
    from synthgen.sources import open_source
    from synthgen.synthesizer import Synthesizer

    fitted = Synthesizer.load(bundle, device=device)
    schema = relaxed(fitted.schema)
    with open_source(data, schema) as source:
        return fitted, conform(source.batches(), schema)


def write(path: Path, frame: pd.DataFrame, schema: TableSchema) -> None:
    """Write a canonical frame as Parquet or CSV, by the suffix, whole or not at all; mode 0600.

    CSV has the schema's delimiter and encoding, so that the schema reads it again.
    """
    with staged(path, mode=0o600) as temporary:
        if path.suffix in (".parquet", ".pq"):
            pq.write_table(to_arrow(frame, schema), temporary, write_page_checksum=True)
        else:
            texts = [column_text(frame[c.name], c) for c in schema.columns]
            with csv_rows(temporary, schema, "detect") as write_rows:
                write_rows([schema.names])
                write_rows(zip(*texts, strict=True))


def augment_file(
    config: RunConfig,
    *,
    target: str,
    ratio: float = 1.0,
    rows: int | None = None,
    only_class: str | None = None,
    trials: int | None = 10,
    tell: Callable[[int], None] = lambda done: None,
) -> tuple[int, Verdict | None]:
    """Write the rows of ``config.data`` and, below, synthetic rows of scarce classes.

    Parameters
    ----------
    config : RunConfig
        With `data` and `to`.
    target : str
        A category or boolean.
    ratio : float
        Rows of each class to one of the largest, once augmented.
    rows : int, optional
        So many new rows of `only_class` (by default of the rarest) instead.
    only_class : str, optional
        Add rows of this class alone.
    trials : int, optional
        Of the verdict before anything is written; None: no verdict.

    Returns
    -------
    n_new : int
    verdict : Verdict or None

    Raises
    ------
    GateRefused
        If the verdict is "do not use it"; nothing is written then.
    """
    place = LocalFile(local_path(config.to).absolute())
    place.check(overwrite=config.overwrite)
    with place.hold(), boundary("augment"):
        from synthgen.augment import classes, draw, judge, wanted
        from synthgen.pipeline import read_input
        from synthgen.synthesizer import Synthesizer

        packed, _ = read_input(config)
        table = packed.unpack()
        seed = seed_or_fresh(config.seed)
        counts = {str(name): int(n) for name, n in classes(table, target).items()}
        missing = wanted(counts, ratio, only_class)
        if rows is not None:
            missing = {only_class or list(counts)[-1]: rows}
        verdict = None
        if trials is not None:
            seeded = config.model_copy(update={"seed": seed})
            verdict = judge(table, target, seeded, seeds=trials, tell=tell)
            if verdict.word == "do not use it":
                raise GateRefused(said(verdict))
        fitted = Synthesizer.fit(table, config=config, seed=seed, device=config.device)
        new = draw(fitted, table, target, missing, seed=seed)
        write(place.path, pd.concat([table.data, new], ignore_index=True), table.schema)
        return len(new), verdict


def said(verdict: Verdict) -> str:
    """Return the verdict and its numbers as lines of text."""
    lines = [
        f"synthetic rows of the rarer class: {verdict.word} "
        f"(model '{verdict.model}', median ratio {verdict.ratio:g})",
        f"{'model':9} {'arm':20} {'PR-AUC':>7} {'gain':>7} {'95 % interval':>17} "
        f"{'AUROC':>6} {'F1':>6} {'recall':>6}",
    ]
    lines += [
        f"{x.model:9} {x.arm:20} {x.metrics['pr_auc']:7.3f} {x.difference:+7.3f} "
        f"{x.low:+8.3f} {x.high:+8.3f} {x.metrics['auroc']:6.3f} {x.metrics['f1']:6.3f} "
        f"{x.metrics['recall']:6.3f}"
        for x in verdict.lines
    ]
    shares = ", ".join(f"{arm} {share:.1%}" for arm, share in verdict.copies.items())
    lines.append(f"near copies of real rows of the rarer class: {shares}")
    return "\n".join(lines)
