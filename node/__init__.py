"""The Labmesh node: a member's own verifiable log, and its mirrors of its peers' logs."""
