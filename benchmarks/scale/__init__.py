"""Cost against the number of classes, objects and annotations."""
