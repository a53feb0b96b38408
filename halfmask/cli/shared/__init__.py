"""How the command line explains itself: panels, metavars and shell completion."""
