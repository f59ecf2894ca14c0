"""The calls of NodeService, one module for each part of the work; `NodeServicer` puts them together."""
