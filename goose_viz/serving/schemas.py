"""What requests may ask; the names are OpenAI's, ``session`` is ours."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Stops = str | Annotated[list[str], Field(max_length=16)] | None
MOST_CHOICES = 16


class StreamOptions(BaseModel):
    """How a stream ends."""

    include_usage: bool = False


class _Asked(BaseModel):
    """What completions and chat have in common; what is not known is refused, not ignored."""

    model_config = ConfigDict(extra="forbid")

    model: str
    temperature: float | None = Field(None, ge=0, le=100)
    top_p: float | None = Field(None, ge=0, le=1)
    top_k: int | None = Field(None, ge=0, le=2**31)
    presence_penalty: float | None = Field(None, ge=-2, le=2)
    frequency_penalty: float | None = Field(None, ge=-2, le=2)
    seed: int | None = Field(None, ge=0, lt=2**63)
    n: int | None = Field(None, ge=1, le=MOST_CHOICES)
    stop: Stops = None
    stream: bool | None = False
    stream_options: StreamOptions | None = None
    session: str | None = None
    # who sends these wants nothing that would have to be done
    user: Any = None
    metadata: Any = None
    store: Any = None


class Completion(_Asked):
    """A body of /v1/completions."""

    prompt: str | list[str] | list[int] | list[list[int]] = ""
    max_tokens: int | None = Field(None, ge=0)
    logprobs: int | None = Field(None, ge=0, le=10)
    echo: bool | None = False

    def prompts(self) -> list[str | list[int]]:
        """Each prompt, a text or ids."""
        asked = self.prompt
        if isinstance(asked, str):
            return [asked]
        if asked and all(isinstance(t, int) for t in asked):
            return [[int(t) for t in asked]]  # type: ignore[arg-type]
        return list(asked)  # type: ignore[arg-type]


class TextPart(BaseModel):
    """A part of a message."""

    type: Literal["text"]
    text: str


class Message(BaseModel):
    """A turn of a conversation."""

    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[TextPart]
    name: Any = None

    @property
    def text(self) -> str:
        """All its text."""
        if isinstance(self.content, str):
            return self.content
        return "".join(part.text for part in self.content)


class Chat(_Asked):
    """A body of /v1/chat/completions."""

    messages: Annotated[list[Message], Field(min_length=1)]
    max_tokens: int | None = Field(None, ge=0)
    max_completion_tokens: int | None = Field(None, ge=0)
    logprobs: bool | None = False
    top_logprobs: int | None = Field(None, ge=0, le=10)
