"""What methods share on the server's side."""
