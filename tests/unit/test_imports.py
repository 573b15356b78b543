"""The package's floors: nothing imports upwards, and the words stay on the ground."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[2] / "src" / "alignment_extraction"
FLOORS = [
    {"files", "statistics", "vocabulary", "failures", "gpu", "step"},
    {"engine"},
    {"models"},
    {"corpora"},
    {"settings"},
    {"layout"},
    {"generations"},
    {"search"},
    {"likelihoods"},
    {"attribution"},
    {"training"},
    {"distillation"},
    {"provenance"},
    {"report", "tracking"},
    {"audit", "plan"},
    {"cli"},
]
FLOOR = {name: number for number, names in enumerate(FLOORS) for name in names}


def imports(path: Path) -> set[str]:
    """First names of the package's modules that a file imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
            found |= {
                name.split(".")[1]
                for name in names
                if name.startswith(f"{PACKAGE.name}.") and name.split(".")[1] in FLOOR
            }
        elif isinstance(node, ast.Import):
            found |= {
                alias.name.split(".")[1]
                for alias in node.names
                if alias.name.startswith(f"{PACKAGE.name}.")
            }
    return found


@pytest.mark.parametrize(
    "path",
    [p for p in sorted(PACKAGE.rglob("*.py")) if p.parent != PACKAGE or p.stem in FLOOR],
    ids=lambda path: path.relative_to(PACKAGE).as_posix(),
)
def test_nothing_imports_upwards(path: Path) -> None:
    own = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    upwards = {name for name in imports(path) if FLOOR[name] > FLOOR[own]}
    assert not upwards, f"{path} imports {upwards}, which lie above it"


def test_every_module_has_a_floor() -> None:
    names = {p.relative_to(PACKAGE).parts[0].removesuffix(".py") for p in PACKAGE.rglob("*.py")}
    assert names - {"__init__"} == set(FLOOR)
