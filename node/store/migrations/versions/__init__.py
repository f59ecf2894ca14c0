"""Schema migrations, one file a revision; the revision numbers count up."""
