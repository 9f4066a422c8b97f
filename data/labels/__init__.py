"""Labels that people gave, as records, as files for other tools, and back from them."""
