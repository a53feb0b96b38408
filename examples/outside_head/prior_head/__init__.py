"""Parts of a mask head that halfmask builds by their dotted path."""
