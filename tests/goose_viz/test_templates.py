import pytest

from goose_viz.templates import apply_template


def test_templates():
    assert apply_template("chat", " a\n\n\nb\r\n\r\nc ") == "User: a\nb\nc\n\nAssistant:"
    assert apply_template("think", "a") == "User: a\n\nAssistant: <think"
    assert apply_template("fast", "a") == "User: a\n\nAssistant: <think>\n</think"
    system = apply_template("chat", "a", "Be\n\nbrief.")
    assert system == "System: Be\nbrief.\n\nUser: a\n\nAssistant:"
    with pytest.raises(ValueError, match="expected chat, think, fast"):
        apply_template("shout", "a")
