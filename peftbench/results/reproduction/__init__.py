"""Published rows against runs made here: the claim, what was measured, the verdict."""
