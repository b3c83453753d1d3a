"""The tools' imports, read and not run: most need PyTorch, which no other package has."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILES = sorted(p for d in ("tools", "benchmarks") for p in (ROOT / d).rglob("*.py"))


def names_of(path: Path) -> set[str]:
    """What a module has at its top."""
    found = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            found |= {a.asname or a.name.split(".")[0] for a in node.names}
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            found |= {n.id for t in targets for n in ast.walk(t) if isinstance(n, ast.Name)}
    return found


def local(folder: Path, module: str) -> Path | None:
    """The file of a module that lies in the folder."""
    at = folder.joinpath(*module.split("."))
    return next((p for p in (at.with_suffix(".py"), at / "__init__.py") if p.exists()), None)


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_what_a_tool_imports_is_there(path):
    folder = ROOT / path.relative_to(ROOT).parts[0]
    siblings = {p.stem for d in ("tools", "benchmarks") for p in (ROOT / d).rglob("*.py")}
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.ImportFrom) or node.level or not node.module:
            continue
        found = local(folder, node.module)
        if found is None:
            assert node.module not in siblings, f"{node.module} lies elsewhere"
            continue
        for name in {a.name for a in node.names} - names_of(found):
            assert local(folder, f"{node.module}.{name}"), f"{node.module} has no {name}"
