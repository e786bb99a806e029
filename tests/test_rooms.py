"""The order of the rooms in docs/design.md."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = "progrpo_cli"


def rooms_of_the_design() -> list[str]:
    """Return the rooms of docs/design.md from top to bottom: `main`, `commands`, `reporting`, ..."""
    text = (ROOT / "docs/design.md").read_text(encoding="utf-8")
    block = text.split("## The rooms")[1].split("```")[1]
    names = re.findall(r"^([a-z_/]+)(?:\.py|(?<=/))\s", block, re.MULTILINE)
    return [name.rstrip("/").replace("/", ".") for name in names]


def imports_of_modules(root: Path) -> dict[str, set[str]]:
    """Return module -> the modules of its package that it imports anywhere, also lazily or only for types."""
    paths = {}
    for path in root.rglob("*.py"):
        parts = path.relative_to(root.parent).with_suffix("").parts
        paths[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    imported: dict[str, set[str]] = {}
    for module, path in paths.items():
        names: set[str] = set()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{path}: a relative import"
                for alias in node.names:
                    full_name = f"{node.module}.{alias.name}"
                    names.add(full_name if full_name in paths else str(node.module))
        imported[module] = (names & paths.keys()) - {module}
    return imported


def room_of(module: str, rooms: list[str], package: str) -> str:
    """Return the innermost room of a module."""
    name = module.removeprefix(f"{package}.")
    containing = [room for room in rooms if name == room or name.startswith(f"{room}.")]
    assert containing, f"{module} is in no room of docs/design.md"
    return max(containing, key=len)


def upward_imports(imported: dict[str, set[str]], rooms: list[str], package: str = PACKAGE) -> list[str]:
    """Return a line for each import of a room further up."""
    order = {room: position for position, room in enumerate(rooms)}
    root = {package, f"{package}.__main__"}  # modules outside the rooms
    return [
        f"{module} imports {other}"
        for module in sorted(imported.keys() - root)
        for other in sorted(imported[module] - root)
        if order[room_of(module, rooms, package)] > order[room_of(other, rooms, package)]
    ]


def modules_in_cycles(imported: dict[str, set[str]]) -> list[str]:
    """Return the modules that import themselves, directly or through others."""

    def reachable(start: str) -> set[str]:
        seen: set[str] = set()
        pending = list(imported[start])
        while pending:
            if (module := pending.pop()) not in seen:
                seen.add(module)
                pending += imported[module]
        return seen

    return [module for module in sorted(imported) if module in reachable(module)]


def test_every_import_points_down() -> None:
    rooms = rooms_of_the_design()
    assert {"main", "commands", "reporting.reading", "training", "errors"} <= set(rooms)
    assert upward_imports(imports_of_modules(ROOT / PACKAGE), rooms) == []


def test_no_two_modules_import_each_other() -> None:
    assert modules_in_cycles(imports_of_modules(ROOT / PACKAGE)) == []


def test_no_module_is_too_long() -> None:
    long = {
        path.relative_to(ROOT).as_posix(): lines
        for path in (ROOT / PACKAGE).rglob("*.py")
        if (lines := len(path.read_text(encoding="utf-8").splitlines())) > 300
    }
    assert not long


@pytest.mark.parametrize(
    "lower",
    [
        "from house.upper import a",
        "import house.upper.a",
        "def f():\n    from house.upper import a\n    return a",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from house.upper.a import X",
    ],
)
def test_every_kind_of_import_is_found(tmp_path: Path, lower: str) -> None:
    for name, text in {"__init__": "", "upper/__init__": "", "upper/a": "X = 1\n", "lower": lower}.items():
        path = tmp_path / "house" / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    imported = imports_of_modules(tmp_path / "house")
    assert upward_imports(imported, ["upper", "lower"], "house") == ["house.lower imports house.upper.a"]
    assert modules_in_cycles(imported) == []
    (tmp_path / "house/upper/a.py").write_text("def f():\n    import house.lower\n")
    assert modules_in_cycles(imports_of_modules(tmp_path / "house")) == ["house.lower", "house.upper.a"]


def test_only_one_module_builds_the_paths_of_a_runs_files() -> None:
    """Other modules must not have the file names as strings, except inside docstrings."""
    names = {"manifest.json", "metrics.jsonl", "scores.json", "samples.jsonl", "trained_on.json", "study.yaml"}
    elsewhere = []
    for path in (ROOT / PACKAGE).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            is_text = isinstance(node, ast.Constant) and isinstance(node.value, str)
            if is_text and (node.value in names or node.value.startswith("eval/*")) and path.name != "layout.py":
                elsewhere.append(f"{path.relative_to(ROOT)}:{node.lineno} {node.value}")
    assert elsewhere == []
