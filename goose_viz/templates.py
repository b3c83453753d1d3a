"""How chat models of the RWKV family (G1 and later World models) want to be spoken to."""

from __future__ import annotations

import re
from collections.abc import Sequence

#: What the answer begins with: plainly, with thinking aloud, or with the thinking skipped, in the
#: form that the first G1 models were trained with and in that of the later ones.  None ends in
#: ``>``: the token that completes the tag is the model's to write.
_ANSWERS = {
    "chat": "Assistant:",
    "think": "Assistant: <think",
    "fast": "Assistant: <think>\n</think",
    "fake": "Assistant: <think></think",
}
TEMPLATES = tuple(_ANSWERS)
#: What a model writes when its turn is done; an answer may have empty lines itself.
TURN_END = "\n\nUser:"


def apply_template(template: str, text: str, system: str = "") -> str:
    r"""A request as the model saw requests in training.

    Parameters
    ----------
    template : str
        ``"chat"``, ``"think"``, ``"fast"`` or ``"fake"``.
    text : str
        What the user says; runs of newlines become one, since two end a turn.
    system : str
        What comes before, if anything.

    Raises
    ------
    ValueError
        If there is no such template.

    Examples
    --------
    >>> apply_template("chat", "Hello\n\nthere")
    'User: Hello\nthere\n\nAssistant:'
    """
    if template not in _ANSWERS:
        raise ValueError(f"there is no template {template!r}; expected {', '.join(TEMPLATES)}")
    before = f"System: {_one_turn(system)}\n\n" if system else ""
    return f"{before}User: {_one_turn(text)}\n\n{_ANSWERS[template]}"


def conversation(template: str, turns: Sequence[tuple[str, str]]) -> str:
    r"""A whole conversation, up to where the model answers.

    Parameters
    ----------
    template : str
        As for `apply_template`.
    turns : sequence of (str, str)
        ``"system"``, ``"user"`` or ``"assistant"``, and what was said.

    Examples
    --------
    >>> conversation("chat", [("user", "Hi"), ("assistant", "Hello!"), ("user", "Why?")])
    'User: Hi\n\nAssistant: Hello!\n\nUser: Why?\n\nAssistant:'
    """
    if template not in _ANSWERS:
        raise ValueError(f"there is no template {template!r}; expected {', '.join(TEMPLATES)}")
    said = [f"{who.capitalize()}: {_one_turn(text)}\n\n" for who, text in turns]
    return "".join(said) + _ANSWERS[template]


def next_turn(template: str, text: str, before: str = "", fresh: bool = False) -> str:
    r"""What to feed for a further turn of a conversation.

    Parameters
    ----------
    template, text : str
        As for `apply_template`.
    before : str
        How what was said so far ends; the last ten characters will do.
    fresh : bool
        Whether the token that ends a text stands last.

    Examples
    --------
    >>> next_turn("chat", "And then?", "It rained.")
    '\n\nUser: And then?\n\nAssistant:'
    >>> next_turn("chat", "And then?", "It rained.\n\nUser:")
    ' And then?\n\nAssistant:'
    """
    ask = apply_template(template, text)
    if before.endswith(TURN_END):  # the model wrote it when it was done
        return ask.removeprefix("User:")
    if fresh or not before:
        return ask
    return "\n" * (2 - min(2, len(before) - len(before.rstrip("\n")))) + ask


def _one_turn(text: str) -> str:
    return re.sub(r"\n{2,}", "\n", text.strip().replace("\r\n", "\n"))
