"""Methods on the server's side, one file each, and what they share."""
