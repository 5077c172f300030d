"""Other people's servers on this loop, with other people's clients."""
