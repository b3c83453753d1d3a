"""The docks' contents: each shows a picture or a stream of tokens, none knows the worker."""
