"""Why a network answers as it does: maps of the pixels that decide, and maps of all faces as it sees them."""
