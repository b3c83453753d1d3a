"""Requests as work for the engine's thread, and what it writes in OpenAI's forms."""

from __future__ import annotations

import asyncio
import json
import math
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator, Sequence
from contextlib import ExitStack, aclosing, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from goose_viz.errors import GooseError
from goose_viz.model import Model
from goose_viz.sampling import Sampler
from goose_viz.serving.engine import Turns
from goose_viz.serving.memories import Memories
from goose_viz.serving.schemas import MOST_CHOICES, Chat, Completion
from goose_viz.serving.writing import End, Piece, write
from goose_viz.session import Session
from goose_viz.templates import TURN_END, conversation, next_turn

_LEAST = 1e-45  # of a probability, so that its logarithm can be said in JSON
LOOK = 0.5  #: seconds between looks whether who asked is still there

Prompt = str | list[int]
T = TypeVar("T")


class _Answer:
    """What completions and chat have in common."""

    kind = ""

    def __init__(self, model: Model, asked: Completion | Chat, most: int, default: int) -> None:
        self.model, self.asked = model, asked
        given = asked.max_tokens
        if isinstance(asked, Chat) and asked.max_completion_tokens is not None:
            given = asked.max_completion_tokens
        self.tokens = default if given is None else given
        if self.tokens > most:
            raise GooseError(f"{self.tokens} tokens are asked for; this server writes {most}")
        stops = [asked.stop] if isinstance(asked.stop, str) else list(asked.stop or ())
        self.stops: list[str] = stops
        self.id = f"{self.kind}-{uuid.uuid4().hex}"
        self.created = int(time.time())
        self.each = asked.n or 1
        self.streams = bool(asked.stream)
        self.sampler = _sampler(model, asked)
        if self.choices > MOST_CHOICES:
            raise GooseError(f"{self.choices} choices are asked for; {MOST_CHOICES} are the most")
        if asked.session is not None and self.choices > 1:
            raise GooseError(f"a session goes on in one way, not in {self.choices}")

    def prompts(self, session: Session | None) -> list[Prompt]:
        """What to feed, of each prompt; behind a session's text, if there is one."""
        raise NotImplementedError

    @property
    def choices(self) -> int:
        """Texts that are written."""
        return self.each

    @property
    def top(self) -> int:
        """Likeliest tokens to tell of each."""
        raise NotImplementedError

    @property
    def head(self) -> dict[str, Any]:
        """What every answer begins with."""
        return {"id": self.id, "created": self.created, "model": self.model.name}

    def works(self, memories: Memories, named: Session | None) -> list[Iterator[Any]]:
        """The work of every choice."""
        out, prompts = [], self.prompts(named)
        for index in range(len(prompts) * self.each):
            session = memories.empty() if named is None else named
            seed = (self.sampler.seed or 0) + index % self.each
            out.append(self._work(session, prompts[index // self.each], seed % 2**63))
        return out

    def _work(self, session: Session, prompt: Prompt, seed: int) -> Iterator[Any]:
        former, session.sampler = session.sampler, replace(self.sampler, seed=seed)
        try:
            yield from write(session, prompt, self.tokens, self.stops, self.top)
        finally:
            session.sampler = former


class TextAnswer(_Answer):
    """A completion."""

    kind = "cmpl"
    asked: Completion

    def __init__(self, model: Model, asked: Completion, most: int) -> None:
        self._prompts: list[Prompt] = list(asked.prompts())
        self._said: dict[int, int] = {}  # characters of each choice, in a stream
        if not self._prompts:
            raise GooseError("there is no prompt in the list; give one")
        super().__init__(model, asked, most, 16)
        for prompt in self._prompts:
            if not isinstance(prompt, str):
                _check(prompt, model)

    def prompts(self, session: Session | None) -> list[Prompt]:
        """The prompts as they are."""
        return self._prompts

    @property
    def choices(self) -> int:
        """Of each prompt as many as are asked for."""
        return self.each * len(self._prompts)

    @property
    def top(self) -> int:
        """As asked for."""
        return self.asked.logprobs or 0

    def first(self, index: int) -> str:
        """The prompt, where it is to be said again."""
        if not self.asked.echo:
            return ""
        prompt = self._prompts[index // self.each]
        return prompt if isinstance(prompt, str) else self.model.tokenizer.decode(prompt)

    def whole(self, choice: _Choice) -> dict[str, Any]:
        """A choice of an answer in one piece."""
        first = self.first(choice.index)
        return {"index": choice.index, "text": first + choice.text,
                "finish_reason": choice.reason,
                "logprobs": self._chances(choice.pieces, len(first))}  # fmt: skip

    def part(self, index: int, piece: Piece | None, reason: str | None) -> dict[str, Any]:
        """A choice of a piece of a stream."""
        pieces = [] if piece is None else [piece]
        said = self._said.get(index, 0)
        text = "" if piece is None else piece.text
        self._said[index] = said + len(text)
        return {"index": index, "text": text, "finish_reason": reason,
                "logprobs": self._chances(pieces, said)}  # fmt: skip

    def begin(self, index: int) -> dict[str, Any] | None:
        """What a stream begins with."""
        text = self.first(index)
        return self.part(index, Piece(text, "", math.nan, []), None) if text else None

    def _chances(self, pieces: Sequence[Piece], begin: int) -> dict[str, Any] | None:
        if self.asked.logprobs is None:
            return None
        known = [p for p in pieces if p.token]
        ends = [begin]
        for piece in pieces:
            ends.append(ends[-1] + len(piece.text))
        return {
            "tokens": [p.token for p in known],
            "token_logprobs": [_log(p.probability) for p in known],
            "top_logprobs": [{t: _log(q) for t, q in p.top} for p in known],
            "text_offset": [e for e, p in zip(ends, pieces, strict=False) if p.token],
        }

    @staticmethod
    def named(streamed: bool) -> str:
        """What the answer calls itself."""
        return "text_completion"


class ChatAnswer(_Answer):
    """A turn of a conversation."""

    kind = "chatcmpl"
    asked: Chat

    def __init__(self, model: Model, asked: Chat, most: int, template: str) -> None:
        super().__init__(model, asked, most, min(most, 1024))
        self._template = template
        self.stops = [*self.stops, TURN_END]
        if asked.messages[-1].role != "user":
            raise GooseError("the last message is not the user's; there is nothing to answer")

    def prompts(self, session: Session | None) -> list[Prompt]:
        """The conversation; in a session only what follows its text."""
        turns = [
            ("system" if m.role == "developer" else m.role, m.text) for m in self.asked.messages
        ]
        if session is None or session.position == 0:
            return [conversation(self._template, turns)]
        if len(turns) > 1:
            raise GooseError(
                f"{len(turns)} messages for a session that has read {session.position} tokens; "
                "it remembers them: send what the user says next, alone"
            )
        end = session.model.tokenizer.end_token
        before = "".join(session.path.texts(max(0, session.position - 10), session.position))
        fresh = session.path.tokens(session.position - 1, session.position) == [end]
        return [next_turn(self._template, turns[0][1], before, fresh)]

    @property
    def top(self) -> int:
        """As asked for."""
        return (self.asked.top_logprobs or 0) if self.asked.logprobs else 0

    def whole(self, choice: _Choice) -> dict[str, Any]:
        """A choice of an answer in one piece."""
        message = {"role": "assistant", "content": choice.text.strip(), "refusal": None}
        return {"index": choice.index, "message": message, "finish_reason": choice.reason,
                "logprobs": self._chances(choice.pieces)}  # fmt: skip

    def part(self, index: int, piece: Piece | None, reason: str | None) -> dict[str, Any]:
        """A choice of a piece of a stream."""
        delta = {} if piece is None else {"content": piece.text}
        return {"index": index, "delta": delta, "finish_reason": reason,
                "logprobs": self._chances([] if piece is None else [piece])}  # fmt: skip

    def begin(self, index: int) -> dict[str, Any] | None:
        """What a stream begins with."""
        delta = {"role": "assistant", "content": ""}
        return {"index": index, "delta": delta, "finish_reason": None, "logprobs": None}

    def _chances(self, pieces: Sequence[Piece]) -> dict[str, Any] | None:
        if not self.asked.logprobs:
            return None
        return {
            "content": [
                {"token": p.token, "logprob": _log(p.probability),
                 "bytes": list(p.token.encode("utf-8", "replace")),
                 "top_logprobs": [
                     {"token": t, "logprob": _log(q), "bytes": list(t.encode("utf-8", "replace"))}
                     for t, q in p.top
                 ]}
                for p in pieces if p.token
            ],
            "refusal": None,
        }  # fmt: skip

    @staticmethod
    def named(streamed: bool) -> str:
        """What the answer calls itself."""
        return "chat.completion.chunk" if streamed else "chat.completion"


@dataclass
class _Choice:
    """A text that is written."""

    index: int
    pieces: list[Piece] = field(default_factory=list)
    text: str = ""
    reason: str = ""
    end: End | None = None


async def answer(
    form: TextAnswer | ChatAnswer,
    turns: Turns,
    memories: Memories,
    gone: Callable[[], Awaitable[bool]],
) -> dict[str, Any]:
    """An answer in one piece; given up if who asked has gone."""

    async def one(index: int, work: Iterator[Any]) -> _Choice:
        choice = _Choice(index)
        async with aclosing(turns.pieces(lambda: work)) as pieces:
            async for piece in pieces:
                if isinstance(piece, End):
                    choice.reason, choice.end = piece.reason, piece
                elif piece is not None:
                    choice.pieces.append(piece)
        choice.text = "".join(p.text for p in choice.pieces)
        return choice

    with _tasks(form, memories, one) as tasks:
        left: set[asyncio.Task[_Choice]] = set(tasks)
        while left:
            done, left = await asyncio.wait(left, timeout=LOOK, return_when=asyncio.FIRST_EXCEPTION)
            failed = [error for task in done if (error := task.exception()) is not None]
            if failed:
                raise failed[0]
            if left and await gone():
                raise asyncio.CancelledError
        choices = [task.result() for task in tasks]
    return {
        **form.head, "object": form.named(False), "choices": [form.whole(c) for c in choices],
        "usage": _usage([c.end for c in choices]),
    }  # fmt: skip


async def stream(
    form: TextAnswer | ChatAnswer, turns: Turns, memories: Memories
) -> AsyncIterator[str]:
    """An answer as server-sent events; given up when closed."""
    head = {**form.head, "object": form.named(True)}
    told: asyncio.Queue[tuple[int, Any]] = asyncio.Queue()

    async def one(index: int, work: Iterator[Any]) -> None:
        try:
            async with aclosing(turns.pieces(lambda: work)) as pieces:
                async for piece in pieces:
                    told.put_nowait((index, piece))
        except Exception as error:
            told.put_nowait((index, error))

    ends: list[End] = []
    begun = False
    with _tasks(form, memories, one) as tasks:
        while len(ends) < len(tasks):
            index, piece = await told.get()
            if isinstance(piece, Exception):
                if not begun:
                    raise piece
                yield _event({"error": {"message": str(piece), "type": "server_error"}})
                return
            if not begun:
                begun = True
                for i in range(len(tasks)):
                    if (first := form.begin(i)) is not None:
                        yield _event({**head, "choices": [first]})
            if isinstance(piece, End):
                ends.append(piece)
                last = form.part(index, None, piece.reason)
                yield _event({**head, "choices": [last]})
            elif piece is not None and (piece.text or piece.token):
                yield _event({**head, "choices": [form.part(index, piece, None)]})
    options = form.asked.stream_options
    if options is not None and options.include_usage:
        yield _event({**head, "choices": [], "usage": _usage(ends)})
    yield "data: [DONE]\n\n"


@contextmanager
def _tasks(
    form: TextAnswer | ChatAnswer,
    memories: Memories,
    one: Callable[[int, Iterator[Any]], Coroutine[Any, Any, T]],
) -> Iterator[list[asyncio.Task[T]]]:
    """A task for every choice; cancelled behind it.

    The session that the request names is its alone until the last task has let go of it, which
    may be later than anybody waits.
    """
    stack, name = ExitStack(), form.asked.session
    session = None if name is None else stack.enter_context(memories.use(name))
    try:
        works = form.works(memories, session)
    except BaseException:
        stack.close()
        raise
    tasks = [asyncio.create_task(one(index, work)) for index, work in enumerate(works)]
    left = set(tasks)

    def done(task: asyncio.Task[T]) -> None:
        left.discard(task)
        if not left:
            stack.close()

    for task in tasks:
        task.add_done_callback(done)
    try:
        yield tasks
    finally:
        for task in tasks:
            task.cancel()


def _event(content: dict[str, Any]) -> str:
    return f"data: {json.dumps(content, ensure_ascii=False)}\n\n"


def _usage(ends: Sequence[End | None]) -> dict[str, int]:
    prompt = sum(e.prompt for e in ends if e is not None)
    written = sum(e.written for e in ends if e is not None)
    return {"prompt_tokens": prompt, "completion_tokens": written, "total_tokens": prompt + written}


def _log(probability: float) -> float:
    return math.log(max(probability, _LEAST)) if probability == probability else 0.0


def _check(tokens: list[int], model: Model) -> None:
    V = model.config.vocab_size
    wrong = next((t for t in tokens if not 0 <= t < V), None)
    if wrong is not None:
        raise GooseError(f"token {wrong} is outside the model's vocabulary, 0 to {V - 1}")


def _sampler(model: Model, asked: Completion | Chat) -> Sampler:
    """OpenAI's defaults where nothing is asked; penalties do not fade."""
    end = model.tokenizer.end_token
    return Sampler(
        temperature=1.0 if asked.temperature is None else asked.temperature,
        top_p=1.0 if asked.top_p is None else asked.top_p, top_k=asked.top_k or 0,
        presence=asked.presence_penalty or 0.0, frequency=asked.frequency_penalty or 0.0,
        penalty_decay=1.0, stop=() if end is None else (end,), seed=asked.seed,
    )  # fmt: skip
