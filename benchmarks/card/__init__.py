"""The parts of the proof on a card: each is measured in a process of its own, and says its figures as it goes."""
