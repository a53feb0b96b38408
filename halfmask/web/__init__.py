"""The pages of `halfmask serve` and `halfmask review`."""
