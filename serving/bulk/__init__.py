"""Many appeals at once: streamed through the API, or from a file by command."""
