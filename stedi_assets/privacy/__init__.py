"""What is held about a person, how it is forgotten, and how old files are removed."""
