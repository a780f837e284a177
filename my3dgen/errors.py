"""The one family of errors a user can meet."""


class My3DGenError(Exception):
    """A mistake the user can mend: the message says what was got, what was expected and what to do.

    The app shows the message as a `gr.Error`, the command line as one line with exit status 2.
    """
