"""What cannot run here is not collected: a run that skips hundreds hides the one that matters."""


def _known_to_be_skipped(item) -> bool:
    if any(m.args and m.args[0] is True for m in item.iter_markers("skipif")):
        return True
    parameters = getattr(item, "callspec", None)
    return parameters is not None and "NOTSET" in parameters.id  # no backend of its list is here


def pytest_collection_modifyitems(config, items):
    gone = [item for item in items if _known_to_be_skipped(item)]
    config.hook.pytest_deselected(items=gone)
    items[:] = [item for item in items if item not in set(gone)]
