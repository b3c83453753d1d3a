"""Why a card cannot be used: each reason has a sentence of its own that says what to do."""

import subprocess
import sys

import pytest

import goose_viz as gv
from goose_gpu import CardError, Cards, choice, choose_card
from tests.gpu.backends import SIMULATOR

pytestmark = pytest.mark.skipif(SIMULATOR, reason="asks for real cards")


def cards(driver=(13, 0), capability=(9, 0), n=1):
    return Cards(("Card A",) * n, "Card A", (capability,) * n, (132,) * n, driver)


@pytest.mark.parametrize(
    ("found", "ordinal", "toolkit", "words"),
    [
        (Cards((), "no NVIDIA driver on this machine"), 0, 13, "no NVIDIA driver on this machine"),
        (Cards((), "an NVIDIA driver that finds no card"), 0, 13, "finds no card"),
        (cards(), 1, 13, "no card 1; the driver shows 1"),
        (cards(capability=(7, 0)), 0, 13, "compute capability 7.0; the kernels need 7.5"),
        (cards(driver=(11, 8)), 0, 12, "update the driver to version 525"),
        (
            cards(driver=(12, 8)),
            0,
            13,
            r"version 580 or newer, or pip install .goose-viz\[cuda12\]",
        ),
        (cards(), 0, None, r"pip install .goose-viz\[cuda13\]"),
        (cards(driver=(12, 4)), 0, None, r"pip install .goose-viz\[cuda12\]"),
    ],
)
def test_reasons(monkeypatch, found, ordinal, toolkit, words):
    monkeypatch.setattr(choice, "_toolkit", lambda: toolkit)
    with pytest.raises(CardError, match=words) as error:
        choose_card(ordinal, found)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("driver", "toolkit"), [((13, 0), 13), ((13, 2), 12), ((12, 4), 12)])
def test_a_card_that_will_do(monkeypatch, driver, toolkit):
    monkeypatch.setattr(choice, "_toolkit", lambda: toolkit)
    choose_card(0, cards(driver))


def test_auto_says_why_it_is_the_cpu(monkeypatch):
    import goose_gpu

    def refuse(ordinal):
        raise CardError("Card A is too old; use device='cpu'")

    monkeypatch.setattr(goose_gpu, "choose_card", refuse)
    model = gv.load_model()
    assert model.device == "cpu"
    assert model.device_words == "Card A is too old"
    assert gv.load_model(device="cpu").device_words == ""
    with pytest.raises(gv.GooseError, match="too old"):
        gv.load_model(device="cuda:3")


def test_a_model_that_does_not_fit_says_how_much_is_missing(monkeypatch):
    pytest.importorskip("numba_cuda")
    import goose_gpu
    import goose_viz.cuda
    from goose_gpu.card import Card
    from tests.gpu.virtual_card import VirtualCard

    class Full(VirtualCard):
        require = Card.require

        def memory(self):
            return 3_000_000, 8_000_000_000

    monkeypatch.setattr(goose_gpu, "choose_card", lambda ordinal: None)
    monkeypatch.setattr(goose_viz.cuda, "Card", lambda ordinal: Full())
    with pytest.raises(
        gv.GooseError, match=r"the model needs 0\.\d\d GB .* 0\.00 GB free of 8\.00"
    ):
        gv.load_model(device="cuda")
    model = gv.load_model()  # auto goes on without the card
    assert model.device == "cpu"
    assert "needs" in model.device_words


def test_nothing_of_cuda_is_loaded_before_it_is_asked_for():
    code = (
        "import sys, goose_viz, goose_gpu, goose_viz.cli;"
        "goose_viz.load_model();"
        "loaded = [m for m in sys.modules if m.startswith(('cuda', 'numba.cuda', 'numba_cuda.'))];"
        "assert not loaded, loaded"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
