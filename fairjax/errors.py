"""The one error that a user's own input can cause; it flows from every room to `launch/`."""


class InputError(ValueError):
    """Something the user gave (config, file, image, label, weight, checkpoint) cannot be used.

    `launch/` prints the message as one line and exits with code 2; nothing else is caught there.

    Args:
      found: what was found, with the offending value.
      where: the config key, file or stage in which it was found.
      mend: what to do about it.
    """

    def __init__(self, found: str, where: str, mend: str):
        self.found, self.where, self.mend = found, where, mend
        text = f"{where}: {found}. {mend}"
        super().__init__(text if text.endswith(("?", ".")) else f"{text}.")


def first_line(error: Exception) -> str:
    """What a library's error says, as far as it fits into a message of ours."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
