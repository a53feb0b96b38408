"""Table 1 and the mask heads, on the procedural world and on composites."""
