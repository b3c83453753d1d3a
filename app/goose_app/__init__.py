"""The window of Goose Viz: the only place that knows Qt."""
