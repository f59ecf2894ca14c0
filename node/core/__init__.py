"""What is true: values and pure functions, without I/O, clock, randomness, logging or protobuf."""
