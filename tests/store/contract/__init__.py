"""The parts of the contract: each a class of its own that `TestStore` is made of."""
