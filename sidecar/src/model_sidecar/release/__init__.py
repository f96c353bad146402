"""What a version is, and how bytes become one. Pure: nothing here opens a file, starts a thread or asks the time."""
