"""The verbs that look at a data set of any format, or rewrite it. Nothing here imports torch."""
