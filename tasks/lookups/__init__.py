"""What a lookup is, how it is read, what it carries and how it can end. Pure."""
