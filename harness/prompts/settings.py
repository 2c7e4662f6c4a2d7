"""Which prompt sets a run reads, where each comes from, and which column holds what."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator, model_validator

from harness.core.section import Names, Section

TEST_SHARE = 0.1  # of a set that is cut into parts, where nothing else is said


class Columns(Section):
    """Which column of a table holds what; what is not said is guessed from the names of the columns.

    One of prompt (a text), messages (a conversation) and turns (the user's turns, each a text) holds the prompts.
    system: a system message before them. history: earlier turns before a prompt, as [user, assistant] pairs or as
    messages. input: a text that is appended to the prompt. answer: a known right answer, for reference-guided judging;
    of several turns a list. ignore: columns that would belong to the prompt, and are to be left out."""

    prompt: str | None = None
    messages: str | None = None
    turns: str | None = None
    system: str | None = None
    history: str | None = None
    input: str | None = None
    id: str | None = None
    category: str | None = None
    answer: str | None = None
    ignore: tuple[str, ...] = ()

    @property
    def named(self) -> dict[str, str]:
        """The columns that hold something, by what they hold."""
        return self.model_dump(exclude_none=True, exclude={"ignore"})

    @model_validator(mode="after")
    def _one_holds_the_prompts(self) -> Columns:
        if sum(name is not None for name in (self.prompt, self.messages, self.turns)) > 1:
            raise ValueError("only one of prompt, messages and turns can hold the prompts")
        if self.input and (self.messages or self.turns):
            raise ValueError("input is appended to a prompt's text; it needs `prompt`")
        if self.history and self.messages:
            raise ValueError("history stands before a prompt's text; `messages` hold their own")
        return self


class PromptSource(Section):
    """Where a prompt set comes from, a file or folder or the hub, and which part of it is taken.

    config, split, revision, file: of a dataset on the hub (a saved `datasets` folder has splits too); file: one data
    file of it. part, test_share: the prompts whose hash puts them into training or into test."""

    path: Path | None = None
    hub: str | None = None
    config: str | None = None
    split: str | None = None
    revision: str | None = None
    file: str | None = None
    columns: Columns = Columns()
    part: Literal["train", "test"] | None = None
    test_share: float | None = Field(default=None, gt=0, lt=1)
    in_domain: bool = Field(default=False, description="as an evaluation set: of the training set's distribution")
    license: str = ""

    @model_validator(mode="after")
    def _one_source(self) -> PromptSource:
        if (self.path is None) == (self.hub is None):
            raise ValueError("a prompt set needs either path or hub")
        if self.hub is None and (self.config or self.revision or self.file):
            raise ValueError("config, revision and file belong to a dataset on the hub")
        if self.file and (self.config or self.split):
            raise ValueError("a single file has no config and no split")
        return self


class Limits(Section):
    """Prompts per set; the first ones of the file. None is all."""

    train: int | None = Field(default=None, ge=1)
    eval: int | None = Field(default=None, ge=1)


class PromptSettings(Section):
    """Which prompt sets a run reads, and how much of each."""

    train_prompts: str = "everyday-train"
    eval: Names = ("everyday-test", "followups", "longer-tasks")
    prompts: dict[str, PromptSource] = Field(default={}, description="prompt sets of your own, by name")
    test_share: float = Field(default=TEST_SHARE, gt=0, lt=1, description="of a set that is cut into @train and @test")
    limits: Limits = Limits()
    validation: float = Field(
        default=0.0, ge=0, lt=1, description="share of the training prompts that no training sees, for a search"
    )

    @field_validator("prompts")
    @classmethod
    def _names(cls, value: dict[str, PromptSource]) -> dict[str, PromptSource]:
        for name in value:
            if not re.fullmatch(r"\w[\w.-]*", name):
                raise ValueError(f"'{name}' is no name: letters, digits, '.', '-' and '_' only")
        return value
