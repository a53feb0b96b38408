"""halfmask inside other tools: one file for each, each with its own extra. They are
imported where they are used, never from here.
"""
