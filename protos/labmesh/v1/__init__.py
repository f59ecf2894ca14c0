"""The wire contract: code generated from the .proto files by scripts/protos."""
