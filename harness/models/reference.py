"""A checkpoint as jobs and keys know it: by content, never by path."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from harness.core.records import Facts, Ref
from harness.serving.settings import ModelServer


class ChatTemplate(BaseModel):
    """A chat template for a model that has none, in full; its name is for people."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    name: str
    text: str


class Model(BaseModel):
    """A checkpoint: made by a stage (`artifact`), or a folder outside the store, known by its content (`digest`);
    its path is no part of a key.

    remote_code: it is loaded by Python code in its folder, which is then part of its content.
    chat_template: of a model that has none.
    served: the model itself is behind that server, and this is where its tokenizer is."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    artifact: Ref | None = None
    path: str | None = None
    digest: str | None = None
    remote_code: bool = False
    chat_template: ChatTemplate | None = None
    served: ModelServer | None = None

    def made(self, artifact: Ref) -> Model:
        """What a stage makes of this model: its code goes along, and its chat template is in the files."""
        return Model(artifact=artifact, remote_code=self.remote_code)

    @property
    def in_key(self) -> Facts:
        """What of it is part of a job's key. What was not thought of at first is there only where it says something."""
        key: Facts = {"artifact": self.artifact, "digest": self.digest}
        if self.remote_code:
            key["remote_code"] = True
        if self.chat_template:
            key["chat_template"] = self.chat_template.text
        if self.served is not None:
            key["served"] = [self.served.public_url, self.served.model]
            if self.served.tokenizer:
                key["told_to_stop"] = True
        return key

    @property
    def weights(self) -> str | None:
        """What is known of them: the artifact or the digest; of a served model no more than where it is."""
        served = self.served
        return f"{served.model} at {served.public_url}" if served else self.artifact or self.digest
