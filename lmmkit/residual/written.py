"""How a structure is written: the call that makes it."""


def written(function: str, *arguments: object, **options: object) -> str:
    """``ar1('visit', group='id')``; arguments that are None, False or 0 are left out."""
    given = [repr(value) for value in arguments if value]
    given += [f"{name}={value!r}" for name, value in options.items() if value]
    return f"{function}({', '.join(given)})"
