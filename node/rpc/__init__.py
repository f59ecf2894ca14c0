"""How nodes speak: protobuf and gRPC, and nothing else. The only room that knows either."""
