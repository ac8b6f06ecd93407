"""A trainer that is interrupted at a chosen word: nothing is killed, and the moment is always the same."""

from training.run import Run


class Interrupted(Run):
    """A run whose trainer is interrupted when it wants to say something for the n-th time."""

    def __init__(self, folder, after):
        super().__init__(folder)
        object.__setattr__(self, "left", after)

    def append(self, kind, step=None, **values):
        object.__setattr__(self, "left", self.left - 1)
        if self.left < 0:
            raise KeyboardInterrupt
        return super().append(kind, step, **values)
