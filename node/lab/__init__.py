"""What records mean to a laboratory: pure rules, no input or output."""
