"""Networks and images of ours in the forms that other programs read."""
