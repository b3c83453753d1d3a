"""Whole corpora: every document a trace of its own, in one store, by one machine or by many."""

from goose_viz.corpus.record import record_corpus
from goose_viz.corpus.store import Corpus, open_corpus
from goose_viz.model_source import ModelSource

__all__ = ["Corpus", "ModelSource", "open_corpus", "record_corpus"]
