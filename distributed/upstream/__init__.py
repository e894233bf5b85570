"""Old module addresses that gather names of several rooms; ``distributed._aliases`` serves them."""
