"""How nodes speak: protobuf and gRPC, and nothing else. The only room that knows either."""

from __future__ import annotations

import os

# Before anything here imports grpc, which reads it once: its own raw lines would stand between messages and log lines.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
