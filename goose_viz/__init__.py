"""Goose Viz: a minimal RWKV-7 runtime whose memory can be watched."""

import os

# BLAS reads this when NumPy is first imported: its threads go to sleep behind a product, instead of
# spinning on the core that our own kernels want next
os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", "4")

from goose_viz.conditions import Condition, ConditionError
from goose_viz.config import Config
from goose_viz.corpus import Corpus, ModelSource, open_corpus, record_corpus
from goose_viz.edits import Add, Forget, Mute, Noise, Put, Replace, Scale, Steer, Zero
from goose_viz.errors import CheckpointError, GooseError, StateError, TokenizerError
from goose_viz.model import Model, embedded_models, load_model
from goose_viz.observables import OBSERVABLES
from goose_viz.probe import Frame, Probe
from goose_viz.sampling import Sampler
from goose_viz.session import Session, Step
from goose_viz.session_file import SessionFile, load_session, save_session
from goose_viz.snapshot import Snapshot, load_snapshot, save_snapshot
from goose_viz.state import State
from goose_viz.state_cache import state_after
from goose_viz.state_files import load_state
from goose_viz.trace import Trace, open_trace, record

__version__ = "0.1.0"

__all__ = [
    "OBSERVABLES",
    "Add",
    "CheckpointError",
    "Condition",
    "ConditionError",
    "Config",
    "Corpus",
    "Forget",
    "Frame",
    "GooseError",
    "Model",
    "ModelSource",
    "Mute",
    "Noise",
    "Probe",
    "Put",
    "Replace",
    "Sampler",
    "Scale",
    "Session",
    "SessionFile",
    "Snapshot",
    "State",
    "StateError",
    "Steer",
    "Step",
    "TokenizerError",
    "Trace",
    "Zero",
    "embedded_models",
    "load_model",
    "load_session",
    "load_snapshot",
    "load_state",
    "open_corpus",
    "open_trace",
    "record",
    "record_corpus",
    "save_session",
    "save_snapshot",
    "state_after",
]
