"""Every attack on an alliance that we know of, as data: one function of a line or two each."""
