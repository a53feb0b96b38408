"""The one error that users see."""


class InputError(Exception):
    """Something the user gave cannot be used.

    The message is one line that says what was expected, what was found, where (file, image id, annotation id) and how to mend it. The
    command line prints it without a traceback and exits with code 2.
    """
