"""What the pages of both services share: their frame, their looks, their errors."""
