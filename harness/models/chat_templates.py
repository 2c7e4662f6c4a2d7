"""Chat templates for models that have none (benchmarks/chat_templates)."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from harness.core.errors import UserError
from harness.core.registry import Registry
from harness.models.folders import has_chat_template
from harness.models.reference import ChatTemplate

DEFAULT, ENDING = "default", ".jinja"


def _load() -> dict[str, str]:
    folder = resources.files("benchmarks") / "chat_templates"
    return {
        entry.name.removesuffix(ENDING): entry.read_text(encoding="utf-8")
        for entry in folder.iterdir()
        if entry.name.endswith(ENDING)
    }


chat_templates: Registry[str] = Registry("chat template", _load)


def named_template(name: str) -> ChatTemplate:
    """One of benchmarks/chat_templates, or a *.jinja file.

    Raises:
        UserError: neither.
    """
    if not name.endswith(ENDING):
        return ChatTemplate(name=name, text=chat_templates.get(name))
    try:
        return ChatTemplate(name=Path(name).stem, text=Path(name).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"chat template {name}: cannot be read ({error})") from error


def template_for(path: Path, named: str | None) -> ChatTemplate | None:
    """The template of a model that has none: the one its entry names, or the default. None where it has one, and,
    without a name, for what is no folder, whose own is not known yet."""
    if path.is_dir():
        return None if has_chat_template(path) else named_template(named or DEFAULT)
    return named_template(named) if named else None
