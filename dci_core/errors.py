"""The one exception class for input that a user can correct."""


class UserInputError(ValueError):
    """Input that cannot be used: says what was given, what is allowed and what to do."""
