from videopolicy import hookimpl


@hookimpl
def vpolicy_components():
    return []
