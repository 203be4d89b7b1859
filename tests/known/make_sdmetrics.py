"""Values of sdmetrics for the tables of `tables.py`: written once, kept in ``sdmetrics.json``.

    python -m venv ENV && ENV/bin/pip install sdmetrics==0.32.0
    ENV/bin/python tests/known/make_sdmetrics.py > tests/known/sdmetrics.json

Tests need neither sdmetrics nor a download: they make the same tables again and compare.
"""

import importlib.metadata
import json


def main() -> None:
    """Print the values; in an environment that has sdmetrics, from this folder's own path."""
    from sdmetrics import column_pairs, single_column
    from tables import LEVELS, NUMBERS, REAL, SYNTHETIC

    def each(metric: str, columns: tuple[str, ...], *, known: bool = False) -> dict[str, float]:
        compute = getattr(single_column, metric).compute
        sides = ({c: t[c].dropna() if known else t[c] for c in t} for t in (REAL, SYNTHETIC))
        real, synthetic = sides
        return {c: float(compute(real[c], synthetic[c])) for c in columns}

    def every_pair(metric: str, columns: tuple[str, ...]) -> dict[str, float]:
        compute = getattr(column_pairs, metric).compute
        pairs = [(a, b) for i, a in enumerate(columns) for b in columns[i + 1 :]]
        return {f"{a}|{b}": float(compute(REAL[[a, b]], SYNTHETIC[[a, b]])) for a, b in pairs}

    varied = tuple(c for c in NUMBERS if c != "flat")
    packages = ("sdmetrics", "pandas", "scipy", "numpy")
    values = {
        "source": [f"{name} {importlib.metadata.version(name)}" for name in packages],
        "KSComplement": each("KSComplement", NUMBERS),
        "TVComplement": each("TVComplement", LEVELS),
        "MissingValueSimilarity": each("MissingValueSimilarity", (*NUMBERS, *LEVELS)),
        "RangeCoverage": each("RangeCoverage", varied),
        "BoundaryAdherence": each("BoundaryAdherence", NUMBERS),
        "CategoryCoverage": each("CategoryCoverage", LEVELS),
        # it takes a missing value for one more level; we count present values
        "CategoryAdherence": each("CategoryAdherence", LEVELS, known=True),
        "CorrelationSimilarity": every_pair("CorrelationSimilarity", varied),
        "ContingencySimilarity": every_pair("ContingencySimilarity", LEVELS),
    }
    print(json.dumps(values, indent=1))  # noqa: T201


if __name__ == "__main__":
    main()
