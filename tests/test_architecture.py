"""The house rules of docs/architecture.md, enforced on the syntax trees."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MODULES = sorted([*(ROOT / "synthgen").rglob("*.py"), *(ROOT / "flows").rglob("*.py")])

# module or folder -> row; the longest prefix counts. See the page's "Who may import whom".
ROWS = {
    "synthgen.ahead": 0,
    "synthgen.errors": 0,
    "synthgen.rng": 0,
    "synthgen.files": 0,
    "synthgen.formulas": 0,
    "synthgen.uri": 0,
    "synthgen.schema": 1,
    "synthgen.config": 1,
    "synthgen.stores": 1,
    "synthgen.audit_log": 1,
    "synthgen.table": 2,
    "synthgen.sources": 2,
    "synthgen.sinks": 2,
    "synthgen.constraints": 2,
    "synthgen.repeats": 0,
    "synthgen.conform": 2,
    "synthgen.infer": 2,
    "synthgen.drift": 2,
    "synthgen.ask": 2,
    "synthgen.replace": 2,
    "synthgen.demo": 2,
    "synthgen.encode": 3,
    "synthgen.dp": 4,
    "synthgen.gan": 4,
    "synthgen.checks": 4,
    # what speaks to a trained generator, beside what only reads what is asked
    "synthgen.ask.completion": 5,
    "synthgen.ask.critic": 5,
    "synthgen.ask.restriction": 5,
    "synthgen.ask.scoring": 5,
    "synthgen.ask.impossible": 5,
    "synthgen.ask.translation": 5,
    "synthgen.synthesizer": 5,
    "synthgen.export": 5,
    "synthgen.report": 5,
    "synthgen.run_folder": 6,
    "synthgen.uses": 6,
    "synthgen.runs": 6,
    "synthgen.scale": 6,
    "synthgen.pipeline": 6,
    "synthgen.plan": 6,
    "synthgen.registry": 6,
    "synthgen.provenance": 6,
    "synthgen.augment": 6,
    "synthgen.audit": 6,
    "synthgen.scan": 6,
    "synthgen.progress": 7,
    "synthgen.tensorboard": 7,
    "synthgen.cli": 7,
    "synthgen.__main__": 8,
    "flows": 7,
}
# The judge and the door know nothing of the accused: rows 0-2 and each other only.
JUDGE = ("synthgen.checks", "synthgen.export", "synthgen.report")
ACCUSED = (
    "synthgen.encode",
    "synthgen.dp",
    "synthgen.gan",
    "synthgen.ask.completion",
    "synthgen.ask.critic",
    "synthgen.ask.restriction",
    "synthgen.ask.scoring",
    "synthgen.ask.impossible",
    "synthgen.ask.translation",
    "synthgen.synthesizer",
)
# third party -> the only places that may import it
ONLY_IN = {
    "dp_accounting": ("synthgen.dp.accountant",),
    "adbc_driver_postgresql": ("synthgen.stores",),
    "sqlite3": ("synthgen.stores", "synthgen.sources.database"),
    "torch": ("synthgen.gan", "synthgen.synthesizer"),
    "great_expectations": ("synthgen.checks.expectations",),
    "prefect": ("flows",),
    "distributed": ("synthgen.scale",),
    "typer": ("synthgen.cli",),
    "rich": ("synthgen.progress",),
}
FORBIDDEN = {
    "pickle",
    "cloudpickle",
    "dill",
    "joblib",
    "yaml",
    "unittest.mock",
    "marshal",
    "shelve",
}


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def is_under(name: str, *roots: str) -> bool:
    return any(name == root or name.startswith(f"{root}.") for root in roots)


def imports(path: Path) -> set[str]:
    """Every module imported anywhere in `path`, inside functions too; type-only ones left out."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    typing_only = {
        id(child)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for child in ast.walk(node)
    }
    found = set()
    for node in ast.walk(tree):
        if id(node) in typing_only:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {_imported(node.module, alias.name) for alias in node.names}
    return found


def _imported(module: str, name: str) -> str:
    """``from synthgen import demo`` imports a module, ``from synthgen.demo import X`` a name."""
    candidate = ROOT / module.replace(".", "/") / name
    is_module = candidate.with_suffix(".py").exists() or (candidate / "__init__.py").exists()
    return f"{module}.{name}" if is_module else module


def row(name: str) -> int:
    matching = [prefix for prefix in ROWS if is_under(name, prefix)]
    assert matching, f"{name} has no row: add it here and to docs/architecture.md"
    return ROWS[max(matching, key=len)]


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_imports_point_down(path: Path) -> None:
    name = name_of(path)
    if name == "synthgen":
        assert imports(path) <= {"__future__", "importlib", "typing"}
        return
    for other in imports(path):
        if is_under(other, "synthgen", "flows") and other != "synthgen":
            assert row(other) <= row(name), f"{name} (row {row(name)}) imports {other}"
            if is_under(name, *JUDGE):
                assert not is_under(other, *ACCUSED), f"{name} imports {other}"


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_heavy_and_dangerous_imports(path: Path) -> None:
    name = name_of(path)
    for other in imports(path):
        for package, homes in ONLY_IN.items():
            if is_under(other, package):
                assert is_under(name, *homes), f"{name} imports {other}"
        assert not is_under(other, *FORBIDDEN), f"{name} imports {other}"


def test_the_page_shows_every_module() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    missing = [
        path.name
        for path in MODULES
        if name_of(path).count(".") <= 2
        and not path.name.startswith("_")
        and path.name not in page
        and is_under(name_of(path), "synthgen")
        and not is_under(name_of(path), "synthgen.report")
    ]
    assert not missing, f"docs/architecture.md does not show {missing}"


def test_no_eval_and_no_exec() -> None:
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                assert node.func.id not in {"eval", "exec", "compile"}, path


@pytest.mark.parametrize(
    ("statement", "unwanted"),
    [
        ("import synthgen.cli", "torch|prefect|great_expectations|pandas|sklearn|pydantic"),
        ("import synthgen.checks.gate, synthgen.export", "torch|prefect|great_expectations"),
        ("import synthgen.pipeline", "torch|prefect|great_expectations"),
    ],
)
def test_imports_stay_cheap(statement: str, unwanted: str) -> None:
    code = (
        f"{statement}; import sys; print(*(m for m in {unwanted.split('|')} if m in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not done.stdout.strip()
