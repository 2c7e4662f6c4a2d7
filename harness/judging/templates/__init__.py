"""Judge templates: from a question to the messages that ask it, and from what a judge said to a preference.

Three formats are read: this project's own (`native`), FastChat's (`fastchat`) and AlpacaEval's (`alpaca`).

Prompts and responses are data. They are never parsed as template code, never stand in a system message, and cannot
imitate what surrounds them: each stands in a fence that no text can hold (`native`), or imitations of the template's
fences are broken up (`fencing`).
"""

from __future__ import annotations

from pathlib import Path

from harness.core.errors import UserError
from harness.core.registry import Registry, did_you_mean
from harness.core.section import Layer, packaged_yaml, parse_yaml
from harness.judging.templates.alpaca import alpaca_annotator, alpaca_prompt
from harness.judging.templates.base import Template, text_of
from harness.judging.templates.fastchat import fastchat_template
from harness.judging.templates.native import File, own_template
from harness.models.control_tokens import SPACE, without_control_tokens

__all__ = ["SPACE", "Template", "judge_templates", "load_template", "without_control_tokens"]


def load_template(name: str) -> Template:
    """A packaged template by its name, or a user's file by its path: `.yaml`, `.jsonl` (FastChat) or `.txt`.

    Raises:
        UserError: no such template, or a file that is not one.
    """
    if name in judge_templates:
        return own_template(judge_templates.get(name), name, f"judge template {name}")
    path = Path(name).expanduser()
    if path.suffix not in (".yaml", ".yml", ".jsonl", ".txt"):
        if path.is_file():
            raise UserError(f"judge template {path}: expected a file that ends in .yaml, .jsonl or .txt")
        judge_templates.get(name)  # raises, with a suggestion
    if not path.is_file():
        raise UserError(f"judge template {path} does not exist{did_you_mean(path.stem, judge_templates.names())}")
    if path.suffix == ".jsonl":
        return fastchat_template(path)
    if path.suffix == ".txt":
        return alpaca_prompt(path)
    data = parse_yaml(text_of(path), str(path))
    # an annotator's configuration is a mapping under a name of its own
    if data and all(isinstance(value, dict) for value in data.values()) and not set(data) & set(File.model_fields):
        return alpaca_annotator(path, data)
    return own_template(data, path.name, str(path))


judge_templates: Registry[Layer] = Registry("judge template", lambda: packaged_yaml("judge_templates"))
