"""Data: where it comes from, how it is tokenised, in which order it is seen."""
