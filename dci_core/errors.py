"""The exception class for input that a user can correct, and for a training whose values became useless."""


class UserInputError(ValueError):
    """Input that cannot be used: says what was given, what is allowed and what to do."""


class DivergenceError(UserInputError):
    """A training whose loss or gradients are no longer numbers: the settings are to be changed, the last step is worth nothing."""
