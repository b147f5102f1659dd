"""What every test on the host's models shares."""

from few_draws import few_evaluation_draws

__all__ = ["few_evaluation_draws"]
