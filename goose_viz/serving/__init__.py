"""A server for other people's tools: OpenAI's completions and chat, and memories to carry about."""

from goose_viz.serving.app import Settings, make_app

__all__ = ["Settings", "make_app"]
