"""Time and memory beside peers: training steps, inference."""
