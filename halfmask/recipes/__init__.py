"""Recipes: the schema, and the recipes that ship with the package."""

from pathlib import Path

RECIPE_FOLDER = Path(__file__).parent


def shipped_recipes() -> dict[str, Path]:
    """Returns name → file of the recipes that ship with the package."""
    return {p.stem: p for p in sorted(RECIPE_FOLDER.rglob("*.yaml"))}
