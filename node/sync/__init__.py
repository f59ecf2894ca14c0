"""Peers' logs: follow them, verify through `core.mirror`, save, cosign, and tell what is held.

`follower` follows one peer, `peers` keeps one follower for each active member, `exchange` is about checkpoints and
cosignatures. What speaks gRPC stays outside, behind `PeerClient`.
"""
