"""Judges as pure functions over questions and replies: what is asked, how it is read, what it says of the answers."""
