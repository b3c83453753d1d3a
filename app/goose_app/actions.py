"""Everything a person can do, as one table: menus, keys, buttons and the help page come from it."""

from __future__ import annotations

import html
from dataclasses import dataclass


@dataclass(frozen=True)
class Action:
    """One thing to do.

    Attributes
    ----------
    name : str
        The window's method that does it.
    menu : str
        Where it is found.
    text : str
    keys : tuple of str
        Shortcuts, as Qt writes them.
    tip : str
        One sentence on what it does.
    toggles : bool
        Whether it is on or off.
    computes : bool
        Whether it takes a model: a recorded run is only looked at.
    """

    name: str
    menu: str
    text: str
    keys: tuple[str, ...]
    tip: str
    toggles: bool = False
    computes: bool = False


ACTIONS = (
    Action("open_file", "File", "Open model…", ("Ctrl+O",), "Open a .pth, .safetensors or .gguf"),
    Action("open_folder", "File", "Open folder…", ("Ctrl+Shift+O",), "Open a Hugging Face folder"),
    Action("open_embedded", "File", "Open the demo model", (), "Open the model that ships inside"),
    Action("open_session", "File", "Open session…", (),
           "Go on where a session was saved, with its branches, edits and layout"),
    Action("open_kept", "File", "Open an earlier run…", (),
           "Go on with a run that nobody saved: the last ten are kept, whatever ended them"),
    Action("save_session", "File", "Save session…", ("Ctrl+S",),
           "Save the whole session: branches, edits, names, sampling, the cursor, the layout",
           computes=True),
    Action("open_snapshot", "File", "Resume snapshot…", ("Ctrl+Shift+E",),
           "Go on from a snapshot of this model"),
    Action("export_snapshot", "File", "Export snapshot…", ("Ctrl+E",),
           "Save state, tokens and text at the cursor as .safetensors or .npz", computes=True),
    Action("record", "File", "Record…", ("Ctrl+Shift+R",),
           "Record the run, from its beginning on, as a Zarr folder; again: end the recording",
           toggles=True, computes=True),
    Action("open_recording", "File", "Open recording…", (),
           "Play and step through a run that was recorded, without its model"),
    Action("begin_with", "File", "Begin with a memory…", (),
           "Begin texts with a state: trained (.pth, .st), a snapshot's, another program's",
           computes=True),
    Action("begin_after", "File", "Begin behind a text…", (),
           "Read a long text once and begin texts with the memory behind it, which is kept",
           computes=True),
    Action("begin_empty", "File", "Begin with an empty memory", (),
           "Begin texts with nothing again, after they began with a memory", computes=True),
    Action("save_picture", "File", "Save figure of the window…", ("Ctrl+Shift+S",),
           "Save the whole window as PDF, SVG or PNG at print size, letters as letters"),
    Action("save_animation", "File", "Save animation of the window…", (),
           "Go over tokens of the run and save the window at each, as MP4, GIF or WebM"),
    Action("white_figures", "File", "Figures on white", (),
           "Save figures in the light colours, for paper, whatever the window has", toggles=True),
    Action("quit", "File", "Quit", ("Ctrl+Q",), "Close the window"),
    Action("to_start", "Run", "|◀", ("Home",), "Go to the start of the run"),
    Action("back", "Run", "◀ Back", ("Left",), "One token back"),
    Action("run_or_pause", "Run", "▶ Run", ("Space",),
           "Write on, or pause; where text follows already, replay that first"),
    Action("step", "Run", "Step ▶", ("Right",), "One token on"),
    Action("to_end", "Run", "▶|", ("End",), "Go to the end of the run"),
    Action("choose", "Run", "Take the likeliest next token", tuple("123456789"),
           "Go on with the first, second … of what is expected next", computes=True),
    Action("diverge", "Run", "Write on differently from here", ("Shift+Space",),
           "Begin another branch at the cursor, with the sampling of now", computes=True),
    Action("set_stop", "Run", "Stop at…", ("Ctrl+B",),
           "Say where to stop: a text in quotes, a token, a condition like entropy < 0.1",
           computes=True),
    Action("next_stop", "Run", "Next stop", ("Ctrl+Right",),
           "Go to the next token where the condition holds", computes=True),
    Action("previous_stop", "Run", "Previous stop", ("Ctrl+Left",), "Go to the one before",
           computes=True),
    Action("restart", "Run", "Begin anew with the prompt", ("Ctrl+R",),
           "Forget this run and feed the prompt again", computes=True),
    Action("edit_prompt", "Run", "Edit the prompt", ("Ctrl+L",), "Type into the prompt",
           computes=True),
    Action("chat", "Run", "Chat", ("Ctrl+T",),
           "A conversation: say something, the model answers; the memory goes on",
           toggles=True, computes=True),
    Action("stop_at_end", "Run", "Stop at the end of a text", (),
           "Stop where the model ends its text, instead of writing the next one",
           toggles=True, computes=True),
    Action("next_branch", "Run", "Next branch", ("Ctrl+Tab",),
           "Return to another branch of the run, taken by clicking next tokens"),
    Action("cancel", "Run", "Cancel", ("Ctrl+.",), "Stop a load or a long prompt"),
    Action("mark_back", "Edit", "Mark the word before", (",",),
           "Choose a word without the mouse: Forget, Replace and Why act on it"),
    Action("mark_on", "Edit", "Mark the next word", (".",), "The other way"),
    Action("pin", "Edit", "Pin the word", ("P",),
           "Watch how likely the marked word is over the run and in every layer; again: unpin",
           computes=True),
    Action("unpin", "Edit", "Unpin all words", (), "Watch no word any more"),
    Action("find", "Edit", "Find in the text", ("Ctrl+F",), "Search; Return for the next place"),
    Action("undo", "Edit", "Undo", ("Ctrl+Z",), "Take the last edit of the memory back"),
    Action("redo", "Edit", "Redo", ("Ctrl+Shift+Z", "Ctrl+Y"), "Make it again"),
    Action("forget", "Edit", "Forget the word", ("X",),
           "Take the marked word, or the one under the mouse, out of the memory, everywhere",
           computes=True),
    Action("replace", "Edit", "Replace the word…", ("R",),
           "Put other words in its place, in the memory as it is now", computes=True),
    Action("edit_memory", "Edit", "Edit the memory…", ("E",),
           "Empty, scale, add to or exchange the memory of a head, a layer, all", computes=True),
    Action("layer_up", "State", "Previous layer", ("Up",), "Look at the layer before"),
    Action("layer_down", "State", "Next layer", ("Down",), "Look at the next layer"),
    Action("head_left", "State", "Previous head", ("[", "Shift+Left"), "Look at the head before"),
    Action("head_right", "State", "Next head", ("]", "Shift+Right"), "Look at the next head"),
    Action("watch", "View", "Watch", ("F5",), "The memory as it runs: state, decay, rates"),
    Action("why", "View", "Why", ("F6",), "Why the next word: what gave it, and what if not"),
    Action("look_state", "View", "State", ("F7",),
           "One head closely: its edit, attention map, spectrum, health"),
    Action("look_compare", "View", "Compare", ("F8",),
           "Two branches or runs beside each other: where they part, and how far"),
    Action("look_study", "View", "Study", ("F9",),
           "Logit lens, pinned words, sensitivity, causal trace, steering"),
    Action("save_layout", "View", "Save this layout as…", (),
           "Keep the docks as they stand now, under a name"),
    Action("why_this", "View", "Why this word", ("W",),
           "Why the marked word, or the one under the mouse: one that was said, or is expected",
           computes=True),
    Action("focus_next_token", "View", "Go to Next token", ("N",),
           "Then ↑ ↓ and Return choose, and 1 to 9 from anywhere"),
    Action("reset_docks", "View", "Reset the layout", (), "Put every dock back in its place"),
    Action("show_welcome", "Help", "Welcome", ("Ctrl+H",),
           "What there is to see, with the models inside, one click each"),
    Action("show_tour", "Help", "Tour", (), "Five steps on the demo model, for a first look"),
    Action("command_palette", "Help", "Commands…", ("Ctrl+Shift+P",),
           "Find anything that can be done by typing a part of its words"),
    Action("what_is_this", "Help", "What is this?", ("Shift+F1",),
           "Say what the panel under the mouse, or with the keys, shows, with its formula"),
    Action("open_menus", "Help", "Menus", ("F10",), "Go to the menus; Alt and a letter open one"),
    Action("show_help", "Help", "Keys and panels", ("F1",), "Show this page"),
)  # fmt: skip

#: Names of those that are called by a sign.
NAMES = {
    "to_start": "To start", "to_end": "To end", "back": "Back", "step": "Step",
    "run_or_pause": "Run or pause",
}  # fmt: skip

#: The buttons of the transport, in their order.
TRANSPORT = ("to_start", "back", "run_or_pause", "step", "to_end")


def help_page(panels: list[tuple[str, str, str]]) -> str:
    """The help as HTML, from the table and the panels' own sentences."""
    rows = "".join(
        f"<tr><td><b>{_keys(a)}</b>&nbsp;&nbsp;</td>"
        f"<td>{NAMES.get(a.name, a.text.strip('|▶◀ …'))}&nbsp;&nbsp;</td><td>{a.tip}</td></tr>"
        for a in ACTIONS
        if a.keys
    )
    rows += "<tr><td><b>Ctrl+Return</b>&nbsp;&nbsp;</td><td>Begin anew&nbsp;&nbsp;</td>"
    rows += "<td>In the prompt: feed it; Escape leaves it</td></tr>"
    rows += "<tr><td><b>Tab</b>&nbsp;&nbsp;</td><td>Next control&nbsp;&nbsp;</td>"
    rows += "<td>Boxes, lists and sliders keep the keys that they need, while they have them</td>"
    rows += "</tr>"
    sentences = "".join(
        f"<p><b>{title}.</b> {html.escape(words)}"
        + (f"<br><i>{html.escape(formula)}</i>" if formula else "")
        + "</p>"
        for title, words, formula in panels
    )
    return f"<h3>Keys</h3><table>{rows}</table><h3>Panels</h3>{sentences}"


def _keys(action: Action) -> str:
    if len(action.keys) > 2:
        return f"{action.keys[0]} to {action.keys[-1]}"
    return " or ".join(action.keys)
