"""Renders every key of a search space from ``schedsearch/settings``.

python tests/key_reference.py    rewrites the tables in search_spaces/README.md
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SETTINGS = ROOT / "schedsearch" / "settings"
PAGE = ROOT / "search_spaces" / "README.md"
BEGIN, END = "<!-- keys: begin -->", "<!-- keys: end -->"

SECTIONS = {
    "(top level)": "StudySettings",
    "backbone": "BackboneSettings",
    "diffusion": "DiffusionSettings",
    "data": "DataSettings",
    "space": "SpaceSettings",
    "space.edges, by a shift": "ShiftedEdges",
    "recipe": "RecipeSettings",
    "recipe.lambda_weighting": "LambdaSettings",
    "profile": "ProfileSettings",
    "solver": "SolverSettings",
    "evaluation": "EvaluationSettings",
    "search": "SearchSettings",
    "search.budget": "BudgetSettings",
    "resources": "ResourceSettings",
    "plan": "PlanSettings",
    "rivals, kind: schedule": "ScheduleRival",
    "rivals, kind: steps": "StepsRival",
    "rivals, kind: fitted_steps": "FittedStepsRival",
    "rivals, kind: uncertainty": "UncertaintyRival",
    "rivals, kind: similarity": "SimilarityRival",
    "rivals, kind: tome": "TokenMergingRival",
    "rivals, kind: block_cache": "BlockCacheRival",
    "rivals, kind: residual_cache": "ResidualCacheRival",
    "rivals, kind: router": "RouterRival",
    "rivals, kind: pruned": "PrunedRival",
    "rivals, kind: small": "SmallRival",
    "rivals, kind: stitch": "StitchRival",
}


def render() -> str:
    """All tables, one per section."""
    classes = {
        node.name: node
        for file in sorted(SETTINGS.glob("*.py"))
        for node in ast.parse(file.read_text(encoding="utf-8")).body
        if isinstance(node, ast.ClassDef)
    }
    return "\n\n".join(_section(title, classes[name]) for title, name in SECTIONS.items())


def page_with(tables: str) -> str:
    """The page with its tables replaced."""
    text = PAGE.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{tables}\n{END}{after}"


def _section(title: str, section: ast.ClassDef) -> str:
    rows = []
    for node, following in zip(section.body, [*section.body[1:], None], strict=True):
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            text = following.value.value if _is_text(following) else ""
            meaning = " ".join(filter(None, [_choices(node.annotation), _cell(text)]))
            if node.target.id == "kind" and "kind:" in title:
                continue  # the title gives it
            rows.append(f"| `{node.target.id}` | {_default(node)} | {meaning} |")
    summary = _cell((ast.get_docstring(section) or "").split("\n\n")[0])
    table = "\n".join(["| key | default | meaning |", "|---|---|---|", *rows])
    return f"### {title}\n\n{summary}\n\n{table}"


def _choices(annotation: ast.expr) -> str:
    """The values that a key may have, where its type lists them."""
    values = [
        element.value
        for node in ast.walk(annotation)
        if isinstance(node, ast.Subscript) and ast.unparse(node.value) == "Literal"
        for element in ast.walk(node.slice)
        if isinstance(element, ast.Constant)
    ]
    return f"{', '.join(f'`{value}`' for value in values)}." if len(values) > 1 else ""


def _is_text(node: ast.stmt | None) -> bool:
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )


def _default(node: ast.AnnAssign) -> str:
    if node.value is None:
        return "required"
    if isinstance(node.value, ast.Call):  # a section, or an empty mapping
        return "see below" if not node.value.keywords else "{}"
    text = ast.unparse(node.value).strip("'\"").replace("(", "[").replace(")", "]")
    return f"`{ {'None': 'null', 'True': 'true', 'False': 'false'}.get(text, text) }`".replace(
        " ", ""
    )


def _cell(text: str) -> str:
    plain = re.sub(r"\s+", " ", text).replace("``", "`").replace("|", r"\|").strip()
    return re.sub(r":\w+:`~?([^`]+)`", r"`\1`", plain)


if __name__ == "__main__":
    PAGE.write_text(page_with(render()), encoding="utf-8")
