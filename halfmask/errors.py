"""The error that users see."""


class InputError(Exception):
    """An input that cannot be used.

    The message is one line: what was expected, what was found, where (file, image id,
    annotation id) and how to fix it. The command line prints it without a traceback and
    exits with code 2. Control characters are escaped: a file name from a stranger could
    hold some that a terminal obeys.
    """

    def __init__(self, message: str) -> None:
        super().__init__(
            "".join(c if c.isprintable() or c == "\n" else _escaped(c) for c in message)
        )


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")


class ProcessFailed(Exception):  # noqa: N818 - the error itself is the process's
    """Another process of the same training failed, and has printed its own message.

    Attributes:
        code: exit code for this process.
    """

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code
